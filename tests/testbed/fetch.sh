#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Gets Debian's Xen, kernel and tools with "apt-get download", unpacks them (no install), and makes from them the pieces
# that run.sh boots, in the cache:
#	boot/xen	the hypervisor, a multiboot ELF file
#	boot/vmlinux	the kernel, unpacked (saves its own unpacking under emulation)
#	boot/base.cpio	initramfs of the machine itself (dom0, or plain Linux)
#	boot/domu.cpio	initramfs of a PV guest
# Does nothing when the cache is complete; --force starts anew.
. "$(dirname "$0")/common.sh"

kernel_meta=linux-image-6.12-amd64
tools=(bash busybox-static e2fsprogs mount util-linux xen-utils-4.17 xen-utils-common xenstore-utils)

# Modules, and with each of them those it depends on. The guest's init loads what it needs.
modules=(xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs xen-blkback xen-blkfront
	ublk_drv loop fuse ext4 crc32c_generic virtio_pci virtio_blk virtio_console xen-netback 9p 9pnet_virtio)
domu_modules=(xen-blkfront ext4 crc32c_generic)
built_in=" fuse virtio_pci virtio_console " # where Debian builds them in

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
stamp="$kernel_meta $(cat "$testbed/fetch.sh" "$testbed/common.sh" | sha256sum | cut -c1-16)"
if [ "${1-}" != --force ] && [ -f "$cache/stamp" ] && [ "$(<"$cache/stamp")" = "$stamp" ]; then exit 0; fi
rm -rf "${cache:?}"/{stamp,root,boot,tree}
mkdir -p "$cache/debs" "$root" "$cache/boot" "$cache/tree/base" "$cache/tree/domu"

# ---- the packages: the kernel, Xen, the tools, and the libraries below them; the C library is the host's ----

kernel_of()
{
	apt-cache depends "$kernel_meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1
}

package_list()
{
	printf '%s\n' "$(kernel_of)" xen-hypervisor-4.17-amd64 "${tools[@]}"
	apt-cache depends --recurse --important --no-pre-depends "${tools[@]}" | grep -E '^(lib|zlib1g)' |
		grep -vE '^lib(c6|gcc-s1|stdc\+\+6|perl|python|icu|.*-perl$|pam|semanage)'
}

download()
{
	[ -n "$(kernel_of)" ] || return 1
	(cd "$cache/debs" && rm -f ./*.deb &&
		package_list | sort -u | xargs apt-get -qq -o APT::Sandbox::User=root download)
}

if ! download; then
	echo "testbed: refreshing apt's lists" >&2
	{ apt-get -qq update && download; } ||
		die "the packages cannot be had (is this Debian 12 with its security suite?)"
fi
for deb in "$cache"/debs/*.deb; do dpkg -x "$deb" "$root"; done

# ---- hypervisor and kernel, unpacked ----

# A bzImage's header tells where its packed ELF file lies (Documentation/arch/x86/boot.rst); its length ends it, in four
# bytes.
gzip -dc "$root"/boot/xen-4.17-amd64.gz >"$cache/boot/xen"
image=$(echo "$root"/boot/vmlinuz-*)
version=${image##*/vmlinuz-}

# field OFFSET BYTES
field()
{
	od -An -j"$1" -N"$2" -tu"$2" "$image" | tr -d ' '
}
start=$((($(field $((0x1f1)) 1) + 1) * 512 + $(field $((0x248)) 4)))
size=$(($(field $((0x24c)) 4) - 4))

payload()
{
	tail -c +$((start + 1)) "$image" | head -c "$size" || true
}
case $(payload | head -c4 | od -An -tx1 | tr -d ' ') in
28b52ffd) payload | zstd -qdc >"$cache/boot/vmlinux" ;;
fd377a58) payload | xz -dc >"$cache/boot/vmlinux" ;;
*) die "$image: unknown packing" ;;
esac

# ---- the initramfs trees ----

declare -A path_of done_of
while read -r file; do
	name=${file##*/}
	name=${name%%.ko*}
	path_of[${name//-/_}]=$file
done < <(cd "$root" && find lib/modules usr/lib/modules -name '*.ko*' 2>/dev/null)

# module TREE NAME: and what it depends on.
module()
{
	local name=${2//-/_} file to
	[ -z "${done_of[$1:$name]-}" ] || return 0
	done_of[$1:$name]=1
	file=${path_of[$name]-}
	if [ -z "$file" ]; then
		[[ $built_in == *" $name "* ]] || echo "testbed: no module $name" >&2
		return 0
	fi
	to=$1/lib/modules/$version/${file##*/}
	to=${to%.xz}
	case $file in
	*.xz) xz -dc "$root/$file" >"$to" ;;
	*) cp "$root/$file" "$to" ;;
	esac
	for name in $(tr '\0' '\n' <"$to" | sed -n 's/^depends=//p' | tr , ' '); do module "$1" "$name"; done
}

# make_tree TREE MODULE...: folders, busybox and modules.
make_tree()
{
	local t=$1 name
	shift
	mkdir -p "$t"/{bin,dev,etc,mnt,out,proc,root,run,srv,sys,tmp} "$t"/usr/{bin,sbin,lib} "$t"/var/{lib,log,lock} \
		"$t/lib/modules/$version"
	ln -s bin "$t/sbin"
	ln -s /run "$t/var/run"
	ln -s /proc/mounts "$t/etc/mtab"
	echo root:x:0:0:root:/root:/bin/sh >"$t/etc/passwd"
	echo root:x:0: >"$t/etc/group"
	cp "$root/bin/busybox" "$t/bin/"
	for name in $("$root/bin/busybox" --list); do
		[ "$name" = busybox ] || ln -s busybox "$t/bin/$name"
	done
	for name; do module "$t" "$name"; done
	"$root/bin/busybox" depmod -b "$t" "$version"
}

base=$cache/tree/base
make_tree "$base" "${modules[@]}"
rm -f "$base"/bin/bash
put "$base" "$root/bin/bash" /bin/bash
# (Xen's block script wants the real losetup and flock.)
for tool in /sbin/{losetup,mkfs.ext4,e2fsck} /usr/bin/flock \
	/usr/bin/xenstore{,-exists,-list,-ls,-read,-rm,-watch,-write,-chmod}; do
	put "$base" "$root$tool" "/usr/${tool#/usr/}"
done
xenbin=/usr/lib/xen-4.17/bin
for tool in xl xenstored xenconsoled xenconsole xen-init-dom0 lsevtchn; do
	put "$base" "$root$xenbin/$tool" "$xenbin/$tool"
	ln -s "$xenbin/$tool" "$base/usr/sbin/$tool"
done
libgcc=$(ldconfig -p | sed -n 's/.*libgcc_s.so.1 (.*x86-64) => //p')
put "$base" "$libgcc" /lib/x86_64-linux-gnu/ # for pthread_cancel
cp -rL "$root/etc/xen" "$base/etc/xen"
make_tree "$cache/tree/domu" "${domu_modules[@]}"

pack "$base" "$cache/boot/base.cpio"
pack "$cache/tree/domu" "$cache/boot/domu.cpio"
echo "$version" >"$cache/boot/version"
echo "$stamp" >"$cache/stamp"
xen=$(dpkg-deb -f "$cache"/debs/xen-hypervisor-*.deb Version)
echo "testbed: kernel $version, Xen $xen ready in $cache" >&2
