# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# PV guests from an unmodified xl, on each of the disk lines that people have: root file system on it, through our ring.
. /tests/guests.sh

start_tapback
before=$(xenstore-ls -f "$BE" 2>/dev/null | grep -vE '^[^=]*/console')

# boots NAME IMAGE DISK
boots()
{
	local name=$1 spec=$2 disk=$3 id
	echo "@ $disk"
	guest_config "$name" "$disk" >"/run/$name.cfg"
	check "xl create with $disk: the guest's system is up" guest_start "$name"
	id=$(xl domid "$name") || return
	check "  its root is on xvda" guest "$name" 'grep "^/dev/xvda / ext4" /proc/mounts'
	check "  xl block-list names it" eval "xl block-list $id | grep 51712"
	written=$(guest "$name" \
		'dd if=/dev/urandom of=/data/file bs=64k count=64 2>/dev/null; sync; sha256sum /data/file')
	written=${written%% *}
	check "  what it wrote comes back, past the cache" eval \
		'[ ${#written} = 64 ] &&
		guest $name "echo 3 >/proc/sys/vm/drop_caches; sha256sum /data/file" | grep $written'
	check "  through our ring" served "$id" 51712 read segments
	check "  and the image's own tapdisk" eval "tap-ctl list | grep -F '$spec'"
	check "  no I/O error" guest_content "$name"
	check "  it shuts down" guest_stop "$name"
	check "  nothing is left in xenstore" nothing_of "$id"
	check "  its file is on the image, which block-attach opens at once" on_image "$spec" "$written"
}

# on_image SPEC SHA256: domain 0 looks.
on_image()
{
	mkdir -p /mnt/g
	block-attach 0 "$1" xvdg r && mount -o ro,noload /dev/xvdg /mnt/g &&
		sha256sum /mnt/g/data/file | grep "$2" && umount /mnt/g && block-detach 0 xvdg
}

root_image /srv/a.img
boots aio aio:/srv/a.img 'tap:aio:/srv/a.img,xvda,w'
check "e2fsck: clean" e2fsck -fn /srv/a.img

tap-img create qcow2:/srv/b.qcow2 24M >/dev/null
onto_qcow2()
{
	block-attach 0 qcow2:/srv/b.qcow2 xvdh w && dd if=/srv/root.img of=/dev/xvdh bs=1M conv=fsync &&
		block-detach 0 xvdh
}
check "the root file system goes onto a qcow2 image" onto_qcow2
boots qcow2 qcow2:/srv/b.qcow2 'tap:qcow2:/srv/b.qcow2,xvda,w'
boots script qcow2:/srv/b.qcow2 'script=block-tapdisk,vdev=xvda,access=w,target=qcow2:/srv/b.qcow2'
cp /srv/b.qcow2 /out/boot.qcow2

for format in vmdk vhd; do
	check "the root file system becomes a $format" \
		tap-img convert -f raw -O "$format" /srv/root.img "/srv/c.$format"
	boots "$format" "$format:/srv/c.$format" \
		"script=block-tapdisk,vdev=xvda,access=w,target=$format:/srv/c.$format"
	check "tap-img check: clean" tap-img check -f "$format" "/srv/c.$format"
done
cp /srv/c.vmdk /out/boot.vmdk

check "xenstore is as it was" [ "$before" = "$(xenstore-ls -f "$BE" 2>/dev/null | grep -vE '^[^=]*/console')" ]
check "tapback ends on SIGTERM" stop_tapback
