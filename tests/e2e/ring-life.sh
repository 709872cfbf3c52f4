#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Clients and daemons that die, and those that do nothing: no descriptor, mapping or socket is left of a killed client,
# the client of a killed daemon is told, an idle connection costs nothing.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

tap-img create "qcow2:$T/disk" 64M
load() # ARGS...: in the background, its pid in BENCH
{
	tap-bench --rw=randrw --iodepth=32 --runtime=60 "$@" "unix:$T/r" >"$T/bench.out" 2>"$T/bench.err" &
	BENCH=$!
	also_kill "$BENCH"
}

fds() { ls "/proc/$TAPDISK_PID/fd" | wc -l; }
maps() { grep -c blktap-client "/proc/$TAPDISK_PID/maps" || true; }
has_load() { [ "$(maps)" -gt 0 ] && kill -0 "$BENCH"; }
unmapped() { [ "$(maps)" = 0 ]; }
as_before() { [ "$(fds)" = "$1" ] && [ "$(maps)" = 0 ]; }

# ---- addresses ----
expect_fail "unix:PATH" tapdisk -f --ring "tcp:1" "qcow2:$T/disk"
expect_fail "is not a socket" tapdisk -f --ring "unix:$T/disk" "qcow2:$T/disk"
expect_fail "need a SPEC" tapdisk -f --ring "unix:$T/r"
start_tapdisk --minor 1 --ring "unix:$T/r" --ring "unix:$T/r2" "qcow2:$T/disk"
truncate -s 1M "$T/other"
expect_fail "somebody listens" tapdisk -f --ring "unix:$T/r" "raw:$T/other"
tap-ctl list --json | grep -q "unix:$T/r2" || : # addresses are in info
ctl "$TAPDISK_PID" '{"cmd":"info"}' | grep -q "\"address\":\"unix:$T/r2\"" || fail "info does not list the ring"
tap-bench --size=1M "unix:$T/r2" >/dev/null || fail "the second ring"
expect_fail "cannot connect: No such file" tap-bench "unix:$T/none"
start=$TAPDISK_PID
start_tapdisk --nbd "unix:$T/nbd" "raw:$T/other"
expect_fail "not a ring's" tap-bench "unix:$T/nbd"
stop_tapdisk
TAPDISK_PID=$start

# ---- kill -9 of the client ----
before=$(fds)
for round in 1 2 3; do
	load --queues=$round
	wait_for 20 has_load
	kill -KILL "$BENCH"
	wait "$BENCH" 2>/dev/null || true
	forget_pid "$BENCH"
	wait_for 20 as_before "$before"
done
# Also while the disk is paused and its requests wait.
load --queues=2
wait_for 20 has_load
tap-ctl pause -p "$TAPDISK_PID" -m 1
kill -KILL "$BENCH"
wait "$BENCH" 2>/dev/null || true
forget_pid "$BENCH"
wait_for 20 unmapped
tap-ctl unpause -p "$TAPDISK_PID" -m 1
wait_for 20 as_before "$before"
tap-bench --rw=randrw --verify --iodepth=8 --size=4M "unix:$T/r" >/dev/null || fail "after killed clients"

# ---- idle costs nothing ----
python3 - "$T/r" "$TAPDISK_PID" "$srcdir" <<'PY'
import sys, time
sys.path.insert(0, sys.argv[3] + "/tests/e2e")
from ringlib import *
c = Client(sys.argv[1]).connect()
check("a read is served", c.read(0) == 0)
def used():
    t = open(f"/proc/{sys.argv[2]}/stat").read().rsplit(")", 1)[1].split()
    s = open(f"/proc/{sys.argv[2]}/status").read()
    return int(t[11]) + int(t[12]), [l for l in s.splitlines() if "ctxt_switches" in l]
for _ in range(30):  # on a busy machine it may not be through with what was before
    a = used()
    time.sleep(1)
    if used() == a:
        break
else:
    check("an idle daemon does not run", False)
PY

# ---- the end of the daemon ----
load
wait_for 20 has_load
kill_tapdisk
status=0
wait_for 20 is_gone_or_zombie "$BENCH"
wait "$BENCH" || status=$?
forget_pid "$BENCH"
[ "$status" = 1 ] || fail "the client of a killed daemon: exit $status"
grep -q "the server has gone" "$T/bench.err" || fail "it says: $(cat "$T/bench.err")"
[ "$(wc -l <"$T/bench.err")" = 1 ] || fail "an error is one line: $(cat "$T/bench.err")"
rm -rf "${BLKTAP_RUN_DIR:?}"/*

# A dead socket is replaced; SIGTERM under load drains, and the socket is removed.
start_tapdisk --ring "unix:$T/r" "qcow2:$T/disk"
load --queues=2
wait_for 20 has_load
stop_tapdisk
status=0
wait_for 20 is_gone_or_zombie "$BENCH"
wait "$BENCH" || status=$?
forget_pid "$BENCH"
[ "$status" = 1 ] && grep -q "the server has gone" "$T/bench.err" || fail "exit $status: $(cat "$T/bench.err")"
[ ! -e "$T/r" ] || fail "the socket is left"

# ---- tap-bench ----
expect_fail "rw sideways" tap-bench --rw=sideways "unix:$T/r"
expect_fail "bs 100" tap-bench --bs=100 "unix:$T/r"
expect_fail "iodepth 0" tap-bench --iodepth=0 "unix:$T/r"
expect_fail "queues 9" tap-bench --queues=9 "unix:$T/r"
expect_fail "abi pdp" tap-bench --abi=pdp "unix:$T/r"
expect_fail "runtime soon" tap-bench --runtime=soon "unix:$T/r"
expect_fail "seed x" tap-bench --seed=x "unix:$T/r"
expect_fail "the disk has 1048576 bytes" tap-bench --size=2M "raw:$T/other"
expect_fail "compare-file" tap-bench --compare-file "$T/other" "file:$T/other"
status=0
tap-bench --rw=sideways "unix:$T/r" 2>/dev/null || status=$?
[ "$status" = 2 ] || fail "a command line that makes no sense: exit $status"
# A tapdisk of its own, a plain file, both in turns.
tap-bench --rw=randwrite --verify --size=1M "raw:$T/other" >"$T/out"
grep -q "verified 256 blocks" "$T/out" || grep -Eq "verified [1-9]" "$T/out" || fail "$(cat "$T/out")"
tap-bench --rw=write --verify --iodepth=4 --flush-every=16 "file:$T/other" >"$T/out"
grep -q "verified 256 blocks" "$T/out" || fail "$(cat "$T/out")"
grep -q " flush " "$T/out" || fail "no flushes: $(cat "$T/out")"
tap-bench --rw=read --verify --json "raw:$T/other" | python3 -c '
import json, sys
j = json.load(sys.stdin)
assert j["verified"] == 256 and j["read"]["ios"] == 256 and j["read"]["bytes"] == 1 << 20, j
assert j["read"]["latency_ns"]["p50"] <= j["read"]["latency_ns"]["max"] and j["server_cpu_ns"] > 0, j
assert "write" not in j, j'
tap-bench --size=1M --iodepth=8 --rounds=2 --compare-file="$T/other" "raw:$T/other" >"$T/out"
grep -q "^ring / file: x" "$T/out" || fail "$(cat "$T/out")"
tap-bench --size=1M --rounds=2 --json --compare-file="$T/other" "raw:$T/other" |
	python3 -c 'import json, sys; j = json.load(sys.stdin); assert len(j["ring"]) == 2 and j["ratio"]["median"] > 0'
# It sees what is wrong: one byte in a block's middle.
printf 'x' | dd of="$T/other" bs=1 seek=70000 conv=notrunc status=none
expect_fail "at 69632: the stamp's sector is damaged" tap-bench --rw=read --verify "file:$T/other"
[ -z "$(ls -A "$BLKTAP_RUN_DIR")" ] || fail "left in the run-time directory: $(ls "$BLKTAP_RUN_DIR")"
say "passed"
