#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The commands of README.md, run as they stand: each indented block behind a line <!-- test: NAME -->.  In a mount
# namespace with an empty /srv, /mnt and /run of its own.  (The block `guest` is run by tests/xen, in a real Xen.)

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
. "${srcdir:-.}/tests/e2e/docs-lib.sh"
need_machine
require fdisk sfdisk qemu-img nbdinfo nbdcopy

# block NAME: the commands, without their indentation.
block()
{
	awk -v mark="<!-- test: $1 -->" '
		$0 == mark { on = 1; next }
		on && /^    / { print substr($0, 5); seen = 1; next }
		on && seen && /^[^ ]/ { exit }
	' "$srcdir/README.md" >"$T/$1.block"
	[ -s "$T/$1.block" ] || fail "README.md has no block '$1'"
	say "README.md: $1"
	bash -euo pipefail "$T/$1.block" >"$T/$1.out" 2>&1 || fail "$1: $(cat "$T/$1.out")"
}

enter_namespace

block attach
grep -q '^/dev/xvda$' "$T/attach.out" || fail "block-attach printed no device: $(cat "$T/attach.out")"
grep -q 'vdev=xvda .*qcow2:/srv/disk.qcow2' "$T/attach.out" || fail "block-list: $(cat "$T/attach.out")"
qemu-img check -q /srv/disk.qcow2 || fail "the disk is not clean"

block fuse
grep -qx etc "$T/fuse.out" || fail "what was copied to the disk is not there: $(cat "$T/fuse.out")"
wait_for 20 qemu-img check -q /srv/disk.qcow2 # as soon as the daemon has let go of it

truncate -s 64M /srv/guest.raw
echo '2048,' | sfdisk -q /srv/guest.raw
mkfs.ext4 -q -E offset=$((2048 * 512)) /srv/guest.raw 60M
qemu-img convert -O qcow2 /srv/guest.raw /srv/guest.qcow2
block tapfuse
[ "$(xargs <"$T/tapfuse.out")" = "disk part1 lost+found" ] || fail "tapfuse shows: $(cat "$T/tapfuse.out")"
wait_for 20 qemu-img check -q /srv/guest.qcow2

truncate -s 64M /srv/disk.img
tap-img create qcow2:/srv/base.qcow2 64M >/dev/null
block overlay
[ "$(block-list | grep -c 'vdev=xvd[bc] ')" = 2 ] || fail "block-list: $(block-list)"
[ "$(blockdev --getro /dev/xvdb)" = 1 ] || fail "xvdb is not read-only"
tap-img info qcow2:/srv/work.qcow2 | grep -q base.qcow2 || fail "work.qcow2 names no base"
block-detach 0 xvdc
block-detach 0 xvdb

block nbd
end_tapdisks

block convert
qemu-img compare -q -f qcow2 -F vmdk /srv/disk.qcow2 /srv/disk.vmdk || fail "the vmdk differs"

tap-ctl create -a qcow2:/srv/work.qcow2 >/dev/null
tap-img create -b work.qcow2 -F qcow2 qcow2:/srv/new.qcow2 >/dev/null
block look
tap-ctl list | grep -q 'state=0 args=qcow2:/srv/new.qcow2' || fail "tap-ctl list: $(tap-ctl list)"
end_tapdisks
qemu-img compare -q -f qcow2 -F raw /srv/disk.qcow2 /srv/copy.img || fail "the copy over NBD differs"
say "the commands of README.md work as they stand"
