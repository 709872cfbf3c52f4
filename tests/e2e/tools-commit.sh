#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img commit: the base holds what the guest saw, the guest sees the same all the while, through kills and errors; in
# the end the overlay is empty.  qemu-img judges.
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

SEED=${TEST_SEED:-1}
CHAINS=${COMMIT_CHAINS:-4}
KILLS=${COMMIT_KILLS:-6}
CHAINS_PY=$(cd "$srcdir" && pwd)/tests/e2e/chains.py
RANDOM=$SEED

# view FILE [FORMAT]: what a guest sees.
view() { qemu-img convert -U -f "${2:-qcow2}" -O raw "$1" view.raw && sha256sum <view.raw; }

# holds_nothing FILE: all of it is its backing file's.
holds_nothing()
{
	tap-img map -f qcow2 --json "$1" | python3 -c '
import json, sys
sys.exit(any(e["present"] and e["depth"] == 0 for e in json.load(sys.stdin)))'
}

# base_has FILE FORMAT: what $seen saw, and more only behind its end.
base_has()
{
	qemu-img convert -U -f "$2" -O raw "$1" base.raw
	head -c "$(stat -c %s seen.raw)" base.raw | cmp -s - seen.raw
}

see() { seen=$(view "$1") && mv view.raw seen.raw; }

cd "$T" || exit
say "seed $SEED, $CHAINS chains, $KILLS kills"

# ---- chains of many shapes ----
for i in $(seq "$CHAINS"); do
	mkdir chain
	python3 "$CHAINS_PY" $((SEED * 4000 + i)) chain $((2 + i % 3)) >layers || fail "chains.py $((SEED * 4000 + i))"
	read -r base_format base < <(head -n 1 layers)
	read -r below_format below < <(tail -n 2 layers | head -n 1)
	read -r _ top < <(tail -n 1 layers)
	see "chain/$top"
	cp -r chain copy
	tap-img commit -q -f qcow2 "chain/$top" >out || fail "commit $i"
	[ ! -s out ] || fail "commit -q prints"
	[ "$(view "chain/$top")" = "$seen" ] || fail "commit $i: the guest sees something else"
	base_has "chain/$below" "$below_format" || fail "commit $i: the base is not what the guest saw"
	holds_nothing "chain/$top" || fail "commit $i: the overlay still holds something"
	qemu-img check -q "chain/$top" || fail "commit $i: qemu-img check of the overlay: exit $?"
	[ "$below_format" = raw ] || qemu-img check -q "chain/$below" || fail "commit $i: qemu-img check of the base"
	# All the way down.
	before=$(sha256sum "copy/$top")
	tap-img commit -f qcow2 -b "copy/$base" "copy/$top" >out || fail "commit -b $i"
	grep -qx 'Image committed.' out || fail "commit says: $(cat out)"
	[ "$(sha256sum "copy/$top")" = "$before" ] || fail "commit -b $i: the overlay was changed"
	[ "$(view "copy/$top")" = "$seen" ] || fail "commit -b $i: the guest sees something else"
	base_has "copy/$base" "$base_format" || fail "commit -b $i: the base is not what the guest saw"
	[ "$base_format" = raw ] || qemu-img check -q "copy/$base" || fail "commit -b $i: qemu-img check of the base"
	rm -r chain copy
done

# ---- what the options say ----
chain()
{
	rm -f base mid.qcow2 top.qcow2
	random_file base 3000320 5
	qemu-img create -q -f qcow2 -b base -F raw mid.qcow2 4M
	qemu-io -c 'write -q -P 1 0 300k' -c 'write -q -z 1M 300k' mid.qcow2
	qemu-img create -q -f qcow2 -o cluster_size=4K -b mid.qcow2 -F qcow2 top.qcow2 6M
	qemu-io -c 'write -q -P 2 100k 1000k' -c 'write -q -z 2M 100k' -c 'write -q -P 3 5M 100k' top.qcow2
	see top.qcow2
}
chain
before=$(sha256sum <top.qcow2)
tap-img commit -d --json qcow2:top.qcow2 >out
grep -q '"emptied": false' out || fail "commit -d --json: $(cat out)"
[ "$(sha256sum <top.qcow2)" = "$before" ] || fail "commit -d changed the overlay"
base_has mid.qcow2 qcow2 || fail "commit -d: the base is not what the guest saw"
tap-img commit --json "fault/qcow2:$T/top.qcow2" >out # again: nothing is different
grep -q '"emptied": true' out || fail "commit --json: $(cat out)"
holds_nothing top.qcow2 || fail "a second commit: the overlay still holds something"
[ "$(view top.qcow2)" = "$seen" ] || fail "a second commit: the guest sees something else"
tap-img commit qcow2:top.qcow2 >/dev/null # nothing to do
[ "$(view top.qcow2)" = "$seen" ] || fail "an empty commit: the guest sees something else"
chain
tap-img commit -p -b base qcow2:top.qcow2 2>progress >/dev/null
grep -q '100' progress || fail "commit -p: $(cat progress)"
base_has base raw || fail "commit -b: the base is not what the guest saw"
# An internal snapshot keeps what the overlay held when it was made.
chain
qemu-img snapshot -c kept top.qcow2
qemu-io -c 'write -q -P 4 200k 10k' top.qcow2
see top.qcow2
tap-img commit -q qcow2:top.qcow2
[ "$(view top.qcow2)" = "$seen" ] || fail "commit with a snapshot: the guest sees something else"
qemu-img check -q top.qcow2 || fail "commit with a snapshot: qemu-img check"
qemu-img snapshot -a kept top.qcow2
qemu-io -c 'read -q -P 2 200k 10k' top.qcow2 || fail "commit: the snapshot has lost its data"

# ---- refused, with nothing changed ----
chain
before=$(sha256sum base mid.qcow2 top.qcow2)
expect_fail 'say the format' tap-img commit top.qcow2
expect_fail 'no backing image' tap-img commit raw:base
expect_fail 'not in the chain' tap-img commit -b seen.raw qcow2:top.qcow2
expect_fail 'not in the chain' tap-img commit -b top.qcow2 qcow2:top.qcow2
expect_fail 'not in the chain' tap-img commit -b missing qcow2:top.qcow2
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/top.qcow2"
expect_fail 'top.qcow2.*open' tap-img commit qcow2:top.qcow2
stop_tapdisk
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 beside.qcow2
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/beside.qcow2"
expect_fail 'mid.qcow2.*open' tap-img commit qcow2:top.qcow2 # somebody reads the base
stop_tapdisk
[ "$(sha256sum base mid.qcow2 top.qcow2)" = "$before" ] || fail "a refused commit changed something"

# ---- an error on the way: nothing is lost, and nothing dropped ----
for fault in "fault(read-every=2)/qcow2" "fault(read-every=1,after=1)/qcow2"; do
	expect_fail 'cannot read.*Input/output.*nothing is lost' tap-img commit "$fault:$T/top.qcow2"
	[ "$(view top.qcow2)" = "$seen" ] || fail "$fault: the guest sees something else"
	qemu-img check -q top.qcow2 || fail "$fault: qemu-img check"
	qemu-img check -q mid.qcow2 || fail "$fault: qemu-img check of the base"
	! holds_nothing top.qcow2 || fail "$fault: the overlay was emptied"
done
expect_fail 'Input/output' tap-img commit "qcow2/fault(write-every=1):$T/top.qcow2" # while it is emptied
[ "$(view top.qcow2)" = "$seen" ] || fail "an error while emptying: the guest sees something else"
tap-img commit -q qcow2:top.qcow2
[ "$(view top.qcow2)" = "$seen" ] || fail "after errors: the guest sees something else"
base_has mid.qcow2 qcow2 || fail "after errors: the base is not what the guest saw"

# ---- no space for it: the same, and more space is all it takes ----
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=1M none small 2>/dev/null; then
	echo "allow $T" >conf
	truncate -s 6M small/base
	qemu-img create -q -f qcow2 -b "$T/small/base" -F raw top.qcow2 6M 2>/dev/null
	qemu-io -c 'write -q -P 2 100k 3M' top.qcow2
	see top.qcow2
	export BLKTAP_CONF=$T/conf
	expect_fail 'small/base: cannot write.*No space.*nothing is lost' tap-img commit qcow2:top.qcow2
	[ "$(view top.qcow2)" = "$seen" ] || fail "no space: the guest sees something else"
	mount -o remount,size=8M small
	tap-img commit -q qcow2:top.qcow2
	[ "$(view top.qcow2)" = "$seen" ] || fail "space again: the guest sees something else"
	base_has small/base raw || fail "space again: the base is not what the guest saw"
	umount small
	export BLKTAP_CONF=/dev/null
fi

# ---- what is broken: an error, soon ----
chain
truncate -s 200000 mid.qcow2
expect_fail . timeout 100 tap-img commit qcow2:top.qcow2
chain
printf '\377\377\377\377' | dd of=top.qcow2 bs=1 seek=40 conv=notrunc status=none # L1's offset
expect_fail . timeout 100 tap-img commit qcow2:top.qcow2

# ---- killed, and run again ----
mkdir master
random_file master/base 3000320 6
qemu-img create -q -f qcow2 -o cluster_size=512 -b base -F raw master/mid.qcow2 4M
qemu-io -c 'write -q -P 1 0 300k' -c 'write -q -z 1M 300k' master/mid.qcow2
qemu-img create -q -f qcow2 -o cluster_size=4K -b mid.qcow2 -F qcow2 master/top.qcow2 9M
random_file data 6000000 7
qemu-io -c "write -q -s $T/data 100k 6000000" -c 'write -q -z 2M 100k' -c 'write -q -P 3 8M 100k' master/top.qcow2
see master/top.qcow2
hits=0
for i in $(seq "$KILLS"); do
	cp -r master victim
	args=()
	[ $((i % 3)) != 0 ] || args=(-b victim/base)
	for _ in 1 2 3; do
		tap-img commit -q "${args[@]}" -r 30M qcow2:victim/top.qcow2 &
		pid=$!
		also_kill $pid
		sleep "0.$(printf %03d $((RANDOM % 300)))"
		kill -KILL $pid 2>/dev/null || true
		status=0
		wait $pid 2>/dev/null || status=$?
		forget_pid $pid
		[ "$(view victim/top.qcow2)" = "$seen" ] || fail "kill $i: the guest sees something else"
		[ "$status" != 0 ] || break
		hits=$((hits + 1))
	done
	tap-img commit -q "${args[@]}" qcow2:victim/top.qcow2
	[ "$(view victim/top.qcow2)" = "$seen" ] || fail "kill $i, run again: the guest sees something else"
	if [ ${#args[@]} = 0 ]; then
		base_has victim/mid.qcow2 qcow2 || fail "kill $i: the base is not what the guest saw"
		holds_nothing victim/top.qcow2 || fail "kill $i: the overlay still holds something"
	else
		base_has victim/base raw || fail "kill $i: the base is not what the guest saw"
	fi
	for f in victim/mid.qcow2 victim/top.qcow2; do
		qemu-img check -q $f >/dev/null 2>&1 || [ $? = 3 ] || fail "kill $i: qemu-img check $f"
	done
	rm -r victim
done
say "killed $hits times on the way"
