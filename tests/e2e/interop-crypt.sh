#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Encrypted qcow2 and qcow images, both ways with QEMU: what it makes we read and write, and the reverse.  A wrong pass
# phrase and none are told by name; a pass phrase is nowhere once the image is open.
. "${srcdir:-.}/tests/e2e/lib.sh"
require qemu-img qemu-io nbdcopy python3
cd "$T"
S="nbd+unix:///?socket=$T/s"
PASS='correct horse battery staple'
printf %s "$PASS" >key	# QEMU takes a newline for a part of it
printf '%s\n' "$PASS" >key.line
printf 'something else' >wrong
chmod 600 key key.line wrong
SECRET=(--object "secret,id=s,file=key")
python3 - <<'PY'
import random
random.seed(7)
with open("data.raw", "wb") as f:
    f.write(random.randbytes(700000))
    f.seek(1 << 20)
    f.write(b"text " * 60000)
    f.truncate(4 << 20)
PY

D=qcow2 # the format
# To make a LUKS image qemu-img times its own cipher, and gives up at some tries ("Unable to get accurate CPU usage").
theirs() # theirs FILE OPTIONS
{
	for _ in 1 2 3 4 5 6 7 8; do
		rm -f "$1"
		qemu-img convert -f raw -O "$D" "${SECRET[@]}" -o "$2,encrypt.key-secret=s" data.raw "$1" \
			2>qemu.err && return
		grep -q 'CPU usage' qemu.err || fail "qemu-img convert -o $2: $(cat qemu.err)"
	done
	say "qemu-img makes no LUKS image here: $2 not tried"
	return 1
}
format_of() { case $1 in *format=aes*) echo aes ;; *) echo luks ;; esac }
# their FILE FORMAT: how QEMU opens it.
their() { echo "driver=$D,encrypt.format=$2,encrypt.key-secret=s,file.filename=$1"; }
same() # same FILE FORMAT RAW WHY
{
	qemu-img compare -q "${SECRET[@]}" --image-opts "$(their "$1" "$2")" "driver=raw,file.filename=$3" ||
		fail "$4: QEMU reads something else"
	tap-img compare -q "$D(key-file=key.line):$1" "raw:$3" || fail "$4: we read something else"
	[ "$D" = qcow ] || qemu-img check -q "${SECRET[@]}" --image-opts "$(their "$1" "$2")" ||
		fail "$4: qemu-img check"
	tap-img check -q "$1" || fail "$4: check without the key"
}
WRITES=(-c 'write -P 1 300k 200k' -c 'write -P 2 1000 30' -c 'write -z 1M 200k' -c 'write -P 3 3M 512')
WRITES+=(-c 'write -P 4 2100001 77')
OURS=(-c 'write -P 9 310k 1M' -c 'write -P 8 77 3' -c 'write -z 2M 128k')

# The same writes by one program and by the other.
round() # round FILE OPTIONS
{
	local format
	format=$(format_of "$2")
	same "$1" "$format" data.raw "$2"
	cp data.raw model
	qemu-io -f raw "${WRITES[@]}" model >/dev/null
	qemu-io "${SECRET[@]}" --image-opts "$(their "$1" "$format")" "${WRITES[@]}" >/dev/null
	same "$1" "$format" model "$2, written by QEMU"
	start_tapdisk --nbd "unix:$T/s" "$D(key-file=key):$T/$1"
	qemu-io -f raw -c 'discard 2M 128k' "${OURS[@]}" "$S" >/dev/null
	stop_tapdisk
	qemu-io -f raw "${OURS[@]}" model >/dev/null
	same "$1" "$format" model "$2, written by us"
}

LUKS=encrypt.format=luks,encrypt.iter-time=10
CBC=encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256
all=("$LUKS,$CBC,encrypt.hash-alg=sha512,cluster_size=2k" encrypt.format=aes)
# shellcheck disable=SC2054 # the commas are in the options
[ "${TEST_ROUNDS:-1}" = 1 ] || all+=("$LUKS" "$LUKS,encrypt.ivgen-alg=plain,encrypt.hash-alg=sha1,compat=0.10" \
	"$LUKS,cluster_size=2M" encrypt.format=aes,cluster_size=512,compat=0.10)
for opts in "${all[@]}"; do
	if theirs t.qcow2 "$opts"; then
		round t.qcow2 "$opts"
	fi
	rm -f o.qcow2
	tap-img convert -q -f raw -o "$opts" data.raw "qcow2(key-file=key):o.qcow2"
	round o.qcow2 "$opts (ours)"
done

# Version 1 of the format knows the old method alone.
D=qcow
theirs t.qcow encrypt.format=aes
round t.qcow "qcow, encrypt.format=aes"
tap-img convert -q -f raw -o encrypt.format=aes data.raw "qcow(key-file=key):o.qcow"
round o.qcow "qcow, encrypt.format=aes (ours)"
expect_fail 'qcow knows aes alone' tap-img create -o encrypt.format=luks,encrypt.key-file=key qcow:x.qcow 1M
expect_fail 'o.qcow: the image is encrypted \(AES\).*key-file=FILE' tap-img compare qcow:o.qcow raw:data.raw
D=qcow2

for opts in preallocation=metadata preallocation=full,cluster_size=4k; do
	rm -f p.qcow2
	tap-img create -o "$LUKS,encrypt.key-file=key,$opts" qcow2:p.qcow2 4M >/dev/null
	truncate -s 4M zeros.raw
	same p.qcow2 luks zeros.raw "new, $opts"
	tap-img convert -q -n -f raw data.raw "qcow2(key-file=key):p.qcow2"
	same p.qcow2 luks data.raw "$opts"
done

# ---- facts ----

tap-img info --output=json o.qcow2 >info.json # aes
python3 -c 'import json; i = json.load(open("info.json"))
assert i["encrypted"] is True and i["format-specific"]["data"]["encrypt"]["format"] == "aes", i'
tap-img info --output=json p.qcow2 >info.json
qemu-img info --output=json p.qcow2 >theirs.json
python3 -c 'import json; i, q = json.load(open("info.json")), json.load(open("theirs.json"))
e, f = i["format-specific"]["data"]["encrypt"], q["format-specific"]["data"]["encrypt"]
assert i["encrypted"] is True is q["encrypted"]
for n in "format cipher-alg cipher-mode ivgen-alg hash-alg uuid".split():
    assert e[n] == f[n], n
assert e["slots-in-use"] == 0 and f["slots"][0]["active"]'
tap-img map p.qcow2 >map || fail "map without the key"
# What qemu-img 7.2 says of the same.
[ "$(tap-img measure -o encrypt.format=luks --size 1G --output=json -O qcow2 | tr -dc 0-9,)" = 2490368,1076232192 ] ||
	fail "measure does not count the encryption header"

# ---- a chain: the same key for all that is encrypted ----

tap-img create -b p.qcow2 -F qcow2 qcow2:plain.qcow2 >/dev/null
tap-img create -b plain.qcow2 -F qcow2 -o "$LUKS,encrypt.key-file=key" \
	qcow2:top.qcow2 >/dev/null
for image in plain.qcow2 top.qcow2; do
	tap-img compare -q "qcow2(key-file=key):$image" raw:data.raw || fail "$image: through the chain"
	expect_fail 'encrypted.*key-file=' tap-img compare -q "qcow2:$image" raw:data.raw
done
tap-img commit "qcow2(key-file=key):top.qcow2" >/dev/null

# ---- what is refused ----

expect_fail 'p.qcow2: the pass phrase opens no key slot' tap-img compare "qcow2(key-file=wrong):p.qcow2" raw:data.raw
expect_fail 'p.qcow2: the image is encrypted \(LUKS\).*key-file=FILE' \
	tapdisk -f --nbd "unix:$T/r" "qcow2:$T/p.qcow2"
expect_fail 'key-file=nothing: cannot be opened' tap-img compare "qcow2(key-file=nothing):p.qcow2" raw:data.raw
expect_fail 'no image of this disk is encrypted' tap-img compare "raw(key-file=key):data.raw" raw:data.raw
tap-img create qcow2:n.qcow2 1M >/dev/null
expect_fail 'no image of this disk is encrypted' tap-img compare "qcow2(key-file=key):n.qcow2" raw:data.raw
expect_fail 'encrypt.key-file' tap-img create -o encrypt.format=luks qcow2:x.qcow2 1M
expect_fail 'encrypt.format=xyz' tap-img create -o encrypt.format=xyz,encrypt.key-file=key qcow2:x.qcow2 1M
expect_fail "no create option 'encrypt.key-file'" tap-img create -o encrypt.key-file=key qcow2:x.qcow2 1M
expect_fail 'iter-time' tap-img create -o encrypt.format=luks,encrypt.iter-time=0 qcow2:x.qcow2 1M
expect_fail 'no compressed clusters' tap-img convert -c -f raw -o "$LUKS" data.raw \
	"qcow2(key-file=key):x.qcow2"
[ ! -e x.qcow2 ] || fail "an image that could not be made is there"
! grep -rqsF "$PASS" expect.err ./*.err || fail "a pass phrase in what was said"

# A slot that asks for ages is refused at once, and names the way to take it all the same.
cp p.qcow2 ages.qcow2
python3 - <<'PY'
import struct
with open("ages.qcow2", "r+b") as f:
    head = f.read(4096)
    at = 112 if struct.unpack(">I", head[4:8])[0] > 2 else 72
    while struct.unpack(">I", head[at:at + 4])[0] != 0x0537be77:
        at += 8 + (struct.unpack(">I", head[at + 4:at + 8])[0] + 7 & ~7)
    luks = struct.unpack(">Q", head[at + 8:at + 16])[0]
    f.seek(luks + 208 + 4)
    f.write(struct.pack(">I", 0x7fffffff))
PY
start=$SECONDS
expect_fail 'slot 0 was not tried: it asks for 2147483647.*key-rounds=' \
	tap-img compare "qcow2(key-file=key):ages.qcow2" raw:data.raw
[ $((SECONDS - start)) -lt 10 ] || fail "it took ages"

# ---- key slots ----

cp p.qcow2 slots.qcow2
printf 'a second one' >second
chmod 600 second
amend() { tap-img amend -q -o "$1" "qcow2(key-file=${2:-key}):slots.qcow2"; }
slots() { tap-img info --output=json slots.qcow2 | sed -n 's/.*"slots-in-use": "\?\([0-9 ]*\)"\?.*/\1/p'; }
amend encrypt.new-key-file=second,encrypt.keyslot=6,encrypt.iter-time=10
[ "$(slots)" = "0 6" ] || fail "slots in use: $(slots)"
cp key key.first
cp second key
same slots.qcow2 luks data.raw "opened by the second pass phrase" # QEMU by the file key
cp key.first key
expect_fail 'slots.qcow2: key slot 6 is in use' amend encrypt.new-key-file=second,encrypt.keyslot=6
expect_fail 'opens no key slot' amend encrypt.old-key-file=wrong
expect_fail 'say what to do' amend encrypt.keyslot=3
amend encrypt.old-key-file=key second
[ "$(slots)" = 6 ] || fail "slots in use: $(slots)"
expect_fail 'opens no key slot' tap-img compare "qcow2(key-file=key):slots.qcow2" raw:data.raw
expect_fail 'the last in use' amend encrypt.state=inactive,encrypt.keyslot=6 second
amend encrypt.new-key-file=key,encrypt.old-key-file=second,encrypt.iter-time=10 second
same slots.qcow2 luks data.raw "the first pass phrase instead of the second"
[ "$(slots)" = 0 ] || fail "slots in use: $(slots)"

# ---- the pass phrase is nowhere once the image is open ----

cat >search.py <<'PY'
import re, sys
pid, words = sys.argv[1], [w.encode() for w in sys.argv[2:]]
found = set()
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
    for line in maps:
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
        if not m or "[v" in line:
            continue
        at, end = (int(x, 16) for x in m.groups())
        while at < end:
            try:
                mem.seek(at)
                part = mem.read(min(end - at, 1 << 24))
            except OSError:
                break
            found |= {w for w in words if w in part}
            at += max(1, len(part))
print(*sorted(w.decode() for w in found))
PY
start_tapdisk --minor 1 --nbd "unix:$T/s" "qcow2(key-file=$T/key):$T/p.qcow2"
nbdcopy "$S" read.raw
cmp read.raw data.raw || fail "read over NBD"
if [ "$(id -u)" = 0 ] && seen=$(python3 search.py "$TAPDISK_PID" "$PASS" "p.qcow2" 2>/dev/null); then
	grep -q p.qcow2 <<<"$seen" || fail "its memory cannot be searched"
	! grep -qF "$PASS" <<<"$seen" || fail "the pass phrase is in the memory of tapdisk"
else
	say "the memory of another process cannot be read here: not searched"
fi
! tr '\0' ' ' <"/proc/$TAPDISK_PID/cmdline" | grep -qF "$PASS" || fail "the pass phrase is in the command line"
tap-ctl stats -p "$TAPDISK_PID" -m 1 >stats.json
tap-ctl list >list
! grep -qF "$PASS" stats.json list "$TAPDISK_OUT" "$TAPDISK_ERR" || fail "the pass phrase was said"
! grep -rqsF "$PASS" "$BLKTAP_RUN_DIR" || fail "the pass phrase is in the run-time directory"

# ---- the key file is read again in the sandbox; the disk goes on after a pause ----

tap-ctl pause -p "$TAPDISK_PID" -m 1
tap-ctl unpause -p "$TAPDISK_PID" -m 1
nbdcopy "$S" read.raw
cmp read.raw data.raw || fail "read after a pause"
tap-ctl pause -p "$TAPDISK_PID" -m 1
mv key key.gone
expect_fail 'key-file=.*cannot be opened' tap-ctl unpause -p "$TAPDISK_PID" -m 1
mv key.gone key
tap-ctl unpause -p "$TAPDISK_PID" -m 1
kill_tapdisk

# ---- a descriptor ----

tapdisk -f --nbd "unix:$T/s" "qcow2(key-fd=7):$T/p.qcow2" 7<key >fd.out 2>fd.err &
also_kill $!
TAPDISK_PID=$!
wait_for 20 grep -qx ready fd.out
nbdcopy "$S" read.raw
cmp read.raw data.raw || fail "opened by a descriptor"
stop_tapdisk
tap-img compare -q "qcow2(key-fd=5):p.qcow2" raw:data.raw 5< <(printf '%s\n' "$PASS") || fail "opened by a pipe"

# ---- others can read it: told ----

chmod 644 key
start_tapdisk --nbd "unix:$T/s" "qcow2(key-file=$T/key):$T/p.qcow2"
grep -q 'key: others.*chmod 600' "$TAPDISK_ERR" || fail "a key file that all can read is not told of"
stop_tapdisk
say "done"
