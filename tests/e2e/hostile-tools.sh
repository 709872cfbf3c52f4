#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A hundred images that lie, and each command of tap-img on each of them: hostile-corpus.py makes them, hostile-tools.py
# says what is demanded.  SEED repeats a run, HOSTILE_MUTATIONS makes more of them.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img
seed=${SEED:-${TEST_SEED:-$RANDOM}}
say "seed $seed"
limit=256
grep -qs '^#define TD_SANITIZE' config.h && limit=4096
mkdir "$T/images" "$T/elsewhere" "$T/scratch"
truncate -s 64K "$T/elsewhere/secret"
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
python3 "$srcdir/tests/e2e/hostile-tools.py" "$BUILD/bin/tap-img" "$T/images" "$T/scratch" "$limit" ||
	fail "see above; seed $seed"
say passed
