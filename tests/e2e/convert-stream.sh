#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# vmdk streamOptimized as convert writes it: each field against VMware's "Virtual Disk Format 5.0"; read back by qemu,
# libyal's vmdkinfo where it is installed, and ourselves; to a pipe the same as to a file; empty disks, sizes that are
# no whole grains; what is cut off never looks like a whole disk.
# CONVERT_SEED
# shellcheck disable=SC2154

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img python3 timeout
tests=$(cd "$srcdir/tests/e2e" && pwd)
. "$tests/convert-lib.sh"

to_stream=(-O vmdk -o "subformat=streamOptimized,adapter_type=lsilogic,hwversion=7")

# golden IMAGE RAW: walk the file from its first byte to its last.
golden() { python3 "$tests/vmdk-stream.py" "$1" "$2" || fail "$1 (CONVERT_SEED=$seed)"; }

# everybody IMAGE RAW: reads it the same.
everybody()
{
	golden "$1" "$2"
	qemu-img compare -q -f vmdk -F raw "$1" "$2" || fail "$1: qemu reads something else (CONVERT_SEED=$seed)"
	qemu-img check -q -f vmdk "$1" || fail "$1: qemu-img check"
	tap-img compare -q -f vmdk -F raw "$1" "$2" || fail "$1: we read something else (CONVERT_SEED=$seed)"
	tap-img check -q -f vmdk "$1" >check.out 2>&1 || fail "$1: check: $(cat check.out)"
	command -v vmdkinfo >/dev/null || return 0
	vmdkinfo "$1" >info.out || fail "vmdkinfo $1"
	grep -q 'Stream optimized' info.out || fail "vmdkinfo $1: $(cat info.out)"
}

# ---- a disk with data, holes, zeros, and a last grain that is not whole ----
truncate -s "$size" incompressible.raw
dd if=data of=incompressible.raw bs=1M conv=notrunc status=none
for flags in '' '-c -m 1' '-W -m 16 -S 0'; do
	for disk in disk incompressible; do
		# shellcheck disable=SC2086
		tap-img convert -f raw $flags "${to_stream[@]}" $disk.raw $disk.vmdk
		everybody $disk.vmdk $disk.raw
		[ "$disk" = disk ] || break
		rm disk.vmdk
	done
	rm -f ./*.vmdk
done

# ---- text deflates well; more than one table, and a table without a grain ----
yes "$seed" | head -c 3000000 >text || true
truncate -s 130M sparse.raw
dd if=text of=sparse.raw bs=64K conv=notrunc status=none
dd if=text of=sparse.raw bs=64K seek=1500 conv=notrunc status=none
dd if=text of=sparse.raw bs=512 seek=$((130 * 2048 - 1)) count=1 conv=notrunc status=none
tap-img convert -f raw "${to_stream[@]}" sparse.raw sparse.vmdk
everybody sparse.vmdk sparse.raw
[ "$(stat -c %s sparse.vmdk)" -lt 400000 ] || fail "6 MB of text became $(stat -c %s sparse.vmdk) bytes"

# ---- nothing in it; one sector ----
truncate -s 70M empty.raw
tap-img convert -f raw "${to_stream[@]}" empty.raw empty.vmdk
everybody empty.vmdk empty.raw
[ "$(stat -c %s empty.vmdk)" = $((65536 + 6 * 512 - 512)) ] || fail "empty: $(stat -c %s empty.vmdk) bytes"
head -c 512 data >one.raw
tap-img convert -f raw "${to_stream[@]}" one.raw one.vmdk
everybody one.vmdk one.raw

# ---- to a pipe; but for the CID and the name in the descriptor ----
tap-img convert -f raw "${to_stream[@]}" disk.raw disk.vmdk
tap-img convert -f raw "${to_stream[@]}" disk.raw - | cat >pipe.vmdk
everybody pipe.vmdk disk.raw
cmp <(tail -c +10753 pipe.vmdk) <(tail -c +10753 disk.vmdk) || fail "a pipe gets other bytes than a file"
cmp <(head -c 512 pipe.vmdk) <(head -c 512 disk.vmdk) || fail "a pipe gets another header than a file"
tap-img convert -f raw "${to_stream[@]}" --size "$size" - - <disk.raw | cat >pipe2.vmdk
everybody pipe2.vmdk disk.raw

# ---- there and back ----
tap-img convert -f vmdk -O qcow2 disk.vmdk back.qcow2
tap-img compare -q -f qcow2 -F raw back.qcow2 disk.raw
tap-img convert -f qcow2 "${to_stream[@]}" back.qcow2 again.vmdk
everybody again.vmdk disk.raw

# ---- begun by create, filled once ----
tap-img create -o subformat=streamOptimized vmdk:begun.vmdk "$size"
expect_fail 'cut off' tap-img info begun.vmdk
expect_fail 'made to be sent' tap-img bench -w -c 1 vmdk:begun.vmdk
tap-img convert -n -f raw -O vmdk disk.raw begun.vmdk
qemu-img compare -q -f vmdk -F raw begun.vmdk disk.raw
cp begun.vmdk whole.vmdk
expect_fail 'written once, and this one was' tap-img convert -n -f raw -O vmdk disk.raw begun.vmdk
same begun.vmdk whole.vmdk

# ---- what cannot be ----
expect_fail 'has to be known' \
	tap-img convert "${to_stream[@]}" - late.vmdk < <(cat disk.raw)
expect_fail 'exclude each other' \
	tap-img create -o subformat=streamOptimized,backing_file=disk.vmdk,backing_fmt=vmdk vmdk:b.vmdk 1M
expect_fail 'no zeroed grains' tap-img create -o subformat=streamOptimized,zeroed_grain=on vmdk:b.vmdk 1M
for opts in subformat=monolithicSparse subformat=monolithicFlat subformat=twoGbMaxExtentSparse subformat=vmfsSparse; do
	expect_fail 'not with these options' tap-img convert -f raw -O vmdk -o $opts disk.raw -
	[ ! -s expect.out ] || fail "$opts: something was sent"
done
expect_fail 'cannot be written as a stream' tap-img convert -f raw -O qcow2 disk.raw -
absent late.vmdk b.vmdk ./-flat ./*.partial || fail "something is left"

# ---- a target that is full, a reader that goes away, a source that fails: an error, and no end ----
if tap-img convert -f raw "${to_stream[@]}" disk.raw - 2>err >/dev/full; then fail "/dev/full took a disk"; fi
grep -q 'standard output: cannot be written.*No space left' err || fail "/dev/full: $(cat err)"
status=0
{ tap-img convert -f raw "${to_stream[@]}" incompressible.raw - 2>err || echo $? >status; } | head -c 100000 >cut.vmdk
[ -s status ] || fail "nobody reads, and all is well"
grep -q 'standard output: cannot be written.*Broken pipe' err || fail "EPIPE: $(cat err)"
expect_fail 'cut off' tap-img info -f vmdk cut.vmdk
status=0
tap-img convert -f raw "${to_stream[@]}" "fault(read-every=7)/aio:incompressible.raw" - 2>err >cut.vmdk || status=$?
[ "$status" != 0 ] || fail "the source failed, and all is well"
expect_fail 'cut off|there is no descriptor' tap-img info -f vmdk cut.vmdk
(
	ulimit -f 2048
	expect_fail 'cannot be written.*File too large' \
		tap-img convert -f raw "${to_stream[@]}" incompressible.raw full.vmdk
)
absent full.vmdk full.vmdk.partial || fail "a file that did not become whole is left"
