#!/bin/busybox sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
# First process of the machine (dom0 under Xen, or plain Linux): mounts, modules, Xen's daemons, then /testbed/main with
# its output on the second serial port. Its own words go to the console, which the host keeps as console.log.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

say()
{
	read -r up _ </proc/uptime
	echo "testbed: $up s: $*"
}

mods()
{
	for m; do
		modprobe "$m" 2>/dev/null || say "no module $m"
	done
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock /run/xen
ln -sf /proc/self/fd /dev/fd # and these, which Xen's block script needs:
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
hostname testbed
ip link set lo up

mods crc32c_generic 9pnet_virtio 9p virtio_blk loop ext4
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out /out || say "no /out"

if [ -e /sys/hypervisor/type ]; then
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,ro,cache=loose boot /boot || say "no /boot"
	mods xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs xen-blkback xen-blkfront
	mount -t xenfs xenfs /proc/xen
	mkdir -p /var/lib/xenstored /var/lib/xen /var/log/xen/console
	xenstored --pid-file=/run/xen/xenstored.pid
	until xenstore-exists /tool 2>/dev/null; do sleep 0.1; done
	xen-init-dom0
	xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xen/xenconsoled.pid
else
	mods fuse ublk_drv
	[ -e /dev/fuse ] || mknod /dev/fuse c 10 229
fi
say "ready"

stty -F /dev/ttyS1 raw -echo
setsid -c /testbed/main </dev/ttyS1 >/dev/ttyS1 2>&1
status=$?
say "script ended with status $status"
echo "$status" >/out/.status
sync
poweroff -f
