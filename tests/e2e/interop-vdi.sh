#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# VirtualBox's format, which we only read: images made and written by QEMU at random places, from INTEROP_SEED, are the
# same disk for us; what is damaged is found, and nothing is read from where it does not lie.
# shellcheck disable=SC2154,SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/interop-lib.sh"
require qemu-img qemu-io python3

seed=${INTEROP_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
runs=${INTEROP_RUNS:-1}
say "INTEROP_SEED=$seed INTEROP_RUNS=$runs"
RANDOM=$seed
cd "$T" || exit

# equal IMAGE: to model.raw, and our check finds nothing.
equal()
{
	qemu-img compare -q -f raw -F vdi model.raw "$1" || fail "$1: qemu-img compare"
	tap-img compare -q model.raw "vdi:$1" || fail "$1: tap-img compare"
	tap-img check -q "vdi:$1" || fail "$1: tap-img check"
}

# theirs OPTIONS BYTES
theirs()
{
	rm -f a.vdi model.raw
	truncate -s "$2" model.raw
	qemu-img create -q -f vdi -o "$1" a.vdi "$2"
	OPS=()
	random_writes 30 "$2"
	qemu-io -f vdi "${OPS[@]}" a.vdi >io.out || fail "qemu-io: $(tail -3 io.out)"
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
	equal a.vdi
}

for ((run = 0; run < runs; run++)); do
	theirs static=off $(((RANDOM % 80 + 2) * 1048576))
	theirs static=on $(((RANDOM % 20 + 2) * 1048576))
	theirs static=off $(((RANDOM % 200000 + 2100) * 512)) # ends within a block
done

# ---- what it is, and what it is good for ----

# Block 0 is the first in the file: the damage below is to its entry.
rm -f a.vdi model.raw
truncate -s 20M model.raw
qemu-img create -q -f vdi -o static=off a.vdi 20M
OPS=(-c 'write -P 1 0 1M' -c 'write -P 2 3M 512' -c 'write -P 3 5M 4M')
qemu-io -f vdi "${OPS[@]}" a.vdi >/dev/null
qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
equal a.vdi
cp a.vdi before.vdi
tap-img info auto:a.vdi >info.out
grep -q 'file format: vdi' info.out || fail "$(cat info.out)"
grep -q 'subformat: dynamic' info.out || fail "$(cat info.out)"
map_is_true vdi:a.vdi model.raw
tap-img convert -O qcow2 vdi:a.vdi c.qcow2
qemu-img compare -q -f raw -F qcow2 model.raw c.qcow2 || fail "convert"
tap-img create -b a.vdi -F vdi qcow2:over.qcow2 20M >/dev/null
start_tapdisk --nbd "unix:$T/s" qcow2:over.qcow2
qemu-io -f raw -c 'write -P 9 5M 64k' "nbd+unix:///?socket=$T/s" >/dev/null
stop_tapdisk
qemu-io -f raw -c 'write -P 9 5M 64k' model.raw >/dev/null
tap-img compare -q model.raw qcow2:over.qcow2 || fail "as a backing file"
expect_fail 'can only be read.*tap-img convert' tapdisk -f --nbd "unix:$T/s" vdi:a.vdi
expect_fail 'can only be read' tap-img check --repair vdi:a.vdi
expect_fail 'vdi' tap-img create vdi:new.vdi 1M
[ ! -e new.vdi ] || fail "create left a file"
cmp a.vdi before.vdi || fail "it was changed"

# ---- damage ----

# put FILE OFFSET U32: 4 bytes there.
put() { python3 -c 'import struct, sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2], 0))
    f.write(struct.pack("<I", int(sys.argv[3], 0)))' "$@"; }
map=$(python3 -c 'import struct; print(struct.unpack_from("<I", open("a.vdi", "rb").read(512), 340)[0])')

# finds STATUS PATTERN: what check says of lie.vdi.
finds()
{
	local status=0
	tap-img check vdi:lie.vdi >check.out 2>&1 || status=$?
	[ "$status" = "$1" ] || fail "check: $status: $(cat check.out)"
	grep -Eq -- "$2" check.out || fail "check: $(cat check.out)"
}
# reads COMMAND...: qemu-io over NBD.
reads()
{
	start_tapdisk -R --nbd "unix:$T/s" vdi:lie.vdi
	qemu-io -r -f raw "$@" "nbd+unix:///?socket=$T/s" >io.out 2>&1 || true
	stop_tapdisk
}
lie()
{
	cp before.vdi lie.vdi
	put lie.vdi "$@"
}
# A block that says zero is zero; its bytes are in no use any more, and the header counts one too many.
lie "$map" 0xfffffffe
reads -c 'read -P 0 0 1M'
if grep -q -i failed io.out; then fail "$(cat io.out)"; fi
finds 2 'counts'
# Two that name the same; one outside the file, which is an error and not zeros; one no such disk has.
lie "$map" 1
finds 2 'more than one'
lie "$map" 19
truncate -s 8M lie.vdi
finds 2 'out of the file'
reads -c 'read 0 4k'
grep -q -i 'input/output error' io.out || fail "$(cat io.out)"
lie "$map" 20
finds 2 'out of the file'
reads -c 'read 0 4k' -c 'read -P 2 3M 512'
[ "$(grep -c -i failed io.out)" = 1 ] || fail "$(cat io.out)"

# A copy that ended early: what is missing is an error.
cp before.vdi lie.vdi
truncate -s -512 lie.vdi
finds 2 'out of the file'
reads -c 'read 8M 4k' -c 'read -P 3 7M 512'
[ "$(grep -c -i failed io.out)" = 1 ] || fail "$(cat io.out)"

# refused PATTERN: in one line, at once.
refused() { expect_fail "vdi lie.vdi: .*$1" tapdisk -R -f --nbd "unix:$T/s" vdi:lie.vdi; }
lie 68 0x00000002
refused 'version 0.2'
lie 76 4
refused 'differencing.*VBoxManage'
lie 384 0xffffffff
refused 'cannot begin'
lie 376 0
refused 'a block cannot have 0'
for len in 0 100 511 512 $((map + 4)); do
	cp before.vdi lie.vdi
	truncate -s "$len" lie.vdi
	refused 'short|inside the file'
done
# 4 PiB, most of it nowhere: neither memory nor time.
python3 - <<'PY'
import struct
head = bytearray(open("before.vdi", "rb").read(512))
struct.pack_into("<II", head, 340, 512, (4 << 30) - 512)
struct.pack_into("<QIIII", head, 368, (0x3fffff00 << 20), 1 << 20, 0, 0x3fffff00, 0)
with open("lie.vdi", "wb") as f:
    f.write(head)
    f.truncate(5 << 30)
    f.seek(512)
    f.write(b"\xff" * 4096)
    f.seek(512 + 4 * 0x3ffffe00)
    f.write(b"\xff" * 1024)
PY
reads -c 'read -P 0 0 64k' -c "read -P 0 $((0x3fffff00 << 20))" -c "read -P 0 $(((0x3fffff00 << 20) - 65536)) 64k"
grep -q 'read 65536/65536 bytes at offset 0' io.out || fail "$(cat io.out)"
grep -q "read 65536/65536 bytes at offset $(((0x3fffff00 << 20) - 65536))" io.out || fail "$(cat io.out)"
say "ok"
