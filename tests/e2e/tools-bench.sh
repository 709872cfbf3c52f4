#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img bench: it asks for what it says it asks for, and no more; what it writes is there.
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

cd "$T" || exit
random_file disk.img 1048576 3
before=$(sha256sum <disk.img)
tap-img bench -c 1000 -d 16 disk.img >out
want='Sending 1000 read requests, 4096 bytes each, 16 in parallel (starting at offset 0, step size 4096)'
[ "$(head -n 1 out)" = "$want" ] || fail "the first line: $(cat out)"
grep -Eqx 'Run completed in [0-9]+\.[0-9]{3} seconds\.' out || fail "the second line: $(cat out)"
grep -Eq '^[0-9]+ requests/s, .*latency' out || fail "the third line: $(cat out)"
tap-img bench --json -c 500 -s 512 -d 3 -U raw:disk.img >out
python3 - out <<'PY' || fail "--json: $(cat out)"
import json, sys
o = json.load(open(sys.argv[1]))
l = o["latency-us"]
assert (o["requests"], o["request-size"], o["depth"], o["write"]) == (500, 512, 3, False), o
assert abs(o["iops"] * o["seconds"] - 500) < 1 and abs(o["bytes-per-second"] - o["iops"] * 512) < 1, o
assert 0 < l["p50"] <= l["p99"] <= l["p99.9"] <= l["max"] and l["mean"] <= l["max"], l
PY
[ "$(sha256sum <disk.img)" = "$before" ] || fail "reading changed the image"

# Written: from 64K on, every second 4K, eight of them.
tap-img create -o cluster_size=4K qcow2:q.qcow2 1M
tap-img bench -w -c 8 -d 2 -o 64K -S 8K --pattern 65 --flush-interval 3 qcow2:q.qcow2 >out
grep -qx 'Sending flush every 3 requests' out || fail "--flush-interval: $(cat out)"
qemu-img check -q q.qcow2
python3 -c '
import sys
disk = bytearray(1 << 20)
for i in range(8):
    disk[65536 + i * 8192:65536 + i * 8192 + 4096] = b"A" * 4096
open("want", "wb").write(disk)'
qemu-img compare -q -f qcow2 -F raw q.qcow2 want || fail "what was written is not what was asked for"
# Around the end: 0, 400K, 800K, and what would reach behind the end begins at 0 again.
tap-img create --force qcow2:q.qcow2 1M
tap-img bench -w -c 5 -d 1 -s 300K -S 400K --pattern 66 qcow2:q.qcow2 >/dev/null
qemu-io -c 'read -q -P 66 0 300k' -c 'read -q -P 0 300k 100k' -c 'read -q -P 66 400k 300k' \
	-c 'read -q -P 0 700k 324k' q.qcow2 || fail "around the end"

# The filter counts flushes: after 4 writes and after 8, not behind the last, and one when the image is closed.
tap-img bench -w -c 12 -d 4 --flush-interval 4 "fault(flush-every=4)/qcow2:$T/q.qcow2" >/dev/null ||
	fail "more flushes than asked for"
expect_fail 'flush: Input/output' tap-img bench -w -c 17 -d 4 --flush-interval 4 "fault(flush-every=4)/qcow2:$T/q.qcow2"
expect_fail 'read at 4096: Input/output' tap-img bench -c 10 -d 1 "fault(read-every=2)/raw:$T/disk.img"

expect_fail 'say the format' tap-img bench -w q.qcow2
expect_fail 'must not be written' tap-img bench -w -U qcow2:q.qcow2
expect_fail 'for writing' tap-img bench --flush-interval 2 qcow2:q.qcow2
expect_fail 'not inside' tap-img bench -o 1M qcow2:q.qcow2
expect_fail 'not inside' tap-img bench -s 2M qcow2:q.qcow2
expect_fail '1 GiB' tap-img bench -s 1G qcow2:q.qcow2
expect_fail '1 to 4096' tap-img bench -d 0 qcow2:q.qcow2
expect_fail '0 to 255' tap-img bench -w --pattern 256 qcow2:q.qcow2
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/q.qcow2"
expect_fail 'q.qcow2.*open' tap-img bench -c 10 qcow2:q.qcow2
tap-img bench -c 10 -U qcow2:q.qcow2 >/dev/null
stop_tapdisk
