#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Both directions with other people's vhd: QEMU's (fixed and dynamic) by qemu-img and qemu-io, chains by libyal's
# vhdimount, which knows differencing disks as QEMU does not.  Random writes, from INTEROP_SEED.
# shellcheck disable=SC2154,SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io nbdcopy

seed=${INTEROP_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
runs=${INTEROP_RUNS:-1} depth=${INTEROP_DEPTH:-30}
say "INTEROP_SEED=$seed INTEROP_RUNS=$runs INTEROP_DEPTH=$depth"
RANDOM=$seed
cd "$T" || exit

NBD="nbd+unix:///?socket=$T/s"
serve() { start_tapdisk --nbd "unix:$T/s" "$@"; }

# random_ops COUNT BYTES: an argument list for qemu-io in $OPS; all of it in units of $unit bytes.
unit=512
random_ops()
{
	local i at len
	OPS=()
	for ((i = 0; i < $1; i++)); do
		len=$((unit << RANDOM % 8))
		at="$(((RANDOM << 15 | RANDOM) % (($2 - len) / unit + 1) * unit)) $len"
		case $((RANDOM % 8)) in
		0) OPS+=(-c "write -z $at") ;;
		1) OPS+=(-c "write -f -P $((RANDOM % 255 + 1)) $at") ;;
		2) OPS+=(-c flush) ;;
		*) OPS+=(-c "write -P $((RANDOM % 255 + 1)) $at") ;;
		esac
	done
}

# both_write COUNT: the same to the served disk and to the model, model.raw.
both_write()
{
	random_ops "$1" "$(stat -c %s model.raw)"
	qemu-io -f raw "${OPS[@]}" "$NBD" >io.out 2>&1 || fail "qemu-io over NBD: $(tail -3 io.out)"
	if grep -q failed io.out; then fail "qemu-io over NBD: $(grep failed io.out)"; fi
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
}

# equal IMAGE: to the model, for QEMU and for us; and our check finds nothing.
equal()
{
	qemu-img compare -q -f raw -F vpc model.raw "$1" || fail "$1: qemu-img compare"
	tap-img compare -q model.raw "vhd:$1" || fail "$1: tap-img compare"
	tap-img check -q "vhd:$1" || fail "$1: tap-img check"
}

# ours FORMAT SUBFORMAT BYTES: written by us, read by QEMU; written on by QEMU, read by us.
ours()
{
	rm -f our.vhd model.raw
	truncate -s "$3" model.raw
	tap-img create -o "subformat=$2" "$1:our.vhd" "$3" >/dev/null
	[ "$(qemu-img info -f vpc --output=json our.vhd | python3 -c 'import json, sys
print(json.load(sys.stdin)["virtual-size"])')" = "$3" ] || fail "$2: its size is another for qemu-img"
	serve "vhd:our.vhd"
	both_write 40
	stop_tapdisk
	equal our.vhd
	random_ops 20 "$3"
	qemu-io -f vpc "${OPS[@]}" our.vhd >/dev/null || fail "qemu-io on our $2 image"
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
	equal our.vhd
	serve "vhd:our.vhd"
	both_write 20
	stop_tapdisk
	equal our.vhd
}

# theirs OPTIONS BYTES: made and written by QEMU, read by us, written on by us, read by QEMU.
theirs()
{
	local size
	rm -f their.vhd model.raw
	qemu-img create -q -f vpc -o "$1" their.vhd "$2"
	size=$(qemu-img info -f vpc --output=json their.vhd | python3 -c 'import json, sys
print(json.load(sys.stdin)["virtual-size"])')
	truncate -s "$size" model.raw
	random_ops 30 "$size"
	qemu-io -f vpc "${OPS[@]}" their.vhd >/dev/null || fail "qemu-io on its own image"
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
	equal their.vhd
	serve "vhd:their.vhd"
	both_write 30
	stop_tapdisk
	equal their.vhd
}

for ((run = 0; run < runs; run++)); do
	ours vhd dynamic $(((RANDOM % 60 + 1) * 262144))
	ours vpc fixed $(((RANDOM % 60 + 1) * 262144))
	theirs "subformat=dynamic" $(((RANDOM % 60 + 4) * 262144))
	theirs "subformat=dynamic,force_size=on" $(((RANDOM % 60 + 4) * 262144))
	theirs "subformat=fixed" $(((RANDOM % 60 + 4) * 262144))
done
say "$((runs * 5)) images equal"

# What a flush leaves is whole for another program, while we still have the image open.
tap-img create vhd:flushed.vhd 20M >/dev/null
serve "vhd:flushed.vhd"
qemu-io -f raw -c 'write -P 7 5M 64k' -c 'write -P 8 11M 64k' -c flush "$NBD" >/dev/null
cp flushed.vhd copy.vhd
qemu-io -f vpc -r -c 'read -P 7 5M 64k' -c 'read -P 8 11M 64k' copy.vhd >io.out 2>&1 ||
	fail "after a flush: $(cat io.out)"
if grep -q -i 'pattern verification failed' io.out; then fail "after a flush: $(cat io.out)"; fi
cmp <(head -c 512 copy.vhd) <(tail -c 512 copy.vhd) || fail "after a flush the footers differ"
stop_tapdisk

# A chain: each image holds a bit of it.  In pieces of 8 sectors: where a run of held sectors ends inside a byte of a
# block's bitmap, libyal (20210425) takes the rest of that byte for held, too, and reads what lies there in the child;
# the specification has a bit for each sector alone.
unit=4096
rm model.raw
truncate -s 16M model.raw
tap-img create vhd:c0.vhd 16M >/dev/null
for ((i = 0; i < depth; i++)); do
	[ "$i" = 0 ] || tap-img create -b "c$((i - 1)).vhd" -F vhd "vhd:c$i.vhd" >/dev/null
	serve "vhd:c$i.vhd"
	both_write 4
	stop_tapdisk
done
top=c$((depth - 1)).vhd
tap-img compare -q model.raw "vhd:$top" || fail "the chain differs from the model"
[ "$(tap-img info --backing-chain --output=json "vhd:$top" | python3 -c 'import json, sys
print(len(json.load(sys.stdin)))')" = "$depth" ] || fail "info --backing-chain: not $depth images"
say "a chain of $depth images is equal"

if ! command -v vhdimount >/dev/null || [ ! -w /dev/fuse ]; then
	say "no vhdimount, or no FUSE: chains without a second opinion"
	exit 0
fi
mkdir yal
if vhdimount "$top" yal >yal.out 2>&1; then
	# One file an image of the chain, the last is the top.
	cmp model.raw "yal/vhdi$depth" || fail "libyal reads something else from the chain"
	fusermount -u yal 2>/dev/null || fusermount3 -u yal
	say "libyal reads the same from the chain"
else
	fail "vhdimount: $(cat yal.out)"
fi
vhdiinfo "$top" >yal.out
grep -q 'Disk type.*Differential' yal.out || fail "vhdiinfo: $(cat yal.out)"
grep -q "Parent filename.*c$((depth - 2)).vhd" yal.out || fail "vhdiinfo: $(cat yal.out)"
