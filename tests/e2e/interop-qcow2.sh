#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Both directions with QEMU's qcow2: images that our writer touched are clean in the eyes of qemu-img check and equal
# to a raw model by qemu-img compare; images that qemu wrote read back equal through tapdisk --nbd; and what we cannot
# read is refused by name.  INTEROP_RUNS (default 12) random runs of the option matrix, INTEROP_SEED.
# shellcheck disable=SC2154,SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io nbdcopy

runs=${INTEROP_RUNS:-12}
seed=${INTEROP_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
say "INTEROP_SEED=$seed INTEROP_RUNS=$runs"
RANDOM=$seed
cd "$T" || exit

NBD="nbd+unix:///?socket=$T/s"
serve() { start_tapdisk --nbd "unix:$T/s" "$@"; }

# pick VARIABLE VALUE...: one of them.  (Not by $(...): a subshell has random numbers of its own.)
pick()
{
	local pick_n=$((RANDOM % ($# - 1) + 2))
	printf -v "$1" %s "${!pick_n}"
}

# random_ops COUNT BYTES: an argument list for qemu-io in $OPS.  After a discard, whose result is nobody's promise, all
# of its range is written.
random_ops()
{
	local i off len at
	OPS=()
	for ((i = 0; i < $1; i++)); do
		pick len 512 1024 4096 12288 65536 66048 200704 1048576
		[ "$len" -le "$2" ] || len=512
		off=$(((RANDOM << 15 | RANDOM) % (($2 - len) / 512 + 1) * 512))
		at="$off $len"
		case $((RANDOM % 12)) in
		0) OPS+=(-c "write -z $at") ;;
		1) OPS+=(-c "write -z -u $at") ;;
		2) OPS+=(-c "discard $at" -c "write -P $((RANDOM % 255 + 1)) $at") ;;
		3) OPS+=(-c "write -f -P $((RANDOM % 255 + 1)) $at") ;;
		4) OPS+=(-c flush) ;;
		*) OPS+=(-c "write -P $((RANDOM % 255 + 1)) $at") ;;
		esac
	done
}

# both_write COUNT: the same to the served disk and to the model, model.raw.
both_write()
{
	random_ops "$1" "$(stat -c %s model.raw)"
	qemu-io -f raw "${OPS[@]}" "$NBD" >io.out 2>&1 ||
		fail "qemu-io over NBD (INTEROP_SEED=$seed): $(tail -3 io.out)"
	if grep -q 'failed' io.out; then fail "qemu-io over NBD (INTEROP_SEED=$seed): $(grep failed io.out)"; fi
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
}

# clean_and_equal IMAGE WHAT
clean_and_equal()
{
	qemu-img check -q "$1" >check.out 2>&1 || fail "$2 (INTEROP_SEED=$seed): check: exit $?: $(cat check.out)"
	qemu-img compare -q -F raw "$1" model.raw || fail "$2 (INTEROP_SEED=$seed): it differs from the model"
}

# reads_equal SPEC IMAGE WHAT: tapdisk and qemu read the same.
reads_equal()
{
	serve -R "$1"
	nbdcopy "$NBD" ours.raw
	stop_tapdisk
	qemu-img convert -O raw "$2" theirs.raw
	cmp ours.raw theirs.raw || fail "$3 (INTEROP_SEED=$seed): tapdisk reads other bytes than qemu"
}

# ---- ours, then qemu looks ----
for ((run = 1; run <= runs; run++)); do
	pick value 512 1K 2K 4K 16K 64K 64K 128K 2M
	opts=cluster_size=$value
	pick value 1 2 4 8 16 32 64
	case $((RANDOM % 5)) in
	0) opts+=",compat=0.10" ;;
	1) opts+=",lazy_refcounts=on" ;;
	2) [[ ! $opts =~ =(64K|128K|2M) ]] || opts+=",extended_l2=on" ;;
	*) opts+=",refcount_bits=$value" ;;
	esac
	pick size 65536 1000448 8388608 16777216 33554432
	rm -f model.raw x.qcow2 base.*
	if [ $((RANDOM % 3)) = 0 ]; then
		pick base_size 65536 1000448 8388608 50331648
		truncate -s "$base_size" base.raw
		random_ops 8 "$base_size"
		qemu-io -f raw "${OPS[@]}" base.raw >/dev/null
		pick format raw qcow2
		[ "$format" = raw ] || qemu-img convert -f raw -O qcow2 -c base.raw base.qcow2
		tap-img create -b "base.$format" -F "$format" -o "$opts" qcow2:x.qcow2 "$size"
		cp base.raw model.raw
		opts+=", over $format of $base_size"
	else
		tap-img create -o "$opts" qcow2:x.qcow2 "$size"
	fi
	truncate -s "$size" model.raw
	what="run $run: $opts, $size bytes"
	pick driver qcow2 'qcow2(direct=off)'
	serve "$driver:$T/x.qcow2"
	both_write 25
	stop_tapdisk
	clean_and_equal x.qcow2 "$what"
	# Once more on what is there already; then what qemu makes of it, and we again.
	serve "qcow2:$T/x.qcow2"
	both_write 15
	stop_tapdisk
	clean_and_equal x.qcow2 "$what, second time"
	random_ops 10 "$size"
	qemu-io "${OPS[@]}" x.qcow2 >/dev/null
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
	reads_equal "qcow2:$T/x.qcow2" x.qcow2 "$what, after qemu"
done
say "$runs random runs written by us"

# ---- other programs write through us ----
tap-img create qcow2:x.qcow2 --force 32M
random_file model.raw $((32 << 20)) 7
serve "qcow2:$T/x.qcow2"
nbdcopy --flush model.raw "$NBD"
stop_tapdisk
clean_and_equal x.qcow2 "written by nbdcopy"
if fio --enghelp 2>/dev/null | grep -qw nbd; then
	tap-img create --force -o cluster_size=4K qcow2:x.qcow2 16M
	serve "qcow2:$T/x.qcow2"
	fio --name=v --ioengine=nbd --uri="$NBD" --rw=randrw --bsrange=512-64k --blockalign=512 --iodepth=16 \
		--size=16M --verify=crc32c --verify_fatal=1 --do_verify=1 --fsync=50 --output=fio.out ||
		fail "fio: $(tail -5 fio.out)"
	stop_tapdisk
	qemu-img check -q x.qcow2 || fail "after fio: qemu-img check: exit $?"
else
	say "fio has no nbd engine: not used"
fi

# ---- qemu's, and we read ----
data() # data FILE BYTES [SEED]: random, zeros and repeating bytes in turns
{
	random_file "$1" "$2" "${3:-3}"
	qemu-io -f raw -c "write -P 0 64k 300k" -c "write -P 0xab 512k 400k" "$1" >/dev/null
}
data data.raw $((6 << 20))
while read -r opts; do
	rm -f q.qcow2
	# shellcheck disable=SC2086
	qemu-img convert -f raw -O qcow2 $opts data.raw q.qcow2
	reads_equal "qcow2:$T/q.qcow2" q.qcow2 "convert $opts"
	cp data.raw model.raw
	serve "qcow2:$T/q.qcow2" # and write over it: compressed clusters give way to plain ones
	both_write 15
	stop_tapdisk
	clean_and_equal q.qcow2 "our writes over convert $opts"
done <<'END'
-o cluster_size=64K
-o cluster_size=512
-o cluster_size=2M
-o compat=0.10
-o compat=0.10,cluster_size=4K
-o refcount_bits=1
-o refcount_bits=64
-o lazy_refcounts=on
-o preallocation=metadata
-o preallocation=falloc,cluster_size=16K
-o preallocation=full
-o extended_l2=on,cluster_size=16K
-o extended_l2=on,preallocation=metadata
-c
-c -o extended_l2=on,cluster_size=32K
-c -o cluster_size=512
-c -o cluster_size=4K
-c -o cluster_size=2M
-c -o compat=0.10
-c -o compression_type=zstd
-c -o compression_type=zstd,cluster_size=32K
END

# Zero clusters, plain and allocated, discarded ones, and a size that is no multiple of the cluster.
qemu-img create -q -f qcow2 z.qcow2 5000704
qemu-io -c "write -P 9 0 4M" -c "write -z 64k 256k" -c "write -z -u 1M 256k" -c "discard 2M 512k" \
	-c "write -P 3 4999680 1024" z.qcow2 >/dev/null
reads_equal "qcow2:$T/z.qcow2" z.qcow2 "zero clusters"

# Subclusters of 4 KiB: data, zeros and what is below, in one cluster; what we write copies no more than those.
data base.raw $((2 << 20)) 5
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128K -b base.raw -F raw e.qcow2 2M
qemu-io -c "write -P 9 12k 9k" -c "write -z 24k 8k" -c "write -P 8 300k 700k" -c "write -z -u 384k 128k" \
	-c "discard 700k 12k" e.qcow2 >/dev/null
reads_equal "qcow2:$T/e.qcow2" e.qcow2 "subclusters"
cp theirs.raw model.raw
serve "qcow2:$T/e.qcow2"
qemu-io -f raw -c "write -P 7 1300k 512" "$NBD" >/dev/null
qemu-io -f raw -c "write -P 7 1300k 512" model.raw >/dev/null
stop_tapdisk
clean_and_equal e.qcow2 "a write into a subcluster"
qemu-img map --output=json e.qcow2 >map.json
python3 - 1331200 4096 <<'END'
import json, sys
at, size = int(sys.argv[1]), int(sys.argv[2])
part = [e for e in json.load(open("map.json")) if e["depth"] == 0 and e["start"] <= at < e["start"] + e["length"]]
assert [(e["start"], e["length"]) for e in part] == [(at, size)], part
END
serve "qcow2:$T/e.qcow2"
both_write 25
stop_tapdisk
clean_and_equal e.qcow2 "our writes into subclusters"

# A chain of mixed formats and sizes, shorter and longer than what is above.
data base.raw $((1 << 20)) 4
qemu-img create -q -f qcow2 -o cluster_size=4K -b base.raw -F raw one.qcow2 3M
qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=64K -b one.qcow2 -F qcow2 two.qcow2 2M
qemu-img create -q -f qcow2 -o cluster_size=512 -b two.qcow2 -F qcow2 three.qcow2 5M
for f in one two three; do
	RANDOM=$((seed + 1))
	random_ops 12 2097152
	qemu-io "${OPS[@]}" $f.qcow2 >/dev/null
done
reads_equal "qcow2:$T/three.qcow2" three.qcow2 "a chain"
cp theirs.raw model.raw
sha256sum base.raw one.qcow2 two.qcow2 >sums
serve "qcow2:$T/three.qcow2"
both_write 20
stop_tapdisk
clean_and_equal three.qcow2 "our writes to the top of a chain"
sha256sum --quiet -c sums || fail "a write to the top changed a backing file"

# Internal snapshots: shared clusters are copied before they are written.
cp data.raw model.raw
qemu-img convert -f raw -O qcow2 -o cluster_size=16K data.raw s.qcow2
qemu-img snapshot -c first s.qcow2
qemu-io -c "write -P 0x51 128k 256k" s.qcow2 >/dev/null
qemu-io -f raw -c "write -P 0x51 128k 256k" model.raw >/dev/null
qemu-img snapshot -c second s.qcow2
cp model.raw second.raw
serve "qcow2:$T/s.qcow2"
both_write 30
stop_tapdisk
clean_and_equal s.qcow2 "our writes beside internal snapshots"
qemu-img convert -l first -O raw s.qcow2 snap.raw
cmp snap.raw data.raw || fail "our writes changed the first snapshot"
qemu-img convert -l second -O raw s.qcow2 snap.raw
cmp snap.raw second.raw || fail "our writes changed the second snapshot"
qemu-img snapshot -d first s.qcow2
clean_and_equal s.qcow2 "a snapshot deleted after our writes"

# ---- what we cannot read is refused by name ----
refused() # refused PATTERN IMAGE
{
	expect_fail "$1" timeout 200 "$BLKTAP_TAPDISK" -f --nbd "unix:$T/r" "qcow2:$T/$2"
}
# To make one qemu-img times its own cipher, and gives up at some tries ("Unable to get accurate CPU usage").
make_luks()
{
	for _ in 1 2 3 4 5 6 7 8; do
		rm -f l.qcow2
		qemu-img create -q -f qcow2 --object secret,id=s,data=x \
			-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 l.qcow2 1M \
			2>/dev/null && return
	done
	return 1
}
if make_luks; then
	refused 'l.qcow2.*(encrypt|LUKS)' l.qcow2
else
	say "qemu-img makes no LUKS image here: not tried"
fi
cp x.qcow2 u.qcow2
printf '\100' | dd of=u.qcow2 bs=1 seek=72 conv=notrunc status=none # an incompatible bit that nobody knows
refused 'u.qcow2.*feature' u.qcow2
