# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Class vbd3 as xl of Xen 4.19 and later writes it (backendtype=tap; this xl is older: by hand), with Xen's own script
# block-tap, which starts a tapdisk itself, and with ours.
. /tests/guests.sh

# publish VDEV SCRIPT PARAMS: both folders, for domain 0.
publish()
{
	local be=$BE/vbd3/0/$1 fe=/local/domain/0/device/vbd/$1
	xenstore-write "$fe/backend" "$be" "$fe/backend-id" 0 "$fe/virtual-device" "$1" "$fe/device-type" disk \
		"$fe/state" 1 \
		"$be/frontend" "$fe" "$be/frontend-id" 0 "$be/online" 1 "$be/removable" 0 "$be/bootable" 1 \
		"$be/dev" xvdp "$be/type" tap "$be/mode" w "$be/device-type" disk "$be/params" "$3" \
		"$be/script" "/etc/xen/scripts/$2" "$be/state" 1
}

# withdraw VDEV: as libxl does.
withdraw()
{
	local be=$BE/vbd3/0/$1
	xenstore-write "$be/online" 0 "$be/state" 5
	wait_for 30 eval "[ \"\$(xenstore-read $be/state)\" = 6 ]"
}

forget()
{
	xenstore-rm "$BE/vbd3/0/$1"
	xenstore-rm "/local/domain/0/device/vbd/$1"
}

vdev=$((202 << 8 | 15 << 4))
start_tapback
truncate -s 32M /srv/t.img
tap-img create qcow2:/srv/t.qcow2 32M >/dev/null

publish $vdev block-tap aio:/srv/t.img
check "block-tap: tapback waits in state 2" wait_for 15 state_is 0 $vdev 2
# What the script of those versions does; this one's is for the kernel's blktap of old.
check "  tap-ctl create" tap-ctl create -a aio:/srv/t.img
pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
minor=$(tap-ctl list | sed -n 's/.* minor=\([0-9]*\) .*/\1/p')
xenstore-write "$BE/vbd3/0/$vdev/physical-device-path" "/run/blktap-control/nbd$pid.$minor" \
	"$BE/vbd3/0/$vdev/hotplug-status" connected
check "  connected to the tapdisk that the script started" wait_for 30 test -b /dev/xvdp
check "  ext4 on it" fs_check /dev/xvdp
check "  detached" withdraw $vdev
check "  the script's tapdisk is the script's to end" tap-ctl destroy -p "$pid" -m "$minor"
forget $vdev

publish $vdev block-tapdisk aio:qcow2:/srv/t.qcow2
check "block-tapdisk: the first word is libxl's" wait_for 30 test -b /dev/xvdp
check "  ext4 on it" fs_check /dev/xvdp
check "  detached" withdraw $vdev
check "  its tapdisk ends" wait_for 15 no_tapdisk
forget $vdev
check "tapback ends on SIGTERM" stop_tapback
rm -f /srv/t.*
