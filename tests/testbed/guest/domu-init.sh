#!/bin/busybox sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
# First process of a PV guest's initramfs: loads the disk driver (with options from the kernel's command line, as
# xen_blkfront.max_queues=2), mounts root=DEVICE where that is given, and becomes the agent that tests/xen talks to.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
modprobe -a crc32c_generic ext4 xen-blkfront

root=$(sed -n 's/.*\<root=\([^ ]*\).*/\1/p' /proc/cmdline)
[ -n "$root" ] || exec /agent

n=0
until [ -b "$root" ] || [ $n = 300 ]; do
	sleep 0.2
	n=$((n + 1))
done
mkdir -p /newroot
mount -t ext4 "$root" /newroot || {
	echo "@@no-root: $root cannot be mounted"
	poweroff -f
}
for dir in proc sys dev; do mount --move /$dir /newroot/$dir; done
exec switch_root /newroot /agent
