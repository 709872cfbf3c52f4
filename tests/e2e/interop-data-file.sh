#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# qcow2 with an external data file, both directions with QEMU: what we write is clean and equal for qemu-img, what qemu
# writes reads back equal, a raw data file is the disk by itself at any time; facts and maps agree; which files an image
# may name.  INTEROP_SEED.
# shellcheck disable=SC2154,SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io nbdcopy python3

seed=${INTEROP_SEED:-${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}}
say "INTEROP_SEED=$seed"
RANDOM=$seed
cd "$T" || exit

SIZE=4000256 # ends inside a cluster
NBD="nbd+unix:///?socket=$T/s"
serve() { start_tapdisk --nbd "unix:$T/s" "$@"; }

# Random requests in $OPS; what is discarded is written after it.
random_ops()
{
	local i off len at
	OPS=()
	for ((i = 0; i < $1; i++)); do
		len=$((512 << RANDOM % 10))
		off=$(((RANDOM << 15 | RANDOM) % ((SIZE - len) / 512 + 1) * 512))
		at="$off $len"
		case $((RANDOM % 8)) in
		0) OPS+=(-c "write -z $at") ;;
		1) OPS+=(-c "write -z -u $at") ;;
		2) OPS+=(-c "discard $at" -c "write -P $((RANDOM % 255 + 1)) $at") ;;
		*) OPS+=(-c "write -P $((RANDOM % 255 + 1)) $at") ;;
		esac
	done
}

io() { # io ARGUMENT...: requests in $OPS
	qemu-io "$@" "${OPS[@]}" >io.out 2>&1 || fail "qemu-io $* (INTEROP_SEED=$seed): $(tail -3 io.out)"
	if grep -q failed io.out; then fail "qemu-io $* (INTEROP_SEED=$seed): $(grep failed io.out)"; fi
}

ours() { # ours IMAGE COUNT [OPTION]: the same to the disk, served by us, and to the model
	random_ops "$2"
	serve "qcow2${3:+($3)}:$T/$1"
	io -f raw "$NBD"
	stop_tapdisk
	io -f raw model.raw
}

theirs() { # theirs IMAGE COUNT
	random_ops "$2"
	io -d unmap -f qcow2 "$1"
	io -f raw model.raw
}

agree() { # agree IMAGE WHAT: all readers, and both checks
	qemu-img check -q "$1" >out 2>&1 || fail "$2 (INTEROP_SEED=$seed): qemu-img check: $(cat out)"
	tap-img check -q "$1" >out 2>&1 || fail "$2 (INTEROP_SEED=$seed): tap-img check: $(cat out)"
	qemu-img compare -q -f qcow2 -F raw "$1" model.raw || fail "$2 (INTEROP_SEED=$seed): qemu reads something else"
	tap-img compare -q -f qcow2 -F raw "$1" model.raw || fail "$2 (INTEROP_SEED=$seed): we read something else"
}

# ---- written by turns ----

for kind in '' ,data_file_raw=on ,cluster_size=512 ,cluster_size=4K,data_file_raw=on,lazy_refcounts=on \
	,extended_l2=on,cluster_size=16K ,extended_l2=on,data_file_raw=on ,extended_l2=on,preallocation=metadata; do
	for maker in tap-img qemu-img; do
		[[ $maker$kind != qemu-img,cluster* ]] || continue # an image is as good as another
		rm -f x.qcow2 d.raw model.raw
		truncate -s "$SIZE" model.raw
		"$maker" create -f qcow2 -o "data_file=d.raw$kind" x.qcow2 "$SIZE" >/dev/null
		for round in 1 2; do
			what="$maker's data_file$kind, round $round"
			ours x.qcow2 20 "$([ $round = 1 ] || echo l2-cache=4K)"
			agree x.qcow2 "$what, ours"
			# What qemu-img makes, or writes, ends with a whole cluster.
			[[ $kind != *raw* ]] || cmp -n "$SIZE" d.raw model.raw ||
				fail "$what: the data file is not the disk"
			theirs x.qcow2 15
			agree x.qcow2 "$what, qemu's"
		done
		tap-img info --json x.qcow2 >ours.json
		qemu-img info --output=json x.qcow2 >theirs.json
		python3 - <<'PY' || fail "$what: other facts than qemu-img's"
import json
a, b = (json.load(open(n))["format-specific"]["data"] for n in ("ours.json", "theirs.json"))
assert all(a[n] == b[n] for n in ("data-file", "data-file-raw")), (a, b)
PY
		raw=$([[ $kind == *raw* ]] && echo true || echo false)
		grep -q "\"data-file-raw\": $raw" ours.json || fail "$what: not data_file_raw=$raw"
		tap-img map x.qcow2 | tail -n +2 | sed 's/0x//g;s/^ *//' >ours.map
		qemu-img map x.qcow2 | tail -n +2 | sed 's/0x//g;s/^ *//' >theirs.map
		cmp -s ours.map theirs.map || fail "$what: another map: $(diff ours.map theirs.map | head -5)"
	done
done

# ---- larger and smaller; a discard of all ----

for kind in '' ,data_file_raw=on ,extended_l2=on ,extended_l2=on,data_file_raw=on; do
	rm -f x.qcow2 d.raw model.raw
	tap-img create -f qcow2 -o "data_file=d.raw$kind" x.qcow2 3M
	qemu-io -f qcow2 -c 'write -P 7 0 3M' x.qcow2 >/dev/null
	tap-img resize -q -f qcow2 --shrink x.qcow2 1000448
	[ "$(stat -c %s d.raw)" = 1000448 ] || fail "resize$kind: the data file has $(stat -c %s d.raw) bytes"
	serve "qcow2:$T/x.qcow2" # zeros in the disk's last cluster, from the middle of it
	qemu-io -f raw -c 'write -z 999936 512' -c 'write -P 7 999936 512' "$NBD" >/dev/null
	stop_tapdisk
	[ "$(stat -c %s d.raw)" = 1000448 ] || fail "zeros$kind: the data file has $(stat -c %s d.raw) bytes"
	tap-img resize -q -f qcow2 x.qcow2 2M
	[ "$(stat -c %s d.raw)" = $((2 << 20)) ] || fail "resize$kind: the data file has $(stat -c %s d.raw) bytes"
	truncate -s 2M model.raw
	qemu-io -f raw -c 'write -P 7 0 1000448' model.raw >/dev/null
	agree x.qcow2 "resized$kind"
	[[ $kind != *raw* ]] || cmp d.raw model.raw || fail "resized$kind: the data file is not the disk"
	serve "qcow2:$T/x.qcow2"
	qemu-io -f raw -c 'discard 0 1M' -c 'write -z -u 1M 1M' -c flush "$NBD" >/dev/null
	stop_tapdisk
	if [[ $kind == *raw* ]]; then
		tap-img compare -q -f qcow2 -F raw x.qcow2 d.raw || fail "trimmed: the data file is not the disk"
	fi
	[ "$(stat -c %b d.raw)" -lt 128 ] || say "no space was given back here: $(stat -c %b d.raw) blocks"
done

# ---- convert, measure, bitmaps, a backing file, a short data file ----

SIZE=3000320
random_file model.raw "$SIZE" "$seed"
tap-img convert -q -f raw -O qcow2 -o data_file=d1.raw,data_file_raw=on model.raw c.qcow2
agree c.qcow2 "converted"
cmp d1.raw model.raw || fail "converted: the data file is not the disk"
tap-img convert -q -f qcow2 -O raw c.qcow2 back.raw
cmp back.raw model.raw || fail "converted back"
tap-img convert -q -f qcow2 -O qcow2 -o extended_l2=on,data_file=d3.raw,data_file_raw=on c.qcow2 c3.qcow2
agree c3.qcow2 "converted to subclusters"
cmp d3.raw model.raw || fail "converted to subclusters: the data file is not the disk"
tap-img amend -f qcow2 -o lazy_refcounts=on,refcount_bits=1 c3.qcow2
agree c3.qcow2 "amended, with subclusters"
expect_fail 'another file|data file' tap-img snapshot -f qcow2 -c one c3.qcow2
expect_fail 'not empty|exists' tap-img convert -q -f raw -O qcow2 -o data_file=d1.raw model.raw c2.qcow2
expect_fail 'not supported|compress' tap-img convert -q -c -f raw -O qcow2 -o data_file=d2.raw model.raw c2.qcow2
[ ! -e d2.raw ] || fail "a create that failed has left a data file"
# With --force and without locks.
expect_fail 'is what is read' tap-img convert -q --force -U -f raw -O qcow2 -o data_file=model.raw model.raw c2.qcow2
expect_fail 'backing file' tap-img create --force -f qcow2 -b model.raw -F raw -o data_file=model.raw e.qcow2
expect_fail 'image itself' tap-img convert -q -f raw -O qcow2 -o data_file=c2.qcow2 model.raw c2.qcow2
for kind in '' ,data_file_raw=on ,extended_l2=on ,extended_l2=on,data_file_raw=on; do
	tap-img measure -O qcow2 -o "data_file=x$kind" --size 10M >ours.out
	qemu-img measure -O qcow2 -o "data_file=x$kind" --size 10M >theirs.out
	cmp ours.out theirs.out || fail "measure data_file=x$kind"
done
tap-img bitmap -f qcow2 --add c.qcow2 one
ours c.qcow2 5
agree c.qcow2 "with a dirty bitmap"
cmp d1.raw model.raw || fail "with a dirty bitmap: the data file is not the disk"
qemu-img info c.qcow2 | grep -q 'data file raw: true' || fail "the raw flag is gone"
tap-img amend -f qcow2 -o lazy_refcounts=on,refcount_bits=8 c.qcow2
agree c.qcow2 "amended"
qemu-img info c.qcow2 | grep -q 'data file raw: true' || fail "amend: the raw flag is gone"
expect_fail 'data file' tap-img amend -f qcow2 -o compat=0.10,lazy_refcounts=off,refcount_bits=16 c.qcow2
expect_fail 'another file|data file' tap-img snapshot -f qcow2 -c one c.qcow2
expect_fail 'raw' tap-img rebase -f qcow2 -u -b model.raw -F raw c.qcow2
expect_fail 'backing' tap-img create -f qcow2 -b model.raw -F raw -o data_file=e.raw,data_file_raw=on e.qcow2
for kind in '' ,extended_l2=on; do
	rm -f e.qcow2 e.raw
	tap-img create -f qcow2 -b c.qcow2 -F qcow2 -o "data_file=e.raw$kind" e.qcow2
	ours e.qcow2 10
	agree e.qcow2 "over a backing file$kind"
	theirs e.qcow2 10
	agree e.qcow2 "over a backing file$kind, qemu's"
	tap-img commit -q -f qcow2 e.qcow2
	agree e.qcow2 "committed$kind"
	agree c.qcow2 "committed into$kind"
	cmp d1.raw model.raw || fail "committed into$kind: the data file is not the disk"
done
truncate -s 1M d1.raw
truncate -s 1M model.raw
truncate -s "$SIZE" model.raw
agree c.qcow2 "a data file that was cut"

# ---- which file an image may name ----

refused() # refused PATTERN: of n.qcow2
{
	expect_fail "$1" timeout 60 "$BLKTAP_TAPDISK" -f --nbd "unix:$T/r" "qcow2:$T/in/n.qcow2"
	expect_fail "$1" timeout 60 tap-img convert -f qcow2 -O raw "$T/in/n.qcow2" "$T/out.raw"
}
name() # name TEXT: the image's data file has this name
{
	python3 - "$T/in/n.qcow2" "$1" <<'PY'
import struct, sys
b = bytearray(open(sys.argv[1], "rb").read())
name = sys.argv[2].encode()
at = struct.unpack_from(">I", b, 100)[0]
b[at:at + 512] = bytes(512)
struct.pack_into(">II", b, at, 0x44415441, len(name))
b[at + 8:at + 8 + len(name)] = name
open(sys.argv[1], "wb").write(b)
PY
}
mkdir in outside
random_file outside/secret 65536 1
tap-img create -f qcow2 -o data_file=d.raw in/n.qcow2 64K
rm in/d.raw
refused 'd.raw.*No such file'
tap-img check -q in/n.qcow2 || fail "its tables can be checked without its data"
mkfifo in/fifo
ln -s ../outside/secret in/link
for it in "$T/outside/secret:no allowed directory" "../outside/secret:no allowed directory" \
	"link:no allowed directory" "fifo:neither a regular file" "/dev/null:an image names this file" \
	'json{"driver"#"file"}:not a plain path' "nbd#//host/x:not a plain path" "n.qcow2:names itself" \
	":does not say which"; do
	text=${it%%:*}
	name "${text//#/:}"
	[[ $text != json* ]] || name 'json:{"driver":"file","filename":"'"$T"'/outside/secret"}'
	refused "${it#*:}"
done
name "$T/outside/secret"
timeout 60 "$BLKTAP_TAPDISK" -f -R --allow "$T/outside" --nbd "unix:$T/r" "qcow2:$T/in/n.qcow2" >/dev/null 2>&1 &
also_kill $!
wait_for 10 test -S "$T/r"
