#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-config as a command: list, lint on hosts that are folders, translate, what is refused, and how large input may be.
. "${srcdir:-.}/tests/e2e/lib.sh"
require flock python3 truncate pkill

# golden NAME: what was printed is what the rest of the line says.
golden() { diff -u - "$T/out" >&2 || fail "$1 prints something else"; }

# lint EXIT ARGS...: into $T/out
lint()
{
	local code=0 want=$1
	shift
	tap-config lint "$@" >"$T/out" || code=$?
	[ "$code" = "$want" ] || fail "lint $*: exit $code, not $want: $(cat "$T/out")"
}

cd "$T"
cat >xl.cfg <<'END'
name = "guest"   # a guest
disk = [ 'tap:aio:/srv/a.img,xvda,w', # the root
	 "tap:vmdk:/srv/it's.vmdk,xvdb,r",

	 'script=block-tapdisk,vdev=xvdc,access=w,target=qcow2:/srv/c.qcow2' ,
]
disk += [ 'tap:qcow2:/srv/d.qcow2,xvdd,w!', ',hdc:cdrom,r', 'iscsi:iqn,xvde,w',
  'phy:/dev/vg/x,xvdf,w,storage' ]
memory = 128; vcpus = 2
END

# ---- list ----

tap-config xl.cfg >out
golden list <<'END'
line=2 vdev=xvda mode=w spec=aio:/srv/a.img
line=3 vdev=xvdb mode=r spec=vmdk:/srv/it's.vmdk
line=5 vdev=xvdc mode=w spec=qcow2:/srv/c.qcow2
line=7 vdev=xvdd mode=w spec=qcow2:/srv/d.qcow2
line=7 vdev=hdc mode=r cdrom=yes spec=
line=7 vdev=xvde mode=w script=block-iscsi spec=iqn
line=8 vdev=xvdf mode=w backend=storage spec=aio:/dev/vg/x
END
cp xl.cfg list
tap-config list ./list | cmp - out
tap-config - <xl.cfg | cmp - out
tap-config --json xl.cfg | python3 -c '
import json, sys
disks = json.load(sys.stdin)
assert [d["vdev"] for d in disks] == ["xvda", "xvdb", "xvdc", "xvdd", "hdc", "xvde", "xvdf"]
assert [d["xl"] for d in disks] == [True, False, True, False, True, True, False]
assert disks[1]["spec"] == "vmdk:/srv/it\x27s.vmdk" and disks[5]["script"] == "block-iscsi"
assert disks[4]["spec"] is None and disks[6]["backend"] == "storage"'

# ---- translate: those lines alone, every other byte as it was ----

tap-config translate xl.cfg >out 2>err
golden translate <<'END'
name = "guest"   # a guest
disk = [ 'tap:aio:/srv/a.img,xvda,w', # the root
	 "script=block-tapdisk,vdev=xvdb,access=r,target=vmdk:/srv/it's.vmdk",

	 'script=block-tapdisk,vdev=xvdc,access=w,target=qcow2:/srv/c.qcow2' ,
]
disk += [ 'format=qcow2,vdev=xvdd,access=w,target=/srv/d.qcow2', ',hdc:cdrom,r', 'iscsi:iqn,xvde,w',
  'format=raw,vdev=xvdf,access=w,backend=storage,target=/dev/vg/x' ]
memory = 128; vcpus = 2
END
grep -q 'xl.cfg:7: the ! of its mode' err || fail "nothing is said of the !: $(cat err)"
cp out once.cfg
tap-config translate once.cfg | cmp - once.cfg || fail "a translated file is translated again"
[ "$(tap-config list once.cfg)" = "$(tap-config list xl.cfg)" ] || fail "the disks are others after translate"
tap-config translate --all xl.cfg >all.cfg 2>/dev/null
[ "$(tap-config list all.cfg)" = "$(tap-config list xl.cfg)" ] || fail "the disks are others after translate --all"
[ "$(grep -o script=block-tapdisk all.cfg | wc -l)" = 4 ] || fail "--all: $(cat all.cfg)"
printf 'type = "hvm"\ndisk = ["tap:aio:/a,hda,w"]' >hvm.cfg
tap-config translate --all hvm.cfg 2>err | cmp - hvm.cfg
grep -q HVM err || fail "nothing is said of HVM"
expect_fail 'translate prints|--json' tap-config translate --json xl.cfg

# ---- lint, on a host that is a folder ----

mkdir -p root/{srv,run/blktap-control,etc/xen/scripts,usr/sbin,usr/libexec,sys/module,sys/hypervisor/version}
echo 4 >root/sys/hypervisor/version/major
echo 17 >root/sys/hypervisor/version/minor
for file in etc/xen/scripts/block etc/xen/scripts/block-tapdisk usr/sbin/tap-dm; do
	echo '#!/bin/sh' >"root/$file"
	chmod +x "root/$file"
done
ln -s /usr/sbin/tap-dm root/usr/libexec/xen-qemu-system-i386
truncate -s 1M root/srv/a.img
tap-img create "qcow2:$T/root/srv/c.qcow2" 1M
cp root/srv/c.qcow2 root/srv/d.qcow2
sed -e /vmdk/d -e s/w!/w/ -e "s/ ',hdc.*/ ]/" -e '/iscsi/d; /phy:/d' xl.cfg >good.cfg

lint 2 --root root good.cfg
golden 'lint without tapback' <<'END'
good.cfg:2: warning: xvda: aio:/srv/a.img, served by nobody
    backend phy, class vbd, script /etc/xen/scripts/block
    neither tapback serves class vbd nor is xen-blkback loaded: it is served if one of them comes
good.cfg:4: error: xvdc: qcow2:/srv/c.qcow2, served by nobody
    backend phy, class vbd, script /etc/xen/scripts/block-tapdisk
    nobody serves it: tapback is not running
good.cfg:6: error: xvdd: qcow2:/srv/d.qcow2, served by nobody
    backend qdisk, class qdisk
    nobody serves it: tapback is not running, and the device model is tap-dm, which has no disks
END

echo '4711 vbd3 vbd qdisk' >root/run/blktap-control/tapback
flock -x root/run/blktap-control/tapback sh -c "touch locked; exec sleep 3600" &
also_kill $!
lock=$!
wait_for 10 test -e locked
lint 0 --root root good.cfg
golden 'lint with tapback' <<'END'
good.cfg:2: ok: xvda: aio:/srv/a.img, served by tapback
    backend phy, class vbd, script /etc/xen/scripts/block
good.cfg:4: ok: xvdc: qcow2:/srv/c.qcow2, served by tapback
    backend phy, class vbd, script /etc/xen/scripts/block-tapdisk
good.cfg:6: ok: xvdd: qcow2:/srv/d.qcow2, served by tapback
    backend qdisk, class qdisk
END
lint 0 --json --root root good.cfg
python3 -c '
import json, sys
disks = json.load(open("out"))
assert [d["served-by"] for d in disks] == ["tapback"] * 3
assert [d["class"] for d in disks] == ["vbd", "vbd", "qdisk"]
assert [d["file-format"] for d in disks] == ["raw", "qcow2", "qcow2"]
assert disks[1]["script"] == "/etc/xen/scripts/block-tapdisk" and disks[2]["script"] is None
assert all(d["severity"] == "ok" and d["reasons"] == [] for d in disks)'

# Another device model by the configuration; a QEMU; none.
{ echo "device_model_override = '/usr/sbin/tap-dm'"; cat good.cfg; } >dm.cfg
rm root/usr/libexec/xen-qemu-system-i386
lint 2 --root root good.cfg
grep -q 'there is no /usr/libexec/xen-qemu-system-i386: put tap-dm there' out || fail "$(cat out)"
lint 0 --root root dm.cfg
cp root/usr/sbin/tap-dm root/usr/libexec/xen-qemu-system-i386
lint 3 --root root good.cfg
grep -q 'both take the disk' out || fail "$(cat out)"

# The file is not what the line says; not there; the same device and image twice; no name of a device.
cat >bad.cfg <<'END'
import os
disk = [ 'tap:qcow2:/srv/a.img,xvda,w', 'file:/srv/c.qcow2,xvdb,w', 'file:/srv/none,xvdc,w', 'tap:vmdk:/x,xvdd,w',
 'file:/srv/a.img,xvda,w', 'file:/srv/a.img,xvdg,r', 'file:/srv/a.img,floppy,r' ]
disk += [ 'script=block-tapdisk,vdev=xvdh,target=x' ]
END
lint 2 --root root bad.cfg
for text in "bad.cfg:1: error: not xl's syntax" 'the file is no qcow2' \
	'the file is qcow2, and the guest gets its bytes' \
	'/srv/none: No such file' 'vmdk: is a prefix that xl does not know' 'line 2 is xvda already' \
	'line 3 has the same image' 'floppy: no name of a disk' 'tapback cannot open it'; do
	grep -qF -- "$text" out || fail "lint does not say \"$text\": $(cat out)"
done
pkill -P "$lock"
wait "$lock" || true
forget_pid "$lock"

# ---- what is refused ----

refuse() { expect_fail "tap-config: list: .*$1" tap-config "$2"; }

refuse 'none.cfg: No such file' none.cfg
refuse 'directory' root
printf 'disk = [ "a" + b ]' >code.cfg
refuse 'code.cfg: line 1: code with the name disk' code.cfg
printf 'disk = [ "nonsense" ]' >n.cfg
refuse "n.cfg: line 1: 'nonsense': no vdev" n.cfg
expect_fail "n.cfg: line 1: 'nonsense': no vdev" tap-config translate n.cfg
[ ! -s "$T/expect.out" ] || fail "translate prints half of a file"
lint 2 n.cfg
expect_fail 'usage' tap-config lint
expect_fail 'no such option' tap-config lint --frob n.cfg

# ---- hostile: an error soon, in little memory ----

hostile()
{
	(ulimit -v "${HOSTILE_MEM:-1000000}"; refuse "$@")
}
grep -q 'define TD_SANITIZE' "$BUILD/config.h" && HOSTILE_MEM=unlimited # sanitizers want all of it
start=$SECONDS
{ printf "disk = [ '"; head -c 100M /dev/zero | tr '\0' a; } >big.cfg
hostile 'larger than' big.cfg
truncate -s 2G sparse.cfg
hostile 'larger than' sparse.cfg
hostile 'larger than' /dev/zero
printf 'disk = [\n\0]' >nul.cfg
hostile 'line 2: a NUL byte' nul.cfg
{ echo 'disk = ['; seq -f "'a%.0f,raw,xvda,w'," 40000; echo ']'; } >many.cfg
hostile 'line 1026: more than 1024 disks' many.cfg
{ echo 'disk = ['; seq -f "'a%.0f,raw,xvda,w'," 100000; echo ']'; } >many.cfg
hostile 'larger than' many.cfg
printf "disk = [ 'a" >open.cfg
hostile 'line 1: a string without its second quote' open.cfg
{ printf "disk = [ 'target="; head -c 500000 /dev/zero | tr '\0' a; printf "']"; } >long.cfg
hostile 'longer than 8192 bytes' long.cfg
[ $((SECONDS - start)) -lt 300 ] || fail "hostile files took $((SECONDS - start)) s"
