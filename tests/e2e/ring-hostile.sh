#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Clients of the ring in shared memory that lie in the handshake, flood, stall and vanish: the daemon lives, says what
# it refuses, keeps nothing of them, and serves the next one.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

truncate -s 64M "$T/raw"
start_tapdisk --minor 1 --log-level error --ring "unix:$T/r" "raw:$T/raw"
PYTHONPATH=$srcdir/tests/e2e python3 "$srcdir/tests/e2e/ring-hostile.py" "$T/r" "$TAPDISK_PID"
tap-ctl stats -p "$TAPDISK_PID" -m 1 | grep -q '"failed": *"queue 0: .*producer index' || fail "stats do not tell why"
stop_tapdisk
# Each ring that was stopped has its line, and nothing else has.
grep -v 'stopped: the guest' "$TAPDISK_ERR" && fail "it logged that"
say "passed"
