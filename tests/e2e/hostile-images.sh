#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Images that somebody else made, for the worst: each is refused by one line that names it and says what to do, or just
# the request that meets the lie is EIO; within 2 s and 256 MiB; the daemon lives; what is refused or only read does not
# change by a byte.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3 qemu-img
export LC_ALL=C # names are bytes
# Sanitizers take memory of their own.
limit=256
grep -qs '^#define TD_SANITIZE' config.h && limit=4096
mkdir "$T/d" "$T/elsewhere"
cd "$T/d"
D=$T/d
lib=$(cd "$BUILD" && cd "$srcdir" && pwd)/tests/e2e

# ---- tools ----

# put FILE OFFSET HEX: bytes there.
put()
{
	python3 - "$@" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2], 0))
    f.write(bytes.fromhex(sys.argv[3]))
PY
}

# name_backing FILE NAME [FORMAT]: a version 3 header with these, whatever create would say to them.
name_backing()
{
	python3 - "$@" <<'PY'
import struct, sys
name, fmt = sys.argv[2].encode("utf-8", "surrogateescape"), (sys.argv[3:] or [""])[0].encode()
with open(sys.argv[1], "r+b") as f:
    f.seek(8)
    f.write(struct.pack(">QI", 1024, len(name)))
    f.seek(112)
    if fmt:
        f.write(struct.pack(">II", 0xE2792ACA, len(fmt)) + fmt.ljust((len(fmt) + 7) // 8 * 8, b"\0"))
    f.write(bytes(8))
    f.seek(1024)
    f.write(name)
PY
}

# within COMMAND...: as it is, but it fails if it takes 4 s of processor time (2, where two threads share a core), 100 s
# at all, or too much memory.
within()
{
	python3 - "$limit" "$@" <<'PY'
import os, resource, subprocess, sys
p = subprocess.Popen(sys.argv[2:])
try:
    status = p.wait(100)
except subprocess.TimeoutExpired:
    p.kill()
    p.wait()
    print("hangs", file=sys.stderr)
    sys.exit(0)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
if u.ru_utime + u.ru_stime > 4 or u.ru_maxrss > int(sys.argv[1]) << 10:
    print("takes %.1f s, %d KiB" % (u.ru_utime + u.ru_stime, u.ru_maxrss), file=sys.stderr)
    sys.exit(0)
sys.exit(status)
PY
}

# refused PATTERN SPEC [OPTION...]: at once, in one line; the file it names, if any, stays as it is.
refused()
{
	local pattern=$1 spec=$2 file=${2#*:} before=
	shift 2
	[ -f "$file" ] && [ "$(stat -c %s "$file")" -lt 100000000 ] && before=$(sha256sum <"$file")
	expect_fail "$pattern" within "$BUILD/bin/tapdisk" -f --no-control --nbd "unix:$T/s" "$@" "$spec"
	[ "$(wc -l <"$T/expect.err")" = 1 ] || fail "$spec: more than a line: $(cat "$T/expect.err")"
	grep -q '[^ -~]' <(LC_ALL=C tr -d '\n\200-\377' <"$T/expect.err") && fail "$spec: control characters"
	[ -z "$before" ] || [ "$before" = "$(sha256sum <"$file")" ] || fail "$spec: was changed though refused"
}

# serve SPEC [OPTION...]: then `ask` asks it.
serve()
{
	local spec=$1
	shift
	start_tapdisk --no-control --nbd "unix:$T/s" "$@" "$spec"
}

# ask 'PYTHON': c is a connection; read(off, len) gives bytes or an errno.
ask()
{
	python3 - "$T/s" <<PY || fail "asked: $1"
import sys
sys.path.insert(0, "$lib")
from nbdlib import *
c = Conn(sys.argv[1]).start()
def err(off, n):
    return c.read(off, n)[0]
def data(off, n):
    e, d = c.read(off, n)
    return d if e == 0 else None
$1
PY
}

# ended: the daemon is alive after all that, small, and ends when told.
ended()
{
	local rss
	rss=$(awk '/^VmHWM/ { print $2 }' "/proc/$TAPDISK_PID/status")
	[ "$rss" -lt $((limit * 1024)) ] || fail "$rss KiB"
	kill -TERM "$TAPDISK_PID"
	wait_for 10 is_gone_or_zombie "$TAPDISK_PID"
	wait "$TAPDISK_PID" || [ -n "${1:-}" ] || fail "tapdisk: $(cat "$TAPDISK_ERR")"
	forget_pid "$TAPDISK_PID"
}

new() { rm -f "$1"; tap-img create -f qcow2 "${@:3}" "$1" "$2" >/dev/null; }

# A megabyte of letters, in clusters of 4K: header 0, refcount table 1, block 2, L1 3, L2 4, data from 5 on.
new whole.qcow2 4M -o cluster_size=4K
serve qcow2:whole.qcow2
ask 'check("it is written", c.write(0, b"d" * (1 << 20)) == 0)'
ended
copy() { cp --sparse=always whole.qcow2 "$1"; }

# ---- what is no file ----

mkfifo fifo
refused 'neither a regular file' qcow2:fifo
refused 'neither a regular file' aio:fifo
refused 'directory' "qcow2:$D"
refused 'neither a regular file' aio:/dev/zero
refused 'No such file' qcow2:none
: >empty
refused 'empty: .*too short' qcow2:empty

# ---- truncated ----

for len in 1 72 511 4096 8192 12288; do
	copy cut
	truncate -s "$len" cut
	refused 'qcow2 cut: ' qcow2:cut
	refused 'qcow2 cut: ' qcow2:cut --read-only
done
# The L2 table is cut: all under it fails, the rest of the disk does not.
copy cut
truncate -s 16385 cut
before=$(sha256sum cut)
serve qcow2:cut --read-only
ask '
check("under the cut table is an error", err(0, 4096) == EIO and err(1 << 20, 512) == EIO)
check("beside it are zeros", data(3 << 20, 4096) == bytes(4096))'
ended
[ "$before" = "$(sha256sum cut)" ] || fail "reading changed it"
# Data is cut: what is there is read, what is not is an error, not zeros.
copy cut
truncate -s $((5 * 4096 + 65536)) cut
serve qcow2:cut --read-only
ask '
check("what is there", data(0, 65536) == b"d" * 65536)
check("the first that is not", err(65536, 4096) == EIO)
check("a run that begins well", err(65536 - 4096, 8192) == EIO)
check("the last", err((1 << 20) - 512, 512) == EIO)'
ended
# The same for writing: it is marked, and nothing more is written.
serve qcow2:cut
ask '
check("the first that is not", err(65536, 4096) == EIO)
check("no more writes", c.write(0, b"x" * 512) == EIO and c.write(3 << 20, b"x" * 512) == EIO)
check("still reads", data(0, 512) == b"d" * 512)'
ended failing
refused 'corrupt.*check' qcow2:cut
qemu-img info cut | grep -q 'corrupt: true' || fail "not marked"

# ---- sizes ----

lie() { copy lie; put lie "$2" "$3"; refused "$1" qcow2:lie; }
lie 'size' 24 ffffffffffffffff
lie 'size' 24 8000000000000000
lie 'L1' 36 00400000			# 32 MiB, which the file does not have
lie 'L1' 36 ffffffff
lie 'refcount table' 56 00000800	# 8 MiB
lie 'refcount table' 56 7fffffff
lie 'snapshot' 60 00010000		# 65536, of which there is not one
lie 'snapshot' 60 00010001
lie 'cluster' 20 0000001f
lie 'header length' 100 fffffff8
lie 'not supported: .*feature bit 13' 72 0000000000002000
lie 'encrypted' 32 00000002
lie 'L2 table.*overlaps' 12288 8000000000001000	# in the refcount table
lie 'L2 table.*overlaps' 12296 8000000000004000	# the same table twice
lie 'refcount block.*overlaps' 4096 0000000000003000
# A bit with a name of the image's own, which is not for the terminal.
copy lie
put lie 72 0000000000002000
put lie 112 6803f85700000030000d1b5b324a74696d650a74726176656c
refused 'not supported: .*time.*travel' qcow2:lie
# 16 TiB of nothing behind it, to be counted anew.
new lie 1M -o cluster_size=512,lazy_refcounts=on
put lie 72 0000000000000001
truncate -s 1T lie
serve qcow2:lie
ask 'check("it is served", data(0, 512) == bytes(512))'
ended
# 2^61 bytes of disk, most of them never to be reached.
new lie 1048576T -o cluster_size=2M
serve qcow2:lie
ask '
check("at its end", data((1 << 60) - 512, 512) == bytes(512))
check("written there", c.write((1 << 60) - 512, b"e" * 512, FUA) == 0)
check("zeroed", c.call(ZERO, (1 << 60) - (1 << 32) + 512, (1 << 32) - 512) == 0)
check("read back", data((1 << 60) - 512, 512) == bytes(512))
check("its map", c.status(0, (1 << 32) - 512)[0] == 0)'
ended

# ---- entries that lie: just that request, and the mark ----

# meets PYTHON: asked of `lie`, read-only.
meets()
{
	local before
	before=$(sha256sum <lie)
	serve qcow2:lie --read-only
	ask "$1"
	ended
	[ "$before" = "$(sha256sum <lie)" ] || fail "reading changed it"
}
# In L1; misaligned; beyond the end; in the header.
for entry in 8000000000003000 8000000000005200 8000010000000000 8000000000000200; do
	copy lie
	put lie 16384 "$entry"
	meets '
check("the entry is an error", err(0, 4096) == EIO)
check("its neighbour is not", data(4096, 4096) == b"d" * 4096)'
	serve qcow2:lie
	ask '
check("the neighbour is written", c.write(4096, b"n" * 512, FUA) == 0)
check("the entry is an error", c.write(0, b"n" * 512) == EIO)
check("then nothing is written", c.write(4096, b"o" * 512) == EIO and c.call(FLUSH) == EIO)
check("and the neighbour is read", data(4096, 512) == b"n" * 512)'
	ended failing
	refused 'corrupt' qcow2:lie
done

# ---- compressed ----

random_file some 300000
yes compressible | head -c 600000 >plain || true	# yes is cut off
cat some >>plain
truncate -s 1M plain
qemu-img convert -q -c -f raw -O qcow2 plain packed
l2=$((0x$(dd if=packed bs=1 skip=$((0x$(dd if=packed bs=1 skip=40 count=8 status=none | od -An -tx1 | tr -d ' \n'))) \
	count=8 status=none | od -An -tx1 | tr -d ' \n') & 0x00fffffffffffe00))
entry() { dd if=packed bs=1 skip=$((l2 + 8 * $1)) count=8 status=none | od -An -tx1 | tr -d ' \n'; }
first=$(entry 0)
[ $((0x${first:0:2} & 0x40)) != 0 ] || fail "not compressed: $first"
pack() { cp packed lie; put lie "$l2" "$1"; }
good='check("its neighbour", data(65536, 65536) == open("plain", "rb").read()[65536:131072])'
pack 7fffffffffffffff	# beyond every file
meets "check('an error', err(0, 4096) == EIO)
$good"
pack 4000010000000000	# beyond this one
meets "check('an error', err(0, 4096) == EIO)
$good"
at=$((0x${first:2} & 0x003fffffffffffff))
for junk in ffffffffffffffffffff 0100000000000000 000400fbff61626364; do # no deflate; empty; too little
	cp packed lie
	put lie "$at" "$junk"
	meets "check('an error', err(0, 4096) == EIO and err(65024, 512) == EIO)
$good"
	# No table is in doubt: the disk is written on.
	serve qcow2:lie
	ask "check('an error', err(0, 4096) == EIO)
check('a whole cluster over it', c.write(0, b'w' * 65536, FUA) == 0)
check('read back', data(0, 65536) == b'w' * 65536)"
	ended
done

# 64 MiB of zeros in 64 KiB of deflate, at the end of the file.
cp packed lie
python3 - lie "$l2" <<'PY'
import struct, sys, zlib
z = zlib.compressobj(9, zlib.DEFLATED, -12)
bomb = z.compress(bytes(64 << 20)) + z.flush()
with open(sys.argv[1], "r+b") as f:
    end = -(-f.seek(0, 2) // 65536) * 65536
    f.seek(end)
    f.write(bomb.ljust(1 << 17, b"\0"))
    f.seek(int(sys.argv[2]))
    f.write(struct.pack(">Q", 1 << 62 | len(bomb) // 512 << 54 | end))
PY
meets "import time
start = time.monotonic()
e, d = c.read(0, 65536)
check('an error, or a cluster of what it begins with', e == EIO or d == bytes(65536))
check('at once', time.monotonic() - start < 60)
$good"

# ---- backing files ----

random_file base 1048576
printf 'secret' >"$T/elsewhere/secret"
truncate -s 64K "$T/elsewhere/secret"
ln -s "$T/elsewhere/secret" way-out
ln -s base inside
over() { new over 1M; name_backing over "$@"; }

over over qcow2
refused 'loop' qcow2:over
new two 1M
name_backing two over qcow2
over two qcow2
refused 'loop' qcow2:over
over base
refused "does not say which format.*backing-format=FMT.*rebase" qcow2:over
over base qed
refused "qed.*not supported" qcow2:over
over none raw
refused 'none: .*No such file' qcow2:over
over fifo raw
refused 'fifo: .*neither a regular file' qcow2:over
mkdir folder
for name in folder .; do
	over "$name" raw
	refused "$name: .*neither a regular file" qcow2:over
done
for outside in .. /dev/zero /etc/passwd ../elsewhere/secret "$T/elsewhere/secret" way-out ./../d/../elsewhere/secret; do
	over "$outside" raw
	refused 'no allowed directory holds it: --allow [^ ]+ or the line' qcow2:over
done
for name in 'json:{"driver":"null-co"}' nbd://127.0.0.1:1/ nbd:unix:/x ssh://root@host/x fat:/ file:base; do
	over "$name" raw
	refused 'not a plain path' qcow2:over
done
over $'a\nb\033[2J' raw
refused 'a.b..2J: ' qcow2:over
over $'caf\xe9' raw
refused 'caf.: ' qcow2:over
tap-img info --output=json qcow2:over >facts || fail "info of a strange name"
python3 -c 'import json, sys; json.load(open("facts"))'
over base qcow2
refused 'base: .*qcow2' qcow2:over
over "$(printf 'x%.0s' {1..1023})" raw
refused 'name too long' qcow2:over

# What is allowed, and what the user says himself, is served.
over ../elsewhere/secret raw
serve qcow2:over --allow "$T/elsewhere"
ask 'check("the file that was allowed", data(0, 6) == b"secret")'
ended
for name in base inside; do
	over "$name"
	serve "qcow2(backing-format=raw):over"
	ask 'check("the base is read", data(0, 1 << 20) == open("base", "rb").read())'
	ended
done

# ---- a raw disk on which the guest wrote the header of an image ----

copy trap
name_backing trap "$T/elsewhere/secret" raw
serve raw:trap
ask 'check("its bytes", data(0, 4) == b"QFI\xfb")
check("and it is writable", c.write(0, b"GFI") == 0 and c.write(0, b"QFI") == 0)'
ended
over trap raw
serve qcow2:over
ask 'check("its bytes", data(0, 4) == b"QFI\xfb")'
ended
refused 'no allowed directory' auto:trap	# the user asked for it to be looked at; the policy holds
over trap
refused 'does not say which format' qcow2:over
printf 'QED\0' >qed
truncate -s 1M qed
refused 'qed image, for which there is no driver' auto:qed

# ---- under our feet ----

cp base shrinks
serve raw:shrinks
truncate -s 4096 shrinks
ask 'check("what is gone is an error, not zeros", err(65536, 4096) == EIO and data(0, 4096) is not None)'
ended
copy shrinks
serve qcow2:shrinks --read-only
truncate -s 65536 shrinks
ask 'check("so in an image", err(900 << 10, 4096) == EIO and data(0, 4096) == b"d" * 4096)'
ended
say ok
