# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Guests, tapback and rings, for the scenarios that have them (sourced after lib.sh).
#
#	start_tapback
#	guest_config web 'tap:aio:/srv/web.img,xvda,w' >/run/web.cfg
#	guest_start web			# an unmodified xl create; back when its own system runs
#	guest web 'cat /proc/mounts'	# a command in it: its output, its status
#	guest_stop web			# it powers off; back when libxl has taken it away
#	stop_tapback

# ---- tapback ----

TAPBACK=

# Its number is in the file, and that process lives. (Not by trying its lock, which one that starts wants to have.)
tapback_runs()
{
	local pid
	read -r pid _ </run/blktap-control/tapback && [ "$pid" = "${1:-$pid}" ] && kill -0 "$pid"
}

start_tapback()
{
	tapback -f "$@" >>/out/tapback.log 2>&1 &
	TAPBACK=$!
	wait_for 20 tapback_runs "$TAPBACK"
}

stop_tapback()
{
	kill -TERM "$TAPBACK"
	wait "$TAPBACK"
}

# be_node DOMID VDEV NODE: of the disk's backend folder, in whichever class it is.
be_node()
{
	local class
	for class in vbd3 vbd qdisk; do
		xenstore-read "$BE/$class/$1/$2/$3" 2>/dev/null && return
	done
	return 1
}

state_is()
{
	[ "$(be_node "$1" "$2" state)" = "$3" ]
}

tapdisk_of()
{
	be_node "$1" "$2" tapdisk-pid
}

# The other side's.
fe_node()
{
	xenstore-read "/local/domain/$1/device/vbd/$2/$3"
}

# disk_stats DOMID VDEV: the ring's object in what `tap-ctl stats` says.
disk_stats()
{
	local pid
	pid=$(tapdisk_of "$1" "$2") || return 1
	tap-ctl stats -p "$pid" | grep -o '{"type": "xen".*'
}

# ring_counter DOMID VDEV NAME: summed over the queues.
ring_counter()
{
	disk_stats "$1" "$2" | grep -oE "\"$3\": [0-9]+" | awk '{ n += $2 } END { print n + 0 }'
}

# served DOMID VDEV NAME...: the ring did some of each.
served()
{
	local domid=$1 vdev=$2 name
	shift 2
	for name; do
		[ "$(ring_counter "$domid" "$vdev" "$name")" -gt 0 ] ||
			{ echo "no $name: $(disk_stats "$domid" "$vdev")"; return 1; }
	done
}

# ---- guests ----

# guest_config NAME DISK...: its configuration. $GUEST_EXTRA: more for the kernel; $GUEST_VCPUS. $GUEST_ROOT: not from
# /dev/xvda; empty: the initramfs is its system.
guest_config()
{
	local name=$1 disk
	shift
	cat <<END
name = "$name"
type = "pv"
kernel = "/boot/vmlinux"
ramdisk = "/boot/domu.cpio"
extra = "${GUEST_ROOT-root=/dev/xvda} console=hvc0 quiet loglevel=3 mitigations=off panic=-1 ${GUEST_EXTRA-}"
memory = ${GUEST_MEMORY:-112}
vcpus = ${GUEST_VCPUS:-1}
on_reboot = "destroy"
on_crash = "destroy"
END
	echo "disk = ["
	for disk; do echo "	'$disk',"; done
	echo "]"
}

guest_log()
{
	echo "/var/log/xen/console/guest-$1.log"
}

# guest_start NAME: xl create /run/NAME.cfg, and until its agent answers.
guest_start()
{
	rm -f "$(guest_log "$1")"
	xl create -q "/run/$1.cfg" </dev/null || return 1
	wait_for 180 guest_is_up_or_gone "$1"
	grep '^@@ready' "$(guest_log "$1")" || { tail -n 20 "$(guest_log "$1")"; return 1; }
}

guest_is_up_or_gone()
{
	grep -q '^@@ready' "$(guest_log "$1")" || ! xl domid "$1"
}

# guest NAME COMMAND: run in the guest by its agent, as one line; $GUEST_SECONDS for slow ones.
guest()
{
	local name=$1 number=${EPOCHREALTIME/[.,]/} log node tty from end
	log=$(guest_log "$name")
	node=/local/domain/$(xl domid "$name")/console/tty || return 125
	tty=$(xenstore-read "$node") || return 125
	from=$(stat -c %s "$log")
	end=$((SECONDS + ${GUEST_SECONDS:-180}))
	echo "$number ${2//$'\n'/ }" >"$tty"
	until tail -c +$((from + 1)) "$log" | grep -q "^@@$number "; do
		if [ $SECONDS -ge $end ] || ! xenstore-exists "$node"; then
			echo "guest $name: no answer to: $2"
			tail -n 20 "$log"
			return 125
		fi
		sleep 0.1
	done
	tail -c +$((from + 1)) "$log" | tr -d '\r' | sed "/^@@$number /,\$d" | sed '/^$/d'
	return "$(tail -c +$((from + 1)) "$log" | tr -d '\r' | sed -n "s/^@@$number //p")"
}

# Back when the domain and its nodes are gone.
guest_stop()
{
	local id tty
	id=$(xl domid "$1") || return 1
	tty=$(xenstore-read "/local/domain/$id/console/tty")
	echo '0 cd /; umount -a -r 2>/dev/null; sync; poweroff -f' >"$tty"
	wait_for 90 guest_gone "$1" "$id"
}

guest_gone()
{
	! xl domid "$1" && ! xenstore-exists "/libxl/$2" && ! xenstore-exists "/local/domain/$2"
}

# nothing_of DOMID: no folder of the domain is left in xenstore, and no disk of it is open.
nothing_of()
{
	local left
	left=$(xenstore-ls -f "$BE" 2>/dev/null | grep -E "^$BE/[a-z0-9]+/$1(/| )")
	left+=$(xenstore-ls -f /libxl 2>/dev/null | grep -E "^/libxl/$1(/| )")
	[ -z "$left" ] || { echo "$left"; return 1; }
	! tap-ctl list | grep "vbd-$1-"
}

# No I/O error reached the guest's kernel.
guest_content()
{
	! guest "$1" "dmesg | grep -iE 'I/O error|EXT4-fs error|blkfront.*(wrong|disabled)'"
}

# The guest's own copy of the root file system.
root_image()
{
	cp /srv/root.img "$1"
}
