#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# kill -9 of tapdisk under load, at random moments, again and again on the same images: each time the image is clean but
# for leaks in the eyes of qemu-img, and holds all that was acknowledged before a completed flush when qemu reads it;
# and when the next tapdisk has opened it, all that was acknowledged, flushed or not.  The first part of the disk is
# under stamped writes, which know what was promised; behind it fio writes and verifies what it wrote, over a
# connection of its own.  Then what a killed tapdisk leaves is met by an image that was changed since, by who only
# reads, and by another image.
# KILL9_ROUNDS (default 2) kills for each of the six kinds of qcow2 and raw, KILL9_OTHER_ROUNDS (default 1) for each of
# the six kinds of other formats, KILL9_SEED.
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io nbdcopy python3 fio

rounds=${KILL9_ROUNDS:-2} others=${KILL9_OTHER_ROUNDS:-1}
seed=${KILL9_SEED:-${TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}}
size=$((16 << 20)) # under stamped writes; fio has as much again
say "KILL9_SEED=$seed KILL9_ROUNDS=$rounds KILL9_OTHER_ROUNDS=$others"
RANDOM=$((seed % 32768))
stamps=$srcdir/tests/e2e/nbd-stamps.py

# qemu_check IMAGE: exit 0 is clean, 3 is leaks only.
qemu_check()
{
	local status=0
	qemu-img check "$1" >"$T/check.out" 2>&1 || status=$?
	case $status in
	0) ;;
	3) leaks=$((leaks + 1)) ;;
	*) fail "after kill $i of $kind: qemu-img check: exit $status: $(cat "$T/check.out")" ;;
	esac
}

# our_check SPEC: the same of formats that qemu-img has no check for, or one that looks at little.
our_check()
{
	local status=0
	tap-img check "$1" >"$T/check.out" 2>&1 || status=$?
	case $status in
	0) ;;
	3) leaks=$((leaks + 1)) ;;
	*) fail "after kill $i of $kind: tap-img check: exit $status: $(cat "$T/check.out")" ;;
	esac
}

# fio's verify load behind the stamps: it reads back what it wrote, some writes later.  Its pid: FIO.
fio_load()
{
	fio --name=verify --ioengine=nbd --uri="nbd+unix:///?socket=$T/s" --rw=randwrite --bs=4k --iodepth=8 \
		--fsync=64 --offset=$size --size=$size --verify=crc32c --verify_state_save=0 \
		--verify_backlog=128 --verify_fatal=1 >"$T/fio.out" 2>&1 &
	FIO=$!
}

# It ends with an error, its server being gone; what it must not have met is a block that was not what it wrote.
end_fio()
{
	kill -9 "$FIO" 2>/dev/null || true
	wait "$FIO" 2>/dev/null || true
	! grep -iE 'bad (magic|header)|verify.*(fail|bad)|crc32c: ' "$T/fio.out" || fail "fio: $(cat "$T/fio.out")"
}

# one_kill SPEC: load until it is killed, after 0.05 to 0.95 s.
one_kill()
{
	local ms=$((50 + RANDOM % 900)) seconds out
	seconds=$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))
	start_tapdisk --nbd "unix:$T/s" "$1"
	fio_load
	out=$(python3 "$stamps" load "$T/s" "$T/state" "$TAPDISK_PID" "$seconds" $((seed + i))) ||
		fail "the load on $1"
	wait "$TAPDISK_PID" 2>/dev/null || true
	forget_pid "$TAPDISK_PID"
	end_fio
	[ ! -s "$TAPDISK_ERR" ] || fail "tapdisk said: $(cat "$TAPDISK_ERR")"
	say "$kind: killed after $ms ms: $out"
}

# verify_raw WHO STATE: what $T/raw holds against what was promised.
verify_raw() { python3 "$stamps" verify "$2" "$T/raw" || fail "kill $i of $kind, read by $1 (KILL9_SEED=$seed)"; }

nothing_kept() { [ -z "$(find "$BLKTAP_RUN_DIR" -name 'keep*')" ] || fail "something is kept of a closed image"; }

read_by_tapdisk()
{
	start_tapdisk --nbd "unix:$T/s" "$1"
	nbdcopy "nbd+unix:///?socket=$T/s" "$T/raw"
	stop_tapdisk
	verify_raw tapdisk "$T/state"
	[ "$kind" = raw ] || nothing_kept
}

# kill_often KIND SPEC: qcow2 (qemu looks before tapdisk does), lazy (qemu may look only after tapdisk's repair), raw.
kill_often()
{
	local i kind=$1 spec=$2 image=${2#*:} leaks=0
	python3 "$stamps" new "$T/state" "$size"
	for ((i = 1; i <= rounds; i++)); do
		one_kill "$spec"
		if [ "$kind" = qcow2 ]; then
			qemu_check "$image"
			qemu-img convert -O raw "$image" "$T/raw"
			verify_raw qemu "$T/state.flushed"
		fi
		read_by_tapdisk "$spec"
		[ "$kind" = raw ] || qemu_check "$image"
	done
	[ "$leaks" = 0 ] || say "$kind: $leaks checks found leaks, which is allowed"
}

# kill_other NAME SPEC QEMU: another format, which qemu reads as QEMU's options say ("": it does not).
kill_other()
{
	local i kind=$1 spec=$2 leaks=0
	say "-- $kind"
	python3 "$stamps" new "$T/state" "$size"
	for ((i = 1; i <= others; i++)); do
		one_kill "$spec"
		our_check "${spec/:/(adopt=off):}" # of what is in the file, and nothing is put there
		if [ -n "$3" ]; then
			qemu-img convert -O raw --image-opts "$3,file.filename=${spec#*:}" "$T/raw"
			verify_raw qemu "$T/state.flushed"
		fi
		read_by_tapdisk "$spec"
		our_check "$spec"
	done
	[ "$leaks" = 0 ] || say "$kind: $leaks checks found leaks, which is allowed"
}

i=0
for opts in cluster_size=64K cluster_size=4K,refcount_bits=64 cluster_size=512,compat=0.10; do
	tap-img create -o $opts "qcow2:$T/$opts.qcow2" $((2 * size))
	say "-- $opts"
	kill_often qcow2 "qcow2:$T/$opts.qcow2"
done
say "-- lazy_refcounts"
tap-img create -o lazy_refcounts=on "qcow2:$T/lazy.qcow2" $((2 * size))
kill_often lazy "qcow2:$T/lazy.qcow2"
say "-- over a backing file"
truncate -s $((2 * size)) "$T/base.img"
tap-img create -b base.img -F raw "qcow2:$T/over.qcow2"
kill_often qcow2 "qcow2:$T/over.qcow2"
say "-- raw"
truncate -s $((2 * size)) "$T/disk.img"
kill_often raw "aio:$T/disk.img"

while IFS='|' read -r kind qemu opts; do
	spec=${kind%% *}:$T/${kind// /-}
	tap-img create -o "$opts" "$spec" $((2 * size))
	kill_other "$kind" "$spec" "$qemu"
done <<'KINDS'
qcow|driver=qcow|cluster_size=4K
vmdk|driver=vmdk|zeroed_grain=off
vmdk split|driver=vmdk|subformat=twoGbMaxExtentSparse,zeroed_grain=on
vmdk cowd|driver=vmdk|subformat=vmfsSparse
vhd|driver=vpc,force_size_calc=current_size|block_size=2M
KINDS
tap-img create "vhd:$T/parent" $((2 * size))
tap-img create -b parent -F vhd -o block_size=64K "vhd:$T/child" $((2 * size))
kill_other 'vhd over a parent' "vhd:$T/child" ""

# ---- what is left, and what is done with it ----

# leave IMAGE BYTE: on a new image a tapdisk writes 64 KiB of BYTE, answers, is killed.
leave()
{
	tap-img create -o cluster_size=4K "qcow2:$1" $size
	start_tapdisk --nbd "unix:$T/s" "qcow2:$1"
	python3 "$stamps" put "$T/s" "$TAPDISK_PID" "$2"
	wait "$TAPDISK_PID" 2>/dev/null || true
	forget_pid "$TAPDISK_PID"
}

# holds SPEC BYTE OFFSET [LENGTH]: there are so many of BYTE, 64 KiB if it is not said.
holds()
{
	start_tapdisk --nbd "unix:$T/s" "$1"
	qemu-io -r -f raw -c "read -q -P $2 $3 ${4:-64k}" "nbd+unix:///?socket=$T/s" >"$T/io.out" 2>&1 ||
		fail "$1 does not hold $2 at $3: $(cat "$T/io.out")"
	stop_tapdisk
}

refuses() { expect_fail "$1" timeout 200 tapdisk -f --nbd "unix:$T/s" "${@:2}"; }

say "-- two images, and who only reads"
leave "$T/one.qcow2" 1
leave "$T/two.qcow2" 2
refuses 'open it writable once' -R "qcow2:$T/one.qcow2"
tap-img info "qcow2:$T/one.qcow2" >/dev/null
holds "qcow2:$T/one.qcow2" 1 0
holds "qcow2:$T/two.qcow2" 2 0
nothing_kept
say "-- an image that was changed since"
leave "$T/three.qcow2" 3
qemu-io -f qcow2 -c 'write -q -P 5 1M 64k' "$T/three.qcow2"
refuses 'changed the image since.*adopt=off' "qcow2:$T/three.qcow2"
qemu-img check -q "$T/three.qcow2"
holds "qcow2(adopt=off):$T/three.qcow2" 5 1M
holds "qcow2:$T/three.qcow2" 0 0
nothing_kept
say "-- a file that nobody left"
leave "$T/four.qcow2" 6
keep=$(find "$BLKTAP_RUN_DIR" -name 'keep*')
cp --sparse=always -p "$keep" "$T/whole"
head -c 5000 /dev/urandom >"$keep"
refuses 'is not, or not wholly' "qcow2:$T/four.qcow2"
cp --sparse=always -p "$T/whole" "$keep"
holds "qcow2:$T/four.qcow2" 6 0
nothing_kept

# The run-time directory gets full on the way: it is said, in the log and by stats, and what was flushed is there.
if [ "$(id -u)" = 0 ]; then
	say "-- no room for what is kept"
	mkdir "$T/small"
	mount -t tmpfs -o size=200k tmpfs "$T/small"
	tap-img create -o cluster_size=4K "qcow2:$T/five.qcow2" 256M
	BLKTAP_RUN_DIR=$T/small start_tapdisk --nbd "unix:$T/s" "qcow2:$T/five.qcow2"
	kept() { BLKTAP_RUN_DIR=$T/small tap-ctl stats -p "$TAPDISK_PID" | grep -o '"kept": *[01]'; }
	case $(kept) in *1) ;; *) fail "nothing is kept at first" ;; esac
	for ((at = 0; at < 256; at += 2)); do echo "write -q -P 7 ${at}M 4k"; done >"$T/cmds"
	qemu-io -f raw "nbd+unix:///?socket=$T/s" <"$T/cmds" >"$T/io.out" 2>&1
	grep -q 'five.qcow2: a kill of this process will lose what was not flushed: .*No space' "$TAPDISK_ERR" ||
		fail "it said: $(cat "$TAPDISK_ERR")"
	case $(kept) in *0) ;; *) fail "stats say that it is kept" ;; esac
	kill_tapdisk
	holds "qcow2:$T/five.qcow2" 7 254M 4k
fi
