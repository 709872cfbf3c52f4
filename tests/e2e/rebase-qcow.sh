#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img rebase of qcow, version 1: the guest sees the same over another backing file, over none, and over one that was
# moved; QEMU finds the name that is recorded and reads the same disk; what is written afterwards spares the name.
# The power cuts are driver/test-qcow-backing's.  TEST_SEED chooses the bytes.
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

seed=${TEST_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
say "TEST_SEED=$seed"
RANDOM=$seed
cd "$T" || exit

# model OPTS: what the guest of top sees, as we read it; write_some OPTS: 16 writes anywhere, to model.raw too.
model() { tap-img convert --force -O raw "qcow$1:$T/top" model.raw; }
write_some()
{
	local i off ops=()
	for ((i = 0; i < 16; i++)); do
		off=$(((RANDOM << 8 | RANDOM % 256) % 6000 * 512))
		ops+=(-c "write -q -P $((RANDOM % 255 + 1)) $off $((512 << RANDOM % 8))")
	done
	start_tapdisk --nbd "unix:$T/s" "qcow$1:$T/top"
	qemu-io -f raw "${ops[@]}" "nbd+unix:///?socket=$T/s"
	stop_tapdisk
	qemu-io -f raw "${ops[@]}" model.raw
}

# QEMU goes by the name that it finds, and takes what has no header for raw.
recorded() { qemu-img info -U -f qcow --output=json top | python3 -c '
import json, sys
print(json.load(sys.stdin).get("backing-filename", "-"))'; }

# agree NAME WHAT: top names it and reads as model.raw, by QEMU and by us.
agree()
{
	local opts='(backing-format=raw)' status=0
	[ "$1" != - ] || opts=
	[ "$(recorded)" = "$1" ] || fail "$2: it names $(recorded) (TEST_SEED=$seed)"
	qemu-img compare -q -f qcow -F raw top model.raw || fail "$2: QEMU reads something else (TEST_SEED=$seed)"
	tap-img compare "qcow$opts:top" raw:model.raw >/dev/null || fail "$2: we read something else (TEST_SEED=$seed)"
	tap-img check -q qcow:top >check.out 2>&1 || status=$?
	[ "$status" = 0 ] || fail "$2: check: exit $status: $(cat check.out)"
}

long=$(printf 'a-name-of-a-backing-file-%.0s' 1 2 3 4 5 6 7 8 9 10)
random_file one $((3 << 20)) "$seed"
random_file two $((2 << 20)) $((seed + 1))
random_file "$long" 1000448 $((seed + 2))
over='(backing-format=raw)'

# ---- there and back; made by QEMU ----
qemu-img create -q -f qcow -b one -F raw top 4M
model "$over"
write_some "$over"
for name in two "$long"; do
	tap-img rebase -b "$name" -F raw "qcow$over:top"
	agree "$name" "rebase to $name"
done
write_some "$over"
agree "$long" "written"
cp "$long" moved
tap-img rebase -u -b moved -F raw qcow:top
agree moved "moved"
tap-img rebase -b "" "qcow$over:top"
agree - "rebase to none"
tap-img rebase -b two -F raw qcow:top # from nothing
agree two "from nothing"
qemu-io -f qcow -c 'write -q -P 77 3M 700k' top # QEMU goes on at the end of the file
qemu-io -f raw -c 'write -q -P 77 3M 700k' model.raw
agree two "written by QEMU"

# ---- without the key of an encrypted one, for the name alone ----
printf 'a pass phrase' >key
tap-img create -o "encrypt.format=aes,encrypt.key-file=$T/key,backing_file=one,backing_fmt=raw" qcow:sealed 4M
tap-img convert --force -O raw "qcow(backing-format=raw,key-file=$T/key):$T/sealed" model.raw
cp one moved
tap-img rebase -u -b moved -F raw qcow:sealed
tap-img rebase -b two -F raw "qcow(backing-format=raw,key-file=$T/key):$T/sealed"
tap-img compare "qcow(backing-format=raw,key-file=$T/key):$T/sealed" raw:model.raw >/dev/null || fail "encrypted"

# ---- emptied: the name behind the clusters stays ----
tap-img commit -q "qcow$over:top"
[ "$(recorded)" = two ] || fail "after a commit it names $(recorded)"
tap-img compare "qcow$over:top" raw:two >/dev/null || fail "after a commit it is not its backing file"
tap-img check -q qcow:top || fail "after a commit: check: exit $?"

# ---- refused, or failed: with the old name, and nothing lost ----
before=$(sha256sum top)
expect_fail 'backing-format' tap-img rebase -b one -F raw qcow:top
expect_fail 'new backing file.*missing' tap-img rebase -b missing -F raw "qcow$over:top"
expect_fail 'its own backing file' tap-img rebase -u -b top -F qcow qcow:top
expect_fail 'longer than 1023' tap-img rebase -u -b "$(printf '%01024d' 1)" -F raw qcow:top
[ "$(sha256sum top)" = "$before" ] || fail "a refused rebase changed something"
model "$over"
cp top fresh
for fault in write-every=1 flush-every=1 write-every=2; do
	cp --remove-destination fresh top # another file: what was kept for the one before is not for it
	expect_fail 'Input/output' tap-img rebase -b one -F raw "qcow$over/fault($fault):$T/top"
	[ "$(recorded)" = two ] || fail "$fault: it names $(recorded)"
	qemu-img compare -q -f qcow -F raw top model.raw || fail "$fault: QEMU reads something else"
done
tap-img rebase -b one -F raw "qcow$over:top"
agree one "after failures"
