#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What block-attach and block-detach refuse, and that they name the reason; that a failed attach leaves nothing; that a
# detach may be repeated; what --force does.

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
need_fuse loop
require mkfs.ext4 losetup mkswap
new_vdev
trap attach_cleanup EXIT

make_disk aio "$T/disk" 64

# ---- operands ----

expect_fail 'without Xen' block-attach 3 "aio:$T/disk" "$VDEV"
expect_fail 'without Xen' block-detach 3 "$VDEV"
for name in ../x xvd xvdA 'xvda b' sda/b "xvd$(printf 'a%.0s' {1..40})" xvda01 nbd0; do
	expect_fail 'not a device name' block-attach 0 "aio:$T/disk" "$name"
done
expect_fail 'mode x' block-attach 0 "aio:$T/disk" "$VDEV" x
expect_fail 'usage: block-attach .*DOMAIN' block-attach 0 "aio:$T/disk"
expect_fail 'a ring of Xen' block-attach --via ublk 0 "aio:$T/disk" "$VDEV"
for option in '--direct-io x' '--block-size 513' '--timeout 0' '--timeout 1s' --no-such-option; do
	# shellcheck disable=SC2086
	expect_fail "${option%% *}" block-attach $option 0 "aio:$T/disk" "$VDEV"
done
expect_fail 'not domain 0 of a running Xen' block-attach --via xen 0 "aio:$T/disk" "$VDEV"
expect_fail 'is for --via xen' block-attach --no-wait 0 "aio:$T/disk" "$VDEV"
status=0
block-attach 3 2>/dev/null || status=$?
[ "$status" = 2 ] || fail "a command line that makes no sense: exit $status"
status=0
block-attach --via loop 0 "aio:$T/none" "$VDEV" 2>/dev/null || status=$?
[ "$status" = 1 ] || fail "an image that is not there: exit $status"
expect_fail 'No such file' block-attach 0 "aio:$T/none" "$VDEV"
expect_fail . block-attach 0 "nonsense:$T/disk" "$VDEV"
expect_fail . block-attach 0 "aio(no-such-option=1):$T/disk" "$VDEV"
nothing_left

# ---- in use ----

(cd "$T" && block-attach Domain-0 tap:aio:disk "/dev/$VDEV" >/dev/null)	# the record has the whole path
expect_fail "$VDEV: in use: a device of aio:$T/disk" block-attach 0 "aio:$T/disk" "$VDEV"
expect_fail . block-attach 0 "aio:$T/disk" "${VDEV}x"		# one image, two writers
[ ! -e "$BLKTAP_RUN_DIR/attach/${VDEV}x.json" ] || fail "the refused attach left a record"

mkfs.ext4 -q "/dev/$VDEV"
mkdir "$T/mnt dir"
mount "/dev/$VDEV" "$T/mnt dir"
expect_fail "mounted on $T/mnt dir; end that first" block-detach 0 "$VDEV"
touch "$T/mnt dir/still works"
umount "$T/mnt dir"

exec 9<"/dev/$VDEV"
expect_fail "open in process $$" block-detach 0 "$VDEV"
exec 9<&-

loop=$(losetup -f --show "/dev/$VDEV")
expect_fail "used by $loop" block-detach 0 "$VDEV"
losetup -d "$loop"

mkswap "/dev/$VDEV" >/dev/null 2>&1
if swapon "/dev/$VDEV" 2>/dev/null; then
	expect_fail 'used as swap' block-detach 0 "$VDEV"
	swapoff "/dev/$VDEV"
fi

# ---- paused: nothing can be written back; nothing is lost by trying ----

echo not yet written >"/dev/$VDEV"
ctl "$(our_tapdisks)" '{"cmd":"pause"}' | grep -q '"ok": *true' || fail "pause"
expect_fail 'is the daemon paused' block-detach --timeout 1 0 "$VDEV"
ctl "$(our_tapdisks)" '{"cmd":"unpause"}' | grep -q '"ok": *true' || fail "unpause"

# ---- detach, again and again ----

block-detach 0 "$VDEV"
nothing_left
block-detach 0 "$VDEV" 2>"$T/err"
grep -q "$VDEV: not attached" "$T/err" || fail "a detach that has nothing to do says: $(cat "$T/err")"
# By the number of xen-vbd-interface(7), with its name in the answer: a disk that nobody has.
block-detach 0 0x100fff00 2>"$T/err"
grep -q 'xvdfan: not attached' "$T/err" || fail "a disk by its number: $(cat "$T/err")"
[ "$(block-detach --json 0 "$VDEV")" = "{\"vdev\":\"$VDEV\",\"was_attached\":false}" ] ||
	fail "json of a repeated detach"

# ---- by force: a file system that is idle is unmounted and whole; one with an open file is cut off ----

block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
mkfs.ext4 -qF "/dev/$VDEV"
mount "/dev/$VDEV" "$T/mnt dir"
echo kept >"$T/mnt dir/file"
block-detach --force 0 "$VDEV" 2>/dev/null
nothing_left
block-attach 0 "aio:$T/disk" "$VDEV" r >/dev/null
mount -o ro "/dev/$VDEV" "$T/mnt dir"
[ "$(cat "$T/mnt dir/file")" = kept ] || fail "--force lost what a lazy unmount writes"
umount "$T/mnt dir"
block-detach 0 "$VDEV"

block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
mount "/dev/$VDEV" "$T/mnt dir"
exec 9>"$T/mnt dir/open"
expect_fail 'not all gone; repeat' block-detach --force --timeout 1 0 "$VDEV"
[ -z "$(our_tapdisks)" ] || fail "--force left the daemon"
block-list | grep -q "^vdev=$VDEV .* state=unfinished " || fail "block-list: $(block-list)"
exec 9>&-
wait_for 10 block-detach 0 "$VDEV"
nothing_left
say "ok"
