#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tapdisk's life: its options, its errors, going to the background, ready, signals, and what is left behind (nothing).
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3
tapdisk=$BUILD/bin/tapdisk

truncate -s 16M "$T/img"

# ---- the command line ----
"$tapdisk" --help | grep -q '^Usage: tapdisk' || fail "--help"
"$tapdisk" -V | grep -Eq '^tapdisk [0-9]' || fail "--version"
expect_fail "unrecognized option|see tapdisk --help" "$tapdisk" --nonsense
expect_fail "one SPEC only" "$tapdisk" -f raw:a raw:b
expect_fail "need a SPEC" "$tapdisk" -f --nbd "unix:$T/s"
expect_fail "depth 0: should be a number from 1 to 4096" "$tapdisk" -f --depth 0 "raw:$T/img"
expect_fail "log-level loud" "$tapdisk" -f --log-level loud "raw:$T/img"
expect_fail "^tapdisk: .*nowhere" "$tapdisk" -f --engine nowhere "raw:$T/img"
expect_fail "^tapdisk: .*nothing: .*No such file" "$tapdisk" -f "raw:$T/nothing"
expect_fail "^tapdisk: .*foo" "$tapdisk" -f "foo:$T/img"
expect_fail "unix:PATH or tcp" "$tapdisk" -f --nbd "udp:1" "raw:$T/img"
expect_fail "path of a socket" "$tapdisk" -f --nbd "unix:$T/$(printf 'x%.0s' {1..120})" "raw:$T/img"
expect_fail "is not a socket" "$tapdisk" -f --nbd "unix:$T/img" "raw:$T/img"
expect_fail "brackets" "$tapdisk" -f --nbd "tcp:::1:10809" "raw:$T/img"
[ "$(wc -l <"$T/expect.err")" = 1 ] || fail "an error is one line: $(cat "$T/expect.err")"
[ -z "$(ls -A "$BLKTAP_RUN_DIR")" ] || fail "left in the run-time directory: $(ls "$BLKTAP_RUN_DIR")"

# ---- in the background ----
"$tapdisk" --nbd "unix:$T/s" "raw:$T/img" >"$T/out" 2>"$T/err" || fail "in the background: $(cat "$T/err")"
grep -qx ready "$T/out" || fail "not ready"
pid=$(ls "$BLKTAP_RUN_DIR")
pid=${pid#ctl}
also_kill "$pid"
[ "$(ps -o sid= -p "$pid" | tr -d ' ')" = "$pid" ] || fail "it has no session of its own"
[ -S "$T/s" ] || fail "no socket"
[ "$(stat -c %a "$T/s" "$BLKTAP_RUN_DIR/ctl$pid" | sort -u)" = 600 ] || fail "others can connect"
kill -HUP "$pid"
ctl "$pid" '{"cmd":"info"}' | grep -q '"state":"running"' || fail "SIGHUP is not ignored"
kill -TERM "$pid"
wait_for 5 is_gone_or_zombie "$pid"
[ ! -e "$T/s" ] && [ ! -e "$BLKTAP_RUN_DIR/ctl$pid" ] || fail "sockets are left"
expect_fail "^tapdisk: .*nothing" "$tapdisk" "raw:$T/nothing"	# the parent has the child's status and sentence

# ---- sockets ----
# One that nobody listens on is replaced; one in use is not touched.
start_tapdisk --nbd "unix:$T/s" "raw:$T/img"
truncate -s 1M "$T/other"
expect_fail "somebody listens" "$tapdisk" -f --nbd "unix:$T/s" "raw:$T/other"
[ -S "$T/s" ] || fail "the socket of another was removed"
kill_tapdisk
[ -S "$T/s" ] || fail "a killed process cannot remove its socket"
rm "$BLKTAP_RUN_DIR/ctl$TAPDISK_PID"
start_tapdisk --nbd "unix:$T/s" "raw:$T/img"
rm "$T/s"
echo "somebody else's" >"$T/s"
stop_tapdisk
[ -f "$T/s" ] || fail "the file of another was removed"
rm "$T/s"

# Without --nbd it is where scripts look for it.
start_tapdisk --minor 7 "raw:$T/img"
[ -S "$BLKTAP_RUN_DIR/nbd$TAPDISK_PID.7" ] || fail "no nbd$TAPDISK_PID.7"
expect_fail "tapdisk: .*img" "$tapdisk" -f --nbd "unix:$T/s" "raw:$T/img"	# locked: one writer
stop_tapdisk

# ---- the end ----
# A failed flush at the end is an exit status and a line, not silence.
start_tapdisk --nbd "unix:$T/s" "fault(flush-every=1)/raw:$T/img"
python3 - "$T/s" <<PY
import sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(sys.argv[1]).start()
check("the write is taken", c.write(0, b"x" * 4096) == 0)
check("the flush fails", c.call(FLUSH) == EIO)
PY
kill -TERM "$TAPDISK_PID"
status=0
wait "$TAPDISK_PID" || status=$?
forget_pid "$TAPDISK_PID"
[ "$status" = 1 ] || fail "a failed flush: exit $status"
grep -q '^tapdisk: fault.*flush or close failed' "$TAPDISK_ERR" || fail "no line: $(cat "$TAPDISK_ERR")"

# A second SIGTERM changes nothing: a write of 300 ms is answered, and is in the file.
start_tapdisk --nbd "unix:$T/s" "fault(delay-ms=300)/raw:$T/img"
python3 - "$T/s" "$TAPDISK_PID" <<PY
import sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(sys.argv[1]).start()
c.send(WRITE, 8192, 4096, 0, b"S" * 4096)
wait_until("the write is taken", lambda: taken(sys.argv[2]) > 0)
for i in range(3):
    os.kill(int(sys.argv[2]), signal.SIGTERM)
    time.sleep(.02)
check("the write is answered", c.reply()[1] == 0)
PY
wait "$TAPDISK_PID" || fail "exit $?"
forget_pid "$TAPDISK_PID"
cmp -s -n 4096 <(tail -c +8193 "$T/img") <(head -c 4096 /dev/zero | tr '\0' S) || fail "the write is not in the file"

# Paused with requests waiting: they are answered with an error, it ends at once.
start_tapdisk --nbd "unix:$T/s" "raw:$T/img"
ctl "$TAPDISK_PID" '{"cmd":"pause"}' >/dev/null
python3 - "$T/s" "$TAPDISK_PID" <<PY
import sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(sys.argv[1]).start()
c.send(READ, 0, 4096)
wait_until("the read waits", lambda: taken(sys.argv[2]) > 0)
check("it ends while paused", terminate(int(sys.argv[2]), 200) < 100)
check("the waiting request is refused", c.reply()[1] == ESHUTDOWN)
PY
wait "$TAPDISK_PID" || fail "exit $?"
forget_pid "$TAPDISK_PID"
[ -z "$(ls -A "$BLKTAP_RUN_DIR")" ] || fail "left in the run-time directory: $(ls "$BLKTAP_RUN_DIR")"
say "passed"
