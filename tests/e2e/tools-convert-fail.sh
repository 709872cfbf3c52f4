#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img convert: standard input and output; and that nothing is destroyed, nothing that failed or was interrupted
# looks like a disk, and no error becomes zeros.  CONVERT_SEED chooses the bytes.
# shellcheck disable=SC2002,SC2119,SC2154

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3 sha256sum pgrep
. "${srcdir:-.}/tests/e2e/convert-lib.sh"
make_chain
qemu-img convert -f raw -O qcow2 -o cluster_size=512 disk.raw s-512.qcow2
want=$(sum_of disk.raw)

# ---- nothing is destroyed ----
cp disk.raw precious
expect_fail 'exists and is not empty' tap-img convert -f qcow2 -O raw s-512.qcow2 precious
same precious disk.raw
chmod 640 precious
tap-img convert --force -f qcow2 -O raw s-chain.qcow2 precious
[ "$(stat -c %a precious)" = 640 ] || fail "--force: the file's mode is not kept"
expect_fail 'is what is read' tap-img convert --force -f raw -O qcow2 disk.raw disk.raw
ln -s "$T/disk.raw" link.raw
expect_fail 'is what is read' tap-img convert --force -f raw -O qcow2 disk.raw link.raw
expect_fail 'is what is read' tap-img convert --force -f qcow2 -O raw s-chain.qcow2 s-64k.qcow2
[ "$(sum_of disk.raw)" = "$want" ] || fail "the source has changed"
# Of a disk of several files only the named one is replaced as a whole.
cp disk.raw old-flat.vmdk
expect_fail 'would be lost' \
	tap-img convert -q --force -U -f raw -O vmdk -o subformat=monolithicFlat old-flat.vmdk old.vmdk
same old-flat.vmdk disk.raw
rm old-flat.vmdk
tap-img convert -q -f raw -O vmdk -o subformat=twoGbMaxExtentSparse disk.raw old.vmdk
expect_fail 'would be lost' \
	tap-img convert -q --force -f qcow2 -O vmdk -o subformat=twoGbMaxExtentSparse s-chain.qcow2 old.vmdk
tap-img convert -q --force -f qcow2 -O qcow2 -o data_file=old.data s-chain.qcow2 old.qcow2
expect_fail 'would be lost' tap-img convert -q --force -U -O qcow2 -o data_file=old.data qcow2:old.qcow2 new.qcow2
tap-img convert -q -O raw vmdk:old.vmdk old.raw
same old.raw disk.raw
absent old.vmdk.partial new.qcow2.partial || fail "a refused conversion left a file"
touch left.partial
expect_fail 'left by a conversion' tap-img convert -f raw -O raw disk.raw left
expect_fail 'say the target.s format' tap-img convert -f raw disk.raw out2
expect_fail 'a backing file' tap-img convert -O raw s-chain.qcow2 out2 # probed
expect_fail 'No such file' tap-img convert -f raw -O raw nothing out2
absent out2 out2.partial || fail "a refused conversion left a file"

# ---- streams ----
cat disk.raw | tap-img convert --sha256 -O qcow2 --size "$size" - in.qcow2 >sum
[ "$(cut -d' ' -f1 sum)" = "$want" ] || fail "from a pipe: another SHA-256"
qemu-img compare -q -f raw disk.raw in.qcow2 || fail "from a pipe"
qemu-img check -q in.qcow2
rm -f in.qcow2
cat disk.raw | tap-img convert -O qcow2 - in.qcow2
qemu-img compare -q -f raw disk.raw in.qcow2 || fail "from a pipe without --size"
[ "$(qemu-img info --output=json in.qcow2 | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')" = "$size" ] ||
	fail "from a pipe without --size: another size"
qemu-img check -q in.qcow2
tap-img convert -O raw - in.raw <disk.raw
same in.raw disk.raw
rm -f in.raw
cat disk.raw | tap-img convert -O raw - in.raw
same in.raw disk.raw
expect_fail 'ended after 2097152 bytes of' tap-img convert --size "$size" -O qcow2 - in2.qcow2 < <(head -c 2M disk.raw)
expect_fail 'holds more than' tap-img convert --size 1M -O qcow2 - in2.qcow2 < <(cat disk.raw)
head -c 1000 disk.raw | tap-img convert -O raw - in2.raw
{ head -c 1000 disk.raw; head -c 24 /dev/zero; } | cmp - in2.raw || fail "a stream that ends within a sector"
: | tap-img convert -O raw - empty.raw
[ "$(stat -c %s empty.raw)" = 0 ] || fail "an empty stream"
absent in2.qcow2 in2.qcow2.partial || fail "a stream that was cut off left a file"
tap-img convert -f qcow2 s-chain.qcow2 - >out.raw
qemu-img compare -q -f raw -F qcow2 out.raw s-chain.qcow2 || fail "to a file by standard output"
[ "$(tap-img convert --sha256 -f qcow2 s-64k.qcow2 - 2>sum | sha256sum | cut -d' ' -f1)" = "$want" ] ||
	fail "to a pipe"
[ "$(cut -d' ' -f1 sum)" = "$want" ] || fail "to a pipe: another SHA-256 on the way"
cat disk.raw | tap-img convert - - | cmp - disk.raw || fail "from a pipe to a pipe"
expect_fail 'cannot be written as a stream' tap-img convert -f raw -O qcow2 disk.raw - </dev/null
expect_fail 'only a raw disk' tap-img convert -f qcow2 -O raw - out2 </dev/null
if tap-img convert -f raw disk.raw - 2>err >/dev/full; then fail "/dev/full took a disk"; fi
grep -q 'standard output: cannot be written' err || fail "/dev/full: $(cat err)"

# ---- failures: named, and nothing left ----
refused() # refused PATTERN ARGS...: fails, and leaves no target
{
	local pattern=$1
	shift
	rm -f bad bad.partial
	expect_fail "$pattern" tap-img convert "$@" bad
	absent bad bad.partial || fail "convert $* left a target"
}
refused 'cannot be read at bytes 1048576 to [0-9]*: Input/output error .*removed' -O qcow2 \
	"fault(read-every=1,from=1M,to=1100K)/raw:$T/disk.raw"
refused 'cannot be read at bytes' -O raw "qcow2/fault(read-every=1,from=2M,to=3M)/aio:$T/s-64k.qcow2"
rm -f bad
expect_fail 'cannot be written at bytes .*No space left' \
	tap-img convert -f raw "$T/disk.raw" "qcow2/fault(write-every=2,from=1M,error=ENOSPC)/aio:$T/bad"
absent bad bad.partial || fail "ENOSPC left a target"
expect_fail 'cannot be written to disk' \
	tap-img convert -f raw "$T/disk.raw" "fault(flush-every=1)/aio:$T/bad"
absent bad bad.partial || fail "a failing flush left a target"
# What lies: a table past the end, a file that was cut off.
head -c $(($(stat -c %s s-64k.qcow2) / 2)) s-64k.qcow2 >cut.qcow2
if timeout 100 tap-img convert -f qcow2 -O raw cut.qcow2 bad 2>err; then
	fail "half an image was converted"
fi
absent bad bad.partial || fail "half an image left a target"
cp s-64k.qcow2 lies.qcow2
printf '\x80\x00\x7f\x00\x00\x00\x00\x00' | dd of=lies.qcow2 bs=1 seek=$((3 * 65536)) conv=notrunc status=none
if timeout 100 tap-img convert -f qcow2 -O raw lies.qcow2 bad 2>err; then
	fail "an L1 entry past the end of the file was converted"
fi
absent bad bad.partial || fail "a lying image left a target"

# ---- -c to what has no compressed clusters: refused before anything is made or changed ----
printf 'a pass phrase' >key
for to in 'vmdk' 'vhd' 'raw' 'qcow encrypt.format=aes' 'qcow2 encrypt.format=luks,encrypt.iter-time=1' \
	'qcow2 data_file=bad.data'; do
	read -r format opts <<<"$to"
	key='' create=()
	[[ $opts != encrypt* ]] || key="(key-file=$T/key)"
	[ -z "$opts" ] || create=(-o "$opts")
	expect_fail "-c: ${format/raw/aio} images.* have no compressed" \
		tap-img convert -c -f raw "${create[@]}" disk.raw "$format$key:$T/bad"
	absent bad bad.partial bad.data || fail "-c to $to left a target"
	tap-img create "${create[@]}" "$format$key:$T/bad" "$size"
	before=$(sha256sum bad*)
	expect_fail '-c: .*bad cannot have compressed clusters' \
		tap-img convert -c -n -f raw disk.raw "$format$key:$T/bad"
	grep -q 'in part' expect.err && fail "-c -n to $to: $(cat expect.err)"
	[ "$(sha256sum bad*)" = "$before" ] || fail "-c -n to $to: the target has changed"
	tap-img convert -n -f raw disk.raw "$format$key:$T/bad"
	rm bad*
done
tap-img create qcow:small 1M
expect_fail 'too few for the' tap-img convert -n -f raw disk.raw qcow:small
grep -q 'in part' expect.err && fail "a target that is too small: $(cat expect.err)"
tap-img create qcow:whole "$size"
tap-img convert -c -n -f raw disk.raw qcow:whole
qemu-img compare -q -f raw -F qcow disk.raw whole || fail "-c -n to qcow"

# ---- interrupted ----
for sig in INT TERM; do
	rm -f slow slow.partial
	tap-img convert -r 1M -f raw -O qcow2 disk.raw slow 2>err &
	pid=$!
	also_kill "$pid"
	wait_for 20 test -e slow.partial
	[ ! -e slow ] || fail "an incomplete target bears its name already"
	kill -"$sig" "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" = 1 ] || fail "SIG$sig: exit $status: $(cat err)"
	grep -q 'interrupted.*removed' err || fail "SIG$sig: $(cat err)"
	absent slow slow.partial || fail "SIG$sig left a target"
done
mkfifo pipe
exec 9<>pipe # nobody writes to it, and it does not end
tap-img convert -O raw - slow 2>err <&9 &
pid=$!
also_kill "$pid"
wait_for 20 test -e slow.partial
kill -INT "$pid"
wait_for 20 is_gone_or_zombie "$pid"
exec 9>&-
grep -q interrupted err || fail "while it waits for a pipe: $(cat err)"
[ ! -e slow.partial ] || fail "SIGINT while it waits for a pipe left a target"

# ---- progress and its limits ----
tap-img convert -p -f raw -O raw disk.raw p.raw 2>err
grep -q '(100.00/100%)' err || fail "-p: $(cat err)"
rm -f p.raw
tap-img convert -f raw -O raw disk.raw p.raw 2>err
[ ! -s err ] || fail "progress that nobody asked for: $(cat err)"
rm -f p.raw
start=$(date +%s%N)
tap-img convert -r 8M -f raw -O raw data p.raw
[ $((($(date +%s%N) - start) / 1000000)) -ge 350 ] || fail "-r 8M: 5 MiB took no time"
expect_fail 'not a size' tap-img convert -r fast -f raw -O raw data out2
expect_fail '1 to 16' tap-img convert -m 17 -f raw -O raw data out2
for opts in '-m 1' '-m 16 -W' '-t none -T none' '-t writeback -T directsync' '-U -q'; do
	rm -f p.raw
	# shellcheck disable=SC2086
	tap-img convert $opts -f qcow2 -O raw s-512.qcow2 p.raw
	same p.raw disk.raw
done
expect_fail 'it is none, directsync' tap-img convert -t fast -f raw -O raw data out2
