#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img check as people and scripts call it: exit codes, JSON, formats without a check, images in use, what a killed
# daemon left, lost data that reads as an error, hostile images.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img qemu-io
cd "$T"
BLKTAP_DAMAGE=$(cd "$BUILD" && cd "$srcdir" && pwd)/tests/e2e
export BLKTAP_DAMAGE

# expect STATUS COMMAND...: it has to end with this status.
expect()
{
	local want=$1 status=0
	shift
	"$@" >"$T/out" 2>"$T/err" || status=$?
	[ "$status" = "$want" ] || fail "$*: $status, not $want: $(cat "$T/out" "$T/err")"
}

# damage KIND FROM TO
damage()
{
	python3 - "$@" <<'PY'
import os, random, sys
sys.path.insert(0, os.environ["BLKTAP_DAMAGE"])
import qcow2_damage as d
im = d.Image(sys.argv[2])
lost = d.make(im, sys.argv[1], 0, random.Random(1))
im.save(sys.argv[3])
print(min(lost) if lost else 0)
PY
}

# guest FILE OFFSET BYTE: 4 KiB that are all this.
guest() { qemu-io -r -f qcow2 -c "read -q -P $3 $2 4k" "$1" 2>&1 | { ! grep . >&2; }; }

qemu-img create -q -f qcow2 -o cluster_size=4k good.qcow2 16M
qemu-io -f qcow2 -c 'write -q -P 1 0 1M' -c 'write -q -P 2 4M 1M' good.qcow2

# ---- clean, leaks, corrupt ----
expect 0 tap-img check good.qcow2
grep -qx 'No errors were found on the image.' out || fail "a clean image: $(cat out)"
[ ! -s err ] || fail "a clean image: $(cat err)"
expect 0 tap-img check -f qcow2 -q good.qcow2
[ ! -s out ] || fail "-q prints"
expect 0 tap-img check --output=json qcow2:good.qcow2
python3 - out <(qemu-img check --output=json good.qcow2) <<'PY'
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
if a != b:
    sys.exit("the JSON differs: %s %s" % (a, b))
PY
damage count-of-nothing good.qcow2 leaks.qcow2 >/dev/null
expect 3 tap-img check leaks.qcow2
grep -q leaked err || fail "a leak is not told: $(cat err)"
expect 3 tap-img check -q leaks.qcow2
[ ! -s out ] && [ ! -s err ] || fail "-q prints: $(cat out err)"
expect 0 tap-img check -r leaks leaks.qcow2
grep -q '^Repaired: [1-9][0-9]* leaked' out || fail "a repair is not told: $(cat out)"
expect 0 qemu-img check leaks.qcow2
cp --sparse=always good.qcow2 bad.qcow2
damage counts-of-data-zero good.qcow2 bad.qcow2 >/dev/null
expect 2 tap-img check --json bad.qcow2
python3 -c 'import json; j = json.load(open("out")); assert j["corruptions"] > 0 and j["check-errors"] == 0, j'
before=$(sha256sum <bad.qcow2)
expect 2 tap-img check bad.qcow2
[ "$before" = "$(sha256sum <bad.qcow2)" ] || fail "a check changed the image"
expect 2 tap-img check --repair=leaks bad.qcow2
expect 0 tap-img check --repair bad.qcow2
expect 0 qemu-img check bad.qcow2
guest bad.qcow2 4M 2 || fail "the guest's data has changed"

# ---- what cannot be checked, and calls that make no sense ----
truncate -s 1M disk.img
expect 63 tap-img check -f raw disk.img
grep -q 'raw' err || fail "raw: $(cat err)"
expect 1 tap-img check missing
expect 1 tap-img check
expect 1 tap-img check --repair=some good.qcow2
grep -q 'leaks or all' err || fail "$(cat err)"
expect 1 tap-img check -U --repair good.qcow2
expect 1 tap-img check --output=xml good.qcow2
head -c 100 good.qcow2 >short.qcow2
expect 1 tap-img check -f qcow2 short.qcow2

# ---- filters above it ----
expect 0 tap-img check 'fault/qcow2:good.qcow2'

# ---- in use ----
start_tapdisk --nbd "unix:$T/s" qcow2:"$T/good.qcow2"
expect 1 tap-img check good.qcow2
grep -q 'open for writing' err || fail "in use: $(cat err)"
expect 1 tap-img check --repair good.qcow2
expect 0 tap-img check -U good.qcow2

# ---- what a killed daemon left ----
# A write that was answered and not flushed; then the kill.
python3 - "$T/s" <<'PY'
import os, sys
sys.path.insert(0, os.environ["BLKTAP_DAMAGE"])
import nbdlib
c = nbdlib.Conn(sys.argv[1])
c.start()
c.write(10 << 20, b"k" * 65536)
PY
kill_tapdisk
kept() { compgen -G "$BLKTAP_RUN_DIR/keep*" >/dev/null; }
kept || fail "a killed daemon left nothing: there is nothing to test"
expect 1 tap-img check good.qcow2
grep -q 'killed tapdisk' err || fail "not refused by name: $(cat err)"
kept || fail "a check that only reads removed what was left"
expect 0 tap-img check --repair good.qcow2
kept && fail "what was left is still there"
guest good.qcow2 10M 107 || fail "a write that was answered is lost"
expect 0 tap-img check good.qcow2
expect 0 qemu-img check good.qcow2

# ---- lost data is an error, for us and for QEMU, until it is written again ----
lost=$(($(damage l2-beyond good.qcow2 lost.qcow2) * 4096))
expect 2 tap-img check lost.qcow2
expect 0 tap-img check --repair lost.qcow2
grep -q 'given up' err || fail "what is lost is not told: $(cat err)"
expect 0 qemu-img check lost.qcow2
expect 1 qemu-io -r -f qcow2 -c "read -q $lost 4k" lost.qcow2
grep -q 'Input/output error' out || fail "QEMU reads what is lost: $(cat out)"
start_tapdisk --nbd "unix:$T/s" qcow2:"$T/lost.qcow2"
uri="nbd+unix:///?socket=$T/s"
expect 1 qemu-io -f raw -c "read -q $lost 4k" "$uri"
grep -q 'Input/output error' out || fail "we read what is lost: $(cat out)"
qemu-io -f raw -c "write -q -P 3 $lost 4k" -c "read -q -P 3 $lost 4k" "$uri" || fail "it cannot be written again"
stop_tapdisk
expect 0 tap-img check --repair=leaks lost.qcow2
expect 0 qemu-img check lost.qcow2

# ---- a million names for one table, and tables far apart: bounded ----
python3 - <<'PY'
import struct
# 64K clusters: header, refcount table, block, L1 of 32 MiB, one L2 table full of entries that all name cluster 3.
cs, n = 65536, 4 << 20
h = bytearray(cs)
struct.pack_into(">4sIQIIQIIQQIIQQQQII", h, 0, b"QFI\xfb", 3, 0, 0, 16, n * 512 << 20, 0, n, 3 * cs, cs, 1, 0, 0,
                 0, 0, 0, 4, 104)
with open("names.qcow2", "wb") as f:
    f.write(h)
    f.seek(cs)
    f.write(struct.pack(">Q", 2 * cs))
    f.seek(3 * cs)
    l2 = 3 * cs + n * 8
    f.write(struct.pack(">Q", l2 | 1 << 63) * n)
    f.write(struct.pack(">Q", 3 * cs) * (cs // 8))
# Each entry names a cluster of a page of its own, in a file of 2 TiB.
with open("far.qcow2", "wb") as f:
    struct.pack_into(">IQQ", h, 36, 2048, 3 * cs, cs)
    struct.pack_into(">Q", h, 24, 1 << 40)
    f.write(h)
    f.seek(cs)
    f.write(struct.pack(">Q", 2 * cs))
    f.seek(3 * cs)
    f.write(b"".join(struct.pack(">Q", (4 + i) * cs) for i in range(128)))
    for i in range(128):
        f.seek((4 + i) * cs)
        f.write(b"".join(struct.pack(">Q", (200 + (i * 8192 + k) * 31) * cs) for k in range(8192)))
    f.truncate(2 << 40)
# As many tables as there can be, each in a hole.
with open("tables.qcow2", "wb") as f:
    struct.pack_into(">IQQ", h, 36, n, 3 * cs, cs)
    struct.pack_into(">Q", h, 24, n * 512 << 20)
    f.write(h)
    f.seek(cs)
    f.write(struct.pack(">Q", 2 * cs))
    f.seek(3 * cs)
    f.write(b"".join(struct.pack(">Q", (600 + i * 7919 % (n * 2)) * cs) for i in range(n)))
    f.truncate((n * 2 + 1000) * cs)
PY
limit=256
grep -qs '^#define TD_SANITIZE' "$BUILD/config.h" && limit=4096
for f in names.qcow2 far.qcow2 tables.qcow2; do
	python3 - "$limit" tap-img check -q "$f" <<'PY' || fail "$f: $(cat err)"
import resource, subprocess, sys
p = subprocess.run(sys.argv[2:], check=False)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
limit = int(sys.argv[1])
if p.returncode not in (1, 2, 3) or u.ru_maxrss > limit << 10 or (limit == 256 and u.ru_utime + u.ru_stime > 4):
    sys.exit("exit %d, %.1f s, %d KiB" % (p.returncode, u.ru_utime + u.ru_stime, u.ru_maxrss))
PY
done

# More lies than anybody reads are counted, and not listed.
tap-img create -o block_size=4K vhd:lies.vhd 64M
python3 -c 'f = open("lies.vhd", "r+b"); f.seek(1536); f.write(b"\x7f\xff\xff\xff" * 16384)'
expect 2 tap-img check --output=json vhd:lies.vhd
[ "$(grep -c 'outside the file' "$T/err")" = 2000 ] || fail "there are $(wc -l <"$T/err") lines"
grep -q 'counted and not listed' "$T/err" || fail "$(tail -3 "$T/err")"
python3 -c 'import json, sys; sys.exit(json.load(open(sys.argv[1]))["corruptions"] != 16384)' "$T/out" ||
	fail "$(cat "$T/out")"
