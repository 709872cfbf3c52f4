# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# kill -9, CRASH_ROUNDS times each, of the tapdisks and of tapback, under verified I/O, direct and buffered: the guest
# goes on. Nothing acknowledged is lost, flushed or not, on a raw image and on qcow2.
. /tests/guests.sh

start_tapback
root_image /srv/a.img
truncate -s 32M /srv/raw.img
tap-img create qcow2:/srv/q.qcow2 32M >/dev/null
guest_config crash 'tap:aio:/srv/a.img,xvda,w' \
	'script=block-tapdisk,vdev=xvdb,access=w,target=fault(delay-ms=100)/aio:/srv/raw.img' \
	'tap:qcow2:/srv/q.qcow2,xvdc,w' >/run/crash.cfg
check "a guest with three disks" guest_start crash
id=$(xl domid crash) disks="51712 51728 51744"
guest crash "mkdir /tmp/io; cd /tmp/io;
	/stamps -d -t 2 -w 100000 -s 4194304 /dev/xvdb >raw-direct 2>&1 &
	/stamps -t 2 -w 100000 -o 4194304 -s 4194304 -S 2 /dev/xvdb >raw-cached 2>&1 &
	/stamps -d -t 2 -w 100000 -s 4194304 -S 3 /dev/xvdc >qcow2-direct 2>&1 &
	/stamps -t 2 -w 100000 -o 4194304 -s 4194304 -S 4 /dev/xvdc >qcow2-cached 2>&1 &
	/stamps -t 1 -w 100000 -s 2097152 -S 5 /data/stamps >file 2>&1 &"
all_run()
{
	guest crash '[ $(grep -l running /tmp/io/* | wc -l) = 5 ]'
}
check "verified I/O runs in it" wait_for 60 all_run

segments()
{
	ring_counter "$id" "$1" segments
}

more_than()
{
	[ "$(segments "$1")" -gt "$2" ]
}

# The disk is served, by another process than PID.
back()
{
	local pid
	pid=$(tapdisk_of "$id" "$1") && [ "$pid" != "$2" ] && more_than "$1" 0
}

kill_tapdisks()
{
	local vdev
	declare -A was
	for vdev in $disks; do was[$vdev]=$(tapdisk_of "$id" "$vdev"); done
	kill -9 "${was[@]}"
	[ "$1" != and-tapback ] || restart_tapback || return 1
	for vdev in $disks; do wait_for 60 back "$vdev" "${was[$vdev]}" || return 1; done
}

restart_tapback()
{
	kill -9 "$TAPBACK"
	wait "$TAPBACK" 2>/dev/null
	start_tapback
}

kill_tapback()
{
	local vdev
	declare -A was
	restart_tapback || return 1
	for vdev in $disks; do was[$vdev]=$(segments "$vdev"); done
	for vdev in $disks; do wait_for 60 more_than "$vdev" "${was[$vdev]}" || return 1; done
}

# One of the disks is slow, so that a kill meets requests in flight; if it met none, a few more.
recovered=0
for ((n = 1; n <= ${CRASH_ROUNDS:?} || (recovered == 0 && n <= CRASH_ROUNDS + 10); n++)); do
	check "kill -9 of all tapdisks, $n: they are back and serve" kill_tapdisks only
	for vdev in $disks; do recovered=$((recovered + $(ring_counter "$id" "$vdev" recovered))); done
	check "kill -9 of tapback, $n: restarted, the disks are served" kill_tapback
done
check "requests in flight were taken back ($recovered)" [ "$recovered" -gt 0 ]
check "kill -9 of tapdisks and tapback at once" kill_tapdisks and-tapback

guest crash 'killall -TERM stamps'
for part in raw-direct raw-cached qcow2-direct qcow2-cached file; do
	check "nothing is lost or doubled: $part" wait_for 90 guest crash "grep good /tmp/io/$part"
done
guest crash 'cat /tmp/io/*'
check "no I/O error in the guest" guest_content crash
in_guest=$(guest crash 'echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/xvdb')
check "it shuts down" guest_stop crash
check "the raw image holds what the guest saw" [ "${in_guest%% *}" = "$(sha256sum </srv/raw.img | cut -d' ' -f1)" ]
check "the guest's root: e2fsck" e2fsck -fn /srv/a.img
check "nothing is left in xenstore" nothing_of "$id"
check "no journal is left" eval '! ls /run/blktap-control/ring*'
cp /srv/q.qcow2 /out/crash.qcow2
check "tapback ends on SIGTERM" stop_tapback
rm -f /srv/a.img /srv/raw.img /srv/q.qcow2
