#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The FUSE file's other operations, and the ways in which it begins and ends.

. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fuse-lib.sh"
need_fuse

make_disk aio "$T/disk" 64

# ---- as a file ----

start_tapdisk --fuse "$T/view" "aio:$T/disk"
[ "$(stat -c '%F %s %a' "$T/view")" = "regular file $((64 << 20)) 600" ] || fail "stat: $(stat "$T/view")"
random_file "$T/data" $((8 << 20)) 7
dd if="$T/data" of="$T/view" bs=1M status=none		# O_TRUNC loses nothing: a disk has no shorter size
[ "$(stat -c %s "$T/view")" = $((64 << 20)) ] || fail "O_TRUNC changed the size"
cmp -n $((8 << 20)) "$T/data" "$T/view"
python3 - "$T/view" <<'PY'
import errno, os, subprocess, sys
path, size, M = sys.argv[1], 64 << 20, 1 << 20
fd = os.open(path, os.O_RDWR)

def fails(code, what, *args):
    try:
        what(*args)
    except OSError as e:
        assert e.errno == code, (e, code)
        return
    raise AssertionError("should have failed: %r %r" % (what, args))

def fallocate(mode, off, length):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")

KEEP, PUNCH, COLLAPSE, ZERO = 1, 2, 8, 16

# the end of the disk: what fits, then ENOSPC; reads end
assert os.pwrite(fd, b"x" * 1000, size - 600) == 600
assert os.pread(fd, 1000, size - 600) == b"x" * 600
assert os.pread(fd, 10, size) == b""
fails(errno.ENOSPC, os.pwrite, fd, b"x", size)
# odd offsets and lengths
assert os.pwrite(fd, b"abc", 12345) == 3 and os.pread(fd, 5, 12344)[1:4] == b"abc"
# the size
os.ftruncate(fd, size)
fails(errno.EINVAL, os.ftruncate, fd, size + 1)
fails(errno.EINVAL, os.ftruncate, fd, 0)
fails(errno.EINVAL, os.truncate, path, 4096)
os.chmod(path, 0o644)
os.utime(path)
# holes
fallocate(PUNCH | KEEP, M, M)
assert os.pread(fd, M, M) == bytes(M)
assert os.pread(fd, 1, M - 1) != b"" and os.pread(fd, 4096, 2 * M) != bytes(4096)
fallocate(ZERO, 3 * M + 100, 4096)
assert os.pread(fd, 4096, 3 * M + 100) == bytes(4096)
assert os.pread(fd, 100, 3 * M) != bytes(100)
fallocate(ZERO | KEEP, size - M, 2 * M)
assert os.pread(fd, M, size - M) == bytes(M)
fallocate(0, 0, size)
fallocate(KEEP, size, M)
fails(errno.EFBIG, fallocate, 0, size, M)
fails(errno.EOPNOTSUPP, fallocate, COLLAPSE, 0, M)
# lseek
assert os.lseek(fd, 0, os.SEEK_HOLE) == M, os.lseek(fd, 0, os.SEEK_HOLE)
assert os.lseek(fd, M, os.SEEK_DATA) == 2 * M
assert os.lseek(fd, M + 5, os.SEEK_HOLE) == M + 5
fails(errno.ENXIO, os.lseek, fd, 32 * M, os.SEEK_DATA)
fails(errno.ENXIO, os.lseek, fd, size, os.SEEK_HOLE)
assert os.lseek(fd, 0, os.SEEK_END) == size
# flush, statfs
os.fsync(fd)
os.fdatasync(fd)
st = os.statvfs(path)
assert st.f_frsize * st.f_blocks == size
os.close(fd)
fails(errno.ENOTDIR, os.open, path + "/x", os.O_RDONLY)
PY
cp "$T/view" "$T/copy"
stop_tapdisk
same "$T/disk" "$T/copy"
[ ! -e "$T/view" ] || fail "the file that was made for the mount is still there"

# ---- errors: each arrives, and none becomes another answer ----

# error_of OPERATION: the name of the error, or "none".
error_of()
{
	python3 - "$T/view" "$1" <<'PY'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    exec(sys.argv[2])
    print("none")
except OSError as e:
    print(errno.errorcode[e.errno])
PY
}

start_tapdisk --fuse "$T/view" "fault(read-every=1,write-every=1,flush-every=1,error=EUCLEAN)/aio:$T/disk"
for op in 'os.pread(fd, 512, 0)' 'os.pwrite(fd, b"x", 0)' 'os.fsync(fd)' 'os.fsync(fd)' 'os.fdatasync(fd)'; do
	[ "$(error_of "$op")" = EIO ] || fail "a broken image: $op: $(error_of "$op")"
done
kill_tapdisk
umount -l "$T/view"
rm "$T/view"
start_tapdisk --fuse "$T/view" "fault(write-every=1,error=ENOSPC)/aio:$T/disk"
[ "$(error_of 'os.pwrite(fd, b"x", 0)')" = ENOSPC ] || fail "ENOSPC: $(error_of 'os.pwrite(fd, b"x", 0)')"
[ "$(error_of 'os.fsync(fd)')" = none ] || fail "fsync fails"
stop_tapdisk
same "$T/disk" "$T/copy"

# ---- read only ----

start_tapdisk -R --fuse "$T/view" "aio:$T/disk"
[ "$(stat -c %a "$T/view")" = 400 ] || fail "mode of a read-only disk"
expect_fail 'Read-only' dd if="$T/data" of="$T/view" conv=notrunc
same "$T/view" "$T/copy"
stop_tapdisk

# ---- over what there is ----

echo mine >"$T/mine"
start_tapdisk --fuse "$T/mine" "aio:$T/disk"
expect_fail 'something is mounted there' tapdisk -f --fuse "$T/mine" "null:"
stop_tapdisk
[ "$(cat "$T/mine")" = mine ] || fail "the file under the mount was changed"
mkdir "$T/dir"
expect_fail 'not a regular file' tapdisk -f --fuse "$T/dir" "aio:$T/disk"
expect_fail 'No such file' tapdisk -f --fuse "$T/none/view" "aio:$T/disk"

# ---- unmounted from outside: the daemon ends, and goes on if it has another export ----

start_tapdisk --fuse "$T/view" "aio:$T/disk"
umount "$T/view"
status=0
wait "$TAPDISK_PID" || status=$?
[ "$status" = 0 ] || fail "unmounted from outside: exit $status: $(cat "$TAPDISK_ERR")"
forget_pid "$TAPDISK_PID"

start_tapdisk --fuse "$T/view" --fuse "$T/view2" "aio:$T/disk"
umount "$T/view"
sleep 0.3
same "$T/view2" "$T/copy"
stop_tapdisk

# ---- SIGTERM while somebody writes: what was acknowledged is there, exit 0 ----

start_tapdisk --fuse "$T/view" "aio:$T/disk"
python3 - "$T/view" "$T/acknowledged" "$T/begun" <<'PY' &
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
n = 0
try:
    while True:
        os.pwrite(fd, b"%-4096d" % n, n % 1024 * 4096)
        n += 1
        if n == 100:
            open(sys.argv[3], "w").close()
except OSError:
    with open(sys.argv[2], "w") as f:
        print(n, file=f)
PY
writer=$!
wait_for 20 test -e "$T/begun"
stop_tapdisk
is_mounted "$T/view" && fail "still mounted after SIGTERM"
wait "$writer"
python3 - "$T/disk" "$(cat "$T/acknowledged")" <<'PY'
import sys
n = int(sys.argv[2])
assert n > 0, "nothing was written"
disk = open(sys.argv[1], "rb")
for i in range(max(0, n - 1024), n):
    disk.seek(i % 1024 * 4096)
    got = int(disk.read(4096))
    assert got == i or got == i + 1024, (i, got)	# the one write that was never answered may be there
PY

# ---- kill -9: the dead mount is removed at the next start over the same file ----

start_tapdisk --fuse "$T/view" "aio:$T/disk"
exec 9<"$T/view"
kill_tapdisk
stat -f "$T/view" >/dev/null 2>&1 && fail "the mount of a killed daemon answers"
exec 9<&-
start_tapdisk --fuse "$T/view" "aio:$T/disk"
cmp "$T/view" "$T/disk"
stop_tapdisk
is_mounted "$T/view" && fail "a dead mount is left"
say "ok"
