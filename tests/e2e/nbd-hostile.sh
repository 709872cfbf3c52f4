#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Clients that lie, stall, flood and vanish: the server lives, keeps its bounds, and serves the next one.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

truncate -s 128M "$T/raw"
start_tapdisk --nbd "unix:$T/s" --nbd tcp:127.0.0.1:0 "raw:$T/raw"
port=$(sed -n 's/^nbd tcp:.*://p' "$TAPDISK_OUT")
python3 "$srcdir/tests/e2e/nbd-hostile.py" "$T/s" "$TAPDISK_PID"

# A thousand who connect, as far as there is room for them, and say nothing, half of them on a port: the honest client
# beside them is served on; when it is told to stop they are not waited for.
python3 - "$T/s" "$port" "$TAPDISK_PID" <<PY
import resource, sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, max(2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
honest = Conn(sys.argv[1]).start()
idle = []
for i in range(1000):
    s = socket.socket(socket.AF_UNIX if i % 2 else socket.AF_INET)
    s.setblocking(False)
    try:
        s.connect(sys.argv[1] if i % 2 else ("127.0.0.1", int(sys.argv[2])))
    except BlockingIOError:
        pass
    idle.append(s)
greeted = 0
for s in idle:
    try:
        greeted += len(s.recv(18)) == 18
    except (BlockingIOError, OSError):
        pass
for i in range(20):
    check("the honest client is served", honest.write(i * 4096, bytes([i]) * 4096) == 0 and
          honest.read(i * 4096, 4096) == (0, bytes([i]) * 4096))
check("at most 64 of each address are taken", greeted < 128)
check("idle clients do not hold up the end", terminate(int(sys.argv[3]), 10) < 4.8)
PY
wait "$TAPDISK_PID" || fail "it did not exit 0"
forget_pid "$TAPDISK_PID"
[ ! -s "$TAPDISK_ERR" ] || fail "it logged: $(cat "$TAPDISK_ERR")"

# One who never reads, while it is told to stop: he is given some 5 s.
start_tapdisk --nbd "unix:$T/s" "raw:$T/raw"
python3 - "$T/s" "$TAPDISK_PID" <<PY
import sys, time
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(sys.argv[1]).start()
for i in range(30):
    c.send(READ, 0, 1 << 20)
wait_until("they are read", lambda: taken(sys.argv[2]) > 0)
check("it ended after some 5 s", 3 < terminate(int(sys.argv[2]), 200) < 100)
PY
wait "$TAPDISK_PID" || fail "it did not exit 0"
forget_pid "$TAPDISK_PID"
say "passed"
