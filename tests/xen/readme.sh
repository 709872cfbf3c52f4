# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# README.md's commands for guests and for domain 0, as they stand.
. /tests/guests.sh

# block NAME: the commands behind a line <!-- test: NAME -->, without their indentation.
block()
{
	awk -v mark="<!-- test: $1 -->" '
		$0 == mark { on = 1; next }
		on && /^    / { print substr($0, 5); seen = 1; next }
		on && seen && /^[^ ]/ { exit }
	' /tests/README.project
}

run_block()
{
	block "$1" >"/run/$1.block"
	local status=0
	[ -s "/run/$1.block" ] || return 1
	bash -euo pipefail "/run/$1.block" >"/run/$1.out" 2>&1 || status=$?
	cat "/run/$1.out"
	return $status
}

{
	GUEST_ROOT='' guest_config guest
	block guest.cfg
} | sed '/^disk = \[$/,/^\]$/d' >/etc/xen/guest.cfg
check "README: the guest's configuration has disks" grep 'disk = .*tap:qcow2:' /etc/xen/guest.cfg
check "README: guest" run_block guest
check "  the guest runs" wait_for 180 guest_is_up_or_gone guest
id=$(xl domid guest)
for dev in xvda:51712 xvdb:51728; do
	check "  ${dev%:*} works" guest guest "timeout -s TERM 2 /stamps -d -s 4194304 /dev/${dev%:*} | grep good"
	check "  through our ring" served "$id" "${dev#*:}" segments
done
check "  block-list named both" eval 'grep xvda /run/guest.out && grep xvdb /run/guest.out'
check "  it shuts down" guest_stop guest
check "  nothing is left in xenstore" nothing_of "$id"
check "README: attach" run_block attach
check "  the image is as the commands left it" tap-img info qcow2:/srv/disk.qcow2
check "  nothing is left in xenstore" nothing_of 0
read -r TAPBACK _ </run/blktap-control/tapback
kill "$TAPBACK"
check "tapback ends on SIGTERM" wait_for 20 eval '! tapback_runs'
rm -f /srv/guest.qcow2 /srv/data.img /srv/disk.qcow2
