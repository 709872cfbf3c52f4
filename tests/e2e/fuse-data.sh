#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What is written through the FUSE file with large, direct and parallel writes comes back byte for byte, through the
# file and from the image, every time (BLKTAP_FUSE_RUNS, 20).

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
need_fuse
require openssl

MIB=24
runs=${BLKTAP_FUSE_RUNS:-20}
seed=${BLKTAP_SEED:-${TEST_SEED:-$RANDOM}}
say "seed $seed, $runs runs of $MIB MiB"

# dd splits nothing: one write(2) of 4 MiB becomes four requests that are in flight together.
large_writes()
{
	local i
	for i in $(seq "$runs"); do
		random_file "$T/data" $((MIB << 20)) $((seed * 100 + i))
		dd if="$T/data" of="$T/view" bs=4M oflag=direct conv=notrunc status=none
		cmp -- "$T/data" "$T/view" || fail "$1: run $i of $runs: what was read is not what was written"
	done
}

# Eight writers, each every eighth block of 128 KiB; two that ask for O_DSYNC.
parallel_writers()
{
	random_file "$T/data" $((MIB << 20)) $((seed * 100))
	python3 - "$T/data" "$T/view" <<'PY'
import mmap, os, sys, threading
BS, N = 128 << 10, 8
data = open(sys.argv[1], "rb").read()
errors = []

def writer(n):
    try:
        fd = os.open(sys.argv[2], os.O_RDWR | os.O_DIRECT | (os.O_DSYNC if n < 2 else 0))
        buf = mmap.mmap(-1, BS)
        for off in range(n * BS, len(data), N * BS):
            buf[:] = data[off:off + BS]
            if os.pwrite(fd, buf, off) != BS:
                errors.append("short write at %d" % off)
        os.fsync(fd)
        os.close(fd)
    except OSError as e:
        errors.append(str(e))

threads = [threading.Thread(target=writer, args=(n,)) for n in range(N)]
for t in threads: t.start()
for t in threads: t.join()
sys.exit("\n".join(errors) if errors else 0)
PY
	cmp -- "$T/data" "$T/view" || fail "$1: parallel writers: what was read is not what was written"
}

for format in $(formats); do
	make_disk "$format" "$T/disk" "$MIB"
	start_tapdisk --fuse "$T/view" "$format:$T/disk"
	large_writes "$format"
	parallel_writers "$format"
	stop_tapdisk
	[ ! -e "$T/view" ] || fail "the file that was made for the mount is still there"
	check_disk "$format" "$T/disk" "$T/data"
	rm "$T/disk"
	say "$format: $runs of $runs, and parallel writers"
done
