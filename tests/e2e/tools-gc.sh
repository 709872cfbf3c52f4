#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-ctl gc: everything that a killed tapdisk can leave is found, named, and removed; nothing that a living process
# holds is touched, nor what holds somebody's answered writes.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
need_fuse
own_mounts
require qemu-img qemu-io flock python3

# In this namespace are copies of the mounts of everybody else's tests: not ours to look at.
awk '$3 == "fuse.tapdisk" { print $2 }' /proc/self/mounts | while read -r dir; do umount -l "$dir"; done

left() { find "$BLKTAP_RUN_DIR" -mindepth 1 ! -name tapdisk ! -name attach -printf '%P\n' | sort; }

# gc [OPTION]...: its output, to $T/gc too.
gc() { tap-ctl gc "$@" >"$T/gc" 2>"$T/gc.err" || fail "gc $*: $(cat "$T/gc" "$T/gc.err")"; }
says() { grep -Eq -- "$1" "$T/gc" || fail "expected /$1/ of gc, it said: $(cat "$T/gc")"; }
silent() { [ ! -s "$T/gc" ] || fail "gc should find nothing: $(cat "$T/gc")"; }

# create SPEC: $PID, $MINOR
create()
{
	local marker
	marker=$(tap-ctl create -a "$1") || fail "create $1"
	MINOR=${marker##*/tapdisk-}
	PID=$(tap-ctl list -m "$MINOR" | sed -n 's/^pid=\([0-9]*\).*/\1/p')
	also_kill "$PID"
}

kill_it()
{
	kill -KILL "$PID"
	wait_for 10 is_gone_or_zombie "$PID"
	forget_pid "$PID"
}

truncate -s 8M "$T/a.img"
qemu-img create -q -f qcow2 "$T/b.qcow2" 64M

# ---- nothing; and what lives ----

gc
silent
[ "$(tap-ctl gc --json)" = "[]" ] || fail "gc --json of nothing"
create "aio:$T/a.img"
live=$PID live_minor=$MINOR
gc
silent
[ "$(tap-ctl list)" = "pid=$live minor=$live_minor state=0 args=aio:$T/a.img" ] || fail "gc touched what lives"

# ---- sockets and a minor ----

truncate -s 8M "$T/c.img"
create "aio:$T/c.img"
kill_it
left >"$T/before"
gc -n
says "^would remove sockets of tapdisk $PID, and its minor: it is dead\$"
left >"$T/after"
same "$T/before" "$T/after"
tap-ctl gc --json --dry-run | python3 -c '
import json, sys
found = json.load(sys.stdin)
assert len(found) == 1 and found[0]["action"] == "would remove" and found[0]["why"] == "it is dead", found
' || fail "gc --json"
gc
says "^removed sockets of tapdisk $PID, and its minor: it is dead\$"
[ "$(tap-ctl list)" = "pid=$live minor=$live_minor state=0 args=aio:$T/a.img" ] || fail "after gc: $(tap-ctl list)"
gc
silent

# A socket without a control socket beside it, and one of a process that is a tapdisk, but not yet listening.
python3 - "$BLKTAP_RUN_DIR" "$live" <<'PY'
import socket, sys
for name in "nbd2147483000.1", "nbd%s.77" % sys.argv[2]:
    s = socket.socket(socket.AF_UNIX)
    s.bind(sys.argv[1] + "/" + name)
PY
gc
says "^removed socket $BLKTAP_RUN_DIR/nbd2147483000.1: nobody listens"
[ -e "$BLKTAP_RUN_DIR/nbd$live.77" ] || fail "gc took a socket of a process that lives"
rm "$BLKTAP_RUN_DIR/nbd$live.77"

# ---- minors by themselves ----

marker=$(tap-ctl allocate)
gc
says "^kept minor ${marker##*-}: allocated [0-9]+ seconds ago"
touch -d '1 hour ago' "$marker"
gc
says "^removed minor ${marker##*-}: allocated long ago"
[ ! -e "$marker" ] || fail "the marker is there still"
marker=$(tap-ctl allocate)
echo 2147483000 >"$marker"
flock "$marker" tap-ctl gc >"$T/gc" 2>&1 && fail "a marker that is locked was taken: $(cat "$T/gc")"
[ -e "$marker" ] || fail "a marker that is locked was removed"
gc
says "^removed minor ${marker##*-}: tapdisk 2147483000, which had it, is gone"

# ---- daemons that are no use, but live ----

PID=$(tap-ctl spawn)
also_kill "$PID"
gc
says "^kept tapdisk $PID: it runs and has no disk; tap-ctl destroy -p $PID ends it"
tap-ctl destroy -p "$PID"
forget_pid "$PID"

# ---- tap-ctl itself is killed, wherever it is: list shows what is left, destroy and gc remove it ----

others() { tap-ctl list | grep -v "^pid=$live " || true; }

sweep()
{
	local pid
	for pid in $(others | sed -n 's/^pid=\([0-9]*\).*/\1/p'); do tap-ctl destroy -p "$pid" || true; done
	find "$BLKTAP_RUN_DIR/tapdisk" -name 'tapdisk-*' ! -name "tapdisk-$live_minor" -exec touch -d '1 hour ago' {} +
	tap-ctl gc && [ -z "$(others)" ]
}

for i in 0 1 2 3 4 5 6 7; do
	tap-ctl create -a "aio:$T/c.img" >/dev/null 2>&1 &
	maker=$!
	sleep "0.00$((i * i))"
	kill -KILL $maker 2>/dev/null || true
	wait $maker 2>/dev/null || true
	wait_for 20 sweep
done

# ---- what outlives a kill on purpose ----

create "qcow2:$T/b.qcow2"
qemu-io -f raw -c "write -P 0x77 0 1M" "nbd+unix:///?socket=$BLKTAP_RUN_DIR/nbd$PID.$MINOR" >/dev/null
keep=$(compgen -G "$BLKTAP_RUN_DIR/keep*") || fail "a qcow2 disk keeps nothing"
gc
silent
kill_it
gc
says "^removed sockets of tapdisk $PID"
says "^kept file $keep: holds writes to $T/b.qcow2 that tapdisk $PID answered and did not finish"
cp -p "$keep" "$T/keep"
create "qcow2:$T/b.qcow2"
tap-ctl destroy -m "$MINOR"
forget_pid "$PID"
qemu-io -f qcow2 -r -c "read -P 0x77 0 1M" "$T/b.qcow2" | grep -q "verification failed" && fail "gc lost a write"
cp -p "$T/keep" "$keep" # as if it had not been finished
gc
says "^kept file $keep"
[ -e "$keep" ] || fail "gc took a kept file"
gc --force
says "^removed file $keep: given up: writes to $T/b.qcow2"
[ ! -e "$keep" ] || fail "gc --force left it"
cp -p "$T/keep" "$keep"
python3 - "$keep" <<'PY' # of another start of the machine
import sys
data = bytearray(open(sys.argv[1], "rb").read())
at = data.index(open("/proc/sys/kernel/random/boot_id", "rb").read(36))
data[at:at + 36] = b"00000000-0000-0000-0000-000000000000"
sum_at = None
def fnv(b):
    s = 0xcbf29ce484222325
    for c in b:
        s = (s ^ c) * 0x100000001b3 % (1 << 64)
    return s
import struct
size = struct.unpack_from("<I", data, 12)[0]
struct.pack_into("<Q", data, size - 8, fnv(data[:size - 8]))
open(sys.argv[1], "wb").write(data)
PY
gc
says "^removed file $keep: what it holds is of no use"
head -c 8192 /dev/urandom >"$keep"
chmod 600 "$keep"
gc
says "^kept file $keep: it is not"
rm "$keep"

# A guest's ring: here is no Xen, so there is no guest that could come back.
if ! grep -qs control_d /proc/xen/capabilities; then
	ring=$BLKTAP_RUN_DIR/ring7.51712.0
	: >"$ring"
	flock "$ring" tap-ctl gc >"$T/gc" 2>&1 || fail "gc: $(cat "$T/gc")"
	silent
	: >"$BLKTAP_RUN_DIR/spec7.51712"
	gc
	says "^removed file $ring: its guest is gone"
	says "^removed file $BLKTAP_RUN_DIR/spec7.51712: its guest is gone"
fi

# ---- mounts, and a loop device on one ----

mkdir "$T/d"
PATH=$PATH tapfuse --format raw "$T/c.img" "$T/d"
PID=$(tap-ctl list -f "$T/c.img" | sed -n 's/^pid=\([0-9]*\).*/\1/p')
also_kill "$PID"
loop=
if [ -c /dev/loop-control ] && ! grep -qs control_d /proc/xen/capabilities; then
	loop=$(losetup -f --show "$T/d/disk")
fi
gc
silent
kill -STOP "$PID" # hangs, and lives
gc
says "^kept tapdisk $PID: it runs and does not answer; tap-ctl destroy -p $PID ends it"
grep -q "mount $T/d" "$T/gc" && fail "gc takes a mount for dead that hangs: $(cat "$T/gc")"
[ "$(awk -v d="$T/d" '$2 == d' /proc/self/mounts | wc -l)" = 1 ] || fail "the mount of a tapdisk that hangs is gone"
kill_it
gc
says "^removed mount $T/d: its tapdisk is dead"
[ -z "$loop" ] || says "^removed device $loop: the tapdisk"
[ -z "$loop" ] || wait_for 10 eval '! losetup "$loop"'
[ "$(awk -v d="$T/d" '$2 == d' /proc/self/mounts | wc -l)" = 0 ] || fail "the mount is there still"
rmdir "$T/d"

# ---- what block-attach began ----

if [ -n "$loop" ]; then
	require mkfs.ext4
	trap attach_cleanup EXIT
	new_vdev
	qemu-img create -q -f qcow2 "$T/d.qcow2" 64M
	block-attach 0 "qcow2:$T/d.qcow2" "$VDEV" w >/dev/null
	PID=$(block-list | sed -n "s/^vdev=$VDEV .*pid=\([0-9]*\).*/\1/p")
	gc
	silent
	kill_it
	gc -n
	says "^would remove disk $VDEV: its tapdisk is dead"
	flock "$BLKTAP_RUN_DIR/attach/$VDEV.lock" tap-ctl gc -n >"$T/gc" 2>&1 || fail "gc -n: $(cat "$T/gc")"
	grep -q "disk $VDEV" "$T/gc" && fail "gc takes a disk that a command works on: $(cat "$T/gc")"
	gc
	says "^removed disk $VDEV: its tapdisk is dead"
	nothing_left
	gc
	grep -v "^kept file .*d.qcow2" "$T/gc" && fail "gc finds more: $(cat "$T/gc")"
fi

# ---- and what lived lives ----

[ "$(tap-ctl list)" = "pid=$live minor=$live_minor state=0 args=aio:$T/a.img" ] || fail "gc touched what lives"
tap-ctl destroy -m "$live_minor"
forget_pid "$live"
gc --force
find "$BLKTAP_RUN_DIR" -mindepth 1 -type f | grep -v '\.lock$' && fail "left at the end"
exit 0
