#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Verified loads through the ring in shared memory: raw and qcow2, each layout, each ring size, several queues, large
# requests; pause, unpause and resize under load.  The content is checked by what QEMU reads too.  LOAD_SECS makes it
# longer.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img
secs=${LOAD_SECS:-1}
seed=${TEST_SEED:-$RANDOM}
say "seed $seed"

bench()
{
	tap-bench --seed="$seed" "$@" "unix:$T/r" >"$T/bench.out" 2>"$T/bench.err" ||
		fail "tap-bench $*: $(cat "$T/bench.err")"
}

# verified N: the last one has checked at least so many blocks.
verified()
{
	local n
	n=$(sed -n 's/.*verified \([0-9]*\) blocks/\1/p' "$T/bench.out")
	[ "${n:-0}" -ge "$1" ] || fail "only ${n:-0} blocks were verified: $(cat "$T/bench.out")"
}

# stats KEY: of the first ring.
stats()
{
	tap-ctl stats -p "$TAPDISK_PID" -m 1 | python3 -c '
import json, sys
def find(o, key):
    if isinstance(o, dict):
        if key in o: return o[key]
        o = list(o.values())
    for v in o if isinstance(o, list) else []:
        r = find(v, key)
        if r is not None: return r
print(find(json.load(sys.stdin), "'"$1"'"))'
}

# ---- every shape of ring ----
truncate -s 64M "$T/raw"
tap-img create "qcow2:$T/qcow2" 64M
for format in raw qcow2; do
	start_tapdisk --minor 1 --ring "unix:$T/r" "$format:$T/$format"
	[ "$(stat -c %a "$T/r")" = 600 ] || fail "others can connect"
	for abi in x86_64-abi x86_32-abi arm-abi; do
		bench --rw=randrw --verify --iodepth=16 --abi=$abi --flush-every=50 --size=16M
		verified 1000
	done
	for order in 0 1 2 3 4; do
		bench --rw=randwrite --verify --iodepth=$((32 << order)) --bs=4k --ring-order=$order --size=16M
		verified 2000
	done
	for queues in 1 2 3 4; do
		bench --rw=randrw --verify --iodepth=8 --bs=12k --queues=$queues
		verified 1000
	done
	# Direct, just indirect, and the largest; blocks that are no whole pages.
	for bs in 512 44k 45k 64k 1M; do
		bench --rw=write --verify --iodepth=4 --bs=$bs --size=8M --offset=4M
		bench --rw=read --verify --iodepth=4 --bs=$bs --size=8M --offset=4M
		verified 8
	done
	# What a whole pass wrote is there for the next process, and for QEMU.
	bench --rw=write --verify --bs=64k --iodepth=8
	stop_tapdisk
	start_tapdisk -R --minor 1 --ring "unix:$T/r" "$format:$T/$format"
	bench --rw=read --verify --bs=64k --iodepth=8
	verified 1024
	expect_fail "blocks|seed" tap-bench --seed=$((seed + 1)) --rw=read --verify --bs=64k "unix:$T/r"
	expect_fail "[Rr]ead-only" tap-bench --rw=write "unix:$T/r"
	stop_tapdisk
done
[ "$(qemu-img convert -O raw "$T/qcow2" "$T/copy" && cmp "$T/raw" "$T/copy" && echo same)" = same ] ||
	fail "raw and qcow2 do not hold the same"
qemu-img check -q "$T/qcow2" || fail "qemu-img check"
rm "$T/copy"

# ---- pause, unpause, resize ----
start_tapdisk --minor 1 --ring "unix:$T/r" "qcow2:$T/qcow2"
pauses=0 size=64
pause_under_load() # SECONDS: true if it was long enough to say something
{
	tap-bench --seed="$seed" --rw=randrw --verify --iodepth=32 --queues=2 --runtime="$1" --size=64M \
		"unix:$T/r" >"$T/bench.out" 2>"$T/bench.err" &
	local bench=$!
	also_kill "$bench"
	while ! is_gone_or_zombie "$bench"; do
		tap-ctl pause -p "$TAPDISK_PID" -m 1 || fail "pause"
		tap-ctl unpause -p "$TAPDISK_PID" -m 1 || fail "unpause"
		pauses=$((pauses + 1))
		size=$((size + 1))
		tap-ctl resize -p "$TAPDISK_PID" -m 1 "${size}M" || fail "resize"
	done
	wait "$bench" || fail "under pauses: $(cat "$T/bench.err")"
	forget_pid "$bench"
	[ "$pauses" -ge 3 ] && (verified 100) 2>/dev/null
}
pause_under_load "$((secs + 1))" || pause_under_load 10 || pause_under_load 100 ||
	fail "$pauses pauses: $(cat "$T/bench.out")"
[ "$(stats kicks)" != None ] && fail "a ring is left: $(stats kicks)"
stop_tapdisk
qemu-img check -q "$T/qcow2" || fail "qemu-img check after pauses"
say "passed: $pauses pauses"
