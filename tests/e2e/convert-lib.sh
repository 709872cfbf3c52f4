# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What the tests of convert, compare and measure share; after lib.sh.

seed=${CONVERT_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
say "CONVERT_SEED=$seed"
cd "$T" || exit

sum_of() { sha256sum "$1" | cut -d' ' -f1; }
json() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }

absent() { for file; do [ ! -e "$file" ] || return 1; done; }

# disk.raw, of $size bytes: not whole clusters long; data, holes, written zeros, single blocks, data at the end.
size=$((9 * 1048576 + 3 * 512))
random_file data $((5 << 20)) "$seed"
truncate -s "$size" disk.raw
dd if=data of=disk.raw bs=64K count=40 conv=notrunc status=none
dd if=/dev/zero of=disk.raw bs=64K seek=10 count=8 conv=notrunc status=none
for n in 1 2 3 5 8 13 21 34 55; do
	dd if=data of=disk.raw bs=4K count=1 skip="$n" seek=$((900 + n * 2)) conv=notrunc status=none
	dd if=data of=disk.raw bs=512 count=1 skip="$n" seek=$((9000 + n * 9)) conv=notrunc status=none
done
dd if=data of=disk.raw bs=512 count=3 seek=$((size / 512 - 3)) conv=notrunc status=none

# make_chain: s-chain.qcow2 over mid.qcow2 over s-64k.qcow2.
make_chain()
{
	qemu-img convert -f raw -O qcow2 disk.raw s-64k.qcow2
	qemu-img create -q -f qcow2 -b s-64k.qcow2 -F qcow2 mid.qcow2
	qemu-io -c 'write -P 9 1M 256K' -c 'write -z 3M 1M' -c 'write -P 8 5000K 4K' mid.qcow2 >/dev/null
	qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 s-chain.qcow2
	qemu-io -c 'write -P 7 1100K 8K' -c 'write -P 6 0 512' s-chain.qcow2 >/dev/null
}
