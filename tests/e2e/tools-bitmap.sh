#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Dirty bitmaps: tap-img bitmap and the NBD contexts, with QEMU as the other side.  Bitmaps of either program are
# listed, kept while the other one writes, and asked by the other one; after a kill both call them inconsistent.
. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io qemu-nbd nbdinfo python3

lib=$(cd "$srcdir/tests/e2e" && pwd)
cd "$T"
uri="nbd+unix:///?socket=$T/s"
theirs="nbd+unix:///?socket=$T/q"

# flags IMAGE NAME: as both programs list them, "auto,in-use" or "".
flags()
{
	local program
	for program in "tap-img info" "qemu-img info -U"; do
		$program --output=json -f qcow2 "$1" >info
		python3 - "$2" info >"flags.${program%% *}" <<'PY'
import json, sys
for b in json.load(open(sys.argv[2]))["format-specific"]["data"].get("bitmaps", []):
    if b["name"] == sys.argv[1]:
        print(b["granularity"], ",".join(sorted(b["flags"])))
PY
	done
	same flags.tap-img flags.qemu-img
	cat flags.tap-img
}

has() { [ "$(flags "$1" "$2")" = "$3" ] || fail "$1: bitmap $2 is '$(flags "$1" "$2")', not '$3'"; }

sound()
{
	qemu-img check -q "$1" || fail "qemu-img check $1"
	tap-img check -q -f qcow2 "$1" || fail "tap-img check $1"
}

# dirty URI NAME: what is dirty, "offset+length ..." without what is only cut up.
dirty()
{
	nbdinfo --map="qemu:dirty-bitmap:$2" "$1" | awk '
		$3 == 1 && $1 == end { len += $2; end += $2; next }
		$3 == 1 {
			if (len) { printf "%s%d+%d", sep, start, len; sep = " " }
			start = $1; len = $2; end = $1 + $2
		}
		END { if (len) printf "%s%d+%d", sep, start, len; print "" }'
}

serve() { start_tapdisk --nbd "unix:$T/s" "$@"; }

# of_qemu IMAGE NAME: what QEMU reads from the image.  It exports enabled bitmaps of disks alone that may be written.
of_qemu()
{
	local pid
	rm -f q pid
	qemu-nbd -t -f qcow2 -B "$2" -k "$T/q" --pid-file="$T/pid" "$1" >qemu-nbd.out 2>&1 &
	pid=$!
	also_kill "$pid"
	wait_for 10 test -s pid
	dirty "$theirs" "$2"
	kill -TERM "$pid"
	wait "$pid" || true
	forget_pid "$pid"
}

# of_ours IMAGE NAME: what we read.
of_ours()
{
	serve -R "qcow2:$1"
	nbdinfo --list "$uri" | grep -q "qemu:dirty-bitmap:$2" || fail "bitmap $2 of $1 is not exported"
	dirty "$uri" "$2"
	stop_tapdisk
}

agree()
{
	local ours
	ours=$(of_ours "$1" "$2")
	[ "$ours" = "$3" ] || fail "$1: of bitmap $2 we say '$ours', not '$3'"
	ours=$(of_qemu "$1" "$2")
	[ "$ours" = "$3" ] || fail "$1: of bitmap $2 QEMU says '$ours', not '$3'"
}

# ---- ours, made and kept; QEMU reads ----

K=1024
M=$((K * K))
tap-img create qcow2:a.qcow2 256M >/dev/null
tap-img bitmap --add qcow2:a.qcow2 b0
tap-img bitmap --add --disable -g 4K -f qcow2 a.qcow2 'a name'
has a.qcow2 b0 "65536 auto"
has a.qcow2 'a name' "4096 "
sound a.qcow2
tap-img bitmap --json --clear qcow2:a.qcow2 b0 | grep -q '"name": *"a name"' || fail "the list after a change"

serve qcow2:a.qcow2
nbdinfo --list "$uri" | grep -q 'qemu:dirty-bitmap:a name' || fail "the contexts are not listed"
[ -z "$(dirty "$uri" b0)" ] || fail "an empty bitmap is dirty"
qemu-io -f raw -c "write 1M 100k" -c "write -z 8M 64k" -c "discard 16M 1M" -c "write -f 32M 4k" "$uri" >io
written="$M+131072 $((8 * M))+65536 $((16 * M))+1048576 $((32 * M))+65536"
[ "$(dirty "$uri" b0)" = "$written" ] || fail "while it is written: $(dirty "$uri" b0)"
# Several contexts in one answer.
qemu-img map --output=json --image-opts \
	"driver=nbd,path=$T/s,x-dirty-bitmap=qemu:dirty-bitmap:b0" >map
python3 - map <<'PY' || fail "qemu-img map of the bitmap: $(cat map)"
import json, sys
dirty = [(e["start"], e["length"]) for e in json.load(open(sys.argv[1])) if not e["data"]]
assert dirty[0] == (1 << 20, 131072) and len(dirty) == 4, dirty
PY
# In use: nobody trusts it until it is closed, and the disabled one is as it was.
has a.qcow2 b0 "65536 auto,in-use"
has a.qcow2 'a name' "4096 "
stop_tapdisk
has a.qcow2 b0 "65536 auto"
sound a.qcow2
agree a.qcow2 b0 "$written"
agree a.qcow2 'a name' ""
sound a.qcow2

# Both contexts at once, from one client.
serve qcow2:a.qcow2
python3 - "$T/s" "$lib" <<'PY' || fail "two contexts in one answer"
import struct, sys
sys.path.insert(0, sys.argv[2])
from nbdlib import Conn, META, SET_META, STATUS, STRUCTURED
c = Conn(sys.argv[1])
c.option(STRUCTURED)
c.structured = True
wanted = [b"base:allocation", b"qemu:dirty-bitmap:b0", b"qemu:dirty-bitmap:a name"]
given = [r[1] for r in c.meta(SET_META, queries=wanted + [b"qemu:dirty-bitmap:none"]) if r[0] == META]
assert sorted(g[4:] for g in given) == sorted(wanted), given
of = {struct.unpack(">I", g[:4])[0]: g[4:] for g in given}
c.start(structured=False)
c.send(STATUS, 0, 2 << 20)
_, error, chunks = c.reply()
assert not error and len(chunks) == 3, chunks
answer = {of[struct.unpack(">I", p[:4])[0]]: list(struct.iter_unpack(">II", p[4:])) for _, p in chunks}
M, K = 1 << 20, 1 << 10
assert answer[wanted[0]] == [(M, 3), (128 * K, 0), (M - 128 * K, 3)], answer
assert answer[wanted[1]] == [(M, 0), (128 * K, 1), (M - 128 * K, 0)], answer
assert answer[wanted[2]] == [(2 * M, 0)], answer
c.send(STATUS, 0, 2 << 20, 8) # one extent of each
_, error, chunks = c.reply()
assert [len(p) for _, p in chunks] == [12, 12, 12], chunks
PY
stop_tapdisk

# ---- theirs, made and written; we keep them ----

qemu-img create -q -f qcow2 b.qcow2 100M
qemu-img bitmap --add -g 128k b.qcow2 one
qemu-img bitmap --add b.qcow2 two
qemu-img bitmap --disable b.qcow2 two
qemu-io -c "write 10M 1M" b.qcow2 >io
has b.qcow2 one "131072 auto"
agree b.qcow2 one "$((10 * M))+1048576"
serve qcow2:b.qcow2
qemu-io -f raw -c "write 99M 1M" -c "write 0 1" "$uri" >io
stop_tapdisk
has b.qcow2 two "65536 "
agree b.qcow2 one "0+131072 $((10 * M))+1048576 $((99 * M))+1048576"
agree b.qcow2 two ""
sound b.qcow2

# ---- enable, merge, clear, remove ----

tap-img bitmap --enable qcow2:b.qcow2 two
qemu-io -c "write 50M 64k" b.qcow2 >io
agree b.qcow2 two "$((50 * M))+65536"
tap-img bitmap --disable --merge one qcow2:b.qcow2 two
has b.qcow2 two "65536 "
all="0+131072 $((10 * M))+1048576 $((50 * M))+131072 $((99 * M))+1048576"
agree b.qcow2 two "$all"
tap-img create qcow2:c.qcow2 100M >/dev/null
tap-img bitmap --add -g 32K --merge two -b b.qcow2 -F qcow2 qcow2:c.qcow2 copy
agree c.qcow2 copy "$all"
tap-img bitmap --clear qcow2:b.qcow2 two
agree b.qcow2 two ""
tap-img bitmap --remove qcow2:b.qcow2 two
[ -z "$(flags b.qcow2 two)" ] || fail "a bitmap that was removed is there"
tap-img bitmap --remove qcow2:b.qcow2 one
sound b.qcow2
qemu-img bitmap --add b.qcow2 again
has b.qcow2 again "65536 auto"
sound b.qcow2

expect_fail 'no bitmap' tap-img bitmap --clear qcow2:b.qcow2 one
expect_fail 'already' tap-img bitmap --add qcow2:b.qcow2 again
expect_fail 'power of two' tap-img bitmap --add -g 5000 qcow2:b.qcow2 odd
expect_fail 'power of two' tap-img bitmap --add -g 256 qcow2:b.qcow2 fine
expect_fail 'say what to do' tap-img bitmap qcow2:b.qcow2 again
expect_fail 'wants --add' tap-img bitmap --clear -g 4K qcow2:b.qcow2 again
expect_fail 'another size' tap-img bitmap --merge b0 -b qcow2:a.qcow2 qcow2:b.qcow2 again
expect_fail 'no bitmaps' tap-img bitmap --add raw:b.qcow2 x
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M
expect_fail 'version 3' tap-img bitmap --add qcow2:old.qcow2 x

# ---- a kill ----

tap-img bitmap --add --disable qcow2:a.qcow2 still
serve qcow2:a.qcow2
qemu-io -f raw -c "write 64M 4k" -c flush "$uri" >io
kill_tapdisk
serve qcow2:a.qcow2 # adopts what the other one left
[ "$(nbdinfo --list "$uri" | grep -c 'dirty-bitmap:b0')" = 0 ] || fail "an inconsistent bitmap is exported"
stop_tapdisk
has a.qcow2 b0 "65536 auto,in-use"
has a.qcow2 still "65536 "
expect_fail 'inconsistent' tap-img bitmap --clear qcow2:a.qcow2 b0
expect_fail 'nconsistent' qemu-img bitmap --clear a.qcow2 b0
sound a.qcow2
tap-img bitmap --remove qcow2:a.qcow2 b0
sound a.qcow2

qemu-img bitmap --add a.qcow2 theirs
qemu-nbd -t -f qcow2 -k "$T/q" --pid-file="$T/pid2" a.qcow2 &
pid=$!
also_kill "$pid"
wait_for 10 test -s pid2
qemu-io -f raw -c "write 0 4k" -c flush "$theirs" >io
kill -KILL "$pid"
wait "$pid" 2>/dev/null || true
has a.qcow2 theirs "65536 auto,in-use"
expect_fail 'inconsistent' tap-img bitmap --merge still qcow2:a.qcow2 theirs

# ---- another size ----

tap-img bitmap --remove qcow2:a.qcow2 theirs
tap-img bitmap --remove qcow2:a.qcow2 still # QEMU has marked it, though it is disabled
tap-img bitmap --add --disable --enable --disable qcow2:a.qcow2 still
tap-img bitmap --add -g 64K qcow2:a.qcow2 grow
tap-img resize -q qcow2:a.qcow2 300M
has a.qcow2 grow "65536 auto"
agree a.qcow2 grow "$((256 * M))+$((44 * M))"
agree a.qcow2 still ""
tap-img resize -q --shrink qcow2:a.qcow2 257M
agree a.qcow2 grow "$((256 * M))+$M"
sound a.qcow2

# ---- back to a snapshot: all of the disk may be another ----

tap-img bitmap --add qcow2:a.qcow2 back
tap-img snapshot -c before qcow2:a.qcow2
agree a.qcow2 back ""
tap-img resize -q qcow2:a.qcow2 300M
tap-img bitmap --clear qcow2:a.qcow2 back
tap-img snapshot -a before qcow2:a.qcow2
has a.qcow2 back "65536 auto"
agree a.qcow2 back "0+$((257 * M))"
sound a.qcow2

# ---- who does not know them ----

python3 - a.qcow2 <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(95)
    f.write(b"\0") # the bit that says they are right
PY
[ -z "$(flags a.qcow2 grow)" ] || fail "bitmaps that are not vouched for are listed"
tap-img bitmap --add qcow2:a.qcow2 new
[ -z "$(flags a.qcow2 grow)" ] || fail "bitmaps that are not vouched for came back"
has a.qcow2 new "65536 auto"
tap-img check -q --repair=leaks qcow2:a.qcow2 # QEMU 7.2 would drop the snapshot, too
sound a.qcow2
# ---- directories that lie ----

# lying NR EXTRA: so many enabled bitmaps, all with the same table and bits, the last with so many bytes of extra data.
lying()
{
	rm -f lie.qcow2
	tap-img create -o cluster_size=4K qcow2:lie.qcow2 4M >/dev/null
	python3 - lie.qcow2 "$1" "$2" <<'PY'
import struct, sys
nr, extra = int(sys.argv[2]), int(sys.argv[3])
K4 = 4096
with open(sys.argv[1], "r+b") as f:
    end = -(-f.seek(0, 2) // K4) * K4
    f.seek(end)
    f.write(struct.pack(">Q", end + K4).ljust(K4, b"\0") + b"\x55" * 1024 + bytes(K4 - 1024)) # table, bits
    directory = b"".join(
        struct.pack(">QIIBBHI", end, 1, 6, 1, 9, 8, extra if i == nr - 1 else 0)
        + bytes(extra if i == nr - 1 else 0) + b"%08d" % i for i in range(nr))
    f.write(directory)
    clusters = -(-f.tell() // K4)
    f.truncate(clusters * K4)
    # The counts of all of them, as far as the one block reaches.
    f.seek(48)
    f.seek(struct.unpack(">Q", f.read(8))[0])
    f.seek(struct.unpack(">Q", f.read(8))[0])
    f.write(b"\0\1" * min(clusters, 2048))
    f.seek(88)
    f.write(struct.pack(">Q", 1))
    f.seek(112)
    f.write(struct.pack(">III4xQQQ", 0x23852875, 24, nr, len(directory), end + 2 * K4, 0))
PY
}

# within COMMAND...: 4 s of processor time (2, where two threads share a core) and 256 MiB at most.
limit=256
grep -qs '^#define TD_SANITIZE' "$BUILD/config.h" && limit=4096
within()
{
	python3 - "$limit" "$@" <<'PY'
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:], stdout=subprocess.DEVNULL)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
if u.ru_utime + u.ru_stime > 4 or u.ru_maxrss > int(sys.argv[1]) << 10:
    print("takes %.1f s, %d KiB" % (u.ru_utime + u.ru_stime, u.ru_maxrss), file=sys.stderr)
    sys.exit(99)
sys.exit(98 if status < 0 else 0)
PY
}

for lie in "4096 0" "65535 0" "1 $((60 << 20))"; do
	# shellcheck disable=SC2086
	lying $lie
	within tap-img info -f qcow2 lie.qcow2 || fail "info of $lie"
	within tap-img bench -w -c 1 qcow2:lie.qcow2 2>err || fail "a write with $lie: $(cat err)"
	within tap-img bitmap --add qcow2:lie.qcow2 one-more 2>err || fail "add to $lie: $(cat err)"
	within tap-img check -f qcow2 lie.qcow2 2>err || fail "check of $lie: $(tail -1 err)"
done

# ---- convert --bitmaps ----

rm -f ./*.qcow2
tap-img create -f qcow2 a.qcow2 8M
qemu-img bitmap --add a.qcow2 on
qemu-img bitmap --add -g 128k a.qcow2 off
qemu-img bitmap --add a.qcow2 empty
qemu-io -c 'write 1M 1M' -c 'write 8323072 64k' a.qcow2 >/dev/null
qemu-img bitmap --disable a.qcow2 off
qemu-img bitmap --clear a.qcow2 empty
tap-img convert -q -f qcow2 -O qcow2 --bitmaps a.qcow2 ours.qcow2
qemu-img convert -f qcow2 -O qcow2 --bitmaps a.qcow2 theirs.qcow2
sound ours.qcow2
for name in on off empty; do
	has ours.qcow2 "$name" "$(flags theirs.qcow2 "$name")"
done
has ours.qcow2 off '131072 '
# Those that are disabled qemu-nbd does not show: what they have goes into new ones.
for image in ours theirs; do
	for name in on off empty; do
		qemu-img bitmap --add --merge "$name" $image.qcow2 "seen-$name"
		of_qemu $image.qcow2 "seen-$name" >"$image.$name"
	done
done
for name in on off empty; do
	same "ours.$name" "theirs.$name"
done
[ "$(cat ours.on)" = "1048576+1048576 8323072+65536" ] || fail "the copied bitmap has $(cat ours.on)"
tap-img create -f qcow2 n.qcow2 8M
tap-img convert -q -f qcow2 -O qcow2 -n --bitmaps a.qcow2 n.qcow2
sound n.qcow2
has n.qcow2 on "$(flags a.qcow2 on)"
expect_fail 'already' tap-img convert -q -f qcow2 -O qcow2 -n --bitmaps a.qcow2 n.qcow2
tap-img create -f qcow2 large.qcow2 9M
expect_fail 'another size' tap-img convert -q -f qcow2 -O qcow2 -n --bitmaps a.qcow2 large.qcow2
expect_fail 'raw disk has no' tap-img convert -q -f qcow2 -O raw --bitmaps a.qcow2 x.raw
[ ! -e x.raw ] || fail "a convert that failed has left its target"
expect_fail 'has no dirty bitmaps' tap-img convert -q -f qcow2 -O vmdk --bitmaps a.qcow2 x.vmdk
expect_fail 'version 3' tap-img convert -q -f qcow2 -O qcow2 -o compat=v2 --bitmaps a.qcow2 x.qcow2
expect_fail 'one source' tap-img convert -q -f qcow2 -O qcow2 --bitmaps a.qcow2 a.qcow2 x.qcow2
expect_fail 'needs --bitmaps' tap-img convert -q -f qcow2 -O qcow2 --skip-broken-bitmaps a.qcow2 x.qcow2
# Whoever wrote last did not store it.
python3 - <<'PY'
import struct
with open("a.qcow2", "r+b") as f:
    b = f.read()
    at = struct.unpack_from(">I", b, 100)[0]
    while struct.unpack_from(">I", b, at)[0] != 0x23852875:
        at += 8 + (struct.unpack_from(">I", b, at + 4)[0] + 7 & ~7)
    directory = struct.unpack_from(">Q", b, at + 24)[0]
    f.seek(directory + 12)
    f.write(struct.pack(">I", struct.unpack_from(">I", b, directory + 12)[0] | 1))
PY
broken=$(qemu-img info a.qcow2 | grep -c in-use)
[ "$broken" = 1 ] || fail "$broken bitmaps are in use"
expect_fail 'inconsistent.*--skip-broken-bitmaps' tap-img convert -q -f qcow2 -O qcow2 --bitmaps a.qcow2 x.qcow2
tap-img convert -q -f qcow2 -O qcow2 --bitmaps --skip-broken-bitmaps a.qcow2 x.qcow2 2>err
grep -q 'inconsistent and is left out' err || fail "nothing is said of the one that is left out: $(cat err)"
qemu-img convert -f qcow2 -O qcow2 --bitmaps --skip-broken-bitmaps a.qcow2 y.qcow2 2>/dev/null
for name in on off empty; do
	has x.qcow2 "$name" "$(flags y.qcow2 "$name")"
done
sound x.qcow2
say "passed"
