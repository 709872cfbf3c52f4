# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# block-attach to domain 0: the machine's own blkfront, our ring.
. /tests/guests.sh

# What a read of 1 MiB costs: requests, and pages in them.
one_request()
{
	local requests segments
	requests=$(ring_counter 0 51712 indirect) segments=$(ring_counter 0 51712 indirect_segments)
	dd if=/dev/xvda of=/dev/null bs=1M count=1 skip=7 iflag=direct
	echo $(($(ring_counter 0 51712 indirect) - requests)) $(($(ring_counter 0 51712 indirect_segments) - segments))
}

start_tapback
check "tap-img create" tap-img create qcow2:/srv/d.qcow2 256M
check "block-attach 0 tap:qcow2:/srv/d.qcow2 xvda w" block-attach 0 tap:qcow2:/srv/d.qcow2 xvda w
check "  it is blkfront's" eval 'readlink -f /sys/block/xvda/device | grep vbd-51712'
check "  block-list and xl block-list name it" eval 'block-list 0 | grep xvda && xl block-list 0 | grep 51712'
check "  requests of 256 segments" [ "$(cat /sys/block/xvda/queue/max_segments)" = 256 ]
check "  one of 1 MiB goes over in one" eval 'one_request | grep "1 256"'
mkdir -p /mnt/d
check "  mkfs.ext4, mount" eval 'mkfs.ext4 -qF /dev/xvda && mount /dev/xvda /mnt/d'
export written
written=$(head -c 20971520 /dev/urandom | tee /mnt/d/data | sha256sum)
check "  block-detach refuses while it is mounted" refused 'mounted' block-detach 0 xvda
check "  what was written comes back, past the cache" eval \
	'drop_caches && umount /mnt/d && mount /dev/xvda /mnt/d && [ "$(sha256sum </mnt/d/data)" = "$written" ]'
check "  each request went through our ring" served 0 51712 read segments
check "  umount, block-detach 0 xvda" eval 'umount /mnt/d && block-detach 0 xvda'
check "  the device is gone" wait_for 10 test ! -e /sys/block/xvda
check "  nothing is left in xenstore" nothing_of 0
cp /srv/d.qcow2 /out/attach.qcow2

check "read-only: block-attach 0 tap:qcow2:/srv/d.qcow2 xvdb r" block-attach 0 tap:qcow2:/srv/d.qcow2 xvdb r
check "  and it is" eval '[ "$(cat /sys/block/xvdb/ro)" = 1 ] && mount -o ro /dev/xvdb /mnt/d &&
	[ "$(sha256sum </mnt/d/data)" = "$written" ] && umount /mnt/d'
check "  block-detach 0 xvdb" block-detach 0 xvdb

check "tap-img create qcow:" tap-img create qcow:/srv/q.qcow 64M
check "block-attach 0 tap:qcow:/srv/q.qcow xvdb w" block-attach 0 tap:qcow:/srv/q.qcow xvdb w
check "  ext4 on it" fs_check /dev/xvdb
check "  block-detach 0 xvdb" block-detach 0 xvdb
check "  tap-img check: clean" tap-img check -f qcow /srv/q.qcow

check "xl block-attach 0 script=block-tapdisk" \
	xl block-attach 0 script=block-tapdisk,vdev=xvdc,access=w,target=qcow2:/srv/d.qcow2
wait_for 30 test -b /dev/xvdc
check "  ext4 on it" fs_check /dev/xvdc
check "  xl block-detach 0 xvdc" xl block-detach 0 xvdc
check "  nothing is left in xenstore" nothing_of 0
check "tapback ends on SIGTERM" stop_tapback
