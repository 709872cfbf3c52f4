#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Images on a block device instead of in a file: what of it is not used is no leak, QEMU reads the same, a device that
# is too small is an error and leaves an image that is right; and what would be several files is refused.

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io losetup python3
require_root
cd "$T" || exit

truncate -s 24M device
device=$(losetup --find --show "$T/device" 2>losetup.err) || skip "no loop device: $(cat losetup.err)"
python3 - <<'E2'
import random
random.seed(5)
with open("data.raw", "wb") as f:
    f.write(random.randbytes(1 << 20))
    f.seek(5 << 20)
    f.write(random.randbytes(300000))
    f.truncate(12 << 20)
with open("large.raw", "wb") as f:
    f.write(random.randbytes(40 << 20))
E2

# sound: neither corruption nor leaks.
sound() { tap-img check -q "$spec" >check.out 2>&1 || fail "$kind: check, $1: $(cat check.out)"; }

# A kind, and how QEMU opens it.
while IFS='|' read -r kind qemu opts; do
	spec=${kind%% *}:$device
	blkdiscard -z "$device" 2>/dev/null || dd if=/dev/zero of="$device" bs=1M status=none || true
	tap-img create --force -o "$opts" "$spec" 12M >/dev/null
	sound "new"
	tap-img convert -q -n -f raw data.raw "$spec"
	start_tapdisk --nbd "unix:$T/s" "$spec"
	qemu-io -f raw -c 'write -q -P 7 3M 100k' -c 'write -q -z 100k 200k' -c 'discard -q 5M 64k' -c flush \
		"nbd+unix:///?socket=$T/s"
	qemu-img convert -f raw -O raw "nbd+unix:///?socket=$T/s" now.raw
	stop_tapdisk
	cp data.raw model.raw
	qemu-io -f raw -c 'write -q -P 7 3M 100k' -c 'write -q -z 100k 200k' model.raw
	dd if=now.raw of=model.raw bs=64K skip=80 seek=80 count=1 conv=notrunc status=none # what was trimmed
	same model.raw now.raw
	sound "written"
	tap-img compare -q raw:model.raw "$spec" || fail "$kind: it reads as something else"
	qemu-img compare -q --image-opts driver=raw,file.filename=model.raw \
		"$qemu,file.driver=host_device,file.filename=$device" || fail "$kind: QEMU reads something else"

	# 40 MiB of data find no room.
	blkdiscard -z "$device" 2>/dev/null || dd if=/dev/zero of="$device" bs=1M status=none || true
	tap-img create --force -o "$opts" "$spec" 40M >/dev/null
	expect_fail 'No space|no space' tap-img convert -q -n -f raw large.raw "$spec"
	sound "full"
done <<'KINDS'
qcow2|driver=qcow2|cluster_size=4K
qcow|driver=qcow|cluster_size=4K
vmdk|driver=vmdk|zeroed_grain=on
vhd|driver=vpc,force_size_calc=current_size|block_size=2M
KINDS

for subformat in monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat vmfs vmfsSparse; do
	expect_fail "$device: an image of several files cannot be made on a device" \
		tap-img create --force -o subformat=$subformat "vmdk:$device" 12M
done
[ -z "$(find /dev -maxdepth 1 -name "${device##*/}-*")" ] || fail "files were made beside the device"

# The name of a backing file that rebase puts behind the clusters of a qcow is in use there.
blkdiscard -z "$device" 2>/dev/null || dd if=/dev/zero of="$device" bs=1M status=none || true
tap-img create --force qcow:"$device" 12M >/dev/null
tap-img convert -q -n -f raw data.raw qcow:"$device"
echo "allow $T" >conf
export BLKTAP_CONF=$T/conf
tap-img rebase -u -b "$T/large.raw" -F raw qcow:"$device"
spec="qcow(backing-format=raw):$device" kind="qcow over a file"
tap-img convert --force -O raw "$spec" model.raw
start_tapdisk --nbd "unix:$T/s" "$spec"
qemu-io -f raw -c 'write -q -P 8 2M 300k' -c flush "nbd+unix:///?socket=$T/s"
stop_tapdisk
qemu-io -f raw -c 'write -q -P 8 2M 300k' model.raw
tap-img info "$spec" | grep -q "$T/large.raw" || fail "$kind: the name is gone"
tap-img compare -q raw:model.raw "$spec" || fail "$kind: it reads as something else"
sound "written"

losetup -d "$device"
say "ok"
