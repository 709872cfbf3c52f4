#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Damaged maps of qcow (version 1) and sparse vmdk images: check finds it, check --repair mends it, then it finds
# nothing; what was not damaged is what it was, by us and by QEMU, and what was lost reads as zeros.  Of a vmdk
# of which one copy of its tables is damaged nothing is lost.  REPAIR_ROUNDS (default 1) of each kind, TEST_SEED.

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3
cd "$T" || exit
damage=$BUILD/$srcdir/tests/e2e/grains-damage.py
[ "${srcdir#/}" = "$srcdir" ] || damage=$srcdir/tests/e2e/grains-damage.py
seed=${TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
say "TEST_SEED=$seed"

python3 - <<'E2'
import random
random.seed(3)
with open("data.raw", "wb") as f:
    for _ in range(12):
        f.seek(random.randrange(11 << 20) & ~511)
        f.write(random.randbytes(random.randrange(1, 400000)))
    f.truncate(12 << 20)
E2

# check STATUS ARGS...; sound is 0, or leaks that are smaller than what the file system can give back.
check()
{
	local want=$1 status=0
	shift
	tap-img check "$@" "$spec" >check.out 2>&1 || status=$?
	[ "$want" != sound ] || case $kind:$status in *small*:3) return 0 ;; *) want=0 ;; esac
	# shellcheck disable=SC2053 # a pattern
	[[ $status = $want ]] || fail "$what: check $*: exit $status, not $want: $(cat check.out)"
}

same_disk()
{
	tap-img convert --force -q -O raw "$spec" now.raw || fail "$what: it cannot be read"
	cmp model.raw now.raw || fail "$what: what was not damaged is another"
	qemu-img compare -q -F raw -f "$qemu" "${spec#*:}" model.raw || fail "$what: QEMU reads something else"
}

one_round() # HOW
{
	what="$kind, $1 damaged, seed $seed"
	cp data.raw model.raw
	cp --sparse=always whole image
	python3 "$damage" image "$1" "$seed" >lost || fail "$what: it cannot be damaged"
	while read -r off len; do
		dd if=/dev/zero of=model.raw bs=512 seek=$((off / 512)) count=$((len / 512)) conv=notrunc status=none
	done <lost
	check "$([ "$1" = copy ] && echo '[23]' || echo 2)" # a second copy that differs harms nobody
	# A bad directory or copy of a vmdk is replaced by the good one; what the rest is like is seen the next time.
	[ "$1" = entry ] || tap-img check -q --repair "$spec" >check.out 2>&1 || true
	check sound --repair
	check sound
	same_disk
	# And it can be written: nothing that somebody else has is given out.
	start_tapdisk --nbd "unix:$T/s" "$spec"
	qemu-io -f raw -c 'write -q -P 3 0 12M' -c 'write -q -P 4 5M 1M' "nbd+unix:///?socket=$T/s"
	stop_tapdisk
	qemu-io -f raw -c 'write -q -P 3 0 12M' -c 'write -q -P 4 5M 1M' model.raw
	check sound
	same_disk
	seed=$((seed + 1))
}

while IFS='|' read -r kind qemu opts; do
	rm -f whole
	tap-img convert -q -f raw -o "$opts" data.raw "$qemu:whole"
	spec=$qemu:$T/image
	for ((i = 0; i < ${REPAIR_ROUNDS:-1}; i++)); do
		one_round entry
		one_round table
		[ "$qemu" = qcow ] || one_round copy
	done
done <<'KINDS'
qcow|qcow|cluster_size=4K
qcow of small clusters|qcow|cluster_size=512
vmdk|vmdk|subformat=monolithicSparse
vmdk with zeroed grains|vmdk|subformat=monolithicSparse,zeroed_grain=on
KINDS
say "ok"
