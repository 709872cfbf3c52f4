#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-img: every image it creates is clean and as asked in the eyes of qemu-img; info says of our images and of
# qemu-img's what qemu-img says; create never destroys what is there, info never changes anything.
# shellcheck disable=SC2119

. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io python3

# same_info ARGS...: tap-img info and qemu-img info, as JSON, field by field.
same_info()
{
	tap-img info --output=json "$@" >"$T/info.ours" || fail "tap-img info $*"
	qemu-img info -U --output=json "$@" >"$T/info.qemu"
	python3 - "$T/info.ours" "$T/info.qemu" <<'PY' || fail "info of $* differs"
import json, sys
ours, theirs = (json.load(open(f)) for f in sys.argv[1:])
for image in ours if isinstance(ours, list) else [ours]:
    if image.pop("snapshot-count", 0) != len(image.get("snapshots", [])):
        sys.exit("snapshot-count is not how many snapshots are listed")
if ours != theirs:
    print("ours  ", json.dumps(ours, sort_keys=True), "\nqemu's", json.dumps(theirs, sort_keys=True), file=sys.stderr)
    sys.exit(1)
PY
}

virtual_size() { qemu-img info --output=json "$1" | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p'; }

cd "$T" || exit

# ---- create: a matrix of options, judged by qemu-img ----
n=0
while read -r size opts; do
	rm -f x.qcow2 y.qcow2
	tap-img create -o "$opts" -f qcow2 x.qcow2 "$size" || fail "create -o $opts $size"
	qemu-img check -q x.qcow2 || fail "qemu-img check of create -o $opts $size: exit $?"
	same_info x.qcow2
	qemu-img create -q -f qcow2 -o "$opts" y.qcow2 "$size"
	[ "$(virtual_size x.qcow2)" = "$(virtual_size y.qcow2)" ] || fail "size of create -o $opts $size"
	qemu-img compare -q x.qcow2 y.qcow2 || fail "a new image is not empty: create -o $opts $size"
	qemu-io -c "write -P 7 0 512" -c flush x.qcow2 >/dev/null
	qemu-img check -q x.qcow2 || fail "after qemu-io wrote to create -o $opts $size"
	same_info y.qcow2
	n=$((n + 1))
done <<'END'
64M cluster_size=64K
512 cluster_size=64K
1000 cluster_size=512
33M cluster_size=512,refcount_bits=1
1G cluster_size=1K,refcount_bits=2
64M cluster_size=4096,refcount_bits=4
64M cluster_size=2M,refcount_bits=8
10G cluster_size=32K,refcount_bits=32
1T cluster_size=128K,refcount_bits=64
16T cluster_size=2M
64M compat=0.10
64M compat=v2,cluster_size=512
64M compat=v3,lazy_refcounts=on
64M compat=1.1,lazy_refcounts=off,refcount_bits=16
64M compression_type=zlib
64M preallocation=off
64M preallocation=metadata
64M preallocation=falloc
64M preallocation=full
END
say "$n kinds of images created"
if tap-img create -o compression_type=zstd qcow2:z.qcow2 1M 2>err; then
	same_info z.qcow2
	qemu-img check -q z.qcow2
else
	grep -q zstd err || fail "zstd: $(cat err)"
	say "zstd is not compiled in"
fi

tap-img create raw:r.img 3M
[ "$(stat -c %s r.img)" = $((3 << 20)) ] || fail "a raw image of 3M has $(stat -c %s r.img) bytes"
same_info r.img
same_info "$T/r.img"
tap-img create -f raw qcow2:odd,name 1M # -f: a file name, whatever it looks like
[ -e qcow2:odd,name ] || fail "create -f did not take its operand as a file name"

# ---- backing files ----
mkdir sub
tap-img create qcow2:sub/base.qcow2 40M
tap-img create -b base.qcow2 -F qcow2 qcow2:sub/over.qcow2
[ "$(virtual_size sub/over.qcow2)" = $((40 << 20)) ] || fail "the size of the backing file was not taken"
tap-img create -b ../r.img -F raw -o cluster_size=4K qcow2:sub/third.qcow2 5M
tap-img create -o backing_file=over.qcow2,backing_fmt=qcow2,compat=0.10 qcow2:sub/top.qcow2 50M
qemu-img create -q -f qcow2 -b "$T/sub/over.qcow2" -F qcow2 sub/abs.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 -b r.img -F raw qcow2-v2-raw.qcow2
for f in sub/over.qcow2 sub/third.qcow2 sub/top.qcow2 sub/abs.qcow2 qcow2-v2-raw.qcow2 "$T/sub/top.qcow2"; do
	same_info "$f"
	qemu-img check -q "$f"
done
(cd sub && same_info top.qcow2)
qemu-img snapshot -c one sub/abs.qcow2
qemu-img snapshot -c two sub/abs.qcow2
same_info sub/abs.qcow2
same_info --backing-chain sub/top.qcow2
same_info --backing-chain sub/base.qcow2
expect_fail 'third.qcow2.*allow' tap-img info --backing-chain sub/third.qcow2 # ../r.img is in no allowed directory
tap-img info sub/third.qcow2 >human
grep -qx 'backing file: ../r.img (actual path: sub/../r.img)' human || fail "info for people: $(cat human)"
grep -qx 'virtual size: 5 MiB (5242880 bytes)' human || fail "info for people: $(cat human)"
grep -qx '    refcount bits: 16' human || fail "info for people: $(cat human)"

expect_fail 'format with -F' tap-img create -b base.qcow2 qcow2:sub/no.qcow2
expect_fail 'backing file.*missing' tap-img create -b missing -F raw qcow2:sub/no.qcow2
expect_fail 'backing file' tap-img create -b ../r.img -F qcow2 qcow2:sub/no.qcow2 # it is not what -F says
expect_fail 'backing_file' tap-img create -b base.qcow2 -F qcow2 raw:sub/no.img 1M
[ -z "$(ls sub/no.* 2>/dev/null)" ] || fail "a failed create left a file"

# ---- refusals, by name, and with nothing left ----
refused()
{
	local pattern=$1
	shift
	expect_fail "$pattern" tap-img create "$@"
	[ ! -e new.qcow2 ] || fail "a refused create left a file: $*"
}
refused 'say the size' qcow2:new.qcow2
refused 'say the format' new.qcow2 1M
refused 'nosuch' -f nosuch new.qcow2 1M
refused 'not a size' qcow2:new.qcow2 1X
refused 'cluster_size' -o cluster_size=3K qcow2:new.qcow2 1M
refused 'clusters of' -o cluster_size=4M qcow2:new.qcow2 1M
refused 'refcount_bits' -o refcount_bits=5 qcow2:new.qcow2 1M
refused 'compat' -o compat=2.0 qcow2:new.qcow2 1M
refused 'version 2' -o compat=0.10,lazy_refcounts=on qcow2:new.qcow2 1M
refused 'version 2' -o compat=0.10,refcount_bits=8 qcow2:new.qcow2 1M
refused 'version 2' -o compat=0.10,extended_l2=on qcow2:new.qcow2 1M
refused 'extended L2.*2\^14' -o cluster_size=8K,extended_l2=on qcow2:new.qcow2 1M
refused 'extended L2.*2\^14' -o data_file=new.data,cluster_size=8K,extended_l2=on qcow2:new.qcow2 1M
[ ! -e new.data ] || fail "a refused create left a data file"
refused 'compression_type' -o compression_type=lzo qcow2:new.qcow2 1M
refused 'preallocation' -o preallocation=some qcow2:new.qcow2 1M
refused 'frobnicate' -o frobnicate=1 qcow2:new.qcow2 1M
refused 'cluster_size' -o cluster_size=4K -o cluster_size=8K qcow2:new.qcow2 1M
refused 'No such file|nodir' qcow2:nodir/new.qcow2 1M
refused '.' qcow2:new.qcow2 9E

# ---- what is there stays, unless --force ----
before=$(sha256sum <sub/base.qcow2)
expect_fail 'sub/base.qcow2.*(force|exists|overwrite)' tap-img create qcow2:sub/base.qcow2 1M
expect_fail 'sub/base.qcow2.*(force|exists|overwrite)' tap-img create raw:sub/base.qcow2 1M
[ "$(sha256sum <sub/base.qcow2)" = "$before" ] || fail "a refused create changed the file"
expect_fail 'cluster_size' tap-img create --force -o cluster_size=7 qcow2:sub/base.qcow2 1M
tap-img create --force qcow2:sub/base.qcow2 2M
qemu-img check -q sub/base.qcow2
[ "$(virtual_size sub/base.qcow2)" = $((2 << 20)) ] || fail "create --force"

# ---- info changes nothing and needs no lock ----
qemu-img create -q -f qcow2 -o lazy_refcounts=on dirty.qcow2 8M
(qemu-io -c "write -P 5 0 1M" -c abort dirty.qcow2 || true) >/dev/null 2>&1
before=$(sha256sum <dirty.qcow2)
same_info dirty.qcow2
tap-img info dirty.qcow2 >/dev/null
[ "$(sha256sum <dirty.qcow2)" = "$before" ] || fail "info changed a dirty image"
python3 - dirty.qcow2 <<'PY'
import sys
f = open(sys.argv[1], "r+b")
f.seek(79)
f.write(b"\x02")  # the incompatible feature bit "corrupt", and it alone
PY
before=$(sha256sum <dirty.qcow2)
same_info dirty.qcow2
[ "$(sha256sum <dirty.qcow2)" = "$before" ] || fail "info changed a corrupt image"
start_tapdisk --nbd "unix:$T/s" "qcow2:$T/sub/over.qcow2"
same_info sub/over.qcow2
stop_tapdisk

# ---- info of what is no image ----
expect_fail 'missing' tap-img info missing
printf 'QFI\373\0\0\0\3' >short.qcow2
expect_fail 'short.qcow2' tap-img info short.qcow2
expect_fail 'short.qcow2' tap-img info -f qcow2 short.qcow2
printf 'KDMV' >a.vmdk
head -c 64K /dev/zero >>a.vmdk
expect_fail 'a.vmdk' tap-img info a.vmdk # never raw: it carries another format's mark
tap-img info -f raw a.vmdk >/dev/null
