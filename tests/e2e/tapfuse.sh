#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tapfuse: a disk and its partitions as files, for an ordinary user; root mounts one of them through a loop device; what
# was written is in the image, as QEMU reads it.  Tables that lie; the edges of a partition; a table that changes.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
need_fuse
own_mounts
require qemu-img sfdisk fusermount3 setpriv openssl /usr/bin/python3
tapdisk --help | grep -q fuse-dir || fail "tapdisk has no --fuse-dir"

seed=${BLKTAP_SEED:-${TEST_SEED:-$RANDOM}}
D=$T/user/d
say "seed $seed"

# ---- an ordinary user, who may use FUSE here ----

chmod 1733 "$T" # for reports of sanitizers, too
mkdir "$T/bin" "$T/user" "$D" "$T/user/run"
cp "$BUILD/bin/tapfuse" "$BUILD/bin/tapdisk" "$T/bin/"
export PATH="$T/bin:$PATH"
chown -R 65534:65534 "$T/user"
mkdir "$T/dev"
mount -t tmpfs -o mode=755 tmpfs "$T/dev" || skip "no mounts here"
mknod -m 666 "$T/dev/fuse" c 10 229
mount --bind "$T/dev/fuse" /dev/fuse
echo user_allow_other >"$T/fuse.conf"
[ ! -e /etc/fuse.conf ] || mount --bind "$T/fuse.conf" /etc/fuse.conf

user()
{
	env -u BLKTAP_TAPDISK BLKTAP_RUN_DIR="$T/user/run" \
		PATH="$T/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
		setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}

# users_file NAME MIB SEED
users_file()
{
	random_file "$T/user/$1" $(($2 << 20)) $((seed + $3))
	chown 65534:65534 "$T/user/$1"
}

# The one whose command line has our directory.
tapdisks()
{
	local file
	grep -lzxF -- "$D" /proc/[0-9]*/cmdline 2>/dev/null | while read -r file; do
		[ "$(cat "${file%/cmdline}/comm" 2>/dev/null)" != tapdisk ] || basename "${file%/cmdline}"
	done || true
}

# mount_it ARGS...: as the user; $PID is its tapdisk.
mount_it()
{
	user tapfuse "$@" || fail "tapfuse $*"
	wait_for 20 one_tapdisk
	also_kill "$PID"
}

# The process that unmounts has the name, too, until it gives itself another.
one_tapdisk()
{
	PID=$(tapdisks)
	[ "$(wc -w <<<"$PID")" = 1 ]
}

# end_it: by fusermount3, and it is over when the daemon is gone.
end_it()
{
	user fusermount3 -u "$D" || fail "fusermount3 -u"
	wait_for 20 is_gone_or_zombie "$PID"
	wait_for 20 threads_gone # the last of them closes the image
	forget_pid "$PID"
}

threads_gone() { [ "$(find "/proc/$PID/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -le 1 ]; }

sizes() { (cd "$D" && stat -c '%n=%s' -- *) | xargs; }

# ---- a partition of it, mounted by root ----

user qemu-img create -q -f qcow2 "$T/user/disk.qcow2" 128M
mount_it -o allow_root "$T/user/disk.qcow2" "$D"
[ "$(sizes)" = "disk=$((128 << 20))" ] || fail "an empty disk: $(sizes)"
printf 'label: gpt\n,64M\n,32M\n' | user sfdisk -q "$D/disk"
[ "$(sizes)" = "disk=$((128 << 20)) part1=$((64 << 20)) part2=$((32 << 20))" ] || fail "partitioned: $(sizes)"
[ "$(user stat -c '%a %u' "$D/part1")" = "600 65534" ] || fail "mode and owner: $(stat "$D/part1")"
random_file "$T/content" $((20 << 20)) "$seed"
users_file raw 32 1
user dd if="$T/user/raw" of="$D/part2" bs=1M oflag=direct conv=notrunc status=none
if [ -c /dev/loop-control ] && command -v mkfs.ext4 >/dev/null && ! grep -qs control_d /proc/xen/capabilities; then
	user mkfs.ext4 -q "$D/part1"
	mkdir "$T/mnt"
	loop=$(losetup -f --show "$D/part1") || fail "losetup"
	mount "$loop" "$T/mnt" || fail "mount"
	cp "$T/content" "$T/mnt/content"
	umount "$T/mnt"
	losetup -d "$loop"
	wait_for 10 eval '! losetup "$loop"'
	loop=$(losetup -rf --show "$D/part1")
	mount -o ro "$loop" "$T/mnt"
	same "$T/content" "$T/mnt/content"
	umount "$T/mnt"
	losetup -d "$loop"
	wait_for 10 eval '! losetup "$loop"'
else
	say "no loop devices: no file system is mounted"
fi
cat "$D/part1" >"$T/part1"
end_it
qemu-img check -q "$T/user/disk.qcow2" || fail "qemu-img check"
qemu-img convert -f qcow2 -O raw "$T/user/disk.qcow2" "$T/disk.raw"
sfdisk -d "$T/disk.raw" >"$T/table"
start1=$(sed -n 's/.*raw1 : start= *\([0-9]*\).*/\1/p' "$T/table")
start2=$(sed -n 's/.*raw2 : start= *\([0-9]*\).*/\1/p' "$T/table")
cmp -n $((64 << 20)) -i $((start1 * 512)):0 "$T/disk.raw" "$T/part1" || fail "part1 is not that of the image"
cmp -n $((32 << 20)) -i $((start2 * 512)):0 "$T/disk.raw" "$T/user/raw" || fail "part2 is not that of the image"
say "an ordinary user's partitions, as QEMU reads them"

# ---- the edges of a partition ----

mount_it "qcow2:$T/user/disk.qcow2" "$D"
user python3 - "$D" <<'PY'
import ctypes, errno, os, sys
d = sys.argv[1] + "/"
size = 64 << 20
libc = ctypes.CDLL(None, use_errno=True)

def fails(code, what, *args):
    try:
        what(*args)
    except OSError as e:
        assert e.errno == code, (e, code)
        return
    raise AssertionError("should have failed: %r %r" % (what, args))

def fallocate(fd, mode, off, length):
    if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")

two = open(d + "part2", "rb").read()
fd = os.open(d + "part1", os.O_RDWR)
assert os.pwrite(fd, b"x" * 1000, size - 600) == 600
fails(errno.ENOSPC, os.pwrite, fd, b"x", size)
assert os.pread(fd, 4096, size) == b"" and os.pread(fd, 1000, size - 600) == b"x" * 600
fails(errno.EINVAL, os.ftruncate, fd, size - 512)
fails(errno.EINVAL, os.ftruncate, fd, size + (1 << 20))
KEEP, PUNCH, ZERO = 1, 2, 16
fallocate(fd, PUNCH | KEEP, size - 4096, 1 << 30)
assert os.pread(fd, 4096, size - 4096) == bytes(4096)
fails(errno.EFBIG, fallocate, fd, ZERO, size - 4096, 8192)
hole = os.lseek(fd, 0, os.SEEK_HOLE)
assert 0 <= hole <= size, hole
fails(errno.ENXIO, os.lseek, fd, size, os.SEEK_DATA)
os.fsync(fd)
os.close(fd)
assert open(d + "part2", "rb").read() == two, "the neighbour was written to"
for name in "part0", "part3", "part01", "part1x", "part", "part-1", "part99999999999999999999", "x":
    fails(errno.ENOENT, os.stat, d + name)
fails(errno.EACCES, os.mkdir, d + "new")
fails(errno.EACCES, os.unlink, d + "disk")
fails(errno.EACCES, os.rename, d + "disk", d + "other")
fails(errno.EACCES, os.open, d + "new", os.O_CREAT | os.O_WRONLY)

# What is open keeps its place, whatever the table becomes; the next one sees the new table.
fd = os.open(d + "part1", os.O_RDWR)
import subprocess
subprocess.run(["sfdisk", "-q", d + "disk"], input=b"label: dos\nstart=8192,size=2048,type=83\n", check=True)
assert os.fstat(fd).st_size == size and os.path.exists(d + "part2")
assert os.pwrite(fd, b"y" * 4096, size - 4096) == 4096
os.close(fd)
assert sorted(os.listdir(d)) == ["disk", "part1"], os.listdir(d)
assert os.stat(d + "part1").st_size == 1 << 20
assert open(d + "part2".replace("2", "1"), "rb").seek(0, 2) == 1 << 20
PY
end_it

# ---- options ----

expect_fail '^tapfuse: -o frob: ' user tapfuse -o ro,frob "$T/user/disk.qcow2" "$D"
expect_fail 'wants an IMAGE and a DIR' user tapfuse "$T/user/disk.qcow2"
expect_fail 'no such option' user tapfuse --frob "$T/user/disk.qcow2" "$D"
expect_fail '^tapfuse: .*none' user tapfuse "qcow2:$T/user/none" "$D"
expect_fail 'not a directory' user tapfuse "$T/user/disk.qcow2" "$T/user/raw"
expect_fail 'no such format' user tapfuse --format qcow3 "$T/user/disk.qcow2" "$D"
mount_it "$T/user/disk.qcow2" "$D" -o rw,nosuid,nodev,ro,allow_other
modes=$(stat -c %a "$D" "$D/disk" | xargs)
[ "$modes" = "555 444" ] || fail "-o ro,allow_other: $modes"
if user dd if=/dev/zero of="$D/disk" bs=512 count=1 conv=notrunc 2>/dev/null; then fail "-o ro takes writes"; fi
setpriv --reuid 65533 --regid 65533 --clear-groups head -c 512 "$D/disk" >/dev/null || fail "-o allow_other"
expect_fail 'something is mounted there' user tapfuse --format raw "$T/user/raw" "$D"
end_it
mount_it --format raw "$T/user/raw" "$D"
user cmp "$T/user/raw" "$D/disk" || fail "--format raw"
end_it
user env XDG_RUNTIME_DIR= BLKTAP_RUN_DIR= "$T/bin/tapfuse" "$T/user/disk.qcow2" "$D" 2>"$T/err" ||
	fail "without a run-time directory"
grep -q 'no run-time directory.*if it is killed' "$T/err" || fail "without a run-time directory: $(cat "$T/err")"
PID=$(tapdisks)
also_kill "$PID"
end_it

# ---- SIGTERM ends it too, and by another name of the directory ----

ln -s d "$T/user/link"
user tapfuse -f --format raw "$T/user/raw" "$T/user/link/" >"$T/out" 2>"$T/err" &
front=$!
also_kill "$front"
wait_for 20 grep -qx ready "$T/out"
user cmp "$T/user/raw" "$D/disk" || fail "through a link"
PID=$(compgen -G "$T/user/run/ctl*")
kill -TERM "${PID##*/ctl}"
wait "$front" || fail "SIGTERM: exit $?: $(cat "$T/err")"
forget_pid "$front"
is_mounted "$D" && fail "it is mounted after SIGTERM"

# ---- tables that lie ----

# What it says, with a disk of 16 MiB: 1 is whole, 2 overlaps it, 3 reaches beyond the end, 4 is extended, and its chain
# a circle.
user python3 - "$T/user/liar" <<'PY'
import struct, sys
def entry(kind, start, size):
    return struct.pack("<BBBBBBBBII", 0, 0, 0, 0, kind, 0, 0, 0, start, size)
def table(*entries):
    return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"
disk = bytearray(16 << 20)
disk[:512] = table(entry(0x83, 2048, 4096), entry(0x83, 4096, 8192), entry(0x83, 20480, 1 << 20),
                   entry(5, 16384, 2048))
disk[16384 * 512:16385 * 512] = table(entry(0x83, 64, 256), entry(5, 0, 2048))
open(sys.argv[1], "wb").write(disk)
PY
user tapfuse -f "raw:$T/user/liar" "$D" >"$T/out" 2>"$T/err" &
front=$!
also_kill "$front"
wait_for 20 grep -qx ready "$T/out"
[ "$(user ls "$D" | grep -v 'part[5-9]\|part[0-9][0-9]' | xargs)" = "disk part1" ] ||
	fail "of a lying table: $(user ls "$D")"
grep -q 'partition 2 is left out: it overlaps another' "$T/err" || fail "the log: $(cat "$T/err")"
user python3 - "$D" <<'PY' || fail "a partition of a lying table reaches where it should not"
import os, sys
for name in os.listdir(sys.argv[1]):
    size = os.stat(os.path.join(sys.argv[1], name)).st_size
    assert size == 16 << 20 if name == "disk" else size <= 4096 * 512, (name, size)
    assert len(open(os.path.join(sys.argv[1], name), "rb").read()) == size
PY
user fusermount3 -u "$D"
wait "$front" || fail "tapfuse -f exits $?"
forget_pid "$front"

# Noise as a table.
for i in $(seq ${TAPFUSE_NOISE:-5}); do
	users_file noise 1 "$i"
	printf '\x55\xaa' | dd of="$T/user/noise" bs=1 seek=510 conv=notrunc status=none
	mount_it --format raw "$T/user/noise" "$D"
	user ls "$D" | grep -qx disk || fail "noise: $(user ls "$D")"
	user cmp "$T/user/noise" "$D/disk"
	end_it
done

# ---- a flush that fails is heard of ----

user truncate -s 8M "$T/user/f.img"
user tapfuse -f "fault(flush-every=1)/raw:$T/user/f.img" "$D" >"$T/out" 2>"$T/err" &
front=$!
also_kill "$front"
wait_for 20 grep -qx ready "$T/out"
user python3 - "$D/disk" <<'PY' || fail "a failed flush is not heard of"
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, b"x" * 4096, 0)
for what in os.fsync, os.close:
    try:
        what(fd)
    except OSError as e:
        assert e.errno == 5, e
    else:
        sys.exit("%s succeeded" % what.__name__)
PY
user fusermount3 -u "$D"
if wait "$front"; then fail "the last flush failed, and tapfuse -f exits 0"; fi
forget_pid "$front"

# ---- killed: what was answered is there, and the dead mount is no obstacle ----

mount_it "$T/user/disk.qcow2" "$D"
users_file new 4 7
user dd if="$T/user/new" of="$D/disk" bs=1M seek=64 oflag=direct conv=notrunc,nocreat status=none
kill -KILL "$PID"
wait_for 20 is_gone_or_zombie "$PID"
wait_for 20 threads_gone # the last of them lets go of the image
forget_pid "$PID"
mount_it "$T/user/disk.qcow2" "$D"
user cmp -n $((4 << 20)) -i 0:$((64 << 20)) "$T/user/new" "$D/disk" || fail "a kill lost what was answered"
end_it
qemu-img check -q "$T/user/disk.qcow2" || fail "after a kill"

# ---- writers side by side, with large direct writes, on the disk and on partitions of it ----

user qemu-img create -q -f qcow2 "$T/user/p.qcow2" 64M
printf 'label: dos\nstart=2048,size=32768\nstart=34816,size=32768\n' >"$T/user/table"
mount_it "$T/user/p.qcow2" "$D"
user sfdisk -q "$D/disk" <"$T/user/table"
users_file data 48 8
user python3 - "$T/user/data" "$D" <<'PY' || fail "parallel writers"
import mmap, os, sys, threading
M = 1 << 20
data = open(sys.argv[1], "rb").read()
errors = []
# file, where its bytes lie in data, how many MiB, pieces of so many KiB
jobs = [("part1", 0, 16, 4096), ("part1", 0, 16, 128), ("part2", 16, 16, 1024), ("disk", 32, 16, 4096),
        ("disk", 32, 16, 64), ("part2", 16, 16, 512)]
at = {"part1": 0, "part2": 0, "disk": 34 * M}

def writer(n, name, where, mib, kib):
    size = kib << 10
    fd = os.open(os.path.join(sys.argv[2], name), os.O_RDWR | os.O_DIRECT)
    buf = mmap.mmap(-1, size)
    for off in range(0, mib * M, size):
        if (off // (4 * M)) % 2 != n % 2:
            continue # the two of a file take turns, by 4 MiB
        buf[:] = data[where * M + off:where * M + off + size]
        got = os.pwrite(fd, buf, at[name] + off)
        if got != size:
            errors.append("%s: wrote %d of %d" % (name, got, size))
    os.fsync(fd)
    os.close(fd)

for _ in range(3):
    threads = [threading.Thread(target=writer, args=(n, *j)) for n, j in enumerate(jobs)]
    for t in threads: t.start()
    for t in threads: t.join()
sys.exit("\n".join(errors) if errors else 0)
PY
end_it
qemu-img check -q "$T/user/p.qcow2"
qemu-img convert -f qcow2 -O raw "$T/user/p.qcow2" "$T/p.raw"
cmp -n $((32 << 20)) -i 0:$((1 << 20)) "$T/user/data" "$T/p.raw" || fail "the partitions' writers"
cmp -n $((16 << 20)) -i $((32 << 20)):$((34 << 20)) "$T/user/data" "$T/p.raw" || fail "the disk's writers"
say "parallel writers on partitions and the disk"
