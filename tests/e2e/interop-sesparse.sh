#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# seSparse, which ESXi makes and nobody else: files made after the format's description read equal to their model, by
# qemu-img and by us, alone and over a parent; they are not written; damaged ones and those whose journal was not
# carried out are refused by name.  INTEROP_SEED.
# shellcheck disable=SC2154

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

seed=${INTEROP_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
say "INTEROP_SEED=$seed"
RANDOM=$seed
make=$(cd "${srcdir:-.}" && pwd)/tests/e2e/vmdk-sesparse.py
cd "$T" || exit

# descriptor FILE SECTORS EXTENT PARENT-CID [PARENT]
descriptor()
{
	{
		printf '# Disk DescriptorFile\nversion=1\nencoding="UTF-8"\nCID=0badcafe\nparentCID=%s\n' "$4"
		printf 'createType="seSparse"\n%s# Extent description\n' "${5:+parentFileNameHint=\"$5\"$'\n'}"
		printf 'RW %s SESPARSE "%s"\nddb.adapterType = "lsilogic"\n' "$2" "$3"
	} >"$1"
}

# refuses WANT ARGS...: tap-img fails with a sentence that says so.
refuses()
{
	local want=$1
	shift
	if timeout 10 tap-img "$@" >out 2>&1; then fail "tap-img $*: not refused"; fi
	grep -q "$want" out || fail "tap-img $*: says not '$want': $(cat out)"
}

write_some()
{
	local i ops=()
	for ((i = 0; i < 40; i++)); do
		ops+=(-c "write -P $((RANDOM % 255 + 1)) $(((RANDOM << 15 | RANDOM) % 36000000 / 512 * 512)) \
			$((512 << RANDOM % 8))")
	done
	qemu-io -f raw "${ops[@]}" "$1" >/dev/null
}

# ---- alone ----
truncate -s 40961k model.raw # three tables, and a grain that is not whole
write_some model.raw
"$make" --seed "$seed" model.raw disk-sesparse.vmdk
descriptor disk.vmdk 81922 disk-sesparse.vmdk ffffffff
qemu-img compare -q -f vmdk -F raw disk.vmdk model.raw || fail "the generator and qemu disagree (seed $seed)"
for image in disk.vmdk disk-sesparse.vmdk; do # with and without its descriptor
	tap-img convert --force -f vmdk -O raw "$image" ours.raw
	cmp ours.raw model.raw || fail "$image: other bytes than the model (seed $seed)"
	tap-img check -f vmdk "$image" >out || fail "$image: check: $(cat out)"
done
tap-img info disk-sesparse.vmdk | grep -q 'vmdk' || fail "info does not know the file by its first bytes"
tap-img info --json disk.vmdk | grep -q '"create-type": "seSparse"' || fail "info: $(tap-img info --json disk.vmdk)"
before=$(sha256sum disk.vmdk disk-sesparse.vmdk)

# ---- it is not written ----
if timeout 10 tapdisk -f --nbd "unix:$T/s" "vmdk:$T/disk.vmdk" >out 2>&1; then fail "it was opened for writing"; fi
grep -q 'seSparse' out || fail "writable open: $(cat out)"
refuses seSparse check -r all -f vmdk disk.vmdk
refuses 'subformat' create -o subformat=seSparse vmdk:new.vmdk 1M
[ "$before" = "$(sha256sum disk.vmdk disk-sesparse.vmdk)" ] || fail "it was changed"

# ---- over a parent, which is what they are for ----
qemu-img create -q -f vmdk -o subformat=monolithicFlat base.vmdk 40961k
write_some base-flat.vmdk
cp base-flat.vmdk changed.raw
write_some changed.raw
qemu-io -f raw -c 'write -z 1M 3M' changed.raw >/dev/null
"$make" --seed "$seed" --base base-flat.vmdk changed.raw delta-sesparse.vmdk
descriptor delta.vmdk 81922 delta-sesparse.vmdk "$(sed -n 's/^CID=//p' base.vmdk)" base.vmdk
qemu-img compare -q -f vmdk -F raw delta.vmdk changed.raw || fail "the generator and qemu disagree (seed $seed)"
tap-img convert --force -f vmdk -O raw delta.vmdk ours.raw
cmp ours.raw changed.raw || fail "over a parent: other bytes than the model (seed $seed)"
tap-img create -b delta.vmdk -F vmdk vmdk:top.vmdk
qemu-img compare -q -f vmdk -F raw top.vmdk changed.raw || fail "an overlay over it differs"

# ---- what nobody may take for a disk ----
while read -r damage want; do
	"$make" --seed "$seed" --break "$damage" model.raw disk-sesparse.vmdk
	refuses "$want" convert --force -f vmdk -O raw disk.vmdk ours.raw
	[ ! -e ours.raw ] || rm ours.raw
done <<'END'
magic header
version version
grain not supported
table not supported
flags not supported
reserved not known
pad not known
capacity capacity
vast capacity
gd-short too few
gd-far sectors that no file has
gd-over over each other
volatile-far behind the end
grains-over over each other
volatile-magic volatile header
replay journal
volatile-pad not known
END

# Bad entries fail the reads of their own bytes; check finds them.
for damage in gd-entry table-far entry entry-far; do
	"$make" --seed "$seed" --break "$damage" model.raw disk-sesparse.vmdk
	if tap-img convert --force -f vmdk -O raw disk.vmdk ours.raw >out 2>&1; then fail "$damage: was converted"; fi
	status=0
	tap-img check -f vmdk disk.vmdk >out 2>&1 || status=$?
	[ "$status" = 2 ] || fail "$damage: check: exit $status: $(cat out)"
done
truncate -s 64k disk-sesparse.vmdk
refuses 'not lie inside\|behind the end\|cut' convert --force -f vmdk -O raw disk.vmdk ours.raw
