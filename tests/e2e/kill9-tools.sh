#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# kill -9 of tap-img in the middle of a snapshot made, applied, deleted, and of amend, on a slow disk: in the eyes of
# qemu-img the image has leaks at most; the disk reads as it did, or as it was to; each snapshot shows what it always
# did; and the same command again does it.  Neither is done to an image that somebody has open.
# KILL9_TOOLS_ROUNDS (default 1) kills of each command, KILL9_SEED.
# shellcheck disable=SC2054 # commas in options

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io
cd "$T" || exit

rounds=${KILL9_TOOLS_ROUNDS:-1}
seed=${KILL9_SEED:-${TEST_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}}
say "KILL9_SEED=$seed KILL9_TOOLS_ROUNDS=$rounds"
RANDOM=$((seed % 32768))
SLOW='/fault(delay-ms=1)/aio' # each request to the file sleeps

SECRET=(--object secret,id=s,file=a)
LUKS=driver=qcow2,encrypt.format=luks,encrypt.key-secret=s

# ---- looking; the image is k.qcow2, and luks says whether it is encrypted ----

# key: the pass phrase that opens it, one at least.
key()
{
	local k
	for k in a b; do
		tap-img convert --force -q -O raw "qcow2(key-file=$k):k.qcow2" view.raw 2>key.err && echo "$k" && return
	done
	fail "$what: no pass phrase opens the image: $(cat key.err)"
}

# view [SNAPSHOT]: the sum of its bytes.
view()
{
	local opts=${1:+snapshot=$1}
	[ "$luks" = no ] || opts="key-file=$(key)${opts:+,$opts}"
	tap-img convert --force -q -O raw "qcow2${opts:+($opts)}:k.qcow2" view.raw || fail "$what: it cannot be read"
	sha256sum <view.raw
}

# Whoever opens it for writing first puts in what was left, and no other does.
adopt()
{
	local o all=('')
	[ "$luks" = no ] || all=('(key-file=a)' '(key-file=b)')
	for o in "${all[@]}"; do
		tap-img resize "qcow2$o:k.qcow2" "$size" >/dev/null 2>adopt.err && return
	done
	fail "$what: $(cat adopt.err)"
}

has() { tap-img snapshot -l -f qcow2 --json k.qcow2 | grep -q "\"name\": *\"$1\""; }

# sound [STATUS]: 3 is leaks alone.
sound()
{
	local status=0
	if [ "$luks" = yes ]; then
		cp "$(key)" key.now
		qemu-img check --object secret,id=s,file=key.now --image-opts "$LUKS,file.filename=k.qcow2" \
			>check.out 2>&1 || status=$?
	else
		qemu-img check -f qcow2 k.qcow2 >check.out 2>&1 || status=$?
	fi
	[ "$status" = 0 ] || [ "$status" = "${1:-0}" ] || fail "$what: qemu-img check: exit $status: $(cat check.out)"
	[ "$status" = 0 ] || leaks=$((leaks + 1))
}

shows() # WHAT SUM SUM...: one of these
{
	local sum=$1
	shift
	case " $* " in *" $sum "*) ;; *) fail "$what: it shows what it never held" ;; esac
}

snapshots_show()
{
	! has one || shows "$(view one)" "$one"
	! has two || shows "$(view two)" "$two"
	! has new || shows "$(view new)" "$live"
	[ "$luks" = yes ] || has one || fail "$what: snapshot one is gone"
	[ "$luks" = yes ] || [ "$name" = delete ] || has two || fail "$what: snapshot two is gone"
}

# ---- one kill ----

# milliseconds COMMAND...: how long it takes.
milliseconds()
{
	local from=${EPOCHREALTIME/./}
	"$@"
	echo $(((${EPOCHREALTIME/./} - from) / 1000))
}

whole_run() { tap-img "${command[@]}" "qcow2$opts$SLOW:whole.qcow2"; }

# Again: a snapshot that is there already, or gone, is fine.
again()
{
	case $name in
	create) ! has new || return 0 ;;
	delete) has two || return 0 ;;
	slots) command=(amend -q -o encrypt.new-key-file=b,encrypt.iter-time=1) opts="(key-file=$(key))" ;;
	esac
	tap-img "${command[@]}" "qcow2$opts:k.qcow2" 2>again.err || fail "$what: again: $(cat again.err)"
}

one_kill()
{
	local most=$1 ms pid opts=$opts
	ms=$((RANDOM * most / 32768))
	what="$name, killed after $ms of $most ms"
	cp --sparse=always "$from" k.qcow2
	tap-img "${command[@]}" "qcow2$opts$SLOW:k.qcow2" 2>run.err &
	pid=$!
	also_kill "$pid"
	sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
	kill -9 "$pid" 2>/dev/null && kills=$((kills + 1))
	wait "$pid" 2>/dev/null || true
	forget_pid "$pid"
	[ ! -s run.err ] || fail "$what: it said: $(cat run.err)"
	sound 3
	adopt
	if [ "$name" = apply ]; then shows "$(view)" "$live" "$one"; else shows "$(view)" "$live"; fi
	snapshots_show
	again
	if [ "$luks" = no ]; then # leaks of the first go
		tap-img check -q --repair=leaks -f qcow2 k.qcow2 >/dev/null || fail "$what: repair"
	fi
	sound
	if [ "$name" = apply ]; then shows "$(view)" "$one"; else shows "$(view)" "$live"; fi
	snapshots_show
	[ -z "$(find "$BLKTAP_RUN_DIR" -name 'keep*')" ] || fail "$what: something is kept of a closed image"
}

# kill_often NAME COMMAND...: on copies of $from.
kill_often()
{
	local i most
	name=$1 leaks=0 kills=0
	shift
	for ((i = 0; i < rounds; i++)); do
		command=("$@")
		cp --sparse=always "$from" whole.qcow2
		[ "$i" != 0 ] || most=$(milliseconds whole_run)
		one_kill "$most"
	done
	say "$name: $kills kills of $rounds came before its end, $leaks left leaks"
}

# ---- what is killed ----

luks=no opts='' size=4M what="the image to begin with"
qemu-img create -q -f qcow2 -o cluster_size=512 s.qcow2 4M
qemu-io -f qcow2 -c 'write -q -P 1 0 500k' -c 'write -q -P 2 2M 70k' s.qcow2
qemu-img snapshot -c one s.qcow2
qemu-io -f qcow2 -c 'write -q -P 3 100k 200k' s.qcow2
qemu-img snapshot -c two s.qcow2
qemu-io -f qcow2 -c 'write -q -P 4 50k 100k' -c 'write -q -z 300k 100k' s.qcow2
cp s.qcow2 k.qcow2
one=$(view one) two=$(view two) live=$(view)
from=s.qcow2
kill_often create snapshot -q -c new
kill_often apply snapshot -q -a one
kill_often delete snapshot -q -d two
kill_often wider amend -q -o refcount_bits=64
kill_often older amend -q -o compat=0.10
kill_often lazy amend -q -o lazy_refcounts=on

luks=yes size=1M
printf 'the first' >a
printf 'the second' >b
chmod 600 a b
tap-img create -o cluster_size=4K,encrypt.format=luks,encrypt.iter-time=1,encrypt.key-file=a qcow2:e.qcow2 1M
qemu-io "${SECRET[@]}" --image-opts "$LUKS,file.filename=e.qcow2" -c 'write -q -P 5 10k 300k' >/dev/null
cp e.qcow2 k.qcow2
live=$(view)
from=e.qcow2 opts='(key-file=a)'
kill_often slots amend -q -o encrypt.new-key-file=b,encrypt.old-key-file=a,encrypt.iter-time=1

# ---- an image that somebody has open ----

luks=no opts='' name=nothing what="an image in use"
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/s.qcow2"
qemu-io -f raw -c 'write -q -P 9 0 64k' "nbd+unix:///?socket=$T/s"
for command in "snapshot -c x" "snapshot -a one" "snapshot -d one" "amend -o refcount_bits=32"; do
	# shellcheck disable=SC2086 # words
	expect_fail 's.qcow2.*has it open' tap-img ${command%% *} -f qcow2 ${command#* } s.qcow2
done
stop_tapdisk
cp s.qcow2 k.qcow2
sound
snapshots_show
# And the reverse: nobody else opens it while a snapshot is made.
tap-img snapshot -q -c slow "qcow2/fault(delay-ms=300)/aio:s.qcow2" &
slow=$!
also_kill "$slow"
wait_for 20 grep -q "OFDLCK.*:$(stat -c %i s.qcow2) " /proc/locks
kill -STOP "$slow"
expect_fail 's.qcow2.*has it open' tapdisk -f --nbd "unix:$T/t" "qcow2:$T/s.qcow2"
kill -KILL "$slow"
wait "$slow" 2>/dev/null || true
forget_pid "$slow"
cp s.qcow2 k.qcow2
what="a snapshot that was stopped"
sound 3
