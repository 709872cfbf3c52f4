#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img convert: every format and shape into every other, judged by qemu-img and by the SHA-256 of the disk; holes;
# over a backing file; into images that are there already.  CONVERT_SEED chooses the bytes.
# shellcheck disable=SC2002,SC2119,SC2154

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3 sha256sum
. "${srcdir:-.}/tests/e2e/convert-lib.sh"

# ---- every shape into every other ----
shape() # shape NAME FORMAT QEMU-IMG-ARGS...
{
	local name=$1 format=$2
	shift 2
	qemu-img convert -f raw -O "$format" "$@" disk.raw "$name"
	printf '%s %s\n' "$format" "$name" >>shapes
}
shape s.raw raw
shape s-512.qcow2 qcow2 -o cluster_size=512
shape s-2m.qcow2 qcow2 -o cluster_size=2M
shape s-v2.qcow2 qcow2 -o compat=0.10
shape s-4k-1.qcow2 qcow2 -o cluster_size=4K,refcount_bits=1
shape s-zlib.qcow2 qcow2 -c
shape s-full.qcow2 qcow2 -S 0
make_chain
printf 'qcow2 %s\n' s-64k.qcow2 s-chain.qcow2 >>shapes

done_n=0
while read -r format name; do
	qemu-img convert -f "$format" -O raw "$name" want.raw
	want=$(sum_of want.raw)
	while read -r to opts; do
		rm -f out out.partial
		# shellcheck disable=SC2086
		tap-img convert --json --sha256 -f "$format" -O "$to" ${opts:+-o $opts} \
			"$name" out >out.json </dev/null ||
			fail "convert $name to $to $opts"
		[ "$(json out.json sha256)" = "$want" ] || fail "$name to $to $opts: another SHA-256 on the way"
		qemu-img convert -f "$to" -O raw out back.raw
		[ "$(sum_of back.raw)" = "$want" ] || fail "$name to $to $opts: qemu reads other bytes"
		[ "$to" = raw ] || qemu-img check -q out || fail "$name to $to $opts: qemu-img check: exit $?"
		[ ! -e out.partial ] || fail "$name to $to $opts: out.partial is left"
		done_n=$((done_n + 1))
	done <<-'END'
		raw
		qcow2
		qcow2 cluster_size=512
		qcow2 cluster_size=2M,compat=0.10
	END
done <shapes
say "$done_n conversions of $(wc -l <shapes) images"

# ---- holes stay holes, zeros become holes ----
allocated() { stat -c %b "$1"; }
want=$(sum_of disk.raw)
for to in raw qcow2; do
	for from in 'raw s.raw' 'qcow2 s-full.qcow2'; do
		read -r format name <<<"$from"
		rm -f out theirs
		tap-img convert -f "$format" -O "$to" "$name" out
		qemu-img convert -f "$format" -O "$to" "$name" theirs
		[ "$(allocated out)" -le $(($(allocated theirs) + 256)) ] ||
			fail "$name to $to takes $(allocated out) blocks, qemu-img's $(allocated theirs)"
	done
done
rm -f out
tap-img convert -S 0 -f raw -O qcow2 disk.raw out
[ "$(qemu-img map --output=json out | grep -c '"data": false')" = 0 ] || fail "-S 0 left something out"
rm -f out
tap-img convert -S 64K -f raw -O raw s-64k.qcow2 out 2>/dev/null
cmp -s s-64k.qcow2 out || fail "-S 64K changed bytes"
# A terabyte of nothing takes no time.
qemu-img create -q -f qcow2 -o cluster_size=2M huge.qcow2 1T
qemu-io -c 'write -P 5 700G 1M' huge.qcow2 >/dev/null
rm -f out
timeout 200 tap-img convert -f qcow2 -O qcow2 -o cluster_size=2M huge.qcow2 out || fail "1 TiB of holes: exit $?"
qemu-img compare -q out huge.qcow2 || fail "1 TiB of holes: differs"

# ---- over a backing file: only what differs ----
rm -f out
tap-img convert --json -f qcow2 -O qcow2 -B s-64k.qcow2 -F qcow2 s-chain.qcow2 out >out.json
qemu-img compare -q out s-chain.qcow2 || fail "-B: it reads otherwise"
qemu-img info out | grep -q 'backing file: s-64k.qcow2' || fail "-B: the backing file is not recorded"
[ "$(json out.json bytes-written)" -lt 600000 ] || fail "-B wrote $(json out.json bytes-written) bytes"
[ "$(json out.json bytes-same)" -gt 2000000 ] || fail "-B found $(json out.json bytes-same) bytes the same"
rm -f out
tap-img convert -f raw -O qcow2 -o backing_file=s-chain.qcow2,backing_fmt=qcow2 disk.raw out
qemu-img compare -q -f raw disk.raw out || fail "over a backing file with more in it: it reads otherwise"
expect_fail 'format with -F' tap-img convert -f raw -O qcow2 -B s-64k.qcow2 disk.raw out2
absent out2 out2.partial || fail "-B without -F left a file"

# ---- several sources ----
rm -f out
tap-img convert -O raw qcow2:s-64k.qcow2 raw:s.raw out
cat disk.raw disk.raw | cmp - out || fail "two sources behind each other"

# ---- into what is there ----
cp s-chain.qcow2 dst.qcow2
qemu-img create -q -f qcow2 dst.qcow2 "$size"
qemu-io -c 'write -P 3 0 9M' dst.qcow2 >/dev/null
tap-img convert -n -f raw -O qcow2 disk.raw dst.qcow2
qemu-img compare -q -f raw disk.raw dst.qcow2 || fail "-n left old bytes"
qemu-img check -q dst.qcow2
random_file dst.raw $((size + 4096)) "$((seed + 1))"
tail -c 4096 dst.raw >tail.want
tap-img convert -n -f qcow2 -O raw s-512.qcow2 dst.raw
head -c "$size" dst.raw | cmp - disk.raw || fail "-n into a raw file left old bytes"
tail -c 4096 dst.raw | cmp - tail.want || fail "-n changed what is behind the source's end"
truncate -s 0 dst.raw
truncate -s "$size" dst.raw
tap-img convert -n --target-is-zero --json -f qcow2 -O raw s-512.qcow2 dst.raw >/dev/null
same dst.raw disk.raw
truncate -s $((size - 512)) dst.raw
expect_fail 'too few for the' tap-img convert -n -f raw -O raw disk.raw dst.raw
expect_fail 'needs -n' tap-img convert --target-is-zero -f raw -O raw disk.raw out2
