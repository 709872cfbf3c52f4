# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What every end-to-end test begins with:
#
#	. "${srcdir:-.}/tests/e2e/lib.sh"
#	require qemu-img fio
#	start_tapdisk --nbd "unix:$T/s" "raw:$T/disk"	# $TAPDISK_PID; its output is in $TAPDISK_OUT, $TAPDISK_ERR
#	...
#	stop_tapdisk					# SIGTERM; fails unless it exits 0
#
# A script runs with the build folder as its working folder.  $T is a folder of its own, gone when it ends, on every
# way out; daemons started here are killed, what is mounted below $T is unmounted, loop devices on files below $T are
# detached.  BLKTAP_RUN_DIR points below $T, so a test never sees the machine's own disks.

set -euo pipefail

srcdir=${srcdir:-.}
BUILD=$PWD
export PATH="$BUILD/bin:$PATH"
export BLKTAP_TAPDISK="$BUILD/bin/tapdisk"
export BLKTAP_CONF=/dev/null
export PYTHONDONTWRITEBYTECODE=1

# Short: a socket's path has 107 bytes.
T=$(mktemp -d "${TMPDIR:-/tmp}/bt.XXXXXX")
export BLKTAP_RUN_DIR="$T/run"
mkdir "$BLKTAP_RUN_DIR"

# A daemon that a command started writes its reports where we look at the end.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$T/asan:detect_leaks=1"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}print_stacktrace=1"

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail()
{
	printf '%s: FAILED: %s (line %s)\n' "${0##*/}" "$*" "${BASH_LINENO[0]}" >&2
	exit 1
}
skip()
{
	say "skipped: $*"
	exit 77
}

# require TOOL...: skip the test where one is missing.
require()
{
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "$tool is not installed"
	done
}

require_root() { [ "$(id -u)" = 0 ] || skip "needs root"; }

# ---- waiting ----

# wait_for SECONDS COMMAND...: until it succeeds; fails the test when the time is up.  The seconds are what a loaded
# machine may need; one that is busier yet gets ten times as long, which costs nothing where things go well.
wait_for()
{
	local end=$((SECONDS + $1 * 10 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "waited in vain for: $*"
		sleep 0.02
	done
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

# expect_fail PATTERN COMMAND...: it has to fail, and its one line on stderr has to match the (extended) pattern.
expect_fail()
{
	local pattern=$1
	shift
	if "$@" >"$T/expect.out" 2>"$T/expect.err"; then
		fail "should have failed: $*"
	fi
	grep -Eq -- "$pattern" "$T/expect.err" || fail "expected /$pattern/ from: $*; it said: $(cat "$T/expect.err")"
}

# ---- daemons ----

PIDS=()		# what cleanup ends
TAPDISK_PID=
DISKS=0

# start_tapdisk ARGS...: in the foreground mode, returns when it is ready.
start_tapdisk()
{
	DISKS=$((DISKS + 1))
	TAPDISK_OUT=$T/tapdisk$DISKS.out
	TAPDISK_ERR=$T/tapdisk$DISKS.err
	: >"$TAPDISK_OUT"
	"$BUILD/bin/tapdisk" -f "$@" >"$TAPDISK_OUT" 2>"$TAPDISK_ERR" &
	TAPDISK_PID=$!
	PIDS+=("$TAPDISK_PID")
	local end=$((SECONDS + 200))
	until grep -qsx ready "$TAPDISK_OUT"; do
		is_gone "$TAPDISK_PID" && fail "tapdisk $*: $(cat "$TAPDISK_ERR")"
		[ "$SECONDS" -lt "$end" ] || fail "tapdisk $*: not ready in time"
		sleep 0.02
	done
}

# stop_tapdisk [PID]: SIGTERM; has to exit 0.
stop_tapdisk()
{
	local pid=${1:-$TAPDISK_PID} status=0
	kill -TERM "$pid"
	wait_for 20 is_gone_or_zombie "$pid"
	wait "$pid" || status=$?
	[ "$status" = 0 ] || fail "tapdisk exited $status: $(cat "$TAPDISK_ERR")"
	forget_pid "$pid"
}

# kill_tapdisk [PID]: SIGKILL, as a crash would.
kill_tapdisk()
{
	local pid=${1:-$TAPDISK_PID}
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
	forget_pid "$pid"
}

is_gone_or_zombie()
{
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
	stat=${stat##*) }
	[ "${stat%% *}" = Z ]
}

# also_kill PID...: more for cleanup to end (what a command left running).
also_kill() { PIDS+=("$@"); }

forget_pid()
{
	local kept=() pid
	for pid in "${PIDS[@]}"; do
		[ "$pid" = "$1" ] || kept+=("$pid")
	done
	PIDS=("${kept[@]+"${kept[@]}"}")
}

# ctl PID JSON: one control message, its answer on stdout (for tests of the messages; commands use tap-ctl).
ctl()
{
	python3 - "$BLKTAP_RUN_DIR/ctl$1" "$2" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(200)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n")
print(s.makefile().readline(), end="")
PY
}

# ---- files ----

# random_file FILE BYTES [SEED]: the same bytes for the same seed.
random_file()
{
	openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "${3:-1}")" -iv 00000000000000000000000000000000 \
		-in /dev/zero 2>/dev/null | head -c "$2" >"$1" || true
	[ "$(stat -c %s "$1")" = "$2" ] || fail "cannot make $1"
}

same() { cmp -- "$1" "$2" || fail "$1 and $2 differ"; }

# ---- the end ----

# Innermost mount first; loop devices only of our own files.
unmount_ours()
{
	local dir loop
	awk -v t="$T/" 'index($5, t) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r dir; do
		umount "$dir" 2>/dev/null || fusermount3 -u -z "$dir" 2>/dev/null || umount -l "$dir" || true
	done
	command -v losetup >/dev/null || return 0
	losetup -ln -O NAME,BACK-FILE 2>/dev/null | awk -v t="$T/" 'index($2, t) == 1 { print $1 }' |
		while read -r loop; do losetup -d "$loop" || true; done
}

cleanup()
{
	local status=$? pid report
	trap - EXIT
	set +e
	unmount_ours
	for pid in "${PIDS[@]+"${PIDS[@]}"}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	for pid in "${PIDS[@]+"${PIDS[@]}"}"; do
		for _ in $(seq 600); do is_gone_or_zombie "$pid" && break; sleep 0.05; done
		kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	unmount_ours
	# A line about swapcontext is always there; it is no finding.
	for report in "$T"/asan.*; do
		grep -Eqs 'ERROR: |runtime error: ' "$report" || continue
		cat "$report" >&2
		[ "$status" = 0 ] && status=1
	done
	if [ "$status" != 0 ] && [ "$status" != 77 ]; then
		for report in "$T"/tapdisk*.err; do [ -s "$report" ] && sed "s|^|${report##*/}: |" "$report" >&2; done
	fi
	rm -rf --one-file-system "$T"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
