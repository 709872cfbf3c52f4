#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Boots Debian's kernel in QEMU (emulated), under Xen as PV dom0 or plain, runs SCRIPT in it as root, prints what SCRIPT
# prints and ends with its status.
#	run.sh [--xen|--linux] [OPTION]... -- SCRIPT [ARG...]		(SCRIPT: a file here)
#	run.sh [--xen|--linux] [OPTION]... -- -c COMMANDS
#	run.sh [--xen|--linux] [OPTION]... --shell			(an interactive shell)
# Options:
#	--add SRC:DEST		put a file or folder, with the libraries it needs, there
#	--domu-add SRC:DEST	the same for the initramfs of PV guests, /boot/domu.cpio (--xen)
#	--out DIR		DIR is /out in the machine, and gets console.log
#	--disk FILE		one more disk: /dev/vda, ...
#	--mem MIB		the machine's memory (default 512, --xen 768)
#	--timeout S		default 300; past it the run ends with status 124
#	--append ARG		one more argument for the kernel
# Status 125: the testbed failed, or the machine died without a status.
. "$(dirname "$0")/common.sh"

mode=linux mem='' limit=300 out='' shell='' append=() qemu=() adds=() domu_adds=() disks=0
while [ $# -gt 0 ]; do
	case $1 in
	--xen) mode=xen ;;
	--linux) mode=linux ;;
	--shell) shell=1 ;;
	--add) adds+=("$2"); shift ;;
	--domu-add) domu_adds+=("$2"); shift ;;
	--out) out=$2; shift ;;
	--disk)
		qemu+=(-drive "file=$2,format=raw,if=none,id=d$disks,cache=unsafe"
			-device "virtio-blk-pci,drive=d$disks")
		disks=$((disks + 1))
		shift
		;;
	--mem) mem=$2; shift ;;
	--timeout) limit=$2; shift ;;
	--append) append+=("$2"); shift ;;
	--) shift; break ;;
	-h | --help)
		sed -n '3,/^\./s/^# \{0,1\}//p' "$0" | sed '$d'
		exit 0
		;;
	*) die "unknown option $1 (see --help)" ;;
	esac
	shift
done
[ -n "$shell" ] || [ $# -gt 0 ] || die "no script given (see --help)"
"$testbed/fetch.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/testbed.XXXXXX")
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
if [ -n "$out" ]; then
	mkdir -p "$out"
else
	out=$work/out
	mkdir "$out"
fi
rm -f "$out/.status"
console=$out/console.log

# ---- the initramfs: the cached base, and what belongs to this run ----

tree=$work/tree
mkdir -p "$tree"/{testbed,boot}
cp "$testbed/guest/init.sh" "$tree/init"
if [ -n "$shell" ]; then
	line='exec /bin/bash -i'
elif [ "$1" = -c ]; then
	line="exec /bin/bash -c $(printf '%q ' "${@:2}") </dev/null"
else
	[ -f "$1" ] || die "no such script: $1"
	cp "$1" "$tree/testbed/script"
	line="exec /bin/bash /testbed/script $(printf '%q ' "${@:2}") </dev/null"
fi
printf '#!/bin/bash\n%s\n' "$line" >"$tree/testbed/main"
chmod -R +x "$tree"/{init,testbed}
for add in ${adds[@]+"${adds[@]}"}; do put "$tree" "${add%%:*}" "${add#*:}"; done
(cd "$tree" && for file in lib/x86_64-linux-gnu/* lib64/*; do # in the base already
	if [ -e "$cache/tree/base/$file" ]; then rm -f "$file"; fi
done)
pack "$tree" "$work/run.cpio"
cat "$cache/boot/base.cpio" "$work/run.cpio" >"$work/initrd"
rm -rf "$tree" "$work/run.cpio"

# ---- QEMU ----

# Faults of the emulation (QEMU 7.2) that this CPU model avoids: with SMAP a PV dom0 dies at its first return from an
# interrupt; with XSAVE (so AVX) vector registers change now and then under a process when Xen switches domains.
args=(-accel "tcg,thread=multi" -cpu "max,-smap,-xsave" -machine pc -nodefaults -no-user-config
	-display none -no-reboot -serial "file:$console" -serial chardev:tty
	-virtfs "local,path=$out,mount_tag=out,security_model=none")
kernel_args="mitigations=off panic=-1 loglevel=7 ${append[*]-}"
if [ -n "$shell" ]; then
	args+=(-chardev "stdio,id=tty,signal=off")
	exec 3<&0
else # a pipe that never ends: at an end of file QEMU would stop writing too
	args+=(-chardev "stdio,id=tty")
	mkfifo "$work/in"
	exec 3<>"$work/in"
fi
if [ $mode = xen ]; then
	mem=${mem:-768}
	boot=$work/boot
	mkdir "$boot" "$work/domu"
	cp -l "$cache/boot/vmlinux" "$boot/" 2>/dev/null || cp "$cache/boot/vmlinux" "$boot/"
	cp "$testbed/guest/domu-init.sh" "$work/domu/init"
	chmod +x "$work/domu/init"
	for add in ${domu_adds[@]+"${domu_adds[@]}"}; do put "$work/domu" "${add%%:*}" "${add#*:}"; done
	pack "$work/domu" "$work/domu.cpio"
	cat "$cache/boot/domu.cpio" "$work/domu.cpio" >"$boot/domu.cpio"
	xen_args="com1=115200,8n1 console=com1 loglvl=info guest_loglvl=info noreboot=0"
	xen_args+=" spec-ctrl=no xpti=off dom0_mem=384M"
	args+=(-virtfs "local,path=$boot,mount_tag=boot,security_model=none,readonly=on"
		-kernel "$cache/boot/xen" -append "$xen_args"
		-initrd "$cache/boot/vmlinux console=hvc0 ${kernel_args//,/,,},$work/initrd")
else
	mem=${mem:-512}
	args+=(-kernel "$cache/boot/vmlinux" -append "console=ttyS0 no5lvl $kernel_args" -initrd "$work/initrd")
fi

status=0
timeout --foreground -k 10 "$limit" qemu-system-x86_64 "${args[@]}" -m "$mem" ${qemu[@]+"${qemu[@]}"} <&3 &
pid=$!
wait "$pid" || status=$?
pid=

last_words()
{
	echo "testbed: $1; the console's last lines:" >&2
	tail -n 30 "$console" >&2
}
if [ $status = 124 ] || [ $status = 137 ]; then
	last_words "timeout: no end after $limit s"
	exit 124
elif [ -s "$out/.status" ]; then
	exit "$(<"$out/.status")"
fi
last_words "the machine ended without a status (QEMU's: $status)"
exit 125
