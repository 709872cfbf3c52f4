# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash disable=SC2119,SC2120
# For the tests of the FUSE export and of block-attach: what they need, disks, and "nothing is left".

# need_fuse [loop]: skip where the machine cannot.
need_fuse()
{
	require_root
	[ -c /dev/fuse ] || skip "no /dev/fuse"
	[ "${1:-}" != loop ] || [ -c /dev/loop-control ] || skip "no loop devices"
	[ "${1:-}" != loop ] || ! grep -qs control_d /proc/xen/capabilities || skip "in domain 0 disks go by rings"
	require python3
}

# own_mounts: the script once more, in a mount namespace of its own.  The first time it does not return.
own_mounts()
{
	local status=0
	[ -z "${BLKTAP_OWN_MOUNTS:-}" ] || return 0
	unshare -m --propagation private true 2>/dev/null ||
		skip "no mount namespace of its own can be had (in a plain chroot, for one)"
	BLKTAP_OWN_MOUNTS=1 unshare -m --propagation private bash "$0" || status=$?
	exit "$status"
}

# formats: those that this build and machine can make a disk of.
formats()
{
	echo aio
	if command -v qemu-img >/dev/null &&
		{ tapdisk -f qcow2:/nonexistent 2>&1 || true; } | grep -q 'No such file'; then
		echo qcow2
	fi
}

# make_disk FORMAT FILE MIB
make_disk()
{
	case $1 in
	aio) truncate -s "$3M" "$2" ;;
	qcow2) qemu-img create -q -f qcow2 "$2" "$3M" ;;
	esac
}

# check_disk FORMAT FILE RAW: closed cleanly, and its bytes are those of RAW, as others read it.
check_disk()
{
	case $1 in
	aio) same "$2" "$3" ;;
	qcow2)
		qemu-img check -q "$2" || fail "qemu-img check $2"
		qemu-img compare -q -f qcow2 -F raw "$2" "$3" || fail "$2 differs from what was written"
		;;
	esac
}

is_mounted() { grep -qF " $1 " /proc/self/mountinfo; }

# ---- block-attach ----

# A name of our own: others test on this machine at the same time.
new_vdev()
{
	VDEV=xvd$(tr -dc '[:lower:]' </dev/urandom | head -c 6 || true)
	say "device $VDEV"
}

# The tapdisks whose command line has our file.
our_tapdisks()
{
	local file pid
	grep -lzxF -- "$BLKTAP_RUN_DIR/attach/$VDEV.disk" /proc/[0-9]*/cmdline 2>/dev/null | while read -r file; do
		pid=${file#/proc/}
		pid=${pid%/cmdline}
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != tapdisk ] || echo "$pid"
	done || true
}

# what_is_left: mounts, loop devices, daemons, names, files of $VDEV.
what_is_left()
{
	awk -v t="$BLKTAP_RUN_DIR/" 'index($5, t) == 1 { print "mount", $5 }' /proc/self/mountinfo
	grep -lF "$BLKTAP_RUN_DIR/" /sys/block/loop*/loop/backing_file 2>/dev/null || true
	our_tapdisks | sed 's/^/process /'
	ls -d "/dev/$VDEV"* "/dev/blktap/$VDEV"* 2>/dev/null || true
	find "$BLKTAP_RUN_DIR/attach" -name "$VDEV*" 2>/dev/null || true
}

nothing_left()
{
	local left
	left=$(what_is_left)
	[ -z "$left" ] || fail "left behind: $left"
}

# On every way out of a test that attaches, before what lib.sh cleans.
attach_cleanup()
{
	local status=$? pid
	set +e
	if [ "$status" != 0 ] && [ "$status" != 77 ]; then
		block-list >&2
		what_is_left >&2
	fi
	awk -v t="$T/" 'index($5, t) == 1 && !index($5, t "run/") { print $5 }' /proc/self/mountinfo | sort -r |
		while read -r dir; do umount -l "$dir"; done
	[ ! -e "$BLKTAP_RUN_DIR/attach/$VDEV.json" ] || block-detach --force --timeout 5 0 "$VDEV"
	for pid in $(our_tapdisks); do kill -KILL "$pid"; done
	(exit "$status")
	cleanup
}
