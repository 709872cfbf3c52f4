#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img rebase of vmdk: the guest sees the same over another parent, over none, and over a parent that was moved;
# qemu-img reads the same disk, and finds the name and the CID; what cannot be is refused, with nothing changed.
# The power cuts are driver/test-vmdk-backing's.  TEST_SEED; REBASE_KILLS (default 3).
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

seed=${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
kills=${REBASE_KILLS:-3}
say "TEST_SEED=$seed REBASE_KILLS=$kills"
RANDOM=$seed
cd "$T" || exit

# write_some FILE: 24 writes anywhere.  Through us: qemu breaks vmfsSparse when it writes.
write_some()
{
	local i off ops=()
	for ((i = 0; i < 24; i++)); do
		off=$(((RANDOM << 15 | RANDOM) % 7000000 / 512 * 512))
		ops+=(-c "write -P $((RANDOM % 255 + 1)) $off $((512 << RANDOM % 9))")
	done
	start_tapdisk --nbd "unix:$T/s" "vmdk:$T/$1"
	qemu-io -f raw "${ops[@]}" "nbd+unix:///?socket=$T/s" >/dev/null
	stop_tapdisk
}

parent() { tap-img info --json -f vmdk "$1" | python3 -c '
import json, sys
print(json.load(sys.stdin).get("backing-filename", "-"))'; }
cid() { tap-img info --json -f vmdk "$1" | sed -n "s/.*\"$2\": \"\(.*\)\".*/\1/p"; }

# rebased WANT FILE ARGS...: it succeeds, names that and its CID, and reads as model.raw, by qemu too.
rebased()
{
	local want=$1 file=$2
	shift 2
	tap-img rebase -f vmdk "$@" "$file" || fail "rebase $* $file (TEST_SEED=$seed)"
	[ "$(parent "$file")" = "$want" ] || fail "rebase $* $file: it names $(parent "$file")"
	[ "$want" = - ] || [ "$(cid "$file" parent-cid)" = "$(cid "$want" cid)" ] || fail "rebase $*: another CID"
	same "$file" "rebase $* $file"
}

# same FILE WHAT [3]: also if space leaked.
same()
{
	local status
	qemu-img compare -q -f vmdk -F raw "$1" model.raw || fail "$2: it reads otherwise by qemu (TEST_SEED=$seed)"
	tap-img convert --force -f vmdk -O raw "$1" ours.raw
	cmp ours.raw model.raw || fail "$2: it reads otherwise (TEST_SEED=$seed)"
	status=0
	tap-img check -q -f vmdk "$1" >check.out 2>&1 || status=$?
	[ "$status" = 0 ] || [ "$status" = "${3:-0}" ] || fail "$2: check: exit $status: $(cat check.out)"
}

long=$(printf 'a-name-of-a-parent-%.0s' 1 2 3 4 5 6 7 8 9 10)
for name in one two "$long"; do
	qemu-img create -q -f vmdk "$name.vmdk" 8M
	write_some "$name.vmdk"
done

# ---- there and back ----
for kind in monolithicSparse twoGbMaxExtentSparse vmfsSparse; do
	rm -f top*
	tap-img create -o "subformat=$kind,adapter_type=lsilogic,hwversion=9" -b one.vmdk -F vmdk vmdk:top.vmdk
	write_some top.vmdk
	qemu-img convert -f vmdk -O raw top.vmdk model.raw
	rebased two.vmdk top.vmdk -b two.vmdk -F vmdk
	rebased "$long.vmdk" top.vmdk -b "$long.vmdk"
	cp one.vmdk moved.vmdk
	rebased one.vmdk top.vmdk -b one.vmdk
	rebased moved.vmdk top.vmdk -u -b moved.vmdk
	before=$(cid top.vmdk adapter-type)/$(cid top.vmdk hw-version)
	rebased - top.vmdk -b ""
	[ "$(cid top.vmdk parent-cid)" = ffffffff ] || fail "$kind: without a parent it has the CID of one"
	[ "$before" = "$(cid top.vmdk adapter-type)/$(cid top.vmdk hw-version)" ] || fail "$kind: ddb entries changed"
	rebased two.vmdk top.vmdk -b two.vmdk -F vmdk # from nothing
	write_some top.vmdk
done

# ---- refused, with nothing changed ----
tap-img create -b one.vmdk -F vmdk vmdk:lonely.vmdk
tap-img create -o subformat=monolithicFlat vmdk:flat.vmdk 1M
truncate -s 1M raw.img
before=$(sha256sum lonely.vmdk flat.vmdk one.vmdk two.vmdk)
expect_fail 'vmdk, not raw' tap-img rebase -u -b raw.img -F raw vmdk:lonely.vmdk
expect_fail 'missing.vmdk' tap-img rebase -u -b missing.vmdk -F vmdk vmdk:lonely.vmdk
expect_fail 'cannot name a file' tap-img rebase -u -b 'a"b' -F vmdk vmdk:lonely.vmdk
expect_fail 'its own backing file' tap-img rebase -u -b lonely.vmdk -F vmdk vmdk:lonely.vmdk
expect_fail 'holds all sectors' tap-img rebase -u -b one.vmdk -F vmdk vmdk:flat.vmdk
[ "$before" = "$(sha256sum lonely.vmdk flat.vmdk one.vmdk two.vmdk)" ] || fail "a refused rebase changed something"

# ---- killed at any moment, and run again ----
tap-img create -b one.vmdk -F vmdk vmdk:master.vmdk
write_some master.vmdk
qemu-img convert -f vmdk -O raw master.vmdk model.raw
for ((i = 0; i < kills; i++)); do
	cp master.vmdk top.vmdk
	tap-img rebase -q -b two.vmdk -F vmdk -r 20M vmdk:top.vmdk &
	pid=$!
	also_kill "$pid"
	sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
	kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	forget_pid "$pid"
	qemu-img compare -q -f vmdk -F raw top.vmdk model.raw || fail "after kill $i: it reads otherwise"
	tap-img rebase -q -b two.vmdk -F vmdk vmdk:top.vmdk
	[ "$(parent top.vmdk)" = two.vmdk ] || fail "after kill $i, run again: it names $(parent top.vmdk)"
	same top.vmdk "after kill $i, run again" 3
done
