#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Whatever is killed, and whenever: block-detach finishes, and nothing is left.  BLKTAP_ATTACH_KILLS (15) of each.

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
need_fuse loop
new_vdev
trap attach_cleanup EXIT

kills=${BLKTAP_ATTACH_KILLS:-15}
seed=${BLKTAP_SEED:-${TEST_SEED:-$RANDOM}}
RANDOM=$seed
say "seed $seed, $kills kills of each"
make_disk aio "$T/disk" 64

# ---- the daemon, idle ----

block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
# A detached mount, the daemon alive: it goes on serving the loop device.
umount -l "$BLKTAP_RUN_DIR/attach/$VDEV.disk"
sleep 0.2
block-detach 0 "$VDEV" 2>/dev/null
nothing_left
block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
kill -KILL "$(our_tapdisks)"
wait_for 5 eval "block-list | grep -q 'state=broken pid=0 '"
block-detach 0 "$VDEV" 2>"$T/err"
grep -q 'may be lost' "$T/err" || fail "a dead daemon was not mentioned: $(cat "$T/err")"
nothing_left

# ---- the daemon, under load ----

block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
dd if=/dev/zero of="/dev/$VDEV" bs=64k oflag=direct status=none 2>/dev/null &
writer=$!
sleep 0.1
for pid in $(our_tapdisks); do kill -KILL "$pid"; done
wait "$writer" || true
block-detach 0 "$VDEV" 2>/dev/null
nothing_left

# ---- everything at once ----

block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
loop=$(basename "$(readlink "/dev/$VDEV")")
kill -KILL "$(our_tapdisks)"
umount -l "$BLKTAP_RUN_DIR/attach/$VDEV.disk"
rm "/dev/$VDEV"
block-detach 0 "$VDEV" 2>/dev/null
nothing_left
[ ! -e "/sys/block/$loop/loop" ] || fail "$loop is left, over nothing" # what_is_left does not know it

# ---- a record that is not one ----

block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
echo '{ "vdev":' >"$BLKTAP_RUN_DIR/attach/$VDEV.json"
block-detach 0 "$VDEV" 2>"$T/err"
grep -q 'not a record of ours' "$T/err" || fail "said of a broken record: $(cat "$T/err")"
rm -f "/dev/$VDEV" "/dev/blktap/$VDEV"
rmdir /dev/blktap 2>/dev/null || true
nothing_left

# ---- block-attach itself, at any moment ----

# kill_within MS COMMAND...: true if it was still running.
kill_within()
{
	local ms=$1 pid
	shift
	"$@" >/dev/null 2>&1 &
	pid=$!
	sleep "$(printf '0.%03d' "$ms")"
	kill -KILL "$pid" 2>/dev/null && ! wait "$pid" 2>/dev/null
}

start=$(date +%s%N)
block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null
attach_ms=$((($(date +%s%N) - start) / 1000000 + 2))
start=$(date +%s%N)
block-detach 0 "$VDEV"
detach_ms=$((($(date +%s%N) - start) / 1000000 + 2))

cut=0
for i in $(seq "$kills"); do
	kill_within $((RANDOM % attach_ms)) block-attach 0 "aio:$T/disk" "$VDEV" && cut=$((cut + 1))
	block-detach --timeout 200 0 "$VDEV" 2>"$T/err" || fail "detach after a killed attach ($i): $(cat "$T/err")"
	nothing_left
done
say "$cut of $kills attaches cut off within $attach_ms ms"

cut=0
for i in $(seq "$kills"); do
	block-attach 0 "aio:$T/disk" "$VDEV" >/dev/null || fail "attach ($i)"
	kill_within $((RANDOM % detach_ms)) block-detach 0 "$VDEV" && cut=$((cut + 1))
	block-detach --timeout 200 0 "$VDEV" 2>"$T/err" || fail "detach after a killed detach ($i): $(cat "$T/err")"
	nothing_left
done
say "$cut of $kills detaches cut off within $detach_ms ms"
