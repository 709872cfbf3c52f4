#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The main job: attach, mkfs.ext4, mount, copy, compare, umount, fsck, detach; with and without direct I/O; and
# partitions.  Afterwards nothing is left.

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
need_fuse loop
require mkfs.ext4 fsck.ext4 losetup openssl
new_vdev
trap attach_cleanup EXIT

# as_a_disk FORMAT DIRECT
as_a_disk()
{
	local dev
	make_disk "$1" "$T/disk" 128
	dev=$(block-attach 0 "tap:$1:$T/disk" "$VDEV" w --direct-io "$2")
	[ "$dev" = "/dev/$VDEV" ] || fail "block-attach printed '$dev'"
	[ "$(readlink -f "$dev")" = "$(readlink -f "/dev/blktap/$VDEV")" ] || fail "the two names differ"
	[ "$(blockdev --getsize64 "$dev")" = $((128 << 20)) ] || fail "size"
	block-list | grep -q "^vdev=$VDEV device=$dev mode=w state=attached pid=[1-9].* spec=$1:$T/disk\$" ||
		fail "block-list: $(block-list)"
	mkfs.ext4 -q "$dev"
	mkdir -p "$T/mnt"
	mount "$dev" "$T/mnt"
	random_file "$T/data" $((40 << 20)) "$RANDOM"
	cp "$T/data" "$T/mnt/"
	cp -r "$srcdir/include" "$T/mnt/"
	umount "$T/mnt"
	fsck.ext4 -fn "$dev" >/dev/null 2>&1 || fail "$1, direct I/O $2: fsck"
	block-detach 0 "$VDEV"
	nothing_left

	# Again, from the image alone.
	dev=$(block-attach 0 "$1:$T/disk" "$VDEV" r)
	[ "$(blockdev --getro "$dev")" = 1 ] || fail "not read-only"
	mount -o ro "$dev" "$T/mnt"
	same "$T/data" "$T/mnt/data"
	diff -r "$srcdir/include" "$T/mnt/include" || fail "$1, direct I/O $2: the copied tree differs"
	umount "$T/mnt"
	block-detach 0 "$VDEV"
	nothing_left
	[ "$1" != qcow2 ] || qemu-img check -q "$T/disk" || fail "qemu-img check"
	rm "$T/disk"
	say "$1, direct I/O $2: ok"
}

for format in $(formats); do
	as_a_disk "$format" on
	as_a_disk "$format" off
done

# ---- partitions: 4 MiB from 1 MiB on, 8 MiB from 8 MiB on, by hand, in a DOS table ----

truncate -s 32M "$T/disk"
python3 - "$T/disk" <<'PY'
import struct, sys
entry = lambda start, n: struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\0\2\0", start, n)
with open(sys.argv[1], "r+b") as f:
    f.seek(446)
    f.write(entry(2048, 8192) + entry(16384, 16384) + bytes(32) + b"\x55\xaa")
PY
block-attach --json 0 "aio:$T/disk" "$VDEV" >"$T/json"
python3 - "$T/json" "$VDEV" <<'PY'
import json, sys
o = json.load(open(sys.argv[1]))
dev = "/dev/" + sys.argv[2]
assert o["device"] == dev and o["mode"] == "w" and o["partitions"] == [dev + "1", dev + "2"], o
PY
[ "$(blockdev --getsize64 "/dev/${VDEV}1")" = $((4 << 20)) ] || fail "size of the first partition"
[ "$(blockdev --getsize64 "/dev/blktap/${VDEV}2")" = $((8 << 20)) ] || fail "size of the second partition"
echo partition two | dd of="/dev/${VDEV}2" conv=notrunc,fsync status=none
block-detach 0 "$VDEV"
nothing_left
[ "$(dd if="$T/disk" bs=512 skip=16384 count=1 status=none | head -c 13)" = "partition two" ] || fail "partition two"

# ---- a name that ends in a digit; a device node that somebody else has ----

block-attach 0 "aio:$T/disk" "${VDEV}7" >/dev/null
[ -b "/dev/${VDEV}7p2" ] || fail "no /dev/${VDEV}7p2"
block-detach 0 "${VDEV}7"
ln -s null "/dev/$VDEV"
[ "$(block-attach 0 "aio:$T/disk" "$VDEV")" = "/dev/blktap/$VDEV" ] || fail "not /dev/blktap/$VDEV"
block-detach 0 "$VDEV"
[ "$(readlink "/dev/$VDEV")" = null ] || fail "somebody else's /dev/$VDEV is gone"
rm "/dev/$VDEV"
nothing_left
