#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The sandbox of a running tapdisk: it is on, says what is in force, and off where that was asked for; each engine
# serves in it; an image elsewhere is refused until it is allowed; it ends as it should as another user, and unmounts.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-io nbdinfo
grep -qs '^#define TD_SANITIZE' config.h && skip "a build with sanitizers has no sandbox"
mkdir "$T/images" "$T/other"
tap-img create "qcow2:$T/images/disk" 4M >/dev/null
tap-img create "qcow2:$T/images/overlay" 4M >/dev/null
tap-img create "qcow2:$T/other/disk" 4M >/dev/null
S="nbd+unix:///?socket=$T/s"

# of FIELD: what `stats` says of the sandbox.
of()
{
	tap-ctl stats -p "$TAPDISK_PID" -m 1 |
		python3 -c "import json, sys; print(json.load(sys.stdin)['sandbox'].get('$1'))"
}
status() { awk -v k="$1:" '$1 == k { print $2 }' "/proc/$TAPDISK_PID/status"; }
works()
{
	qemu-io -f raw -c 'write -P 7 0 64k' -c flush -c 'read -P 7 0 64k' "$S" >"$T/io" 2>&1 ||
		fail "I/O: $(cat "$T/io")"
}

# ---- on, with each engine ----

for engine in auto io_uring libaio sync; do
	# It is made before the image is opened.
	if ! grep -q nonexistent <<<"$(tapdisk --engine "$engine" raw:/nonexistent/image 2>&1 || true)"; then
		say "no engine $engine here"
		continue
	fi
	start_tapdisk --minor 1 --engine "$engine" --nbd "unix:$T/s" "qcow2:$T/images/disk"
	[ "$(of mode)" = on ] || fail "$engine: not in the sandbox"
	[ "$(status NoNewPrivs)" = 1 ] || fail "$engine: privileges can be gained"
	[ "$(of seccomp)" = False ] || [ "$(status Seccomp)" = 2 ] || fail "$engine: it says seccomp, and there is none"
	works
	for thread in "/proc/$TAPDISK_PID/task"/*; do
		case $(cat "$thread/comm") in
		iou-*) ;; # the kernel's own
		*) grep -q "^NoNewPrivs:	1" "$thread/status" || fail "$engine: a thread outside" ;;
		esac
	done
	stop_tapdisk
done

# ---- off ----

start_tapdisk --minor 1 --sandbox off --nbd "unix:$T/s" "qcow2:$T/images/disk"
[ "$(of mode) $(status Seccomp) $(status NoNewPrivs)" = "off 0 0" ] || fail "--sandbox=off: $(of mode)"
works
stop_tapdisk
echo 'sandbox = off' >"$T/conf"
BLKTAP_CONF=$T/conf start_tapdisk --minor 1 --nbd "unix:$T/s" "qcow2:$T/images/disk"
[ "$(of mode)" = off ] || fail "sandbox = off in the configuration"
stop_tapdisk
BLKTAP_CONF=$T/conf start_tapdisk --minor 1 --sandbox=on --nbd "unix:$T/s" "qcow2:$T/images/disk"
[ "$(of mode)" = on ] || fail "--sandbox=on over the configuration"
stop_tapdisk
expect_fail 'should be on or off' tapdisk --sandbox maybe "qcow2:$T/images/disk"

# ---- another image ----

# moves SPEC: pause, unpause onto it.
moves()
{
	tap-ctl pause -p "$TAPDISK_PID" -m 1
	tap-ctl unpause -p "$TAPDISK_PID" -m 1 -a "$1"
}
start_tapdisk --minor 1 --nbd "unix:$T/s" "qcow2:$T/images/disk"
landlock=$(of landlock)
moves "qcow2:$T/images/overlay"
works
# What the disk has left is held by nobody: its space is free when it is removed.
used() { df --output=used -k "$T/m" | tail -n 1; }
if [ "$(id -u)" = 0 ] && mkdir "$T/m" && mount -t tmpfs -o size=16M none "$T/m" 2>/dev/null; then
	truncate -s 8M "$T/m/new"
	random_file "$T/m/old" 8000000
	stop_tapdisk
	start_tapdisk --minor 1 --nbd "unix:$T/s" "raw:$T/m/old"
	moves "raw:$T/m/new"
	rm "$T/m/old"
	[ "$(used)" -lt 4000 ] || fail "$(used) KiB are used after the old image was removed"
	stop_tapdisk
	start_tapdisk --minor 1 --nbd "unix:$T/s" "qcow2:$T/images/overlay"
fi
if [ "$landlock" -gt 0 ]; then
	expect_fail "$T/other/disk: .*--allow-write $T/other.*blktap.conf.*--sandbox=off" moves "qcow2:$T/other/disk"
	moves "qcow2:$T/images/disk"	# nothing is lost by it
	works
fi
stop_tapdisk
start_tapdisk --minor 1 --allow-write "$T/other" --nbd "unix:$T/s" "qcow2:$T/images/disk"
moves "qcow2:$T/other/disk"
works
stop_tapdisk
echo "allow-write $T/other" >"$T/conf"
BLKTAP_CONF=$T/conf start_tapdisk --minor 1 --nbd "unix:$T/s" "qcow2:$T/images/disk"
moves "qcow2:$T/other/disk"
stop_tapdisk

# ---- a disk that comes later ----

pid=$(tap-ctl spawn)
also_kill "$pid"
TAPDISK_PID=$pid
tap-ctl attach -p "$pid" -m 1 2>/dev/null || ctl "$pid" '{"cmd":"attach","minor":1}' >/dev/null
[ "$(of mode)" = waits ] || fail "without a disk: $(of mode)"
ctl "$pid" "{\"cmd\":\"open\",\"spec\":\"qcow2:$T/images/disk\"}" | grep -q '"ok":true' || fail "open"
[ "$(of mode)" = on ] || fail "with its first disk: $(of mode)"
ctl "$pid" '{"cmd":"close"}' | grep -q '"ok":true' || fail "close"
ctl "$pid" "{\"cmd\":\"open\",\"spec\":\"qcow2:$T/images/disk\",\"nbd\":[\"tcp::0\"]}" |
	grep -q 'EACCES.*tcp::0: this tapdisk is in its sandbox' || fail "a port from inside"
kill -TERM "$pid"
wait_for 10 is_gone "$pid"

# ---- as root: another user, and the mount ----

if [ "$(id -u)" != 0 ]; then
	say "passed (as root there is more)"
	exit 0
fi
expect_fail 'no user "nobody-at-all"' tapdisk --user nobody-at-all "qcow2:$T/images/disk"
expect_fail 'is part of the sandbox' tapdisk --sandbox off --user nobody "qcow2:$T/images/disk"
expect_fail "run-time directory $BLKTAP_RUN_DIR is not this user's" tapdisk -f --user nobody "qcow2:$T/images/disk"
chmod 755 "$T"
export BLKTAP_RUN_DIR=$T/theirs
mkdir "$BLKTAP_RUN_DIR"
chown nobody "$BLKTAP_RUN_DIR" "$T/images/disk"
start_tapdisk --minor 1 --user nobody:nogroup --nbd "unix:$T/s" "qcow2:$T/images/disk"
[ "$(stat -c %U "/proc/$TAPDISK_PID" "$T/s" "$BLKTAP_RUN_DIR/ctl$TAPDISK_PID" | sort -u)" = nobody ] ||
	fail "not nobody"
[ "$(status CapPrm)" = 0000000000000000 ] || fail "capabilities are left: $(status CapPrm)"
[ "$(status Groups)" = "$(id -g nobody)" ] || fail "other groups: $(status Groups)"
works
as_nobody() { setpriv --reuid=nobody --clear-groups env PATH="$PATH" BLKTAP_RUN_DIR="$BLKTAP_RUN_DIR" "$@"; }
as_nobody tap-ctl pause -p "$TAPDISK_PID" -m 1
as_nobody tap-ctl unpause -p "$TAPDISK_PID" -m 1
works
kill_tapdisk	# what is kept, was made as either user: the next one finds it
start_tapdisk --minor 1 --user nobody:nogroup --nbd "unix:$T/s2" "qcow2:$T/images/disk"
S="nbd+unix:///?socket=$T/s2"
qemu-io -f raw -c 'read -P 7 0 64k' "$S" | grep -q failed && fail "what was written is not there"
stop_tapdisk
[ -z "$(find "$BLKTAP_RUN_DIR" -name 'keep*' -o -name "*$TAPDISK_PID*")" ] || fail "left: $(ls "$BLKTAP_RUN_DIR")"
export BLKTAP_RUN_DIR=$T/run

[ -e /dev/fuse ] || { say "passed (no /dev/fuse)"; exit 0; }
start_tapdisk --minor 1 --fuse "$T/view" "qcow2:$T/images/disk"
[ "$(of mode)" = on ] || fail "with a mount: $(of mode)"
helper=$(pgrep -P "$TAPDISK_PID")
[ "$(cat "/proc/$helper/comm")" = tap-unmount ] || fail "no helper"
tr '\0' ' ' <"/proc/$helper/cmdline" | grep -q -- --fuse && fail "the helper looks like the daemon"
[ "$(find "/proc/$helper/fd" -mindepth 1 | wc -l)" = 4 ] || fail "it has more open than it needs"
cmp -n 65536 "$T/view" <(head -c 65536 /dev/zero | tr '\0' '\7') || fail "read by FUSE"
kill -TERM "$helper"	# from a terminal, from a service manager
stop_tapdisk
[ ! -e "$T/view" ] || fail "the mount or its file is left"
wait_for 5 is_gone "$helper"
# A file that was there stays.
echo mine >"$T/view"
start_tapdisk --fuse "$T/view" "qcow2:$T/images/disk"
helper=$(pgrep -P "$TAPDISK_PID")
stop_tapdisk
[ "$(cat "$T/view")" = mine ] || fail "the user's own file"
# Killed: the helper ends too, the next one takes the mount away.
start_tapdisk --fuse "$T/view" "qcow2:$T/images/disk"
helper=$(pgrep -P "$TAPDISK_PID")
kill_tapdisk
wait_for 5 is_gone "$helper"
start_tapdisk --fuse "$T/view" "qcow2:$T/images/disk"
stop_tapdisk
[ "$(cat "$T/view")" = mine ] || fail "the user's own file after a kill"
say passed
