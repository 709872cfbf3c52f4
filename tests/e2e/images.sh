#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Other people's images, through tapdisk over NBD: every byte is what independent decoders found (the digests of
# MANIFEST.tsv), and serving an image read-only changes nothing of it, nor of the folder it is in.
#
# They are looked for in $BLKTAP_TEST_IMAGES, else in ../shared/images beside the source folder; they are not ours to
# pass on, so none comes with the source.
. "${srcdir:-.}/tests/e2e/lib.sh"

images=${BLKTAP_TEST_IMAGES:-$srcdir/../shared/images}
manifest=$images/MANIFEST.tsv
[ -r "$manifest" ] || skip "no images: $images has no MANIFEST.tsv (BLKTAP_TEST_IMAGES names another folder)"
require nbdcopy nbdinfo qemu-img python3 sha256sum

# What a decoder of ours must not touch: bytes, times, names.
state_of()
{
	(cd "$1" && find . -printf '%p %s %T@ %m\n' | sort && find . -type f -exec sha256sum {} + | sort)
}

# Digest of the 64 KiB blocks that are not all zeros: for each its index (8 bytes, big-endian), then its bytes.
digest_of_data()
{
	python3 - "$1" <<'PY'
import errno, hashlib, os, struct, sys
BLOCK = 65536
digest = hashlib.sha256()
fd = os.open(sys.argv[1], os.O_RDONLY)
end = os.fstat(fd).st_size
at = 0
while at < end:
    try:
        at = os.lseek(fd, at, os.SEEK_DATA) // BLOCK * BLOCK    # holes read as zeros
    except OSError as e:
        if e.errno == errno.ENXIO:
            break
        raise
    block = os.pread(fd, BLOCK, at).ljust(BLOCK, b"\0")
    if block.count(0) != BLOCK:
        digest.update(struct.pack(">Q", at // BLOCK) + block)
    at += BLOCK
print(digest.hexdigest())
PY
}

# check_bytes SET URI SIZE SHA256 DATA-DIGEST
check_bytes()
{
	local raw=$T/raw.img got
	rm -f "$raw"
	got=$(nbdinfo --size "$2")
	[ "$got" = "$3" ] || fail "$1: the size is $got, not $3"
	nbdcopy "$2" "$raw" || fail "$1: nbdcopy"
	got=$(digest_of_data "$raw")
	[ "$got" = "$5" ] || fail "$1: the digest of its data is $got, not $5"
	[ "$4" != - ] || return 0 # too large to read whole
	got=$(sha256sum <"$raw")
	[ "${got%% *}" = "$4" ] || fail "$1: its sha256 is ${got%% *}, not $4"
}

# As it lies there, read-only.
# SET FOLDER FILE FORMAT SIZE SHA256 DATA-DIGEST, of this and the next
check_in_place()
{
	local dir=$2 before
	before=$(state_of "$dir")
	start_tapdisk -R --nbd "unix:$T/nbd" "$4:$dir/$3"
	check_bytes "$1" "nbd+unix:///?socket=$T/nbd" "$5" "$6" "$7"
	qemu-img compare -q -f "$4" -F raw "$dir/$3" "nbd+unix:///?socket=$T/nbd" || fail "$1: qemu-img compare"
	stop_tapdisk
	[ "$(state_of "$dir")" = "$before" ] || fail "$1: serving it read-only changed something"
}

# A copy, writable, but nobody writes: the guest's bytes are the same after we opened and closed it.
check_copy()
{
	mkdir "$T/copy"
	cp "$2/$3" "$T/copy/disk"
	chmod u+w "$T/copy/disk"
	start_tapdisk --nbd "unix:$T/nbd" "$4:$T/copy/disk"
	check_bytes "$1 (a writable copy)" "nbd+unix:///?socket=$T/nbd" "$5" "$6" "$7"
	stop_tapdisk
	qemu-img compare -q -f "$4" -F "$4" "$2/$3" "$T/copy/disk" || fail "$1: differs after it was opened"
	rm -r "$T/copy"
}

count=0
while IFS=$'\t' read -r set file _ _ _ format size sha data _; do
	case $format in
	qcow2 | vhdx | vmdk | vpc) ;;
	*) continue ;;
	esac
	# QEMU alone takes the geometry for the size of what VirtualBox made; all others, and VirtualBox, the size that
	# the footer says.  It is all zeros.
	if [ "$set" = vhd-gofile-vbox ]; then
		size=41943040
		sha=$(head -c "$size" /dev/zero | sha256sum | cut -d ' ' -f 1)
	fi
	dir=$images/$set
	if [ ! -e "$dir/$file" ] && [ -e "$dir/$file.gz" ]; then
		dir=$T/unpacked/$set
		mkdir -p "$dir"
		gunzip -c "$images/$set/$file.gz" >"$dir/$file"
	fi
	check_in_place "$set" "$dir" "$file" "$format" "$size" "$sha" "$data"
	# A vmdk's file may be one of several; a vhdx is only read.
	[[ $format == vmdk || $format == vhdx ]] || check_copy "$set" "$dir" "$file" "$format" "$size" "$sha" "$data"
	say "$set: equal"
	count=$((count + 1))
done <"$manifest"
[ "$count" -gt 0 ] || fail "$manifest names no image that we read"
