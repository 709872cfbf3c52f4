#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img rebase: whatever the old chain and the new one hold, the guest sees the same before, after, after a kill at
# any moment, and after an error; qemu-img judges.
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

SEED=${TEST_SEED:-1}
CHAINS=${REBASE_CHAINS:-4}
KILLS=${REBASE_KILLS:-6}
CHAINS_PY=$(cd "$srcdir" && pwd)/tests/e2e/chains.py
RANDOM=$SEED

# What a guest sees.
view() { qemu-img convert -U -f "${2:-qcow2}" -O raw "$1" view.raw && sha256sum <view.raw; }
backing() { qemu-img info -U --output=json "$1" | python3 -c '
import json, sys
o = json.load(sys.stdin)
print(o.get("backing-filename", "-"), o.get("backing-filename-format", "-"))'; }

# rebased WANT-NAME WANT-FORMAT FILE ARGS...: it succeeds, the view is $seen, the name is that.
rebased()
{
	local name=$1 format=$2 file=$3
	shift 3
	tap-img rebase -f qcow2 "$@" "$file" >out || fail "rebase $* $file"
	[ ! -s out ] || fail "rebase prints: $(cat out)"
	[ "$(backing "$file")" = "$name $format" ] || fail "rebase $* $file: it names $(backing "$file")"
	[ "$(view "$file")" = "$seen" ] || fail "rebase $* $file: the guest sees something else"
	qemu-img check -q "$file" || fail "rebase $* $file: qemu-img check: exit $?"
}

cd "$T" || exit
echo "allow $T" >conf # images name others outside of their own folder
export BLKTAP_CONF=$T/conf
say "seed $SEED, $CHAINS chains, $KILLS kills"

# ---- from each chain to each other kind of thing ----
for i in $(seq "$CHAINS"); do
	mkdir chain
	python3 "$CHAINS_PY" $((SEED * 2000 + i)) chain $((2 + i % 3)) >layers || fail "chains.py $((SEED * 2000 + i))"
	read -r base_format base < <(head -n 1 layers)
	read -r _ top < <(tail -n 1 layers)
	mkdir other
	python3 "$CHAINS_PY" $((SEED * 3000 + i)) other 2 >other.layers || fail "chains.py $((SEED * 3000 + i))"
	read -r other_format other < <(tail -n 1 other.layers)
	# Data over all of it, and shorter or longer than the overlay.
	random_file chain/full $(((1 + RANDOM % 24) * 262144)) "$i"
	seen=$(view "chain/$top")
	cp "chain/$top" chain/a
	rebased "$base" "$base_format" chain/a -b "$base" -F "$base_format" # without the layers between
	rebased full raw chain/a -b full -F raw
	rebased "../other/$other" "$other_format" chain/a -b "../other/$other" -F "$other_format"
	rebased - - chain/a -b ""
	rebased full raw chain/a -b full -F raw # from nothing
	cp "chain/$top" chain/b
	rebased - - chain/b -b ""
	rm -r chain other
done

# ---- what both chains read from the same file is not even looked at ----
random_file base 3145728 6 # whole clusters
qemu-img create -q -f qcow2 -b base -F raw mid.qcow2 4M
qemu-io -c 'write -q -P 1 1M 100k' mid.qcow2
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 4M
qemu-io -c 'write -q -P 2 1000k 200k' top.qcow2 # over all that is in mid.qcow2
seen=$(view top.qcow2)
for to in "base raw" "mid.qcow2 qcow2"; do # out of the chain, and into it again
	tap-img rebase -b "${to% *}" -F "${to#* }" "fault(read-every=1)/qcow2:$T/top.qcow2"
	[ "$(backing top.qcow2) $(view top.qcow2)" = "$to $seen" ] || fail "rebase to $to"
done

# ---- the name alone ----
random_file base 1000000 7
random_file same 1000000 7
qemu-img create -q -f qcow2 -b base -F raw top.qcow2 2M
qemu-io -c 'write -q -P 9 100k 10k' top.qcow2
seen=$(view top.qcow2)
before=$(stat -c %b top.qcow2)
rebased same raw top.qcow2 -u -b same
[ "$(stat -c %b top.qcow2)" = "$before" ] || fail "rebase -u copied something"
mkdir sub
cp top.qcow2 sub/top.qcow2
rebased ../base raw sub/top.qcow2 -u -b ../base -F raw
rebased "$T/base" raw sub/top.qcow2 -b "$T/base" -F raw
tap-img rebase -u -b gone -F qcow2 qcow2:top.qcow2 # it need not be there
[ "$(backing top.qcow2)" = "gone qcow2" ] || fail "rebase -u to a file that is not there: $(backing top.qcow2)"
tap-img rebase -u -F raw qcow2:top.qcow2
[ "$(backing top.qcow2)" = "gone raw" ] || fail "rebase -u -F: $(backing top.qcow2)"
tap-img rebase -u -b base qcow2:top.qcow2
rebased base raw top.qcow2 -u -b base
tap-img rebase --json -b "" qcow2:top.qcow2 | grep -q '"copied": [1-9]' || fail "rebase --json"

# ---- refused, with nothing changed ----
qemu-img create -q -f qcow2 -b base -F raw top.qcow2 2M
tap-img create qcow2:lonely.qcow2 1M
before=$(sha256sum top.qcow2 lonely.qcow2 base)
expect_fail 'say the format' tap-img rebase -b same -F raw top.qcow2
expect_fail 'with -b' tap-img rebase qcow2:top.qcow2
expect_fail 'with -b' tap-img rebase -u qcow2:top.qcow2
expect_fail 'no backing file: name one' tap-img rebase -u -F raw qcow2:lonely.qcow2
expect_fail "format of 'same' with -F" tap-img rebase -b same qcow2:lonely.qcow2
expect_fail 'no such format' tap-img rebase -b same -F vmdk7 qcow2:top.qcow2
expect_fail 'no such format' tap-img rebase -b same -F fault qcow2:top.qcow2
expect_fail 'new backing file.*missing' tap-img rebase -b missing -F raw qcow2:top.qcow2
expect_fail 'new backing file' tap-img rebase -b same -F qcow2 qcow2:top.qcow2
expect_fail 'its own backing file' tap-img rebase -b top.qcow2 -F qcow2 qcow2:top.qcow2
expect_fail 'its own backing file' tap-img rebase -u -b ./top.qcow2 -F qcow2 qcow2:top.qcow2
expect_fail 'not a plain path' tap-img rebase -u -b nbd://host/disk -F raw qcow2:top.qcow2
expect_fail 'no backing file' tap-img rebase -b same -F raw raw:base
expect_fail 'longer than' tap-img rebase -u -b "$(printf '%01500d' 1)" -F raw qcow2:top.qcow2
qemu-img create -q -f qcow2 -b "$T/top.qcow2" -F qcow2 above.qcow2
expect_fail 'new backing file' tap-img rebase -b above.qcow2 -F qcow2 qcow2:top.qcow2 # a loop
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/top.qcow2"
expect_fail 'top.qcow2.*open' tap-img rebase -b same -F raw qcow2:top.qcow2
expect_fail 'top.qcow2.*open' tap-img rebase -u -b same -F raw qcow2:top.qcow2
stop_tapdisk
[ "$(sha256sum top.qcow2 lonely.qcow2 base)" = "$before" ] || fail "a refused rebase changed something"

# ---- an error on the way: the old name stays, and the guest sees the same ----
random_file big 6000000 8
qemu-img create -q -f qcow2 -o cluster_size=4K -b base -F raw top.qcow2 8M
qemu-io -c 'write -q -P 9 100k 100k' top.qcow2
seen=$(view top.qcow2)
cp top.qcow2 fresh.qcow2 # what was copied before an error need not be copied again
for fault in read-every=3 write-every=1 zero-every=1 flush-every=1; do
	cp --remove-destination fresh.qcow2 top.qcow2
	expect_fail 'Input/output' tap-img rebase -b big -F raw "fault($fault)/qcow2:$T/top.qcow2"
	[ "$(backing top.qcow2)" = "base raw" ] || fail "$fault: it names $(backing top.qcow2)"
	[ "$(view top.qcow2)" = "$seen" ] || fail "$fault: the guest sees something else"
	qemu-img check -q top.qcow2 || fail "$fault: qemu-img check: exit $?"
done
for fault in write-every=3 flush-every=2; do # below the format
	cp --remove-destination fresh.qcow2 top.qcow2
	expect_fail 'Input/output' tap-img rebase -b big -F raw "qcow2/fault($fault):$T/top.qcow2"
	[ "$(backing top.qcow2)" = "base raw" ] || fail "$fault: it names $(backing top.qcow2)"
	[ "$(view top.qcow2)" = "$seen" ] || fail "$fault: the guest sees something else"
done
tap-img rebase -b big -F raw qcow2:top.qcow2 # what the errors left leaked at most
[ "$(backing top.qcow2)" = "big raw" ] || fail "after errors: it names $(backing top.qcow2)"
[ "$(view top.qcow2)" = "$seen" ] || fail "after errors: the guest sees something else"

# ---- killed, and run again ----
random_file one 8000000 9
random_file two 7000000 10
qemu-img create -q -f qcow2 -o cluster_size=4K -b one -F raw master.qcow2 8M
qemu-io -c 'write -q -P 9 300k 1000k' -c 'write -q -z 3M 1M' master.qcow2
seen=$(view master.qcow2)
hits=0
for i in $(seq "$KILLS"); do
	cp master.qcow2 victim.qcow2
	for _ in 1 2 3; do
		tap-img rebase -r 40M -b two -F raw qcow2:victim.qcow2 &
		pid=$!
		also_kill $pid
		sleep "0.$(printf %03d $((RANDOM % 260)))"
		kill -KILL $pid 2>/dev/null || true
		wait $pid 2>/dev/null || true
		forget_pid $pid
		[ "$(view victim.qcow2)" = "$seen" ] || fail "kill $i: the guest sees something else"
		case $(backing victim.qcow2) in
		"two raw") break ;;
		"one raw") hits=$((hits + 1)) ;;
		*) fail "kill $i: it names $(backing victim.qcow2)" ;;
		esac
	done
	tap-img rebase -b two -F raw qcow2:victim.qcow2
	[ "$(backing victim.qcow2)" = "two raw" ] || fail "kill $i: it names $(backing victim.qcow2)"
	[ "$(view victim.qcow2)" = "$seen" ] || fail "kill $i, run again: the guest sees something else"
	qemu-img check -q victim.qcow2 >/dev/null 2>&1 || [ $? = 3 ] || fail "kill $i: qemu-img check"
done
say "killed $hits times on the way"
