# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What a guest's own blkfront negotiates with us, and uses: queues, ring pages, indirect and persistent grants, flush,
# discard. Then disks plugged in and out while it runs, and one made larger while it is mounted.
. /tests/guests.sh

start_tapback
root_image /srv/a.img
tap-img create qcow2:/srv/b.qcow2 64M >/dev/null
tap-img create qcow2:/srv/c.qcow2 64M >/dev/null
# A guest is offered what its memory can bear: order 1 and two queues for two disks want this much.
export GUEST_MEMORY=320 GUEST_VCPUS=2
export GUEST_EXTRA="xen_blkfront.max_queues=2 xen_blkfront.max_ring_page_order=1 xen_blkfront.max_indirect_segments=128"
guest_config wide 'tap:aio:/srv/a.img,xvda,w' 'tap:qcow2:/srv/b.qcow2,xvdb,w' >/run/wide.cfg
check "a guest with two processors and blkfront's options" guest_start wide
id=$(xl domid wide)
xvdb=51728 xvdc=51744

# equal TEXT VALUE COMMAND...: what it prints.
equal()
{
	local text=$1 value=$2 got
	shift 2
	got=$("$@" 2>&1)
	if [ "$got" = "$value" ]; then
		echo "ok: $text: $value"
	else
		echo "FAILED: $text: expected $value, got $got"
	fi
}

equal "  queues" 2 fe_node "$id" $xvdb multi-queue-num-queues
equal "  ring pages of a queue, as a power of two" 1 fe_node "$id" $xvdb ring-page-order
equal "  persistent grants: blkfront's" 1 fe_node "$id" $xvdb feature-persistent
equal "  persistent grants: ours" 1 be_node "$id" $xvdb feature-persistent
equal "  protocol" x86_64-abi fe_node "$id" $xvdb protocol
check "  both sides are connected" eval "[ $(fe_node "$id" $xvdb state) = 4 ] && state_is $id $xvdb 4"
segments=$(be_node "$id" $xvdb feature-max-indirect-segments)
check "  more segments than a request has room for" [ "$segments" -gt 11 ]
said="blkfront: xvdb: .*flush.*persistent grants: enabled.*indirect descriptors: enabled"
check "  blkfront says so" guest wide "dmesg | grep '$said'"
equal "  its queue: flush" "write back" guest wide 'cat /sys/block/xvdb/queue/write_cache'
equal "  its queue: segments of a request" "$segments" guest wide 'cat /sys/block/xvdb/queue/max_segments'
check "  its queue: discard" guest wide '[ $(cat /sys/block/xvdb/queue/discard_max_bytes) -gt 0 ]'
equal "  hardware queues" 2 guest wide 'ls /sys/block/xvdb/mq | wc -l'

check "large requests from both processors, verified" guest wide \
	'taskset 1 timeout -s TERM 4 /stamps -d -s 8388608 /dev/xvdb >/tmp/1 &
	taskset 2 timeout -s TERM 4 /stamps -d -o 8388608 -s 8388608 -S 2 /dev/xvdb >/tmp/2 &
	wait; grep good /tmp/1 && grep good /tmp/2'
check "  served: indirect requests, flushes, on kept grants" served "$id" $xvdb indirect flush grants_reused
check "discard of 8 MiB" guest wide 'blkdiscard -o 8388608 -l 8388608 /dev/xvdb'
check "  served" served "$id" $xvdb discard
check "  and reads as zeros" guest wide \
	'[ $(dd if=/dev/xvdb bs=1M skip=8 count=8 2>/dev/null | tr -d "\0" | wc -c) = 0 ]'

# ---- plugged in and out ----

# used VDEV: verified I/O on it in the guest.
used()
{
	wait_for 30 guest wide "[ -b /dev/$1 ]" &&
		guest wide "timeout -s TERM 2 /stamps -d -s 4194304 /dev/$1 | grep good"
}

gone()
{
	wait_for 30 guest wide "[ ! -e /sys/block/$1 ]" && wait_for 30 eval "! tap-ctl list | grep c.qcow2"
}

check "xl block-attach tap:qcow2:..., while it runs" xl block-attach wide tap:qcow2:/srv/c.qcow2 xvdc w
check "  used" used xvdc
check "  through our ring" served "$id" $xvdc segments
check "  xl block-detach" eval 'xl block-detach wide xvdc && gone xvdc'
check "xl block-attach script=block-tapdisk" \
	xl block-attach wide script=block-tapdisk,vdev=xvdc,access=w,target=qcow2:/srv/c.qcow2
check "  used" used xvdc
check "  xl block-detach" eval 'xl block-detach wide xvdc && gone xvdc'
check "block-attach" block-attach "$id" tap:qcow2:/srv/c.qcow2 xvdd w
check "  used" used xvdd
check "  block-list names it" eval "block-list $id | grep xvdd"
check "  block-detach" eval "block-detach $id xvdd && gone xvdd"

# ---- resized while mounted ----

root_image /srv/d.img
check "a disk with a file system, plugged in and mounted" eval \
	'xl block-attach wide tap:aio:/srv/d.img xvdc w && wait_for 30 guest wide "[ -b /dev/xvdc ]" &&
	guest wide "mount -t ext4 /dev/xvdc /mnt && echo before >/mnt/data/word"'
pid=$(tapdisk_of "$id" $xvdc)
check "tap-ctl resize to 48 MiB" tap-ctl resize -p "$pid" 48M
check "  the guest sees it" wait_for 30 guest wide '[ $(cat /sys/block/xvdc/size) = 98304 ]'
check "  the file system lives on" guest wide \
	'echo after >>/mnt/data/word && sync && grep -c . /mnt/data/word | grep 2'
check "  and the new space is there" guest wide \
	'timeout -s TERM 2 /stamps -d -o 33554432 -s 16777216 /dev/xvdc | grep good'
check "  unmounted, unplugged" eval \
	'guest wide "umount /mnt" && xl block-detach wide xvdc && wait_for 10 eval "! kill -0 $pid"'
check "  the image has the size" [ "$(stat -c %s /srv/d.img)" = $((48 << 20)) ]

check "no I/O error in the guest" guest_content wide
check "it shuts down" guest_stop wide
check "nothing is left in xenstore" nothing_of "$id"
cp /srv/b.qcow2 /out/features-b.qcow2
cp /srv/c.qcow2 /out/features-c.qcow2
check "tapback ends on SIGTERM" stop_tapback
rm -f /srv/[a-d].*
