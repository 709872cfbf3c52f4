#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What Xen's hotplug script block-tap asks of tap-ctl, call by call, from Xen 4.19 on: a minor is cut out of the
# marker's path; spawn is called in a subshell whose stdout is a pipe; a failing open is undone by detach and free.
# Older ones: check, create, list, destroy.  With the folder of Xen's own scripts in BLKTAP_XEN_SCRIPTS
# (tools/hotplug/Linux of its sources) the script itself is run as it stands, too.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fake-xs.sh"
require qemu-img nbdinfo

truncate -s 8M "$T/a.img"
qemu-img create -q -f qcow2 "$T/b.qcow2" 64M

# The line that list -t -f prints, taken apart as the script does.
find_device()
{
	local param
	pid='' minor=''
	for param in $(tap-ctl list -t "$1" -f "$2" | tr , '\n'); do
		case $param in
		pid=*) pid=${param#pid=} ;;
		minor=*) minor=${param#minor=} ;;
		esac
	done
	[ -n "$pid" ] && [ -n "$minor" ]
}

# tap_create TYPE:FILE: with the lock that the script holds open on descriptor 200.
tap_create()
{
	minor=$(tap-ctl allocate)
	minor=${minor#"$BLKTAP_RUN_DIR/tapdisk/tapdisk-"}
	[[ $minor =~ ^[0-9]+$ ]] || fail "allocate prints no path that ends in a minor: $minor"
	pid=$( (exec 200>&-; tap-ctl spawn))
	[[ $pid =~ ^[0-9]+$ ]] || fail "spawn prints $pid"
	also_kill "$pid"
	tap-ctl attach -p "$pid" -m "$minor" || fail "attach"
	if ! tap-ctl open -p "$pid" -m "$minor" -a "$1" 2>"$T/open.err"; then
		tap-ctl detach -p "$pid" -m "$minor" || fail "detach after a failed open"
		tap-ctl free -m "$minor" || fail "free after a failed open"
		return 1
	fi
}

nothing_left() { [ -z "$(tap-ctl list)" ] || fail "left: $(tap-ctl list)"; }

exec 200>"$T/lock"
for disk in "aio:$T/a.img" "qcow2:$T/b.qcow2"; do
	find_device "${disk%%:*}" "${disk#*:}" && fail "$disk is there before it is made"
	tap_create "$disk" || fail "$disk: $(cat "$T/open.err")"
	made="$pid.$minor"
	find_device "${disk%%:*}" "${disk#*:}" || fail "$disk is not listed: $(tap-ctl list)"
	[ "$made" = "$pid.$minor" ] || fail "made $made, listed $pid.$minor"
	nbdinfo --size "nbd+unix:///?socket=$BLKTAP_RUN_DIR/nbd$pid.$minor" >/dev/null || fail "$disk: no NBD"
	[ -e "/proc/$pid/fd/200" ] && fail "the tapdisk holds the script's lock"
	tap-ctl destroy -p "$pid" -m "$minor" >/dev/null || fail "destroy"
	is_gone_or_zombie "$pid" || fail "tapdisk $pid runs on"
	nothing_left
done

tap_create "aio:$T/none.img" && fail "a disk without a file"
grep -q 'none.img' "$T/open.err" || fail "open says: $(cat "$T/open.err")"
is_gone_or_zombie "$pid" || fail "after a failed open the tapdisk runs on"
nothing_left

# ---- the scripts before 4.19 ----
tap-ctl check >/dev/null 2>&1 || fail "check"
tap-ctl create -a "aio:$T/a.img" >/dev/null || fail "create"
find_device aio "$T/a.img" || fail "a created disk is not listed"
tap-ctl destroy -p "$pid" -m "$minor" >/dev/null || fail "destroy"
nothing_left
exec 200>&-

# ---- the script itself ----
if [ -z "${BLKTAP_XEN_SCRIPTS:-}" ]; then
	say "Xen's own script is not run: BLKTAP_XEN_SCRIPTS says no folder of it"
	exit 0
fi
require_root
require unshare flock
fake_xenstore
export XENBUS_TYPE=vbd3 XENBUS_BASE_PATH=backend XENBUS_PATH=backend/vbd3/7/51712
mkdir "$T/scripts"
cp "$BLKTAP_XEN_SCRIPTS"/* "$T/scripts/"
for f in "$T/scripts"/*; do
	sed -i "s,@XEN_LOG_DIR@,$T,; s,@XEN_SCRIPT_DIR@,$T/scripts,g" "$f"
done
[ -e "$T/scripts/xen-hotplug-common.sh" ] ||
	mv "$T/scripts/xen-hotplug-common.sh.in" "$T/scripts/xen-hotplug-common.sh"
echo "bindir=$T/fake sbindir=$BUILD/bin LIBEXEC_BIN=/bin libdir=/lib" >"$T/scripts/hotplugpath.sh"

# It knows one run-time directory only, so it gets a /run of its own.
cat >"$T/session" <<'END'
set -e
mount -t tmpfs none /run
unset BLKTAP_RUN_DIR
be() { cat "$XS/$XENBUS_PATH/$1"; }
for disk in "aio:$T/a.img" "qcow2:$T/b.qcow2"; do
	rm -rf "$XS"
	mkdir -p "$XS/$XENBUS_PATH"
	echo "$disk" >"$XS/$XENBUS_PATH/params"
	echo w >"$XS/$XENBUS_PATH/mode"
	echo 7 >"$XS/$XENBUS_PATH/frontend-id"
	bash "$T/scripts/block-tap" add
	[ "$(be hotplug-status)" = connected ]
	[ "$(be physical-device-path)" = "/run/blktap-control/nbd$(be pid).$(be minor)" ]
	nbdinfo --size "nbd+unix:///?socket=$(be physical-device-path)"
	[ "$(tap-ctl list -t "${disk%%:*}" -f "${disk#*:}" | wc -l)" = 1 ]
	bash "$T/scripts/block-tap" remove
	[ -z "$(tap-ctl list)" ]
done
echo "aio:$T/none.img" >"$XS/$XENBUS_PATH/params"
if bash "$T/scripts/block-tap" add; then exit 1; fi
grep -q 'Could not open' "$XS/$XENBUS_PATH/hotplug-error"
[ -z "$(tap-ctl list)" ]
END
export T
unshare -m bash "$T/session" >"$T/session.out" 2>&1 ||
	fail "Xen's block-tap: $(cat "$T/session.out" "$T/xen-hotplug.log")"
say "Xen's own block-tap: add, remove, and a failing open"
