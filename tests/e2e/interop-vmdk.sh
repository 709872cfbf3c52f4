#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Both directions with other people's vmdk: what our writer touched reads equal to a raw model by qemu-img and, where
# they are installed, libyal's tools; what qemu wrote reads back equal through tapdisk, and can be written.  Deltas,
# their parents' CID, descriptors as they are found, files that were moved.
# INTEROP_SEED; INTEROP_OPS (default 12) requests for each image.
# shellcheck disable=SC2154,SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io nbdcopy

seed=${INTEROP_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
ops=${INTEROP_OPS:-12}
say "INTEROP_SEED=$seed INTEROP_OPS=$ops"
RANDOM=$seed
cd "$T" || exit

NBD="nbd+unix:///?socket=$T/s"
serve() { start_tapdisk --nbd "unix:$T/s" "$@"; }

# random_ops COUNT BYTES: an argument list for qemu-io in $OPS.  What is discarded is written afterwards.
random_ops()
{
	local i off len at lens=(512 1024 4096 12288 65536 66048 200704 1048576)
	OPS=()
	for ((i = 0; i < $1; i++)); do
		len=${lens[RANDOM % 8]}
		off=$(((RANDOM << 15 | RANDOM) % (($2 - len) / 512 + 1) * 512))
		at="$off $len"
		case $((RANDOM % 10)) in
		0) OPS+=(-c "write -z $at") ;;
		1) OPS+=(-c "write -z -u $at") ;;
		2) OPS+=(-c "discard $at" -c "write -P $((RANDOM % 255 + 1)) $at") ;;
		3) OPS+=(-c "write -f -P $((RANDOM % 255 + 1)) $at") ;;
		*) OPS+=(-c "write -P $((RANDOM % 255 + 1)) $at") ;;
		esac
	done
}

# both_write: the same to the served disk and to the model, model.raw.
both_write()
{
	random_ops "$ops" "$(stat -c %s model.raw)"
	qemu-io -f raw "${OPS[@]}" "$NBD" >io.out 2>&1 ||
		fail "qemu-io over NBD (INTEROP_SEED=$seed): $(tail -3 io.out)"
	if grep -q 'failed' io.out; then fail "qemu-io over NBD (INTEROP_SEED=$seed): $(grep failed io.out)"; fi
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
}

# equal IMAGE WHAT [LEAKS]: to the model, in the eyes of qemu; and clean in ours.  LEAKS=3: qemu had it, whose zeros
# leave grains behind.
equal()
{
	local status=0
	qemu-img compare -q -f vmdk -F raw "$1" model.raw || fail "$2 (INTEROP_SEED=$seed): it differs from the model"
	tap-img check -f vmdk "$1" >check.out 2>&1 || status=$?
	[ "$status" = 0 ] || [ "$status" = "${3:-0}" ] ||
		fail "$2 (INTEROP_SEED=$seed): check: exit $status: $(cat check.out)"
}

# we_read IMAGE WHAT: the model.
we_read()
{
	serve -R "vmdk:$1"
	nbdcopy "$NBD" ours.raw
	stop_tapdisk
	cmp ours.raw model.raw || fail "$2 (INTEROP_SEED=$seed): tapdisk reads other bytes"
}

new() { rm -rf ./*.vmdk model.raw; }

# ---- ours, then qemu looks; qemu writes, then we look ----
while read -r opts; do
	new
	tap-img create -o "$opts" vmdk:x.vmdk 20M
	truncate -s 20M model.raw
	serve "vmdk:$T/x.vmdk"
	both_write
	stop_tapdisk
	equal x.vmdk "$opts"
	random_ops "$ops" $((20 << 20))
	# qemu knows of no zeros but whole grains' in some kinds, and discards nothing.
	# Into a vmfsSparse it writes tables that it never made over the header: there it only reads.
	[[ $opts == *vmfsSparse* ]] || qemu-io -f vmdk "${OPS[@]}" x.vmdk >/dev/null 2>&1 || :
	qemu-img convert -f vmdk -O raw x.vmdk model.raw
	we_read "$T/x.vmdk" "$opts, after qemu"
	serve "vmdk(direct=off):$T/x.vmdk"
	both_write
	stop_tapdisk
	equal x.vmdk "$opts, after qemu and us" 3
	if command -v vmdkinfo >/dev/null && [[ $opts != *vmfsSparse* ]]; then
		vmdkinfo x.vmdk >info.out 2>&1 || fail "$opts: vmdkinfo: $(tail -1 info.out)"
	fi
done <<'END'
subformat=monolithicSparse
subformat=monolithicSparse,zeroed_grain=on,adapter_type=lsilogic
subformat=twoGbMaxExtentSparse,hwversion=7
subformat=monolithicFlat,preallocation=falloc
subformat=twoGbMaxExtentFlat
subformat=vmfs,adapter_type=buslogic
subformat=vmfsSparse
END
say "written by us: equal"

# Over the end of an extent.
for kind in twoGbMaxExtentSparse twoGbMaxExtentFlat; do
	new
	tap-img create -o subformat=$kind vmdk:x.vmdk 4300M
	[ "$(echo x-[sf]00?.vmdk | wc -w)" = 3 ] || fail "$kind: $(ls)"
	serve "vmdk:$T/x.vmdk"
	qemu-io -f raw -c "write -P 7 $((4192256 * 512 - 65536)) 131072" -c "write -P 8 $((4300 * 1048576 - 512)) 512" \
		"$NBD" >io.out
	stop_tapdisk
	qemu-io -f vmdk -r -c "read -P 7 $((4192256 * 512 - 65536)) 131072" \
		-c "read -P 8 $((4300 * 1048576 - 512)) 512" x.vmdk >io.out
	if grep -q failed io.out; then fail "$kind: $(cat io.out)"; fi
done

# ---- qemu's, and we read and write ----
random_file data.raw $((6 << 20)) 3
qemu-io -f raw -c "write -P 0 64k 300k" -c "write -P 0xab 512k 400k" data.raw >/dev/null
while read -r opts; do
	new
	cp data.raw model.raw
	qemu-img convert -f raw -O vmdk -o "$opts" model.raw q.vmdk
	we_read "$T/q.vmdk" "qemu's $opts"
	case $opts in
	*streamOptimized*)
		expect_fail 'only be read' tapdisk -f "vmdk:$T/q.vmdk"
		;;
	*)
		serve "vmdk:$T/q.vmdk"
		both_write
		stop_tapdisk
		equal q.vmdk "our writes over qemu's $opts"
		;;
	esac
done <<'END'
subformat=monolithicSparse
subformat=monolithicSparse,compat6=on,zeroed_grain=on
subformat=monolithicFlat
subformat=twoGbMaxExtentSparse
subformat=twoGbMaxExtentFlat
subformat=streamOptimized
END
say "written by qemu: equal"

# ---- deltas ----
for kind in monolithicSparse twoGbMaxExtentSparse vmfsSparse; do
	new
	qemu-img convert -f raw -O vmdk data.raw base.vmdk
	tap-img create -b base.vmdk -F vmdk -o subformat=$kind vmdk:top.vmdk
	sha256sum base.vmdk >sums
	cp data.raw model.raw
	serve "vmdk:$T/top.vmdk"
	both_write
	stop_tapdisk
	sha256sum --quiet -c sums || fail "$kind: a write to the delta changed its parent"
	equal top.vmdk "a delta, $kind"
done
qemu-img create -q -f vmdk -b top.vmdk -F vmdk third.vmdk
qemu-io -f vmdk -c 'write -P 5 1M 64k' third.vmdk >/dev/null
qemu-io -f raw -c 'write -P 5 1M 64k' model.raw >/dev/null
we_read "$T/third.vmdk" "qemu's delta of ours"

# A parent that was written to since is another disk.
qemu-io -f vmdk -c 'write -P 6 0 512' base.vmdk >/dev/null
expect_fail 'CID.*written to since' tap-img map -f vmdk top.vmdk
new
tap-img create vmdk:base.vmdk 1M
tap-img create -b base.vmdk -F vmdk vmdk:top.vmdk
serve "vmdk:$T/base.vmdk"
qemu-io -f raw -c 'write -P 1 0 512' "$NBD" >/dev/null
stop_tapdisk
expect_fail . qemu-img convert -f vmdk -O raw top.vmdk x.raw
mv base.vmdk moved.vmdk
expect_fail base.vmdk tap-img map -f vmdk top.vmdk
say "deltas: parents are known by their CID"

# ---- descriptors as they are found ----
new
qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat data.raw q.vmdk
cp data.raw model.raw
cp q.vmdk good
for how in 's/$/\r/' 's/=/ = /' 's/^CID=.*/cid=1f/' 's/createType=.*/createType="somethingNew"/' '1i # mine' \
	'/ddb/d'; do
	sed "$how" good >q.vmdk
	we_read "$T/q.vmdk" "a descriptor changed by $how"
	serve "vmdk:$T/q.vmdk"
	qemu-io -f raw -c 'write -P 1 0 512' "$NBD" >/dev/null
	stop_tapdisk
	qemu-io -f raw -c 'write -P 1 0 512' model.raw >/dev/null
	diff <(sed "$how" good | grep -avi '^CID') <(grep -avi '^CID' q.vmdk) || fail "$how: more than the CID changed"
	if cmp -s <(sed "$how" good | grep -ai '^CID') <(grep -ai '^CID' q.vmdk); then
		fail "$how: the CID is the same"
	fi
done
tr '\n' '\r' <good >q.vmdk
we_read "$T/q.vmdk" "a descriptor with CR"

# Moved to another folder; renamed.
mkdir there
sed 's,"q-flat,"/somewhere/else/q-flat,' good >there/q.vmdk
cp q-flat.vmdk there/
we_read "$T/there/q.vmdk" "an extent that moved with its descriptor"
mv there/q-flat.vmdk there/new-flat.vmdk
cp good there/new.vmdk
we_read "$T/there/new.vmdk" "an extent that was renamed with its descriptor"
rm there/new-flat.vmdk
expect_fail q-flat.vmdk tap-img info vmdk:there/new.vmdk
say "descriptors: as they are found"

# ---- convert makes and leaves no more than it should ----
new
qemu-img create -q -f raw model.raw 6M
cp data.raw model.raw
for kind in twoGbMaxExtentSparse monolithicFlat; do
	tap-img convert -O vmdk -o subformat=$kind data.raw "$T/c.vmdk"
	qemu-img compare -q -f vmdk -F raw c.vmdk model.raw || fail "convert to $kind"
	rm ./c*.vmdk
	expect_fail no_such tap-img convert -f raw -O vmdk -o subformat=$kind,no_such=1 data.raw "$T/c.vmdk"
	if compgen -G './c*.vmdk*' >left; then fail "a failed convert left $(cat left)"; fi
done
# measured OPTS: measure says at least what convert makes of noise, and not much more unless it is compressed.
measured()
{
	local want have
	want=$(tap-img measure --output json -f raw -O vmdk -o "$1" noise |
		sed -n 's/.*"required": \([0-9]*\).*/\1/p')
	tap-img convert -f raw -O vmdk -o "$1" noise "$T/c.vmdk"
	have=$(cat ./c*.vmdk | wc -c)
	[ "$have" -le "$want" ] || fail "measure -o $1: $want, and it has $have"
	[[ $1 = *streamOptimized* ]] || [ "$want" -le $((have + 70000)) ] ||
		fail "measure -o $1: $want, and it has $have"
	rm ./c*.vmdk
}
random_file noise 3000320 7
for kind in monolithicSparse twoGbMaxExtentSparse monolithicFlat twoGbMaxExtentFlat vmfs vmfsSparse streamOptimized; do
	measured "subformat=$kind,adapter_type=lsilogic,hwversion=8,toolsversion=7,geometry=3/2/1"
done
measured zeroed_grain=on,compat6=on
expect_fail no_such tap-img measure -O vmdk -o no_such=1 --size 1M
expect_fail 'subformat=x' tap-img measure -O vmdk -o subformat=x --size 1M
expect_fail '2 TiB' tap-img measure -O vmdk --size 3T

# What VMware's tools look for in a descriptor.
while read -r opts line; do
	tap-img create -o "$opts" vmdk:d.vmdk 5G
	grep -aqx "$line" d.vmdk || fail "-o $opts: no line '$line'"
	rm ./d*.vmdk
done <<'END'
adapter_type=ide ddb.adapterType = "ide"
adapter_type=buslogic ddb.adapterType = "buslogic"
adapter_type=lsilogic ddb.adapterType = "lsilogic"
adapter_type=legacyESX ddb.adapterType = "legacyESX"
adapter_type=lsilogic ddb.geometry.heads = "255"
adapter_type=lsilogic ddb.geometry.cylinders = "652"
adapter_type=ide ddb.geometry.heads = "16"
geometry=10/20/30 ddb.geometry.sectors = "30"
hwversion=11 ddb.virtualHWVersion = "11"
compat6=on ddb.virtualHWVersion = "6"
subformat=monolithicFlat,toolsversion=1234 ddb.toolsVersion = "1234"
END
say "measured, described"

# ---- -c where nothing is compressed ----
for to in vmdk vhd aio; do
	expect_fail "-c: $to images" tap-img convert -c -f raw -O "$to" data.raw "$T/c.img"
	if compgen -G "./c.*" >left; then fail "a refused convert left $(cat left)"; fi
done
tap-img convert -c -f raw -O vmdk -o subformat=streamOptimized data.raw "$T/c.vmdk"
rm c.vmdk
tap-img create -o subformat=monolithicFlat,geometry=9/8/7 vmdk:g.vmdk 1M
[ "$(tap-img info --json vmdk:g.vmdk | python3 -c 'import json, sys
print(json.load(sys.stdin)["format-specific"]["data"]["geometry"])')" = 9/8/7 ] || fail "geometry="
for bad in subformat=x adapter_type=x hwversion=x geometry=1/2 geometry=1/-2/3 geometry=1/2/0 \
	compat6=on,hwversion=7 zeroed_grain=on,subformat=vmfs; do
	expect_fail . tap-img create -o "$bad" vmdk:bad.vmdk 1M
	[ ! -e bad.vmdk ] || fail "$bad: a file is left"
done
