#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# qcow, version 1, both ways: what we write QEMU reads, what QEMU writes we read; alone and over a backing file, plain
# and compressed; old Xen's little-endian L1.
. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

same() # OURS RAW: by both programs
{
	qemu-img compare -q -f qcow -F raw "$1" "$2" || fail "$1: qemu-img reads something else"
	tap-img compare "qcow:$1" "aio:$2" >/dev/null || fail "$1: we read something else"
	# What was compressed and is written over leaks, whoever does it: the format cannot count.
	tap-img check "qcow:$1" >"$T/check" || [ $? = 3 ] || fail "$1: $(cat "$T/check")"
}

python3 - "$T/data" <<'PY'
import random, sys
rnd = random.Random(1)
out = bytearray(4 << 20)
for i in range(60):
    at, n = rnd.randrange(0, len(out) - 70000), rnd.randrange(1, 65536)
    out[at:at + n] = rnd.randbytes(n) if i % 2 else bytes([i]) * n
open(sys.argv[1], "wb").write(out)
PY

say "-- ours, read by qemu"
for opts in "" -c; do
	for size in 512 4K 64K; do
		# shellcheck disable=SC2086 # no option is no word
		tap-img convert $opts -O qcow -o cluster_size=$size "$T/data" "$T/ours.qcow"
		same "$T/ours.qcow" "$T/data"
		rm "$T/ours.qcow"
	done
done

say "-- qemu's, read by us; written by both in turn"
qemu-img convert -O qcow "$T/data" "$T/a.qcow"
same "$T/a.qcow" "$T/data"
# qemu-img 7.2 says at the end of -c that it failed, though it did not.
qemu-img convert -c -O qcow "$T/data" "$T/c.qcow" || true
same "$T/c.qcow" "$T/data"
cp "$T/data" "$T/now"
for ((i = 0; i < 8; i++)); do
	at=$((i * 300000)) io=(qemu-io -f qcow "$T/c.qcow")
	if ((i % 2)); then
		start_tapdisk --nbd "unix:$T/s" "qcow:$T/c.qcow"
		io=(qemu-io -f raw "nbd+unix:///?socket=$T/s")
	fi
	"${io[@]}" -c "write -q -P $((i + 1)) $((at / 512 * 512)) 70144" >/dev/null
	((i % 2 == 0)) || stop_tapdisk
	qemu-io -f raw -c "write -q -P $((i + 1)) $((at / 512 * 512)) 70144" "$T/now" >/dev/null
	same "$T/c.qcow" "$T/now"
done

say "-- over a backing file"
tap-img create -b data -F raw "qcow:$T/over.qcow"
expect_fail 'backing-format' tap-img compare "qcow:$T/over.qcow" "aio:$T/data"
start_tapdisk --nbd "unix:$T/s" "qcow(backing-format=raw):$T/over.qcow"
qemu-io -f raw -c "write -q -P 9 100K 3K" -c "write -q -z 1M 64K" "nbd+unix:///?socket=$T/s" >/dev/null
stop_tapdisk
cp "$T/data" "$T/now"
qemu-io -f raw -c "write -q -P 9 100K 3K" -c "write -q -z 1M 64K" "$T/now" >/dev/null
opts="driver=qcow,file.filename=$T/over.qcow,backing.driver=raw,backing.file.filename=$T/data"
qemu-img convert --image-opts -O raw "$opts" "$T/flat"
cmp "$T/flat" "$T/now"

say "-- the L1 table of old Xen"
python3 - "$T/xen.qcow" <<'PY'
import struct, sys
head = struct.pack(">IIQIIQBBHIQ", 0x514649fb, 1, 0, 0, 0, 1 << 22, 12, 9, 0, 0, 4096)
f = bytearray(1 << 16)
f[0:48] = head
f[48:64] = struct.pack(">IIII", 0x58454efb, 0, 1, 0)
f[4096:4104] = struct.pack("<Q", 8192)
f[8192:8200] = struct.pack(">Q", 12288)
f[12288:16384] = b"\x5a" * 4096
open(sys.argv[1], "wb").write(f)
PY
start_tapdisk --nbd "unix:$T/s" "qcow:$T/xen.qcow"
qemu-io -f raw -c "read -q -P 0x5a 0 4K" -c "read -q -P 0 4K 1M" -c "write -q -P 0x77 3M 4K" \
	"nbd+unix:///?socket=$T/s" >"$T/out"
[ ! -s "$T/out" ] || fail "old Xen's image: $(cat "$T/out")"
stop_tapdisk
tap-img info "qcow:$T/xen.qcow" | grep -q little-endian || fail "info does not say how L1 is"
[ "$(od -An -tu1 -j4107 -N5 "$T/xen.qcow" | tr -d ' ')" = 00000 ] || fail "L1 changed its order"
