#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Disks whose storage gets full while they are written, over each export: they wait, somebody makes room, all that was
# written is there.  The ways out of the wait.  Requests that take too long.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img
require_root

NBD=$srcdir/tests/e2e
SIZE=$((12 << 20))
random_file "$T/data" "$SIZE" 7
mkdir "$T/m"
mount -t tmpfs -o size=4M none "$T/m" 2>/dev/null || skip "cannot mount a tmpfs"

room() { mount -o "remount,size=$1" "$T/m" || fail "cannot remount"; }

# ---- what is told: a line each in $T/events ----

listen()
{
	: >"$T/events"
	python3 - "$BLKTAP_RUN_DIR/ctl$1" "$T/events" <<'PY' &
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"cmd":"events"}\n')
with open(sys.argv[2], "wb", buffering=0) as f:
    for line in s.makefile("rb"):
        f.write(line)
PY
	also_kill $!
	wait_for 10 grep -q ok "$T/events"
}

told() { [ "$(grep -c "\"event\": *\"$1\"" "$T/events")" -ge "$2" ]; }

state() { tap-ctl list --json -p "$TAPDISK_PID" | sed -n 's/.*"state": *"\([a-z]*\)".*/\1/p'; }
is() { [ "$(state)" = "$1" ]; }
stat_of() { tap-ctl stats -p "$TAPDISK_PID" | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" | head -n 1; }
stat_is() { [ "$(stat_of "$1")" = "$2" ]; }
unpause() { tap-ctl unpause -p "$TAPDISK_PID"; }

# ---- writers of $T/data; each ends with a flush, and fails if one of its requests does ----

write_nbd()
{
	exec python3 - "$NBD" "$T/s" "$T/data" <<'PY'
import sys
sys.path.insert(0, sys.argv[1])
from nbdlib import *
n = Conn(sys.argv[2], timeout=300).start()
data = open(sys.argv[3], "rb").read()
step, flying = 65536, 0
for off in range(0, len(data), step):
    n.send(WRITE, off, step, payload=data[off:off + step])
    flying += 1
    if flying == 16:
        check("a write", n.reply()[1] == 0)
        flying -= 1
while flying:
    check("a write", n.reply()[1] == 0)
    flying -= 1
check("a flush", n.call(FLUSH) == 0)
PY
}

write_fuse() { exec dd if="$T/data" of="$T/file" bs=256k conv=notrunc,fsync status=none; }

# Stamped blocks of its own, looked at afterwards.
write_ring() { exec tap-bench --rw=write --bs=64k --iodepth=16 --verify "unix:$T/r"; }

ENGINE=(--nbd "unix:$T/s" --ring "unix:$T/r")
writers=(nbd ring)
if [ -r /dev/fuse ] && [ -w /dev/fuse ]; then
	touch "$T/file"
	ENGINE+=(--fuse "$T/file")
	writers+=(fuse)
fi

make_disk()
{
	rm -f "$T/m/disk"
	room 4M
	qemu-img create -q -f "$1" "$T/m/disk" "$SIZE"
	start_tapdisk --on-enospc=pause "${@:2}" "${ENGINE[@]}" "$1:$T/m/disk"
	listen "$TAPDISK_PID"
}

fill()
{
	"write_$1" >"$T/writer.out" 2>&1 &
	WRITER=$!
	PIDS+=("$WRITER")
	wait_for 30 told enospc "$2"
	is full || fail "state: $(state)"
	is_gone_or_zombie "$WRITER" && fail "the writer has ended: $(cat "$T/writer.out")"
	[ "$(stat_of waiting)" -gt 0 ] || fail "nothing waits"
}

written()
{
	local status=0
	wait "$WRITER" || status=$?
	forget_pid "$WRITER"
	[ "$status" = 0 ] || fail "the writer: $(cat "$T/writer.out")"
}

for format in raw qcow2; do
	for by in "${writers[@]}"; do
		make_disk "$format"
		fill "$by" 1
		tap-ctl list -p "$TAPDISK_PID" | grep -q state=0x8 || fail "$(tap-ctl list)"
		unpause				# in vain
		wait_for 20 told enospc 2
		if [ "$by" = nbd ]; then	# not enough; then by way of a pause
			room 8M
			unpause
			wait_for 20 told enospc 3
		fi
		room 64M
		if [ "$by" = nbd ]; then
			tap-ctl pause -p "$TAPDISK_PID"
			is paused || fail "state: $(state)"
		fi
		unpause
		written
		is running || fail "state: $(state)"
		stop_tapdisk
		[ "$format" = raw ] || qemu-img check -q "$T/m/disk" || fail "$(qemu-img check "$T/m/disk")"
		[ "$by" = ring ] || qemu-img compare -q -f raw "$T/data" -F "$format" "$T/m/disk" ||
			fail "$format by $by: what was written is not there"
	done
	say "$format: filled and gone on, by ${writers[*]}"
done

# ---- ways out ----

# An orderly end: who wrote gets an error.
for by in nbd "${writers[-1]}"; do
	make_disk raw
	fill "$by" 1
	stop_tapdisk
	wait "$WRITER" && fail "$by: a write that was not done was answered as if"
	forget_pid "$WRITER"
done

# Somebody gives up waiting.
make_disk raw
fill nbd 1
tap-ctl policy -p "$TAPDISK_PID" --on-enospc=report
wait "$WRITER" && fail "a write without room was answered as if"
forget_pid "$WRITER"
is running || fail "state: $(state)"

# The client goes: nothing of it is left, and the next one is served.
tap-ctl policy -p "$TAPDISK_PID" --on-enospc=pause
stops=2
for by in nbd ring; do
	fill "$by" "$stops"
	stops=$((stops + 1))
	kill -KILL "$WRITER"
	wait "$WRITER" 2>/dev/null || true
	forget_pid "$WRITER"
	wait_for 20 stat_is waiting 0
	unpause
	is running || fail "state: $(state)"
done
room 64M
(write_nbd) || fail "the next client"
stop_tapdisk
same "$T/data" "$T/m/disk"

# ---- too late ----

printf 'on-enospc = pause\nrequest-timeout = 1\n' >"$T/conf"
export BLKTAP_CONF=$T/conf
rm "$T/m/disk"
truncate -s "$SIZE" "$T/m/disk"
start_tapdisk --nbd "unix:$T/s" "fault/raw:$T/m/disk"
listen "$TAPDISK_PID"
ctl "$TAPDISK_PID" '{"cmd":"info"}' | grep -q '"on_enospc": *"pause", *"request_timeout": *1,' ||
	fail "blktap.conf is not heard: $(ctl "$TAPDISK_PID" '{"cmd":"info"}')"
tap-ctl set -p "$TAPDISK_PID" fault delay-ms=1800
python3 - "$NBD" "$T/s" <<'PY'
import sys
sys.path.insert(0, sys.argv[1])
from nbdlib import *
n = Conn(sys.argv[2], timeout=300).start()
check("answered late, and well", n.write(0, b"a" * 4096) == 0)
PY
told timeout 1 || fail "$(cat "$T/events")"
stat_is timed_out 1 || fail "timed_out: $(stat_of timed_out)"
stat_is overdue 0 || fail "overdue: $(stat_of overdue)"
stat_is given_up 0 || fail "given_up: $(stat_of given_up)"
tap-ctl set -p "$TAPDISK_PID" fault delay-ms=0
tap-ctl pause -p "$TAPDISK_PID"
python3 - "$NBD" "$T/s" <<'PY'
import sys
sys.path.insert(0, sys.argv[1])
from nbdlib import *
n = Conn(sys.argv[2], timeout=300).start()
check("waited in vain", n.write(0, b"a" * 4096) == EIO)
PY
stat_is given_up 1 || fail "given_up: $(stat_of given_up)"
tap-ctl unpause -p "$TAPDISK_PID"
expect_fail "0 to 86400" tap-ctl policy -p "$TAPDISK_PID" -t 100000
expect_fail "report" tap-ctl policy -p "$TAPDISK_PID" --on-enospc=stop
expect_fail "say what" tap-ctl policy -p "$TAPDISK_PID"
stop_tapdisk
printf 'on-enospc = never\n' >"$T/conf"
expect_fail "conf:1: .*on-enospc" tapdisk -f "raw:$T/m/disk"
export BLKTAP_CONF=/dev/null

# ---- what open and create are told ----

marker=$(tap-ctl create -a "raw:$T/m/disk" --on-enospc=pause -t 30)
minor=${marker##*tapdisk-}
pid=$(tap-ctl list -m "$minor" | sed -n 's/^pid=\([0-9]*\).*/\1/p')
also_kill "$pid"
ctl "$pid" '{"cmd":"info"}' | grep -q '"on_enospc": *"pause", *"request_timeout": *30,' || fail "tap-ctl create"
tap-ctl close -m "$minor"
tap-ctl open -m "$minor" -a "raw:$T/m/disk"
ctl "$pid" '{"cmd":"info"}' | grep -q '"on_enospc": *"report", *"request_timeout": *0,' || fail "tap-ctl open"
tap-ctl destroy -m "$minor"
say "passed"
