#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Clients that lie, stall, flood and vanish: the server lives, keeps its bounds, and serves the next one.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

truncate -s 128M "$T/raw"
start_tapdisk --nbd "unix:$T/s" "raw:$T/raw"
python3 "$srcdir/tests/e2e/nbd-hostile.py" "$T/s" "$TAPDISK_PID"

# 200 who connect and say nothing, while it is told to stop: they are not waited for.
python3 - "$T/s" "$TAPDISK_PID" <<PY
import sys, time
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
idle = []
for i in range(200):
    c = Conn.__new__(Conn)
    c.s = socket.socket(socket.AF_UNIX)
    c.s.setblocking(False)
    try:
        c.s.connect(sys.argv[1])
    except BlockingIOError:
        break
    idle.append(c)
time.sleep(.1)
check("idle clients do not hold up the end", terminate(int(sys.argv[2]), 5) < 2)
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
time.sleep(.2)
check("it ended after some 5 s", 3 < terminate(int(sys.argv[2]), 12) < 9)
PY
wait "$TAPDISK_PID" || fail "it did not exit 0"
forget_pid "$TAPDISK_PID"
say "passed"
