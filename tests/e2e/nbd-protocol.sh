#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Every option and command of the NBD protocol, against raw files, memory and a read-only disk, over unix and TCP.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

truncate -s 128M "$T/raw"
for engine in auto sync; do
	start_tapdisk --engine $engine --nbd "unix:$T/s" --name vdisk "raw:$T/raw"
	python3 "$srcdir/tests/e2e/nbd-protocol.py" "$T/s" vdisk $((128 << 20))
	stop_tapdisk
	[ ! -e "$T/s" ] || fail "the socket is still there"
done

# A file whose size is no multiple of a sector: the disk is rounded up, and its end can be read and written.
truncate -s $(((64 << 20) + 8193)) "$T/odd"
start_tapdisk --nbd "unix:$T/s" "raw(direct=off):$T/odd"
python3 "$srcdir/tests/e2e/nbd-protocol.py" "$T/s" disk $(((64 << 20) + 8704))
stop_tapdisk

# Read-only: the flag is there, and what writes is refused all the same.
start_tapdisk -R --nbd "unix:$T/s" "raw:$T/raw"
cp "$T/raw" "$T/before"
python3 - "$T/s" <<PY
import sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(sys.argv[1]).start()
check("the read-only flag", c.flags & 2 and not c.flags & 0x60)
check("reads work", c.read(0, 4096)[0] == 0)
check("writes are refused", c.write(0, bytes(4096)) == EPERM)
check("zero and trim too", c.call(ZERO, 0, 4096) == EPERM and c.call(TRIM, 0, 4096) == EPERM)
check("flush does no harm", c.call(FLUSH) == 0)
PY
stop_tapdisk
same "$T/raw" "$T/before"

# The end of the 63-bit range.
start_tapdisk --nbd "unix:$T/s" "null(size=8191P):"
python3 - "$T/s" <<PY
import sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(sys.argv[1]).start()
check("the size", c.size == 8191 << 50)
check("the last byte", c.read(c.size - 1, 1) == (0, b"\0"))
check("one more", c.read(c.size - 1, 2)[0] == EINVAL)
check("4 GiB less a byte are zeroed", c.call(ZERO, c.size - 0xFFFFFFFF, 0xFFFFFFFF) == 0)
PY
stop_tapdisk

# TCP: both families, a port of its own.
start_tapdisk --nbd tcp::0 "raw:$T/raw"
port=$(sed -n 's/^nbd tcp:localhost://p' "$TAPDISK_OUT")
[ -n "$port" ] || fail "port 0 is not printed: $(cat "$TAPDISK_OUT")"
python3 - "$port" <<PY
import sys
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *
c = Conn(("127.0.0.1", int(sys.argv[1]))).start()
check("TCP works", c.read(0, 4096)[0] == 0)
PY
stop_tapdisk
say "passed"
