# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Beside Debian's own backends: disks of xen-blkback and of ours in one guest, and a vif.
. /tests/guests.sh

driver_of()
{
	basename "$(readlink /sys/bus/xen-backend/devices/"$1"/driver)"
}

check "xen-blkback is loaded" test -d /sys/module/xen_blkback
start_tapback
check "  and no longer takes each disk by itself" grep -x 0 /sys/bus/xen-backend/drivers_autoprobe
root_image /srv/a.img
truncate -s 32M /srv/blkback.img
loop=$(losetup -f --show /srv/blkback.img)
guest_config beside 'tap:aio:/srv/a.img,xvda,w' "phy:$loop,xvdb,w" >/run/beside.cfg
check "a guest with a disk of ours and one of xen-blkback's" guest_start beside
id=$(xl domid beside)
check "  xvda is ours" served "$id" 51712 read
check "  no driver of the kernel has it" [ ! -e "/sys/bus/xen-backend/devices/vbd-$id-51712/driver" ]
check "  xvdb is xen-blkback's" [ "$(driver_of "vbd-$id-51728")" = vbd ]
for path in /data/stamps /dev/xvdb; do
	check "  verified I/O on $path" guest beside "timeout -s TERM 3 /stamps -s 2097152 $path | grep good"
done

# A network card has no daemon of ours: whoever asks for it gets its driver.
modprobe xen-netback
vif=$BE/vif/$id/0
fe=/local/domain/$id/device/vif/0
xenstore-write "$fe/backend" "$vif" "$fe/backend-id" 0 "$fe/state" 1 "$vif/frontend" "$fe" "$vif/frontend-id" "$id" \
	"$vif/handle" 0 "$vif/mac" 00:16:3e:00:00:01 "$vif/script" /etc/xen/scripts/vif-bridge "$vif/state" 1
check "a vif gets its driver" wait_for 15 eval "[ \"\$(driver_of vif-$id-0)\" = vif ]"
xenstore-rm "${vif%/*}"
xenstore-rm "$fe"

check "it shuts down" guest_stop beside
check "nothing is left in xenstore" nothing_of "$id"
losetup -d "$loop"
check "tapback ends on SIGTERM" stop_tapback
check "  and gives the kernel's drivers their disks back" grep -x 1 /sys/bus/xen-backend/drivers_autoprobe
rm -f /srv/a.img /srv/blkback.img
