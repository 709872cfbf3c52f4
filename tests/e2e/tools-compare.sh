#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img compare and measure say what qemu-img says; and what measure says is enough for what convert writes.
# CONVERT_SEED chooses the bytes.
# shellcheck disable=SC2119,SC2154

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3 cmp
. "${srcdir:-.}/tests/e2e/convert-lib.sh"
make_chain

# both CODE ARGS...: tap-img compare exits with CODE, as qemu-img does, and says the same.
both()
{
	local code=$1 ours=0 theirs=0
	shift
	tap-img compare "$@" >ours.out 2>ours.err || ours=$?
	qemu-img compare "$@" >theirs.out 2>theirs.err || theirs=$?
	[ "$ours" = "$code" ] || fail "compare $*: exit $ours: $(cat ours.out ours.err)"
	[ "$theirs" = "$code" ] || fail "qemu-img compare $*: exit $theirs: $(cat theirs.out theirs.err)"
	# qemu-img names the sector.
	[ "$code" -le 1 ] || return 0
	python3 - ours.out theirs.out <<'PY' || fail "compare $*: $(cat ours.out), not $(cat theirs.out)"
import re, sys
ours, theirs = (open(f).read() for f in sys.argv[1:])
sector = lambda m: m[1] + str(int(m[2]) // 512 * 512)
if "block status" in ours and "block status" in theirs:
    sys.exit(0)  # it says where a run begins in which it lies
sys.exit(re.sub(r"(offset )(\d+)", sector, ours) != theirs)
PY
}

# ---- compare ----
qemu-img convert -f raw -O qcow2 -c disk.raw s-zlib.qcow2
both 0 -f raw -F qcow2 disk.raw s-64k.qcow2
both 0 -f qcow2 -F qcow2 s-64k.qcow2 s-zlib.qcow2
both 1 -f qcow2 -F raw s-chain.qcow2 disk.raw
both 1 -f qcow2 -F qcow2 s-64k.qcow2 mid.qcow2
both 0 -q -f raw -F qcow2 disk.raw s-64k.qcow2
[ ! -s ours.out ] || fail "-q: $(cat ours.out)"
# The first difference, to the byte; and only that one.
for at in 0 511 65536 2621439 $((6 << 20)) $((size - 1)); do
	cp disk.raw other.raw
	python3 - other.raw "$at" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    for at in sorted({int(sys.argv[2]), 9438719}):
        f.seek(at)
        old = f.read(1)
        f.seek(at)
        f.write(bytes([old[0] ^ 1]))
PY
	both 1 -f raw -F raw disk.raw other.raw
	grep -q "offset $at!" ours.out || fail "they differ from $at on: $(cat ours.out)"
	[ "$(tap-img compare --json -f raw -F qcow2 other.raw s-64k.qcow2 | tr -d ' \n')" = \
		"{\"identical\":false,\"size-mismatch\":false,\"offset\":$at}" ] || fail "--json: $at"
done
# Sizes.
cp disk.raw long.raw
truncate -s +5M long.raw
both 0 -f raw -F raw disk.raw long.raw
both 0 -f raw -F qcow2 long.raw s-64k.qcow2
both 1 -s -f raw -F raw disk.raw long.raw
printf x | dd of=long.raw bs=1 seek=$((size + 3000000)) conv=notrunc status=none
both 1 -f raw -F raw disk.raw long.raw
both 1 -f raw -F raw long.raw disk.raw
# Strictly: the same bytes, but written out.
both 0 -s -f qcow2 -F qcow2 s-64k.qcow2 s-64k.qcow2
qemu-img convert -S 0 -f raw -O qcow2 disk.raw s-full.qcow2
both 1 -s -f qcow2 -F qcow2 s-64k.qcow2 s-full.qcow2
both 0 -f qcow2 -F qcow2 s-64k.qcow2 s-full.qcow2
# Not to be opened, not to be read.
both 2 -f raw -F raw disk.raw nothing
both 2 -f qcow2 -F raw disk.raw disk.raw
code=0
tap-img compare "raw:$T/disk.raw" "fault(read-every=1,from=2M,to=3M)/raw:$T/disk.raw" 2>err || code=$?
[ "$code" = 4 ] || fail "an image that cannot be read: exit $code"
grep -q 'cannot be read at byte 2097152: Input/output error' err || fail "an image that cannot be read: $(cat err)"
# A difference that comes before it is the answer.
cp disk.raw other.raw
printf '\377\376' | dd of=other.raw bs=1 conv=notrunc status=none
code=0
tap-img compare "raw:$T/other.raw" "fault(read-every=1,from=2M,to=3M)/raw:$T/disk.raw" >out 2>err || code=$?
[ "$code-$(cat err)" = 1- ] || fail "a difference before an error: exit $code: $(cat out err)"
head -c $(($(stat -c %s s-64k.qcow2) / 2)) s-64k.qcow2 >cut.qcow2
code=0
timeout 100 tap-img compare -f raw -F qcow2 disk.raw cut.qcow2 >out 2>err || code=$?
[ "$code" = 4 ] || fail "half an image: exit $code: $(cat out err)"
expect_fail 'a backing file' tap-img compare disk.raw s-chain.qcow2

# ---- measure ----
measured=0
same_measure()
{
	tap-img measure --output=json "$@" >ours.json || fail "measure $*"
	qemu-img measure --output=json "$@" >theirs.json || fail "qemu-img measure $*"
	python3 - ours.json theirs.json <<'PY' || fail "measure $*: $(cat ours.json), not $(cat theirs.json)"
import json, sys
ours, theirs = (json.load(open(f)) for f in sys.argv[1:])
theirs.pop("bitmaps", None)
sys.exit(ours != theirs)
PY
	measured=$((measured + 1))
}
while read -r opts; do
	for sz in 512 1M 1000000 10G 1T; do
		case $opts$sz in *=512*1T) continue ;; esac
		same_measure -O qcow2 ${opts:+-o "$opts"} --size $sz
	done
	for img in 'raw disk.raw' 'qcow2 s-64k.qcow2' 'qcow2 s-chain.qcow2' 'qcow2 s-zlib.qcow2'; do
		same_measure -O qcow2 ${opts:+-o "$opts"} -f "${img% *}" "${img#* }"
	done
done <<'END'

cluster_size=512
cluster_size=4K,refcount_bits=1
cluster_size=2M,refcount_bits=64
cluster_size=16K,extended_l2=on
compat=0.10
preallocation=falloc
preallocation=full
END
same_measure -O qcow2 -o backing_file=x,backing_fmt=raw -f qcow2 s-chain.qcow2
same_measure -O raw --size 10G
same_measure -O raw -f qcow2 s-chain.qcow2
[ "$(tap-img measure -O raw --size 1M)" = "$(qemu-img measure -O raw --size 1M)" ] || fail "measure for people"
say "$measured measurements"
for opts in cluster_size=64K cluster_size=512 cluster_size=4K,refcount_bits=64 cluster_size=2M preallocation=full \
	cluster_size=16K,extended_l2=on; do
	rm -f out
	tap-img convert -f qcow2 -O qcow2 -o "$opts" s-chain.qcow2 out
	tap-img measure --json -O qcow2 -o "$opts" -f qcow2 s-chain.qcow2 >ours.json
	[ "$(stat -c %s out)" -le "$(json ours.json required)" ] ||
		fail "$opts: the file has $(stat -c %s out) bytes, $(json ours.json required) were said to be enough"
done
# Every cluster has its place, so all of it is needed (qemu-img leaves the holes out, which a device does not have).
tap-img measure --json -O qcow2 -o preallocation=metadata -f qcow2 s-chain.qcow2 >ours.json
[ "$(json ours.json required)" = "$(json ours.json fully-allocated)" ] || fail "preallocation=metadata"
expect_fail 'no create option' tap-img measure -O raw -o cluster_size=64K --size 1M
expect_fail 'with -O FMT' tap-img measure --size 1M
expect_fail 'say an image, or --size' tap-img measure -O raw
expect_fail 'too large' tap-img measure -O qcow2 -o cluster_size=512 --size 1P
