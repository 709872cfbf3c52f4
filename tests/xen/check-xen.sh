#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# check-xen.sh [SCENARIO...]: `make check-xen`. Boots real Xen in emulated machines (tests/testbed) and runs the
# scenarios of this folder in their domain 0, or only those that are named. Runs in the build folder; what each machine
# said, with the logs of its daemons, is left in tests/xen/MACHINE/. Exit 77, after one line that says why, where it
# cannot be run; CHECK_XEN_JOBS machines run at a time (default: one for each processor). CRASH_ROUNDS: how often the
# scenario crash kills each daemon (default: 10).
set -euo pipefail

top=$(cd "${srcdir:-.}" && pwd)
build=$PWD
here=$top/tests/xen
testbed=$top/tests/testbed
logs=$build/tests/xen
jobs=${CHECK_XEN_JOBS:-$(nproc)}
export PATH=$build/bin:$PATH:/usr/sbin:/sbin

# The machines, and the scenarios that each runs, one after the other.
machines=(crash guests features dom0 linux)
declare -A scenarios=(
	[linux]="no-xen"
	[dom0]="boot dom0-attach errors readme tap-class beside"
	[guests]="guests-boot"
	[features]="features snapshot"
	[crash]="crash"
)
# What else run.sh is told. Seconds are what a loaded machine may take: several times what it needs.
# Domain 0 of the machine dom0 has xen-blkback, as Debian's has; in the others it is kept out.
declare -A options=(
	[linux]="--linux --timeout 600"
	[dom0]="--xen --timeout 1800 --append xen_blkfront.max_indirect_segments=256"
	[guests]="--xen --timeout 1800 --append module_blacklist=xen_blkback"
	[features]="--xen --timeout 1800 --mem 1024 --append module_blacklist=xen_blkback"
	[crash]="--xen --timeout 1800 --append module_blacklist=xen_blkback"
)

skip()
{
	echo "check-xen: skipped: $*"
	exit 77
}

requisites()
{
	local tool
	[ "$(uname -m)" = x86_64 ] || skip "the emulated Xen is amd64's; this is $(uname -m)"
	grep -qsx 'VERSION_ID="12"' /etc/os-release && grep -qsx 'ID=debian' /etc/os-release ||
		skip "it needs Debian 12's packages and C library"
	[ "$(id -u)" = 0 ] || skip "needs root"
	for tool in qemu-system-x86_64 qemu-img cpio xz zstd apt-get mke2fs e2fsck; do
		command -v "$tool" >/dev/null || skip "$tool is not installed"
	done
	grep -q '^#define HAVE_XEN 1' "$build/config.h" || skip "this build is without Xen's libraries (libxen-dev)"
	"$testbed/fetch.sh" || skip "Debian's packages of Xen and its kernel cannot be had"
}

# ---- what the machines get ----

# The installation, as `make install` leaves it, with the script where Debian's xl looks for it.
install_tree()
{
	make -s -C "$build" install DESTDIR="$work/inst" >"$logs/install.log" 2>&1 ||
		{ cat "$logs/install.log"; exit 1; }
	prefix=$(sed -n 's/^prefix = //p' "$build/Makefile")
	rm -rf "$work/inst$prefix"/{share,include,lib}
	add=(--add "$work/inst$prefix:$prefix")
	local script
	script=$(find "$work/inst" -path '*/xen/scripts/block-tapdisk')
	if [ -n "$script" ]; then add+=(--add "$script:/etc/xen/scripts/block-tapdisk"); fi
	add+=(--add "$here:/tests" --add "$top/README.md:/tests/README.project")
	domu_add=(--domu-add "$here/agent.sh:/agent" --domu-add "$build/tests/xen/stamps:/stamps")
}

# A guest's root file system: busybox, and the agent as its first process. Then the machine's own disk, /srv in there:
# images are files on a real file system.
srv_disk()
{
	cp -a "$cache/tree/domu" "$work/root"
	cp "$here/agent.sh" "$work/root/agent"
	cp "$build/tests/xen/stamps" "$work/root/stamps"
	mkdir -p "$work/root/data" "$work/srv"
	mke2fs -q -F -t ext4 -d "$work/root" -L root "$work/srv/root.img" 24M >"$work/mke2fs.log" 2>&1
	mke2fs -q -F -t ext4 -d "$work/srv" "$work/srv.ext4" 512M >"$work/mke2fs.log" 2>&1
}

# ---- one machine ----

# machine NAME SCENARIO...
machine()
{
	local name=$1 out=$logs/$1 status=0 opts
	shift
	rm -rf "$out"
	mkdir -p "$out"
	cp --sparse=always "$work/srv.ext4" "$work/$name.disk"
	read -ra opts <<<"${options[$name]}"
	"$testbed/run.sh" "${opts[@]}" --out "$out" --disk "$work/$name.disk" "${add[@]}" "${domu_add[@]}" \
		-- "$here/machine.sh" "CRASH_ROUNDS=${CRASH_ROUNDS:-10}" "$@" >"$out/output.log" 2>&1 || status=$?
	rm -f "$work/$name.disk"
	if [ $status -ge 124 ]; then echo "FAILED: the machine $name ended with status $status" >>"$out/output.log"; fi
	# What the machine left for eyes outside of it.
	check_images "$out" >>"$out/output.log"
	sed -e '/^@/d' -e "s/^/$name: /" "$out/output.log"
	! grep -q '^FAILED:' "$out/output.log" || log_tails "$out" | sed "s/^/$name: /"
}

# A failure has to be understood from afar.
log_tails()
{
	local log
	for log in "$1/syslog" "$1/dmesg"; do
		[ -s "$log" ] || continue
		echo "---- the last lines of ${log##*/}:"
		tail -n 40 "$log" | sed 's/^/    /'
	done
}

check_images()
{
	local image
	for image in "$1"/*.qcow2 "$1"/*.vmdk; do
		[ -e "$image" ] || continue
		if qemu-img check -q "$image"; then echo "ok: qemu-img check: ${image##*/} is clean"
		else echo "FAILED: qemu-img check: ${image##*/}"; fi
	done
}

run_machines()
{
	local name list
	for name in "${machines[@]}"; do
		read -ra list <<<"${scenarios[$name]}"
		while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
		machine "$name" "${list[@]}" &
	done
	wait
}

# only SCENARIO...: the machines that have them, and in them nothing else.
only()
{
	local name wanted one kept
	for name in "${machines[@]}"; do
		kept=
		for one in ${scenarios[$name]}; do
			for wanted; do
				[ "$one" != "$wanted" ] || kept+="$one "
			done
		done
		scenarios[$name]=$kept
	done
	local all=("${machines[@]}")
	machines=()
	for name in "${all[@]}"; do
		[ -z "${scenarios[$name]}" ] || machines+=("$name")
	done
	[ ${#machines[@]} -gt 0 ] || { echo "check-xen: no such scenario: $*" >&2; exit 2; }
}

[ $# -eq 0 ] || only "$@"
requisites
# shellcheck source=tests/testbed/common.sh
. "$testbed/common.sh"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/check-xen.XXXXXX")
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$logs"
from=$SECONDS
install_tree
srv_disk
run_machines | tee "$logs/check-xen.log"
passed=$(grep -c ': ok: ' "$logs/check-xen.log") || true
failed=$(grep -c ': FAILED: ' "$logs/check-xen.log") || true
echo "check-xen: $passed passed, $failed failed, in $((SECONDS - from)) s; logs in ${logs#"$top"/}"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
