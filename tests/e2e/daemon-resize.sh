#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A disk that grows while it is served, and what those who asked for events are told.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img

export FUSE_FILE=
[ -r /dev/fuse ] && [ -w /dev/fuse ] && FUSE_FILE=$T/file
truncate -s 16M "$T/a" "$T/b"
qemu-img create -q -f qcow2 "$T/c" 16M
truncate -s 40M "$T/d"

for spec in "raw:$T/a" "qcow2:$T/c"; do
	fuse=()
	[ -z "$FUSE_FILE" ] || fuse=(--fuse "$FUSE_FILE")
	start_tapdisk --nbd "unix:$T/s" "${fuse[@]+"${fuse[@]}"}" "$spec"
	python3 - "$TAPDISK_PID" "$T" <<PY
import json, os, socket, subprocess, sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *

pid, t = int(sys.argv[1]), sys.argv[2]
fuse = os.environ["FUSE_FILE"]
M = 1 << 20


class Control:
    def __init__(self, buf=0):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(f"{os.environ['BLKTAP_RUN_DIR']}/ctl{pid}")
        self.s.settimeout(200)
        self.f = self.s.makefile("rb")

    def send(self, cmd, **fields):
        self.s.sendall(json.dumps(dict(fields, cmd=cmd)).encode() + b"\n")

    def line(self):
        line = self.f.readline()
        return json.loads(line) if line else None

    def __call__(self, cmd, **fields):
        self.send(cmd, **fields)
        return self.line()


def tap_ctl(*words):
    return subprocess.run(["tap-ctl", "resize", "-p", str(pid), *words], stderr=subprocess.PIPE, text=True)


def refused(what, size, code, *words):
    r = tap_ctl(size)
    check(f"{what}: {r}", r.returncode == code and all(w in r.stderr for w in words))


c, e, deaf = Control(), Control(), Control()
check("ok comes first", e("events", id=7) == {"id": 7, "ok": True})
deaf("events")
n = Conn(f"{t}/s").start()
n.write(0, b"a" * 4096)

# ---- refusals ----
refused("smaller", "8M", 95, "can only become larger", t)
refused("no multiple of 512", "16777300", 22, "multiple of 512")
refused("nonsense", "big", 22, "not a size")
check("nothing has changed", c("info")["size"] == 16 * M)
check("negative", c("resize", size=-1)["errno"] == "EINVAL")
check("far too large", c("resize", size=2**63 - 512)["errno"] in ("EFBIG", "ENOSPC", "EINVAL"))
check("no size", c("resize")["errno"] == "EINVAL")

# ---- it grows under requests that are on their way ----
for i in range(64):
    n.send(WRITE, i * 65536, 65536, payload=bytes([i]) * 65536)
check("resize", tap_ctl("32M").returncode == 0)
for i in range(64):
    check("each request is answered", n.reply()[1] == 0)
check("info", c("info")["size"] == 32 * M)
check("the event", e.line() == {"event": "size", "size": 32 * M})
if fuse:
    check("the file follows", os.stat(fuse).st_size == 32 * M)
m = Conn(f"{t}/s").start()
check("a new client sees it", m.size == 32 * M)
check("the new part is zeros", m.read(16 * M, 1 * M)[1] == bytes(M))
check("and can be written", m.write(32 * M - 4096, b"z" * 4096) == 0)
check("by an old client too", n.read(32 * M - 4096, 4096)[1] == b"z" * 4096)
check("the old part is as it was", n.read(5 * 65536, 65536)[1] == bytes([5]) * 65536)
check("the same size again is fine, and tells nobody", tap_ctl("32M").returncode == 0)

# ---- states, and another image of another size ----
c("pause")
check("paused: no resize", c("resize", size=64 * M)["errno"] == "EBUSY")
check("unpaused", c("unpause", spec=f"raw:{t}/d")["ok"])
told = [e.line()]
while told[-1] != {"event": "state", "state": "running"}:
    told.append(e.line())
check(f"paused was told: {told}", {"event": "state", "state": "paused"} in told)
check(f"the new size too: {told}", {"event": "size", "size": 40 * M} in told)
if fuse:
    check("the file follows again", os.stat(fuse).st_size == 40 * M)

# ---- a client of events takes no requests, and one that does not read is dropped ----
e.send("info")
for i in range(1500):
    c("pause")
    c("unpause")
    if i % 100 == 0:
        while e.line() != {"event": "state", "state": "paused"}:
            pass
lines = 0
while True:
    try:
        line = deaf.line()
    except (ConnectionResetError, json.JSONDecodeError):
        break
    if line is None:
        break
    check(f"only events: {line}", "event" in line)
    lines += 1
check("it was told what fitted", lines > 0)
check("the daemon is well", c("info")["state"] == "running")
e2 = Control()
e2.s.sendall(b'{"cmd":"events"}\n')
e2.s.shutdown(socket.SHUT_WR)
check("who sends no more is told all the same", e2.line() == {"ok": True})
c("pause")
while e2.line()["state"] != "paused":
    pass
c("unpause")
e.f.close()
e.s.close()
c("shutdown")
end = e2.line()
while end is not None:
    check(f"events until the end: {end}", "event" in end)
    end = e2.line()
PY
	wait "$TAPDISK_PID" || fail "exit $?"
	forget_pid "$TAPDISK_PID"
done
[ "$(stat -c %s "$T/a")" = $((32 << 20)) ] || fail "the raw file has $(stat -c %s "$T/a") bytes"
qemu-img check -q "$T/c" || fail "qcow2: $(qemu-img check "$T/c")"
[ "$(qemu-img info --output=json "$T/c" | grep -c '"virtual-size": 33554432')" = 1 ] || fail "qcow2's size"
say "passed"
