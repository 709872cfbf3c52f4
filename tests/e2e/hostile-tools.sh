#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Some thousand images that lie, of every format, and each command of tap-img and tapdisk on each of them:
# hostile-corpus.py (the tables of qcow2) and hostile-formats.py (all others) make them, hostile-tools.py says what is
# demanded.  SEED repeats a run, HOSTILE_MUTATIONS makes more of them, HOSTILE_VERBS=all runs all commands (long)
# and not only reading and repairing, and of vhdx, vdi, seSparse, extended entries and data files all images and not a
# sixth of them, HOSTILE_BIN runs the programs of another folder (of a build with sanitizers).
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img
bin=${HOSTILE_BIN:-$BUILD/bin}
seed=${SEED:-${TEST_SEED:-$RANDOM}}
say "seed $seed"
# Memory, and processor time: two seconds are what it may take, and twice that where two threads share a core.
limit=256
seconds=4
if grep -qs '^#define TD_SANITIZE' "$bin/../config.h"; then
	limit=4096
	seconds=40
fi
mkdir "$T/images" "$T/elsewhere" "$T/scratch"
truncate -s 64K "$T/elsewhere/secret"
mknod "$T/elsewhere/node" c 1 5 2>/dev/null || true # where we may
tap-img create -f qcow2 -o cluster_size=4K "$T/whole" 4M >/dev/null
random_file "$T/data" 1048576
qemu-img convert -n -f raw -O qcow2 "$T/data" "$T/whole" 2>/dev/null ||
	fail "the base of all images cannot be written"
yes compressible | head -c 4M >"$T/plain" || true
qemu-img convert -q -c -f raw -O qcow2 "$T/plain" "$T/packed"
cp "$T/plain" "$T/images/plain"
mkfifo "$T/images/fifo"
ln -s "$T/elsewhere/secret" "$T/images/way-out"
DEVICE=$(find /dev -maxdepth 1 -type b 2>/dev/null | head -n 1)
export DEVICE
python3 "$srcdir/tests/e2e/hostile-corpus.py" "$T/whole" "$T/packed" "$T/images" "$seed" "${HOSTILE_MUTATIONS:-12}"
head -c 256K "$T/plain" >"$T/small"
python3 "$srcdir/tests/e2e/hostile-formats.py" "$BUILD/bin/tap-img" "$T/small" "$T/images" "$T/scratch" "$T/expect"
python3 "$srcdir/tests/e2e/hostile-tools.py" "$bin" "$T/images" "$T/scratch" "$limit" "$seconds" \
	"${HOSTILE_VERBS:-convert,check-repair}" "$T/expect" || fail "see above; seed $seed"
say passed
