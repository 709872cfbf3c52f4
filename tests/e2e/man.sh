#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The examples of the manual pages, run as they stand: each block of a section EXAMPLES.  Lines behind a prompt are what
# is typed, the others what it prints.  A page whose blocks are not all run here, or named as run elsewhere, fails.

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
. "${srcdir:-.}/tests/e2e/docs-lib.sh"
need_machine
require qemu-img nbdinfo nc
enter_namespace
export BLKTAP_RUN_DIR=/run/blktap-control
mkdir -p "$BLKTAP_RUN_DIR"
cd /srv || exit

# split PAGE: its blocks, to $T/PAGE.1 and so on.
split()
{
	awk -v out="$T/$1." '
		/^\.Sh / { on = $2 == "EXAMPLES"; next }
		!on { next }
		/^\.Bd -literal/ { n++; block = 1; next }
		/^\.Ed/ { block = 0; next }
		/^\.Dl / { n++; print substr($0, 5) >(out n) }
		block { print >(out n) }
	' "$srcdir/man/$1"
	sed -i 's/\\e/\\/g; s/\\&//g' "$T/$1".[0-9]*
}

# run PAGE N: a session, where there are prompts; else commands that all have to succeed.
run()
{
	local file=$T/$1.$2
	[ -s "$file" ] || fail "$1 has no example $2"
	if grep -q '^[#$] ' "$file"; then
		sed -n 's/^[#$] //p' "$file" >"$file.sh"
		bash "$file.sh" >"$file.out" 2>&1 || fail "$1: $(cat "$file.out")"
		while read -r line; do
			grep -qxF -- "$line" "$file.out" || fail "$1 says it prints '$line': $(cat "$file.out")"
		done < <(grep -v '^[#$] ' "$file")
	else
		bash -euo pipefail "$file" >"$file.out" 2>&1 || fail "$1: $(cat "$file.out")"
	fi
	rm "$file"
}

# elsewhere PAGE N TEST: that test runs it.
elsewhere()
{
	[ -s "$T/$1.$2" ] || fail "$1 has no example $2"
	[ -e "$srcdir/$3" ] || fail "$1: there is no $3"
	rm "$T/$1.$2"
}

pages=0
for page in "$srcdir"/man/*.[1-9]; do
	grep -q '^\.Sh EXAMPLES' "$page" || continue
	split "${page##*/}"
	pages=$((pages + 1))
done

# ---- images ----

run tap-img.1 1
run tap-img.1 2
run tap-img.1 3
run tap-img.1 4
run tap-img.1 5
run tap-img.1 6
run tap-img.1 7

# ---- daemons ----

qemu-img create -q -f qcow2 disk.qcow2 64M
run tap-ctl.8 1
grep -q 'state=0 args=qcow2:/srv/disk.qcow2' "$T/tap-ctl.8.1.out" || fail "tap-ctl list: $(cat "$T/tap-ctl.8.1.out")"
run tap-ctl.8 2
grep -q '"iops": *200,' "$T/tap-ctl.8.2.out" || fail "tap-ctl throttle: $(cat "$T/tap-ctl.8.2.out")"

qemu-img create -q -f qcow2 a.qcow2 64M
truncate -s 64M disk.img
run tapdisk.8 1
grep -q 'export-size: 67108864' "$T/tapdisk.8.1.out" || fail "nbdinfo: $(cat "$T/tapdisk.8.1.out")"
PID=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*a\.qcow2.*/\1/p') run blktap-control.7 1
grep -q '"ok":true' "$T/blktap-control.7.1.out" || fail "no answer: $(cat "$T/blktap-control.7.1.out")"
end_tapdisks

mkdir -p images/base other
qemu-img create -q -f qcow2 images/base/b.qcow2 1M
qemu-img create -q -f qcow2 -b /srv/images/base/b.qcow2 -F qcow2 other/o.qcow2
expect_fail 'not allowed|allow' tap-img info --backing-chain qcow2:/srv/other/o.qcow2
BLKTAP_CONF=$T/blktap.conf.5.1 tap-img info --backing-chain qcow2:/srv/other/o.qcow2 >/dev/null ||
	fail "the example of blktap.conf(5) does not allow it"
rm "$T/blktap.conf.5.1"

# ---- block devices ----

run block-attach.8 1
elsewhere block-attach.8 2 tests/xen/features.sh
make_guest()
{
	rm -f guest.qcow2
	truncate -s 64M guest.raw
	echo '2048,' | sfdisk -q guest.raw
	mkfs.ext4 -q -E offset=$((2048 * 512)) guest.raw 60M
	qemu-img convert -O qcow2 guest.raw guest.qcow2
}
make_guest
before=$(sha256sum guest.qcow2)
run tapfuse.1 1
grep -qx part1 "$T/tapfuse.1.1.out" || fail "tapfuse shows: $(cat "$T/tapfuse.1.1.out")"
wait_for 20 eval '! grep -q " /srv/view " /proc/self/mountinfo'
run block-attach.8 3
umount /mnt
block-detach 0 xvdb
[ "$(sha256sum guest.qcow2)" = "$before" ] || fail "looking at an image changed it"

block-attach 0 qcow2:/srv/disk.qcow2 xvda w >/dev/null
mkfs.ext4 -q /dev/xvda
mount /dev/xvda /mnt
run block-detach.8 1

block-attach 0 qcow2:/srv/disk.qcow2 xvda w >/dev/null
kill -KILL "$(block-list | sed -n 's/.* pid=\([0-9]*\).*/\1/p')"
wait_for 10 sh -c "block-list | grep state=broken"
run block-list.8 1
block-detach --force 0 xvda >/dev/null 2>&1 || true

# ---- loads ----

truncate -s 64M a.img
qemu-img create -q -f qcow2 scratch.qcow2 64M
sed -i 's/--runtime=10/--runtime=1/' "$T/tap-bench.1.2" # as it stands, but for the time
run tap-bench.1 1
run tap-bench.1 2
elsewhere libblktap-client.3 1 tests/e2e/ring-client.sh
elsewhere libblktap-client.3 2 tests/e2e/ring-client.sh

# ---- configurations ----

echo "disk = [ 'tap:qcow2:/srv/disk.qcow2,xvda,w' ]" >guest.cfg
run tap-config.1 1
[ -s guest.new ] || fail "tap-config translate wrote nothing"

left=$(find "$T" -maxdepth 1 -name '*.[1-9].[0-9]' | sed 's|.*/||')
[ -z "$left" ] || fail "examples that are not run: $left"
say "the examples of $pages pages work as they stand"
