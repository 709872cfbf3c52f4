#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Hyper-V's format, which we only read: images made and written by QEMU at random places, from INTEROP_SEED, are the
# same disk for us; so is one whose log QEMU could not carry out, and one with a longer log, as QEMU replays it;
# differencing disks, which QEMU does not know, are what the specification says, and libyal's vhdimount.
# shellcheck disable=SC2154,SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/interop-lib.sh"
require qemu-img qemu-io python3

seed=${INTEROP_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
runs=${INTEROP_RUNS:-1}
say "INTEROP_SEED=$seed INTEROP_RUNS=$runs"
RANDOM=$seed
lib=$(cd "$srcdir" && pwd)/tests/e2e
export PYTHONPATH=$lib
cd "$T" || exit

# equal IMAGE: to model.raw, and our check finds nothing.
equal()
{
	tap-img compare -q model.raw "vhdx:$1" || fail "$1: tap-img compare"
	tap-img check -q "vhdx:$1" || fail "$1: tap-img check"
}

# theirs OPTIONS MIB
theirs()
{
	local bytes=$(($2 << 20))
	rm -f a.vhdx model.raw
	truncate -s "$bytes" model.raw
	qemu-img create -q -f vhdx -o "$1" a.vhdx "$bytes"
	# QEMU 7.2 shifts a sector of the BAT when its first entry changes; no harm while there is nothing else in it.
	OPS=(-c "write -P 1 0 512")
	random_writes 20 "$bytes"
	qemu-io -f vhdx "${OPS[@]}" a.vhdx >io.out || fail "qemu-io: $(tail -3 io.out)"
	qemu-io -f raw "${OPS[@]}" model.raw >/dev/null
	qemu-img compare -q -f raw -F vhdx model.raw a.vhdx || fail "QEMU's own image is not what it wrote"
	equal a.vhdx
}

for ((run = 0; run < runs; run++)); do
	theirs subformat=dynamic,block_size=1M $((RANDOM % 200 + 5))
	theirs subformat=dynamic,log_size=2M $((RANDOM % 200 + 5))
	theirs subformat=fixed,block_size=2M $((RANDOM % 20 + 5))
done

# ---- what it is, and what it is good for ----

theirs subformat=dynamic,block_size=1M 20
before=$(sha256sum <a.vhdx)
tap-img info auto:a.vhdx >info.out
for line in 'file format: vhdx' 'subformat: dynamic' 'block size: 1048576' 'log entries replayed: 0'; do
	grep -q "$line" info.out || fail "$(cat info.out)"
done
tap-img convert -O qcow2 vhdx:a.vhdx c.qcow2
qemu-img compare -q -f raw -F qcow2 model.raw c.qcow2 || fail "convert"
tap-img create -b a.vhdx -F vhdx qcow2:over.qcow2 20M >/dev/null
tap-img compare -q model.raw qcow2:over.qcow2 || fail "as a backing file"
map_is_true vhdx:a.vhdx model.raw
expect_fail 'can only be read.*tap-img convert' tapdisk -f --nbd "unix:$T/s" vhdx:a.vhdx
expect_fail 'can only be read' tap-img check --repair vhdx:a.vhdx
expect_fail 'vhdx' tap-img create vhdx:new.vhdx 1M
[ ! -e new.vhdx ] || fail "create left a file"
[ "$before" = "$(sha256sum <a.vhdx)" ] || fail "it was changed"

# ---- a log ----

# replays IMAGE ENTRIES: as a copy is that QEMU has replayed; nothing is written.
replays()
{
	local before
	before=$(sha256sum <"$1")
	cp "$1" done.vhdx
	qemu-img check -q -r all -f vhdx done.vhdx >check.out 2>&1 || fail "qemu-img check: $(cat check.out)"
	rm -f model.raw
	qemu-img convert -f vhdx -O raw done.vhdx model.raw
	tap-img info "vhdx:$1" | grep -q "log entries replayed: $2" || fail "$(tap-img info "vhdx:$1")"
	equal "$1"
	[ "$before" = "$(sha256sum <"$1")" ] || fail "$1: the replay was written"
}
# QEMU writes its log and fails where the BAT is (at 2 MiB): one entry that it did not carry out.
qemu-img create -q -f vhdx -o block_size=1M a.vhdx 20M
qemu-io -f vhdx -c 'write -P 1 0 64k' -c 'write -P 2 5M 64k' a.vhdx >/dev/null
qemu-io -c 'write -P 77 19M 512' 'json:{"driver": "vhdx", "file": {"driver": "blkdebug", "image":
	{"driver": "file", "filename": "a.vhdx"}, "inject-error": [{"event": "none", "iotype": "write",
	"sector": 4096, "errno": 5}]}}' >io.out 2>&1 || true
grep -q 'write failed' io.out || fail "QEMU did not fail: $(cat io.out)"
replays a.vhdx 1
cmp -n 512 -i $((19 << 20)):0 model.raw <(head -c 512 /dev/zero | tr '\0' '\115') || fail "not what was written"
# Four entries: the BAT, zeros over a block, sectors of another; of the fourth, the BAT again, there is a torn one.
# In the ring from its start, and around its end: there QEMU 7.2 replays what stands at the ring's start alone, whatever
# the last entry says.
python3 - <<'PY'
from vhdxlib import *
def image():
    im = Image(8 * MIB)
    a, b, c = (im.add(bytes([n]) * MIB) for n in (1, 2, 3))
    im.put(5, PRESENT, b"\5" * MIB)
    return im, a, b, c
im, a, b, c = image()
g = guid("99999999-0000-0000-0000-000000000009")
one, two, three = ({0: a | PRESENT}, {0: a | PRESENT, 1: b | PRESENT}, {0: a | PRESENT, 1: b | PRESENT, 2: c | PRESENT})
for name, start in (("", 0), ("around-", MIB - 3 * SECTOR)):
    im.ring = bytearray(MIB)
    im.log(g, [(70, [(BAT, im.bat_sector(one))]), (71, [(BAT, im.bat_sector(two)), (a + 8192, 65536)]),
               (72, [(b, b"\x42" * 4096), (b + 4096, b"\x43" * 4096)]), (73, [(BAT, im.bat_sector(three))])],
           start=start)
    im.save(name + "all.vhdx")
    im.ring[(start + 8 * SECTOR + 100) % MIB] ^= 1
    im.save(name + "torn.vhdx")
im.save("cut.vhdx", length=im.length() - 4096)
im.ring = bytearray(MIB)
im.save("empty.vhdx")
PY
replays all.vhdx 4
equal around-all.vhdx
replays torn.vhdx 3
equal around-torn.vhdx
cmp -n 1 -i $((1 << 20)):0 model.raw <(printf '\102') || fail "the third entry"
python3 - <<'PY' || fail "not what the log says"
d = open("model.raw", "rb").read()
M = 1 << 20
assert d[:8192] == b"\1" * 8192 and not any(d[8192:73728]) and d[73728:M] == b"\1" * (M - 73728)
assert d[M:2 * M] == b"\x42" * 4096 + b"\x43" * 4096 + b"\2" * (M - 8192)
assert not any(d[2 * M:5 * M]) and d[5 * M:6 * M] == b"\5" * M and not any(d[6 * M:])
PY
tap-img info vhdx:empty.vhdx | grep -q 'log entries replayed: 0' || fail "a log of nothing"
expect_fail 'vhdx cut.vhdx: .*it was cut off' tap-img info vhdx:cut.vhdx

# ---- differencing ----

mkdir diff elsewhere
python3 - <<'PY'
from vhdxlib import *
base = Image(8 * MIB, data_guid=guid("22222222-0000-0000-0000-000000000002"))
for n in range(6):
    base.put(n, PRESENT, bytes([n + 1]) * MIB)
base.save("diff/base.vhdx")
def child(name="diff/child.vhdx", zero=True, **more):
    im = Image(8 * MIB, parent={"parent_linkage": "{22222222-0000-0000-0000-000000000002}", **more})
    im.put(1, PRESENT, b"\x11" * MIB)
    if zero:
        im.put(2, ZERO)
    im.put(3, PARTLY, [b"\x33" * 512 if 100 <= i < 1999 or i % 2047 == 0 else None for i in range(2048)])
    im.put(7, PARTLY, [b"\x77" * 512 if i == 5 else None for i in range(2048)])
    im.save(name)
child(relative_path=".\\base.vhdx", absolute_win32_path="C:\\nowhere\\base.vhdx")
child("diff/moved.vhdx", relative_path="..\\gone\\base.vhdx", absolute_win32_path="C:\\gone\\base.vhdx")
child("diff/outside.vhdx", relative_path="..\\elsewhere\\base.vhdx")
child("diff/missing.vhdx", relative_path=".\\nothing.vhdx")
child("diff/unnamed.vhdx")
child("diff/yal.vhdx", zero=False, relative_path=".\\base.vhdx", absolute_win32_path="C:\\nowhere\\base.vhdx")
im = Image(8 * MIB, parent={"parent_linkage": "{33333333-0000-0000-0000-000000000003}", "relative_path": "base.vhdx"})
im.save("diff/other.vhdx")
im = Image(8 * MIB)
im.put(0, PARTLY, [b"\1" * 512] * 2048)
im.save("diff/partly.vhdx")
want = bytearray(b"".join(bytes([n + 1]) * MIB for n in range(6)) + bytes(2 * MIB))
want[MIB:2 * MIB] = b"\x11" * MIB
want[2 * MIB:3 * MIB] = bytes(MIB)
for i in range(2048):
    if 100 <= i < 1999 or i % 2047 == 0:
        want[3 * MIB + 512 * i:3 * MIB + 512 * i + 512] = b"\x33" * 512
want[7 * MIB + 5 * 512:7 * MIB + 6 * 512] = b"\x77" * 512
open("model.raw", "wb").write(want)
want[2 * MIB:3 * MIB] = b"\3" * MIB
open("yal.raw", "wb").write(want)
PY
cp diff/base.vhdx elsewhere/base.vhdx
equal diff/child.vhdx
equal diff/moved.vhdx
tap-img info --backing-chain vhdx:diff/child.vhdx | grep -q 'subformat: differencing' || fail "info of a chain"
expect_fail 'no allowed directory' tap-img compare -q model.raw vhdx:diff/outside.vhdx
expect_fail 'nothing.vhdx: .*No such file' tap-img compare -q model.raw vhdx:diff/missing.vhdx
expect_fail 'no name of its parent' tap-img compare -q model.raw vhdx:diff/unnamed.vhdx
expect_fail '33333333-0000.* 22222222-0000' tap-img compare -q model.raw vhdx:diff/other.vhdx
status=0
tap-img check vhdx:diff/partly.vhdx >check.out 2>&1 || status=$?
[ "$status" = 2 ] || fail "a block that is partly there, without a parent: $status: $(cat check.out)"
# libyal (20210425) takes a block that says zeros for the parent's: it gets an image without one.
tap-img compare -q yal.raw vhdx:diff/yal.vhdx || fail "diff/yal.vhdx"
if command -v vhdimount >/dev/null && [ -w /dev/fuse ]; then
	mkdir yal
	if (cd diff && vhdimount yal.vhdx ../yal) >yal.out 2>&1; then
		cmp yal.raw "$(find yal -name 'vhdi*' | sort | tail -1)" || fail "libyal reads something else"
		fusermount -u yal 2>/dev/null || fusermount3 -u yal
		say "libyal reads the same from a differencing disk"
	else
		say "vhdimount: $(tail -1 yal.out)"
	fi
fi

# ---- what lies ----

python3 - <<'PY'
import os
from vhdxlib import *
os.mkdir("bad")
def whole():
    im = Image(64 * MIB)
    for n in (0, 3, 9):
        im.put(n, PRESENT, bytes([n + 1]) * MIB)
    return im
def bad(name, *patches, length=None, items=(), bat=()):
    im = whole()
    im.items.update(items)
    im.bat.update(bat)
    im.save("bad/" + name, *patches, length=length)
one = bytes([1]) * 16
for n in (0, 7, 65536, 131072, 192 << 10, 320 << 10, MIB, 2 * MIB, 3 * MIB, 3 * MIB + 65536):
    bad(f"refused-cut-{n}", length=n)
bad("refused-headers", (65536, b"x"), (131072, b"x"))
bad("refused-version", (131072, header(3, one, version=2)))
bad("refused-log-far", (131072, header(3, one, one, log_off=1 << 50)))
bad("refused-log-large", (131072, header(3, one, one, log_len=1 << 31)))
bad("refused-log-over-bat", (131072, header(3, one, one, log_off=BAT)))
bad("refused-regions", (192 << 10, b"x"), (256 << 10, b"x"))
bad("refused-bat-far", (192 << 10, regions(((1 << 60, MIB), (META, MIB)))))
bad("refused-bat-huge", (192 << 10, regions(((BAT, 0xfff00000), (META, MIB)))))
bad("refused-region-unknown", (192 << 10, regions(more=struct.pack("<16sQII", one, 0, 0, 1))))
bad("refused-metadata", (META, b"x"))
bad("refused-block-size", items={"file": struct.pack("<II", 3 << 20, 0)})
bad("refused-size", items={"size": struct.pack("<Q", (64 << 40) + 512)})
bad("refused-size-beyond-bat", items={"size": struct.pack("<Q", 32 << 40)})
bad("refused-sector", items={"logical": struct.pack("<I", 520)})
bad("refused-parent-no-locator", items={"file": struct.pack("<II", MIB, 2)})
bad("refused-parent-locator", items={"file": struct.pack("<II", MIB, 2), "locator": b"\xff" * 60})
bad("found-far", bat={0: 1 << 61 | PRESENT})
bad("found-over-bat", bat={0: BAT | PRESENT})
bad("found-over-metadata", bat={0: META | PRESENT})
bad("found-over-headers", bat={0: PRESENT})
bad("found-behind-end", bat={0: whole().length() | PRESENT})
bad("found-twice", bat={0: BLOCKS + MIB | PRESENT})
bad("found-state", bat={0: BLOCKS | 5})
# 64 TiB of disk; a log of many changes, and of more; one of 64 MiB full of entries that are none.
im = Image(64 << 40, block=256 * MIB)
im.save("bad/served-64T", (192 << 10, regions(((16 * MIB, 3 * MIB), (META, MIB)))), length=19 * MIB)
im = whole()
g = guid("99999999-0000-0000-0000-000000000009")
ring = log_entry(5, 0, g, [(BAT, 4096)] * 16000 + [(BAT, im.bat_sector())], im.length())
im.save("bad/served-changes", (131072, header(3, one, g)), (LOG, ring))
im.save("bad/refused-changes", (131072, header(3, one, g)), (LOG, log_entry(5, 0, g, [(BAT, 4096)] * 16385, MIB)))
im.save("bad/served-log-loge", (131072, header(3, one, g, log_len=64 * MIB, log_off=16 * MIB)),
        *[(at, struct.pack("<4sIIIQII16s", b"loge", 0, 64 * MIB, 0, 1, 1, 0, g))
          for at in range(16 * MIB, 80 * MIB, 4096)], length=80 * MIB)
PY
limit=262144 # KiB; sanitizers take memory of their own
grep -qs '^#define TD_SANITIZE' "$BUILD/config.h" && limit=4194304
python3 - "$limit" <<'PY' || fail "an image that lies"
import glob, os, subprocess, sys
for image in sorted(glob.glob("bad/*")):
    with open("said", "w+") as said:
        p = subprocess.Popen(["tap-img", "check", "vhdx:" + image], stdout=subprocess.DEVNULL, stderr=said)
        _, status, u = os.wait4(p.pid, 0)
        p.returncode = 0  # it was waited for
        said.seek(0)
        text = said.read()
    want = {"refused": 1, "found": 2, "served": 0}[os.path.basename(image).split("-")[0]]
    took = u.ru_utime + u.ru_stime
    assert os.waitstatus_to_exitcode(status) == want, (image, status, text)
    assert took < 4 and u.ru_maxrss < int(sys.argv[1]), (image, took, u.ru_maxrss)
    assert want != 1 or (text.count("\n") == 1 and "vhdx " + image in text), (image, text)
PY
# An entry that lies is an error where it is, never zeros, and nowhere else.
for image in bad/found-far bad/found-behind-end bad/found-state bad/found-over-bat; do
	start_tapdisk -R --nbd "unix:$T/s" "vhdx:$image"
	qemu-io -r -f raw -c 'read 0 4k' -c 'read -P 4 3M 1M' -c 'read -P 0 4M 1M' "nbd+unix:///?socket=$T/s" \
		>io.out 2>&1 || true
	stop_tapdisk
	[ "$(grep -c -i 'read failed' io.out)" = 1 ] || fail "$image: $(cat io.out)"
	if grep -q -i 'pattern verification failed' io.out; then fail "$image: $(cat io.out)"; fi
done
say "ok"
