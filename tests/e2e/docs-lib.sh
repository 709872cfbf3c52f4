# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# For the tests that run what the README and the manual pages tell people to type: a mount namespace with an empty
# /srv, /mnt and /run, so that it can be typed as it stands.

need_machine()
{
	local dev
	need_fuse loop
	require mkfs.ext4 unshare fusermount3
	for dev in xvda xvdb xvdc; do
		[ ! -e "/dev/$dev" ] && [ ! -e "/dev/blktap/$dev" ] || skip "this machine has a /dev/$dev"
	done
}

enter_namespace()
{
	local dir
	[ -d /srv ] && [ -d /mnt ] || skip "this machine has no /srv or no /mnt"
	own_mounts
	trap leave EXIT
	for dir in /srv /mnt /run; do mount -t tmpfs none "$dir"; done
	mkdir -p /run/lock # LVM and the like want one
}

# What a failure in the middle leaves attached is of the whole machine.
leave()
{
	local dev
	for dev in $(block-list | sed -n 's/^vdev=\([^ ]*\).*/\1/p'); do
		block-detach --force 0 "$dev" >/dev/null 2>&1 || true
	done
	cleanup
}

end_tapdisks()
{
	local socket
	for socket in "$BLKTAP_RUN_DIR"/ctl*; do
		[ ! -S "$socket" ] || ctl "${socket##*/ctl}" '{"cmd":"shutdown"}' >/dev/null || true
	done
	wait_for 20 no_tapdisks
}

no_tapdisks() { ! compgen -G "$BLKTAP_RUN_DIR/ctl*" >/dev/null; }
