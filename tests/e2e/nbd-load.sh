#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Under load: fio's nbd engine with verify over several connections; pause and unpause, onto another image too, without
# an error; SIGTERM drains what is in flight and exits 0.  LOAD_SECS makes it longer.
. "${srcdir:-.}/tests/e2e/lib.sh"
require fio python3
fio --enghelp 2>/dev/null | grep -qw nbd || skip "this fio has no nbd engine"
secs=${LOAD_SECS:-3}

load() # NAME ARGS...: in the background; its pid in FIO
{
	local name=$1
	shift
	(cd "$T" && exec fio --name="$name" --ioengine=nbd --uri="nbd+unix:///?socket=$T/s" --size=32M \
		--group_reporting "$@") >"$T/fio.$name" 2>&1 &
	FIO=$!
	also_kill "$FIO"
}

load_ok()
{
	wait "$FIO" || fail "fio $1: $(cat "$T/fio.$1")"
	forget_pid "$FIO"
	grep -q 'err= 0' "$T/fio.$1" || fail "fio $1: $(cat "$T/fio.$1")"
}

truncate -s 128M "$T/a"
start_tapdisk --nbd "unix:$T/s" "raw:$T/a"

# Each of three jobs writes its own 32 MiB over its own connection, in pieces of odd sizes, and reads it back.
load verify --rw=randwrite --bsrange=512-128k --bs_unaligned=0 --iodepth=16 --numjobs=3 --offset_increment=32M \
	--verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7
load_ok verify

# Pause and unpause under verify load; longer on a machine that is too busy for three of them.
for secs in "$secs" $((secs * 5)) $((secs * 25)); do
	forever="--verify=crc32c --verify_fatal=1 --loops=100 --time_based --runtime=$secs"
	# shellcheck disable=SC2086
	load pauses --rw=randwrite --bs=4k --iodepth=16 $forever
	pauses=0
	while ! is_gone_or_zombie "$FIO"; do
		ctl "$TAPDISK_PID" '{"cmd":"pause"}' | grep -q '"ok":true' || fail "pause"
		ctl "$TAPDISK_PID" '{"cmd":"info"}' | grep -q '"state":"paused"' || fail "not paused"
		ctl "$TAPDISK_PID" '{"cmd":"unpause"}' | grep -q '"ok":true' || fail "unpause"
		pauses=$((pauses + 1))
	done
	load_ok pauses
	[ "$pauses" -lt 3 ] || break
done
[ "$pauses" -ge 3 ] || fail "only $pauses pauses"

# Onto a copy that was made during the pause: what fio wrote before has to be there.
# shellcheck disable=SC2086
load moves --rw=randwrite --bs=4k --iodepth=16 $forever
sleep 0.5
at=a
for to in b c; do
	ctl "$TAPDISK_PID" '{"cmd":"pause"}' | grep -q '"ok":true' || fail "pause"
	cp --sparse=always "$T/$at" "$T/$to"
	ctl "$TAPDISK_PID" "{\"cmd\":\"unpause\",\"spec\":\"raw:$T/nothing\"}" | grep -q '"errno":"ENOENT"' ||
		fail "unpause onto nothing"
	ctl "$TAPDISK_PID" '{"cmd":"info"}' | grep -q '"state":"paused"' || fail "it has to stay paused"
	ctl "$TAPDISK_PID" "{\"cmd\":\"unpause\",\"spec\":\"raw:$T/$to\"}" | grep -q '"ok":true' ||
		fail "unpause onto $to"
	rm "$T/$at"
	at=$to
	sleep 0.4
done
load_ok moves
stop_tapdisk

# SIGTERM while requests are in flight (each takes 20 ms): all that was accepted is answered, the exit is 0.
start_tapdisk --nbd "unix:$T/s" "fault(delay-ms=20)/raw:$T/c"
python3 - "$T/s" "$TAPDISK_PID" <<PY
import sys, time
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(sys.argv[1]).start()
for i in range(32):
    c.send(WRITE, i * 4096, 4096, 0, b"T" * 4096)
wait_until("all are taken", lambda: taken(sys.argv[2]) >= 32)
os.kill(int(sys.argv[2]), signal.SIGTERM)
got = 0
try:
    while True:
        check("no error", c.reply()[1] == 0)
        got += 1
except Gone:
    pass
check("all 32 are answered before the end", got == 32)
PY
wait "$TAPDISK_PID" || fail "SIGTERM under load: exit $?"
forget_pid "$TAPDISK_PID"
head -c $((32 * 4096)) /dev/zero | tr '\0' T >"$T/want"
cmp -s -n $((32 * 4096)) "$T/want" "$T/c" || fail "what was answered is not in the file"

# And with fio's load: it has to end too, with the connection lost.
start_tapdisk --nbd "unix:$T/s" "raw:$T/c"
load end --rw=randrw --bs=4k --iodepth=32 --numjobs=2 --time_based --runtime=30
sleep 0.7
stop_tapdisk
wait "$FIO" && fail "fio did not notice"
forget_pid "$FIO"
[ ! -e "$T/s" ] || fail "the socket is still there"
say "passed ($pauses pauses)"
