#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Filters of a running disk: throttle and fault, above and below a format, changed by tap-ctl.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img

qemu-img create -q -f qcow2 "$T/a" 16M
start_tapdisk --nbd "unix:$T/s" "throttle/qcow2/fault/aio:$T/a"
python3 - "$TAPDISK_PID" "$T" <<PY
import json, subprocess, sys, time
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *

pid, t = sys.argv[1], sys.argv[2]


def tap_ctl(verb, *words):
    return subprocess.run(["tap-ctl", verb, "-p", pid, *words], capture_output=True, text=True)


def stats(driver):
    images = json.loads(tap_ctl("stats").stdout)["images"]
    return next(i["counters"] for i in images if i["driver"] == driver)


def done(verb, *words):
    r = tap_ctl(verb, *words)
    check(f"{verb} {words}: {r.stderr}", r.returncode == 0)


def refused(code, pattern, verb, *words):
    r = tap_ctl(verb, *words)
    check(f"{verb} {words}: {r}", r.returncode == code and pattern in r.stderr)


n = Conn(f"{t}/s").start()
check("nothing is limited at first", n.write(0, b"a" * 65536) == 0)

# ---- limits ----
refused(22, "say which limit", "throttle")
refused(22, "'iops'", "throttle", "--iops", "many")
refused(22, "'iosp'", "set", "throttle", "iosp=3")
refused(2, "null/throttle/qcow2/fault/aio:", "set", "null", "iops=3")
refused(95, "qcow2", "set", "qcow2", "l2-cache=1M")
done("throttle", "--iops=50", "--bps-read=4M", "--burst-ms=10")
got = stats("throttle")
check(f"the limits are told: {got}", (got["iops"], got["bps-read"], got["burst-ms"]) == (50, 4 << 20, 10))
begin = time.monotonic()
for i in range(30):
    n.send(WRITE, i * 4096, 4096, 0, bytes([i]) * 4096)
for i in range(30):
    check("a write", n.reply()[1] == 0)
took = time.monotonic() - begin
check(f"30 writes at 50 a second took {took}", took >= 0.55)
check("and waited", stats("throttle")["delayed"] >= 20)

# ---- they outlive a pause; what is named by unpause counts more ----
done("pause")
refused(16, "paused", "throttle", "--iops=1")
done("unpause")
check("still limited", stats("throttle")["iops"] == 50)
done("pause")
done("unpause", "-a", f"throttle(iops=7)/qcow2/fault/aio:{t}/a")
check("as named", (stats("throttle")["iops"], stats("throttle")["bps-read"]) == (7, 0))

# ---- a hundred seconds' worth waits; a pause does not wait for it, nor does the end ----
done("throttle", "--iops=1")
for i in range(100):
    n.send(READ, i * 4096, 4096)
begin = time.monotonic()
done("pause")
check("a pause drains at once", time.monotonic() - begin < 80)
for i in range(100):
    check("answered", n.reply()[1] == 0)
done("unpause")
done("throttle", "--iops=0")

# ---- the storage fails now ----
done("set", "fault", "write-every=1", "error=ENOSPC")
check("no space", n.write(8 << 20, b"x" * 65536) == 28)
check("counted", stats("fault")["failed"] > 0)
done("set", "fault", "write-every=0,read-every=1", "error=EIO")
check("a write does not read", n.write(8 << 20, b"x" * 65536) == 0)
check("no read", n.call(READ, 8 << 20, 65536) == 5)
done("set", "fault", "read-every=0")
check("well again", n.call(FLUSH) == 0)
check("with what was written", n.read(8 << 20, 65536)[1] == b"x" * 65536)

# ---- what is counted ----
q = stats("qcow2")
check(f"the tables were found in memory: {q}", q["l2_hits"] > 0 and q["refcount_misses"] > 0)
check(f"and fit: {q}", 0 < q["l2_bytes"] <= q["l2_limit"] and q["tables_bytes"] > 0)
check(f"nothing is compressed: {q}", "inflated_hits" not in q)
s = json.loads(tap_ctl("stats").stdout)
w = s["vbd"]["write"]
times = [w[f"{k}_ns"] for k in ("p50", "p90", "p99", "p99_9", "max")]
check(f"times: {w}", times == sorted(times) and 0 < w["mean_ns"] <= w["max_ns"] and w["p50_ns"] > 0)
check(f"buckets: {w}", sum(n for _, n in w["buckets"]) == w["requests"])
check(f"in order: {w}", w["buckets"] == sorted(w["buckets"]) and w["buckets"][-1][0] >= w["max_ns"])
most = sum(t * n for t, n in w["buckets"])
check(f"the mean of the buckets: {w}", w["total_ns"] <= most <= w["total_ns"] * 33 // 32 + 1)
check("nobody has trimmed", s["vbd"]["trim"]["buckets"] == [] and s["vbd"]["trim"]["p99_ns"] == 0)
p = s["process"]
check(f"memory: {p}", p["stacks"] > 0 and p["stack_size"] >= 65536 and p["rss"] > 1 << 20)
PY
stop_tapdisk
qemu-img check -q "$T/a" || fail "$(qemu-img check "$T/a")"

# Compressed clusters that are read twice are inflated once.
qemu-img convert -c -O qcow2 "$T/a" "$T/c"
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/c"
python3 - "$TAPDISK_PID" "$T" <<PY
import json, subprocess, sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *

n = Conn(f"{sys.argv[2]}/s").start()
for i in range(16):
    n.read((8 << 20) + i * 4096, 4096)
s = json.loads(subprocess.check_output(["tap-ctl", "stats", "-p", sys.argv[1]]))["images"][0]["counters"]
check(f"inflated: {s}", (s["inflated_hits"], s["inflated_misses"]) == (15, 1))
PY
stop_tapdisk

# One that has none says how it is opened with one.
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/a"
expect_fail "there is no throttle .*throttle/qcow2:$T/a" tap-ctl throttle -p "$TAPDISK_PID" --iops 5
stop_tapdisk
say "passed"
