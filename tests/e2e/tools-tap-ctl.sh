#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-ctl: several disks from create to destroy; what scripts parse; pause onto another image; failures that leave
# nothing; what killed daemons leave, and how it goes away.
. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io nbdinfo python3

MARKERS=$BLKTAP_RUN_DIR/tapdisk

# field NAME MINOR: of the disk's line in the list.
field() { tap-ctl list -m "$2" | tr ' ' '\n' | sed -n "s/^$1=//p"; }

# create ARGS...: $MINOR, $PID and $NBD of the new disk.
create()
{
	local marker
	marker=$(tap-ctl create "$@") || fail "create $*"
	[ -e "$marker" ] || fail "create prints $marker, which is not there"
	MINOR=${marker##*/tapdisk-}
	PID=$(field pid "$MINOR")
	also_kill "$PID"
	NBD="nbd+unix:///?socket=$BLKTAP_RUN_DIR/nbd$PID.$MINOR"
}

# What a killed daemon had not written of its disk's tables waits for the next one, not for tap-ctl.
left() { find "$BLKTAP_RUN_DIR" -mindepth 1 ! -name 'keep*' ! -name tapdisk -printf '%f\n'; }
nothing_left() { [ -z "$(left)" ] || fail "left behind: $(left)"; }

# exits CODE COMMAND...
exits()
{
	local want=$1 got=0
	shift
	"$@" >/dev/null 2>&1 || got=$?
	[ "$got" = "$want" ] || fail "exit $got, not $want: $*"
}

truncate -s 8M "$T/a.img"
qemu-img create -q -f qcow2 "$T/b.qcow2" 64M
qemu-img create -q -f qcow2 "$T/c.qcow2" 64M

# ---- nothing there ----
[ -z "$(tap-ctl list)" ] || fail "the list of nothing is: $(tap-ctl list)"
[ "$(tap-ctl list --json)" = "[]" ] || fail "the JSON list of nothing"
exits 2 tap-ctl destroy -m 0
expect_fail 'unknown command; there are list, allocate' tap-ctl major
exits 22 tap-ctl major
[ "$(tap-ctl check)" = ok ] || fail "check says: $(tap-ctl check)"
BLKTAP_TAPDISK=/bin/false expect_fail . tap-ctl check
expect_fail 'say which disk: -p PID, -m MINOR' tap-ctl pause
expect_fail 'say which disk: -a' tap-ctl create
expect_fail 'no such option' tap-ctl list --frobnicate
expect_fail 'not a number' tap-ctl destroy -m x
exits 5 bash -c 'tap-ctl --help >/dev/full' # what nobody could read was not said

# ---- several disks ----
create -a "aio:$T/a.img"
A_PID=$PID A_MINOR=$MINOR A_NBD=$NBD
(cd "$T" && tap-ctl create -a tap:qcow2:b.qcow2 >"$T/marker") # relative, and as xm wrote it
[ "$(cat "$T/marker")" = "$MARKERS/tapdisk-1" ] || fail "the second marker is $(cat "$T/marker")"
B_MINOR=1 B_PID=$(field pid 1)
also_kill "$B_PID"
B_NBD="nbd+unix:///?socket=$BLKTAP_RUN_DIR/nbd$B_PID.1"
create -R -D -a "qcow2:$T/c.qcow2"
C_PID=$PID C_MINOR=$MINOR C_NBD=$NBD
[ "$A_MINOR $B_MINOR $C_MINOR" = "0 1 2" ] || fail "minors $A_MINOR $B_MINOR $C_MINOR"

tap-ctl list | sort -t= -k3 >"$T/list"
sort -t= -k3 >"$T/want" <<END
pid=$A_PID minor=0 state=0 args=aio:$T/a.img
pid=$B_PID minor=1 state=0 args=qcow2:$T/b.qcow2
pid=$C_PID minor=2 state=0 args=qcow2:$T/c.qcow2
END
same "$T/list" "$T/want"
[ "$(tap-ctl list -t qcow2 -f "$T/b.qcow2")" = "pid=$B_PID minor=1 state=0 args=qcow2:$T/b.qcow2" ] ||
	fail "list -t -f: $(tap-ctl list -t qcow2 -f "$T/b.qcow2")"
[ "$(tap-ctl list -t aio | wc -l)" = 1 ] || fail "list -t aio"
[ -z "$(tap-ctl list -p "$A_PID" -m 1)" ] || fail "list -p of one disk -m of another"
tap-ctl list --json | python3 -c '
import json, sys
l = {d["minor"]: d for d in json.load(sys.stdin)}
assert sorted(l) == [0, 1, 2], l
assert all(d["kind"] == "live" and d["flags"] == 0 and d["state"] == "running" for d in l.values()), l
assert l[0]["size"] == 8 << 20 and l[1]["size"] == 64 << 20, l
assert l[2]["spec"] == "qcow2(direct=off):'"$T"'/c.qcow2", l[2]
assert l[2]["read_only"] is True and l[1]["read_only"] is False, l
' || fail "list --json"
if command -v script >/dev/null; then
	script -qec "tap-ctl list" /dev/null </dev/null | tr -d '\r' >"$T/table"
	head -1 "$T/table" | grep -Eq '^ +pid minor state +type file$' || fail "the table: $(cat "$T/table")"
	grep -Eq "^ +$B_PID +1 +0 +qcow2 $T/b.qcow2\$" "$T/table" || fail "the table: $(cat "$T/table")"
fi

qemu-io -f raw -c "write -P 0x11 0 1M" -c flush "$A_NBD" >/dev/null
qemu-io -f raw -c "write -P 0x22 1M 1M" -c flush "$B_NBD" >/dev/null
if qemu-io -f raw -c "write 0 4k" "$C_NBD" >/dev/null 2>&1; then fail "a disk created with -R takes writes"; fi
tap-ctl stats -m 1 | python3 -c '
import json, sys
text = json.dumps(json.load(sys.stdin))
assert "1048576" in text, text
' || fail "stats does not count a write of 1 MiB"

# ---- pause, and go on with another image ----
cp "$T/b.qcow2" "$T/b2.qcow2" # it was flushed; only its size matters here
tap-ctl pause -m 1
[ "$(field state 1)" = 0x2a ] || fail "a paused disk has state $(field state 1)"
qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 "$T/b3.qcow2" # nobody holds the lock of b.qcow2
before=$(sha256sum <"$T/b.qcow2")
qemu-io -f raw -c "write -P 0x33 0 64k" -c flush "$B_NBD" >/dev/null &
writer=$!
expect_fail 'nowhere.qcow2' tap-ctl unpause -p "$B_PID" -a "qcow2:$T/nowhere.qcow2"
[ "$(field state 1)" = 0x2a ] || fail "a failed unpause leaves state $(field state 1)"
is_gone_or_zombie "$writer" && fail "a write went through a paused disk"
tap-ctl unpause -p "$B_PID" -m 1 -a "qcow2:$T/b3.qcow2"
wait "$writer" || fail "the write that waited for the pause to end failed"
[ "$(field args 1)" = "qcow2:$T/b3.qcow2" ] || fail "after unpause -a: $(field args 1)"
qemu-io -f raw -r -c "read -P 0x33 0 64k" -c "read -P 0x22 1M 1M" "$B_NBD" >"$T/read.out"
grep -q "Pattern verification failed" "$T/read.out" && fail "after unpause -a: $(cat "$T/read.out")"
[ "$(sha256sum <"$T/b.qcow2")" = "$before" ] || fail "the image was written to after unpause onto another"
tap-ctl pause -p "$B_PID" -t 30
tap-ctl unpause -m 1
[ "$(field args 1) $(field state 1)" = "qcow2:$T/b3.qcow2 0" ] || fail "unpause onto the same image"

# ---- what does not go together ----
expect_fail 'no tapdisk with pid' tap-ctl stats -p "$A_PID" -m 1
expect_fail 'there is no disk with minor 77' tap-ctl stats -m 77
exits 22 tap-ctl destroy -p 1 -m 0 # minor 0 belongs to another
[ "$(field state 0)" = 0 ] || fail "a refused destroy destroyed"

# ---- create undoes what it did ----
left >"$T/before"
expect_fail 'missing.img' tap-ctl create -a "aio:$T/missing.img"
expect_fail 'nosuch' tap-ctl create -a "nosuch:$T/a.img"
expect_fail 'b3.qcow2' tap-ctl create -a "qcow2:$T/b3.qcow2" # in use
exits 2 tap-ctl create -a "aio:$T/missing.img"
BLKTAP_TAPDISK=/bin/false expect_fail . tap-ctl create -a "aio:$T/a.img"
left >"$T/after"
same "$T/before" "$T/after"

# ---- destroy ----
tap-ctl destroy -p "$A_PID" -m 0
tap-ctl destroy -m 1
tap-ctl destroy -p "$C_PID"
for pid in "$A_PID" "$B_PID" "$C_PID"; do
	is_gone_or_zombie "$pid" || fail "tapdisk $pid runs on after destroy"
	forget_pid "$pid"
done
nothing_left
exits 2 tap-ctl destroy -p "$A_PID" -m 0
qemu-img check -q "$T/b3.qcow2"
qemu-io -r -c "read -P 0x11 0 1M" -f raw "$T/a.img" | grep -q "verification failed" && fail "a.img lost a write"

# ---- a daemon without a disk ----
PID=$(tap-ctl spawn)
also_kill "$PID"
[ "$(tap-ctl list)" = "pid=$PID" ] || fail "a daemon without a disk: $(tap-ctl list)"
tap-ctl destroy -p "$PID"
is_gone_or_zombie "$PID" || fail "tapdisk $PID runs on after destroy"
forget_pid "$PID"
nothing_left

# ---- a killed daemon: seen, and removed, by minor or by pid ----
for by in m p; do
	create -a "qcow2:$T/c.qcow2"
	kill -KILL "$PID"
	wait_for 10 is_gone_or_zombie "$PID"
	forget_pid "$PID"
	[ "$(tap-ctl list)" = "pid=$PID minor=0 state=0x1" ] || fail "of a killed daemon: $(tap-ctl list)"
	[ -z "$(tap-ctl list -t qcow2 -f "$T/c.qcow2")" ] || fail "a dead disk is listed by its file"
	expect_fail "is dead; tap-ctl destroy -p $PID cleans up" tap-ctl stats -m 0
	if [ $by = m ]; then tap-ctl destroy -m 0; else tap-ctl destroy -p "$PID"; fi
	nothing_left
done

# ---- a flush that fails is heard of, and the disk is gone all the same ----
create -a "fault(flush-every=1)/aio:$T/a.img"
qemu-io -f raw -c "write -P 0x44 0 64k" "$NBD" >/dev/null
expect_fail 'destroyed, but' tap-ctl destroy -m 0
is_gone_or_zombie "$PID" || fail "tapdisk $PID runs on after destroy"
forget_pid "$PID"
nothing_left

# ---- a paused disk can be destroyed; who waited for it gets an error ----
create -a "qcow2:$T/c.qcow2"
tap-ctl pause -m 0
(qemu-io -f raw -c "write 0 4k" "$NBD" && touch "$T/went-through") >/dev/null 2>&1 &
writer=$!
tap-ctl destroy -m 0
forget_pid "$PID"
wait "$writer" || true
[ ! -e "$T/went-through" ] || fail "a write to a destroyed disk succeeded"
nothing_left

# ---- a daemon that hangs keeps its minor until it is gone ----
create -a "qcow2:$T/c.qcow2"
kill -STOP "$PID"
started=$SECONDS
expect_fail "still runs after 1 s.*kill -9 $PID, then tap-ctl destroy -p $PID" tap-ctl destroy -m 0 -t 1
[ $((SECONDS - started)) -lt 100 ] || fail "destroy -t 1 took $((SECONDS - started)) s"
[ -e "$MARKERS/tapdisk-0" ] || fail "the minor of a daemon that still runs was freed"
kill -KILL "$PID"
wait_for 10 is_gone_or_zombie "$PID"
forget_pid "$PID"
tap-ctl destroy -m 0
nothing_left

# ---- markers alone ----
touch "$MARKERS/tapdisk-5" "$MARKERS/tapdisk-0"
[ "$(tap-ctl list)" = "minor=0
minor=5" ] || fail "markers alone: $(tap-ctl list)"
create -a "aio:$T/a.img"
[ "$MINOR" = 1 ] || fail "minor 0 is taken, and create took $MINOR"
expect_fail 'no tapdisk has minor 5; tap-ctl destroy -m 5' tap-ctl stats -m 5
tap-ctl destroy -m 5
tap-ctl destroy -p 999999 -m 0 # a script that remembers both numbers
tap-ctl destroy -m 1
forget_pid "$PID"
nothing_left

# ---- step by step ----
[ "$(tap-ctl allocate)" = "$MARKERS/tapdisk-0" ] || fail "allocate"
PID=$(tap-ctl spawn)
also_kill "$PID"
expect_fail 'has no minor; tap-ctl attach' tap-ctl open -p "$PID" -a "aio:$T/a.img"
expect_fail 'minor 7 is not allocated; tap-ctl allocate' tap-ctl attach -p "$PID" -m 7
exits 22 tap-ctl attach -p "$PID"
tap-ctl attach -p "$PID" -m 0
[ "$(tap-ctl list)" = "pid=$PID minor=0 state=0x2" ] || fail "attached: $(tap-ctl list)"
expect_fail "minor 0: tapdisk $PID has it" tap-ctl free -m 0
exits 16 tap-ctl free -m 0
other=$(tap-ctl spawn)
also_kill "$other"
expect_fail 'another tapdisk has it' tap-ctl attach -p "$other" -m 0
exits 16 tap-ctl attach -p "$other" -m 0
tap-ctl destroy -p "$other"
forget_pid "$other"
expect_fail 'missing.img' tap-ctl open -p "$PID" -m 0 -a "aio:$T/missing.img"
exits 2 tap-ctl open -p "$PID" -m 0 -a "aio:$T/missing.img"
tap-ctl open -p "$PID" -m 0 -r -a "qcow2:$T/c.qcow2"
[ "$(tap-ctl list)" = "pid=$PID minor=0 state=0 args=qcow2:$T/c.qcow2" ] || fail "opened: $(tap-ctl list)"
tap-ctl list --json | grep -q 'direct=off' || fail "open -r does not go through the page cache"
exits 16 tap-ctl detach -p "$PID" -m 0 # a disk is open
NBD="nbd+unix:///?socket=$BLKTAP_RUN_DIR/nbd$PID.0"
qemu-io -f raw -c "write -P 0x55 0 64k" "$NBD" >/dev/null
tap-ctl close -p "$PID" -m 0 -f -t 30
[ "$(tap-ctl list)" = "pid=$PID minor=0 state=0x2" ] || fail "closed: $(tap-ctl list)"
qemu-img check -q "$T/c.qcow2"
exits 19 tap-ctl close -p "$PID" -m 0
tap-ctl open -p "$PID" -m 0 -R -a "qcow2:$T/c.qcow2" # and again
qemu-io -r -f raw -c "read -P 0x55 0 64k" "$NBD" | grep -q "verification failed" && fail "close lost a write"
tap-ctl close -m 0
tap-ctl detach -p "$PID" -m 0
is_gone_or_zombie "$PID" || fail "tapdisk $PID runs on after detach"
forget_pid "$PID"
[ "$(tap-ctl list)" = "minor=0" ] || fail "detached: $(tap-ctl list)"
tap-ctl free -m 0
exits 2 tap-ctl free -m 0
exits 22 tap-ctl free
nothing_left

# ---- what we cannot do is refused, not left out ----
for option in "-2 aio:$T/a.img" -s "-e 0" "-C $T/log" "-d name" "-c slice"; do
	# shellcheck disable=SC2086
	expect_fail "^tap-ctl: create: ${option%% *}: ." tap-ctl create -a "aio:$T/a.img" $option
done
for option in "-2 aio:$T/a.img" -s "-e 0" "-C $T/log" -E; do
	# shellcheck disable=SC2086
	expect_fail "^tap-ctl: open: ${option%% *}: ." tap-ctl open -m 0 -a "aio:$T/a.img" $option
done
expect_fail '^tap-ctl: unpause: -2: .' tap-ctl unpause -m 0 -2 "aio:$T/a.img"
expect_fail '^tap-ctl: unpause: -c: .' tap-ctl unpause -m 0 -c "$T/log"
expect_fail '^tap-ctl: spawn: -c: .' tap-ctl spawn -c slice
expect_fail '^tap-ctl: allocate: -d: .' tap-ctl allocate -d name
exits 95 tap-ctl create -a "aio:$T/a.img" -s
nothing_left

# ---- JSON everywhere ----
python3 - "$T" <<'PY' || fail "the JSON of some verb"
import json, subprocess, sys
def run(*a):
    return json.loads(subprocess.run(["tap-ctl", *a, "--json"], check=True, stdout=subprocess.PIPE).stdout)
disk = "aio:" + sys.argv[1] + "/a.img"
assert run("check")["ok"] is True
minor = run("allocate")["minor"]
pid = run("spawn")["pid"]
who = ["-p", str(pid), "-m", str(minor)]
done = {"pid": pid, "minor": minor}
for verb in [["attach"], ["open", "-a", disk], ["pause"], ["unpause"], ["resize", "16M"], ["close"], ["detach"]]:
    got = run(verb[0], *who, *verb[1:])
    assert got == done, (verb, got)
assert run("free", "-m", str(minor)) == {"pid": None, "minor": minor}
made = run("create", "-a", disk)
assert run("stats", "-m", str(made["minor"]))["vbd"]
assert run("destroy", "-m", str(made["minor"])) == {"pid": made["pid"], "minor": made["minor"]}
assert run("list") == []
PY
truncate -s 8M "$T/a.img"
nothing_left

# ---- an interrupted create leaves nothing ----
# A tapdisk that starts and then does not answer, so that there is time.
cat >"$T/slow-tapdisk" <<END
#!/bin/bash
exec -a tapdisk "$BUILD/bin/tapdisk" "\$@" > >(while read -r l; do kill -STOP \$\$; echo "\$l"; done)
END
chmod +x "$T/slow-tapdisk"
for signal in INT TERM; do
	BLKTAP_TAPDISK=$T/slow-tapdisk bash -c 'trap - INT; exec tap-ctl create -a "$1"' - "aio:$T/a.img" &
	maker=$!
	wait_for 10 test -e "$MARKERS/tapdisk-0"
	wait_for 10 eval 'ls "$BLKTAP_RUN_DIR"/ctl*'
	PID=$(ls "$BLKTAP_RUN_DIR")
	PID=$(sed -n 's/^ctl//p' <<<"$PID")
	kill -"$signal" $maker
	wait $maker && fail "an interrupted create succeeded"
	[ ! -e "$MARKERS/tapdisk-0" ] || fail "an interrupted create leaves its marker"
	kill -CONT "$PID"
	wait_for 10 is_gone_or_zombie "$PID"
	nothing_left
done

# ---- at the same time ----
makers=()
for i in 1 2 3 4; do
	truncate -s 1M "$T/p$i.img"
	tap-ctl create -a "aio:$T/p$i.img" >"$T/p$i.marker" &
	makers+=($!)
done
for pid in "${makers[@]}"; do wait "$pid" || fail "one of four creates at the same time"; done
for pid in $(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p'); do also_kill "$pid"; done
[ "$(sort -u "$T"/p?.marker | wc -l)" = 4 ] || fail "two disks got the same minor: $(cat "$T"/p?.marker)"
for i in 0 1 2 3; do tap-ctl destroy -m $i; done
nothing_left
