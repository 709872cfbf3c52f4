#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img snapshot, amend and dd: what QEMU made is read by us, what we made is read by QEMU, and qemu-img check finds
# nothing in between.  A virtual machine's state that QEMU saved is kept byte for byte, and QEMU loads it.

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3
cd "$T" || exit

snapshot() { tap-img snapshot -f qcow2 "$@"; }
sound() { # sound FILE WHAT: both checkers find nothing, no leak either
	qemu-img check -q -f qcow2 "$1" || fail "$2: qemu-img check: $(qemu-img check -f qcow2 "$1" 2>&1)"
	tap-img check -q -f qcow2 "$1" >/dev/null || fail "$2: tap-img check does not like it"
}
view() { qemu-img convert -f qcow2 -O raw "$@" view.raw && sha256sum <view.raw; } # view [-l SNAPSHOT] FILE
ours() { tap-img convert --force -O raw "$1" ours.raw && sha256sum <ours.raw; }   # ours SPEC
# list FILE: "id name vm-state-size" of each, by QEMU and by us, which have to agree.
list()
{
	local theirs mine
	theirs=$(qemu-img info --output=json "$1" | python3 "$T/list.py")
	mine=$(tap-img info --output=json "$1" | python3 "$T/list.py")
	[ "$mine" = "$theirs" ] || fail "$1: QEMU lists '$theirs', tap-img '$mine'"
	mine=$(snapshot -l --json "$1" | python3 "$T/list.py")
	[ "$mine" = "$theirs" ] || fail "$1: snapshot -l says '$mine'"
	echo "$mine"
}
cat >list.py <<'E2'
import json, sys
for s in json.load(sys.stdin).get("snapshots", []):
    print([s[k] for k in ("id", "name", "vm-state-size", "date-sec", "date-nsec", "vm-clock-sec", "vm-clock-nsec")],
          s.get("icount"))
E2
# state.py FILE NAME: all that a snapshot's tables hold behind the end of the disk.
cat >state.py <<'E2'
import hashlib, struct, sys
f = open(sys.argv[1], "rb").read()
be32 = lambda o: struct.unpack_from(">I", f, o)[0]
be64 = lambda o: struct.unpack_from(">Q", f, o)[0]
cluster, size, at = 1 << be32(20), be64(24), be64(64)
for _ in range(be32(60)):
    idl, nl = struct.unpack_from(">HH", f, at + 12)
    head = 40 + be32(at + 36)
    name = f[at + head + idl:at + head + idl + nl].decode()
    if name == sys.argv[2]:
        span = cluster * (cluster // 8)
        out = hashlib.sha256()
        for i in range((size + span - 1) // span, be32(at + 8)):
            l2 = be64(be64(at) + i * 8) & 0xfffffffffffe00
            for k in range(cluster // 8 if l2 else 0):
                data = be64(l2 + k * 8) & 0xfffffffffffe00
                if data:
                    out.update(struct.pack(">QQ", i, k) + f[data:data + cluster])
        print(out.hexdigest())
    at = (at + head + idl + nl + 7) & ~7
E2

# ---- made by QEMU, read by us, and changed by us ----

qemu-img create -q -f qcow2 a.qcow2 16M
qemu-io -c 'write -q -P 1 0 5M' -c 'write -q -P 2 9M 70k' a.qcow2
qemu-img snapshot -c first a.qcow2
qemu-io -c 'write -q -P 3 1M 2M' -c 'discard -q 4M 1M' a.qcow2
qemu-img snapshot -c 'the second' a.qcow2
qemu-io -c 'write -q -P 4 12M 1M' a.qcow2
[ "$(list a.qcow2 | wc -l)" = 2 ] || fail "there are two snapshots"
one=$(view -l first a.qcow2) two=$(view -l 'the second' a.qcow2) now=$(view a.qcow2)
[ "$(ours 'qcow2(snapshot=first):a.qcow2')" = "$one" ] || fail "first, read by us"
[ "$(ours 'qcow2(snapshot=2):a.qcow2')" = "$two" ] || fail "the second, by its id"
expect_fail "there is no snapshot 'third'" tap-img convert -O raw 'qcow2(snapshot=third):a.qcow2' x.raw
expect_fail "read-only" tap-img resize 'qcow2(snapshot=first):a.qcow2' +1M

snapshot -c third a.qcow2
sound a.qcow2 "a snapshot of ours beside QEMU's"
[ "$(view -l third a.qcow2)" = "$now" ] || fail "QEMU reads something else in a snapshot of ours"
expect_fail "'third' already" snapshot -c third a.qcow2
expect_fail "'1' already" snapshot -c 1 a.qcow2
snapshot -d 1 a.qcow2
sound a.qcow2 "QEMU's snapshot deleted by us"
expect_fail "there is no snapshot 'first'" snapshot -a first a.qcow2
snapshot -a 'the second' a.qcow2
sound a.qcow2 "QEMU's snapshot applied by us"
[ "$(view a.qcow2)" = "$two" ] || fail "the disk is not what it was"
[ "$(view -l third a.qcow2)" = "$now" ] || fail "the third is not what it was"
qemu-io -c 'write -q -P 9 0 16M' a.qcow2
qemu-img snapshot -a third a.qcow2
sound a.qcow2 "our snapshot applied by QEMU"
[ "$(view a.qcow2)" = "$now" ] || fail "QEMU applied something else"
qemu-img snapshot -d third a.qcow2
snapshot -d 2 a.qcow2
sound a.qcow2 "no snapshot left"
[ -z "$(list a.qcow2)" ] || fail "there is a snapshot left"
[ "$(view a.qcow2)" = "$now" ] || fail "the disk is not what it was at last"

# Two of one name, as QEMU makes them: only an id will do.  A disk that had another size gets it back.
qemu-img snapshot -c same a.qcow2
qemu-img snapshot -c same a.qcow2
expect_fail "say the id" snapshot -d same a.qcow2
tap-img resize qcow2:a.qcow2 +4M >/dev/null
snapshot -d 2 a.qcow2
snapshot -a same a.qcow2
[ "$(view a.qcow2)" = "$now" ] || fail "the disk did not get its size back"
sound a.qcow2 "after another size"

# ---- a virtual machine's state ----

if command -v qemu-system-x86_64 >/dev/null; then
	monitor() { # monitor COMMAND: it has to print no error
		printf '%s\nquit\n' "$1" | timeout 60 qemu-system-x86_64 -M none -nodefaults -display none -S \
			-drive file=vm.qcow2,format=qcow2,if=none,id=d -monitor stdio >monitor.out 2>&1 ||
			fail "qemu-system: $(cat monitor.out)"
		! grep -aq '^Error' monitor.out || fail "$1: $(cat monitor.out)"
	}
	qemu-img create -q -f qcow2 -o cluster_size=4K vm.qcow2 8M
	qemu-io -c 'write -q -P 1 0 3M' vm.qcow2
	monitor 'savevm machine'
	list vm.qcow2 >/dev/null
	state=$(python3 state.py vm.qcow2 machine) disk=$(view vm.qcow2)
	[ -n "$state" ] || fail "QEMU saved no state"
	qemu-io -c 'write -q -P 2 1M 2M' vm.qcow2
	snapshot -c ours vm.qcow2
	snapshot -a machine vm.qcow2
	sound vm.qcow2 "a machine's snapshot applied"
	[ "$(view vm.qcow2)" = "$disk" ] || fail "the disk of a machine's snapshot"
	snapshot -d ours vm.qcow2
	tap-img amend -f qcow2 -o refcount_bits=64 vm.qcow2
	sound vm.qcow2 "beside a machine's state"
	[ "$(python3 state.py vm.qcow2 machine)" = "$state" ] || fail "the machine's state has changed"
	monitor 'loadvm machine'
	sound vm.qcow2 "after loadvm"
	# What QEMU's own apply leaves behind the disk's end does not show when it grows.
	tap-img resize qcow2:vm.qcow2 +16M >/dev/null
	qemu-io -c 'read -q -P 0 8M 16M' vm.qcow2 | grep -q failed && fail "a machine's state shows in the disk"
	sound vm.qcow2 "a disk that grew over a machine's state"
	[ "$(python3 state.py vm.qcow2 machine)" != "" ] || fail "the machine's state is gone"
else
	say "no machine's state: qemu-system-x86_64 is not installed"
fi

# ---- amend ----

qemu-img create -q -f raw base.raw 4M
qemu-io -f raw -c 'write -q -P 7 0 4M' base.raw
qemu-img create -q -f qcow2 -b base.raw -F raw b.qcow2
qemu-io -c 'write -q -P 1 0 1M' -c 'write -q -z 2M 500k' -c 'write -q -z -u 3M 300k' b.qcow2
seen=$(view b.qcow2)
amend() # amend OPTIONS: the disk shows what it did, and is sound
{
	tap-img amend -q -f qcow2 -o "$1" b.qcow2
	sound b.qcow2 "amend -o $1"
	[ "$(view b.qcow2)" = "$seen" ] || fail "amend -o $1: the disk is another"
}
fact() { qemu-img info --output=json b.qcow2 | python3 -c 'import json, sys
print(json.load(sys.stdin)["format-specific"]["data"].get(sys.argv[1]))' "$1"; }
for bits in 1 64 2 32 4 8 16; do
	amend "refcount_bits=$bits"
	[ "$(fact refcount-bits)" = "$bits" ] || fail "the width is $(fact refcount-bits), not $bits"
done
amend lazy_refcounts=on
expect_fail 'lazy_refcounts=off' tap-img amend -f qcow2 -o compat=0.10 b.qcow2
amend compat=0.10,lazy_refcounts=off
[ "$(fact compat)" = 0.10 ] || fail "it is not version 2"
expect_fail 'refcount_bits=16' tap-img amend -f qcow2 -o refcount_bits=8 b.qcow2
qemu-img snapshot -c old b.qcow2
amend compat=1.1,refcount_bits=2
[ "$(list b.qcow2 | wc -l)" = 1 ] || fail "the snapshot went with the version"
qemu-io -c 'write -q -z 0 64k' b.qcow2
seen=$(view b.qcow2)
snapshot -c zeros b.qcow2
expect_fail 'delete it first' tap-img amend -f qcow2 -o compat=0.10,refcount_bits=16 b.qcow2
expect_fail "refcounts of 2 bits" snapshot -c three b.qcow2
sound b.qcow2 "a snapshot that could not be"
snapshot -d zeros b.qcow2
amend compat=0.10,refcount_bits=16
expect_fail "foo" tap-img amend -f qcow2 -o foo=1 b.qcow2
expect_fail "no options that can be amended" tap-img amend -f raw -o compat=1.1 base.raw
qemu-img create -q -f qcow2 -o compression_type=zstd z.qcow2 1M
expect_fail "compression" tap-img amend -f qcow2 -o compat=0.10 z.qcow2

# ---- dd ----

qemu-img convert -O raw b.qcow2 b.raw
dd status=none if=b.raw of=want.raw bs=128K skip=3 count=9
tap-img dd -f qcow2 -O raw if=b.qcow2 of=got.raw bs=128K skip=3 count=9
same want.raw got.raw
tap-img dd -f qcow2 -O qcow2 if=b.qcow2 of=got.qcow2 bs=128K skip=3 count=9
qemu-img compare -q -f raw -F qcow2 want.raw got.qcow2 || fail "dd into qcow2"
tap-img dd -f raw -O raw --force if=b.raw of=got.raw bs=1000 skip=7
dd status=none if=b.raw bs=1000 skip=7 of=want.raw
truncate -s %512 want.raw
same want.raw got.raw
expect_fail "nothing is left" tap-img dd -f raw -O raw if=b.raw of=none.raw skip=8192
[ ! -e none.raw ] || fail "dd left something"
say "ok"
