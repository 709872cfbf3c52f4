# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# A live snapshot: pause, an overlay on the image, unpause onto the overlay, under verified I/O in the guest.
. /tests/guests.sh

start_tapback
root_image /srv/a.img
tap-img create qcow2:/srv/live.qcow2 64M >/dev/null
guest_config live 'tap:aio:/srv/a.img,xvda,w' 'tap:qcow2:/srv/live.qcow2,xvdb,w' >/run/live.cfg
check "a guest with a disk to take snapshots of" guest_start live
id=$(xl domid live) xvdb=51728
guest live '/stamps -d -t 2 -w 50000 -s 8388608 /dev/xvdb >/tmp/direct 2>&1 &
	/stamps -t 2 -w 50000 -o 8388608 -s 8388608 -S 2 /dev/xvdb >/tmp/cached 2>&1 &'
check "verified I/O, direct and buffered, runs in it" wait_for 60 \
	guest live 'grep -q running /tmp/direct && grep -q running /tmp/cached'

served_more()
{
	[ "$(ring_counter "$id" $xvdb segments)" -gt "$1" ]
}

pid=$(tapdisk_of "$id" $xvdb)
base=live.qcow2
for n in 1 2 3; do
	check "snapshot $n: pause" tap-ctl pause -p "$pid"
	sum=$(sha256sum </srv/$base)
	check "  tap-img create -b $base" eval "cd /srv && tap-img create -b $base -F qcow2 qcow2:over$n.qcow2"
	check "  unpause onto it" tap-ctl unpause -p "$pid" -a qcow2:/srv/over$n.qcow2
	check "  requests go on" wait_for 30 served_more "$(ring_counter "$id" $xvdb segments)"
	check "  the snapshot stays as it was" [ "$sum" = "$(sha256sum </srv/$base)" ]
	base=over$n.qcow2
done
check "pause, unpause onto the same" eval "tap-ctl pause -p $pid && tap-ctl unpause -p $pid"
check "  requests go on" wait_for 30 served_more "$(ring_counter "$id" $xvdb segments)"

guest live 'killall -TERM stamps'
check "no block of the guest is wrong: direct" wait_for 60 guest live 'grep good /tmp/direct'
check "no block of the guest is wrong: buffered" wait_for 60 guest live 'grep good /tmp/cached'
guest live 'cat /tmp/direct /tmp/cached'
check "no I/O error in the guest" guest_content live
check "it shuts down" guest_stop live
check "nothing is left in xenstore" nothing_of "$id"
for image in live over1 over2 over3; do cp /srv/$image.qcow2 /out/; done
check "tapback ends on SIGTERM" stop_tapback
rm -f /srv/a.img /srv/live.qcow2 /srv/over?.qcow2
