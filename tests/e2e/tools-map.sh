#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img map and resize: a map says what qemu-img's says, field by field, of chains of many shapes; a disk of another
# size holds what it held, and zeros behind it.
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

SEED=${TEST_SEED:-1}
CHAINS=${MAP_CHAINS:-12}
CHAINS_PY=$(cd "$srcdir" && pwd)/tests/e2e/chains.py

# same_map ARGS...: both maps, field by field.  7.2 does not know "compressed".  Of an image whose file is much smaller
# than its clusters QEMU looks into the file for holes ("data" and "zero"), of others it does not: we never do.  And it
# says where a subcluster that nobody has written would be.
same_map()
{
	tap-img map --output=json "$@" >"$T/map.ours" || fail "tap-img map $*"
	qemu-img map --output=json "$@" >"$T/map.qemu" || fail "qemu-img map $*"
	python3 - "$T/map.ours" "$T/map.qemu" <<'PY' || fail "map of $* differs"
import json, sys
ours, theirs = (json.load(open(f)) for f in sys.argv[1:])
for e in ours:
    packed = e.pop("compressed")
    if packed and (not e["data"] or "offset" in e):
        sys.exit("compressed, and no data or with an offset: %s" % e)
joined = []
for e in theirs:
    e.pop("compressed", None)
    e["zero"] = e["zero"] and not e["data"]
    last = joined[-1] if joined else None
    if not e["present"]:
        e.pop("offset", None)
    next_to = last and (last["offset"] + last["length"] == e["offset"] if "offset" in e else last["offset"] < 0)
    if next_to and all(last[k] == e[k] for k in ("zero", "data", "present", "depth")):
        last["length"] += e["length"]
    else:
        joined.append(dict({"offset": -1 << 60}, **e) if "offset" not in e else e)
for e in joined:
    if e["offset"] < 0:
        del e["offset"]
theirs = joined
for o, t in zip(ours + [None] * len(theirs), theirs + [None] * len(ours)):
    if o != t:
        print("ours  ", o, "\nqemu's", t, file=sys.stderr)
        sys.exit(1)
PY
}

cd "$T" || exit
say "seed $SEED, $CHAINS chains"
for i in $(seq "$CHAINS"); do
	mkdir chain
	python3 "$CHAINS_PY" $((SEED * 1000 + i)) chain >layers || fail "chains.py $((SEED * 1000 + i))"
	read -r format file < <(tail -n 1 layers)
	same_map -f "$format" "chain/$file"
	[ $((i % 4)) != 0 ] || same_map -f "$format" -s 300K -l 100K "chain/$file"
	tap-img map -f "$format" "chain/$file" >human
	grep -q '^Offset  *Length  *Mapped to  *File$' human || fail "map for people: $(cat human)"
	rm -r chain
done

# ---- map: what is there besides ----
qemu-img create -q -f raw base 1M
qemu-io -f raw -c 'write -q -P 1 64k 64k' base
qemu-img create -q -f qcow2 -b base -F raw top.qcow2
tap-img map -l 0 --json top.qcow2 | grep -qxF '[]' || fail "a map of nothing"
tap-img map -s 2M --json qcow2:top.qcow2 | grep -qxF '[]' || fail "a map of what is behind the end"
tap-img map --json "fault/qcow2:$T/top.qcow2" >filtered
tap-img map --json top.qcow2 | cmp - filtered || fail "a filter changes the map"
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/top.qcow2"
expect_fail 'top.qcow2.*(open|in use)' tap-img map top.qcow2
tap-img map -U top.qcow2 >/dev/null
stop_tapdisk
expect_fail 'missing' tap-img map missing

# ---- map: of what is broken, an error and an end ----
qemu-img create -q -f qcow2 -o cluster_size=4K bad.qcow2 8M
qemu-io -c 'write -q 0 1M' bad.qcow2
cp bad.qcow2 good.qcow2
python3 - bad.qcow2 <<'PY'
import struct, sys
f = open(sys.argv[1], "r+b")
f.seek(40)
l1 = struct.unpack(">Q", f.read(8))[0]
f.seek(l1)
l2 = struct.unpack(">Q", f.read(8))[0] & 0x00fffffffffffe00
f.seek(l2 + 8 * 5)
f.write(struct.pack(">Q", 1 << 63 | 0x7f000000000000))  # far behind the end
PY
expect_fail 'cannot tell what is at 20480' timeout 100 tap-img map --json bad.qcow2
truncate -s 70000 good.qcow2
timeout 100 tap-img map --json good.qcow2 >/dev/null 2>&1 || true # an error or not, but an end

# ---- resize ----
size_of() { qemu-img info --output=json "$1" | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p'; }

# resized FORMAT FILE ARGS... WANT: the disk has that size, holds what it held, and zeros behind.
resized()
{
	local format=$1 file=$2 want=${*: -1} old
	shift 2
	set -- "${@:1:$#-1}"
	old=$(size_of "$file")
	qemu-img convert -f "$format" -O raw "$file" before
	truncate -s "$want" before
	tap-img resize -f "$format" "$file" "$@" >out || fail "resize $file $*"
	grep -qx 'Image resized.' out || fail "resize says: $(cat out)"
	[ "$(size_of "$file")" = "$want" ] || fail "resize $file $* from $old: $(size_of "$file"), not $want"
	qemu-img compare -q -f "$format" -F raw "$file" before || fail "resize $file $*: what it holds has changed"
	[ "$format" = raw ] || qemu-img check -q "$file" || fail "resize $file $*: qemu-img check"
}

qemu-img create -q -f raw r.img 1M
qemu-io -f raw -c 'write -q -P 5 0 1M' r.img
resized raw r.img 3M $((3 << 20))
resized raw r.img +1M $((4 << 20))
resized raw r.img +100 $(((4 << 20) + 512))
expect_fail 'would be lost.*--shrink' tap-img resize -f raw r.img 2M
resized raw r.img --shrink 2M $((2 << 20))
resized raw r.img --shrink -512K $((3 << 19))
resized raw r.img --shrink +0 $((3 << 19))
qemu-img create -q -f qcow2 -o cluster_size=512 q.qcow2 1M
qemu-io -c 'write -q -P 6 0 1M' q.qcow2
resized qcow2 q.qcow2 500M $((500 << 20))
resized qcow2 q.qcow2 +100K $(((500 << 20) + 102400))
expect_fail 'would be lost' tap-img resize qcow2:q.qcow2 -1M
resized qcow2 q.qcow2 --shrink -100K $((500 << 20))
resized qcow2 q.qcow2 --shrink 300K $((300 << 10))
resized qcow2 q.qcow2 1M $((1 << 20)) # what was cut off does not come back
# What a longer backing file has must not come up behind the old end.
qemu-img create -q -f raw long 4M
qemu-io -f raw -c 'write -q -P 7 0 4M' long
for compat in 1.1 0.10; do
	qemu-img create -q -f qcow2 -o compat=$compat -b long -F raw short.qcow2 1000K
	resized qcow2 short.qcow2 4M $((4 << 20))
	resized qcow2 short.qcow2 +1M $((5 << 20))
	resized qcow2 short.qcow2 --shrink 600K $((600 << 10))
	resized qcow2 short.qcow2 4M $((4 << 20))
	rm short.qcow2
done
# What cannot be resized says what to do instead.
tap-img create vmdk:v.vmdk 2M
before=$(sha256sum v.vmdk)
expect_fail 'format vmdk cannot.* 3145728 bytes \(tap-img create\).*convert -n' tap-img resize vmdk:v.vmdk +1M
expect_fail 'format vmdk cannot.*tap-img dd with count=' tap-img resize --shrink "throttle/vmdk:$T/v.vmdk" 1M
tap-img resize -q vmdk:v.vmdk 2M # it is so already
[ "$(sha256sum v.vmdk)" = "$before" ] || fail "a refused resize changed something"
tap-img create vmdk:w.vmdk 3145728
tap-img convert -n -f vmdk v.vmdk vmdk:w.vmdk
tap-img resize --json qcow2:q.qcow2 600M | python3 -c '
import json, sys
o = json.load(sys.stdin)
sys.exit(o != {"filename": "q.qcow2", "virtual-size": 600 << 20, "old-virtual-size": 1 << 20})' ||
	fail "resize --json"
[ -z "$(tap-img resize -q qcow2:q.qcow2 +1K)" ] || fail "resize -q prints"

expect_fail 'say the format' tap-img resize q.qcow2 +1M
expect_fail 'not a size' tap-img resize qcow2:q.qcow2 +-1M
expect_fail 'not a size' tap-img resize qcow2:q.qcow2 1X
expect_fail 'has only' tap-img resize --shrink qcow2:q.qcow2 -1T
expect_fail '0 bytes' tap-img resize --shrink qcow2:q.qcow2 0
expect_fail 'larger|too large' tap-img resize qcow2:q.qcow2 7E
expect_fail 'missing' tap-img resize raw:missing 1M
before=$(sha256sum <q.qcow2)
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/q.qcow2"
expect_fail 'q.qcow2.*open' tap-img resize qcow2:q.qcow2 +1M
stop_tapdisk
[ "$(sha256sum <q.qcow2)" = "$before" ] || fail "a refused resize changed the file"
