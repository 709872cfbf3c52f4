#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# machine.sh [NAME=VALUE]... SCENARIO...: in the machine (domain 0): each in a shell of its own, on a machine in order.
mount -t ext4 /dev/vda /srv
syslogd -O /out/syslog
# Where libxl looks for QEMU; see tap-dm(8).
mkdir -p /usr/libexec
ln -s "$(command -v tap-dm)" /usr/libexec/xen-qemu-system-i386
for scenario; do
	if [[ $scenario = *=* ]]; then
		declare "$scenario"
		continue
	fi
	echo "@ $scenario"
	(
		# shellcheck source=tests/xen/lib.sh
		. /tests/lib.sh
		# shellcheck source=/dev/null
		. "/tests/$scenario.sh"
		closing
	) || echo "FAILED: $scenario: the script ended with status $?"
done
dmesg >/out/dmesg
cp -r /var/log/xen /out/xen 2>/dev/null
sync
