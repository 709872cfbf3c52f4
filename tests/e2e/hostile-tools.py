# SPDX-License-Identifier: BSD-2-Clause
# Each command of tap-img, and tapdisk, on each image of a folder.
# usage: hostile-tools.py BIN IMAGES SCRATCH MEMORY-MIB SECONDS VERBS EXPECT...
# Each ends by itself within the processor time and the memory; where it fails, it says one line, fit for a terminal,
# that names the image; whom it only reads it does not change; and nothing outside is opened (inotify watches).
# VERBS: which of those below, or "all".  EXPECT: what hostile-formats.py wrote; images without are qcow2.
import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

from nbdlib import Conn, Gone, EINVAL, EIO, EPERM, FLUSH

bindir, images, scratch, limit, seconds, wanted = sys.argv[1:4] + [int(a) for a in sys.argv[4:6]] + [sys.argv[6]]
tool = os.path.join(bindir, "tap-img")
IN_OPEN, IN_NONBLOCK = 0x20, 0o4000
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(IN_NONBLOCK)
if libc.inotify_add_watch(watch, os.path.join(images, "../elsewhere").encode(), IN_OPEN) < 0:
    sys.exit("no inotify")

help_text = subprocess.run([tool, "--help"], capture_output=True, text=True).stdout
there = set(re.findall(r"^  ([a-z]+) ", help_text, re.M))
IMG, OUT, PLAIN = "@image", os.path.join(scratch, "out"), "raw:" + os.path.join(images, "plain")
verbs = {  # command: arguments, does it write to the image; those that write come last
    "info": (["--backing-chain", IMG], False),
    "check": ([IMG], False),
    "convert": (["-O", "raw", IMG, OUT], False),
    "convert-packed": (["-O", "qcow2", "-c", IMG, OUT], False),
    "compare": ([IMG, PLAIN], False),
    "map": ([IMG], False),
    "measure": (["-O", "qcow2", IMG], False),
    "serve": (["--read-only", IMG], False),
    "bench": (["-c", "16", IMG], False),
    "check-repair": (["--repair=all", IMG], True),
    "rebase": (["-u", "-b", "plain", "-F", "raw", IMG], True),
    "rebase-safe": (["-b", "plain", "-F", "raw", IMG], True),
    "commit": ([IMG], True),
    "resize": ([IMG, "+1M"], True),
    "snapshot": (["-c", "another", IMG], True),
    "bitmap": (["--add", IMG, "another"], True),
    "serve-write": ([IMG], True),
}
expect = {}
for path in sys.argv[7:]:
    with open(path) as f:
        expect.update(json.load(f))
failures = []
slowest = (0, "")
largest = (0, "")


def opened():
    try:
        return os.read(watch, 65536) != b""
    except BlockingIOError:
        return False


def spec(name, path):
    e = expect.get(name, {"driver": "qcow2", "options": ""})
    return f"{e['driver']}({e['options']}):{path}" if e["options"] else f"{e['driver']}:{path}"


# ---- a process, and what it took ----

def start(args, err, out=subprocess.DEVNULL):
    return subprocess.Popen(args, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                            close_fds=False)  # so it need not fork all of us


def ended(p, what):
    """Its exit status, or None after a complaint."""
    global slowest, largest
    end = time.monotonic() + 200
    while True:
        pid, status, used = os.wait4(p.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            p.kill()
            os.wait4(p.pid, 0)
            failures.append(f"{what}: hangs")
            return None
        time.sleep(.002)
    p.returncode = 0
    cpu = used.ru_utime + used.ru_stime
    slowest = max(slowest, (cpu, what))
    largest = max(largest, (used.ru_maxrss >> 10, what))
    if cpu > seconds or used.ru_maxrss > limit << 10:
        failures.append(f"{what}: takes {cpu:.1f} s, {used.ru_maxrss >> 10} MiB")
    if os.WIFSIGNALED(status):
        failures.append(f"{what}: killed by signal {os.WTERMSIG(status)}")
        return None
    return os.WEXITSTATUS(status)


# ---- a disk that is served ----

def ask(conn, write, what):
    """Each request has an answer: data or EIO; EINVAL behind the end, EPERM for an extent that is not to be written."""
    size = conn.size
    for off in (0, 65536, size // 2 & ~511, max(size - 4096, 0) & ~511):
        length = min(4096, size - off)
        if length <= 0:
            continue
        errors = [conn.read(off, length)[0]]
        if write:
            written = conn.write(off, b"w" * length)
            errors += [0 if written == EPERM else written, conn.call(FLUSH), conn.read(off, length)[0]]
        for e in errors:
            if e not in (0, EIO, EINVAL):
                failures.append(f"{what}: errno {e}")


def serve(args, what, err):
    sock = os.path.join(scratch, "s")
    out = os.path.join(scratch, "ready")
    with open(out, "wb") as f:
        p = start([os.path.join(bindir, "tapdisk"), "-f", "--no-control", "--nbd", "unix:" + sock, *args], err, f)
    ready = False
    while not ready and os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        with open(out) as f:
            ready = "ready" in f.read()
        time.sleep(.002)
    if ready:
        try:
            conn = Conn(sock).start()
            ask(conn, "--read-only" not in args, what)
            conn.close()
        except Gone:
            failures.append(f"{what}: hangs up")
        os.kill(p.pid, signal.SIGTERM)
    status = ended(p, what)
    return 0 if ready and status in (0, 1) else status  # 1: it was frozen


# ---- one command on one image ----

def content(path):
    """Its bytes, as far as they are no hole."""
    with open(path, "rb") as f:
        return os.fstat(f.fileno()).st_size, f.read(1 << 22)


def said_well(name, what, said):
    text = said.decode("utf-8", "replace")
    if text.count("\n") != 1:
        failures.append(f"{what}: not one line: {text[:400]!r}")
    elif any(ord(c) < 32 for c in text[:-1]):
        failures.append(f"{what}: control characters: {text!r}")
    elif name not in text and images not in text and scratch not in text:  # or another of its chain, or the copy
        failures.append(f"{what}: does not name the image: {text!r}")


def read_well(name, what, status):
    demanded = expect.get(name, {}).get("read", "either")
    if demanded == "fails" and status == 0:
        failures.append(f"{what}: is read without an error")
    elif demanded == "works" and status:
        failures.append(f"{what}: cannot be read")


def one(name, verb, args, writes):
    what = f"{verb} {name}"
    original = os.path.join(images, name)
    path = original
    if writes:
        path = original + ".copy"
        if os.path.getsize(original) > 1 << 26:
            subprocess.run(["cp", "--sparse=always", original, path], check=True)
        else:
            shutil.copyfile(original, path)
    before = content(path)
    if os.path.exists(OUT):
        os.unlink(OUT)
    full = [spec(name, path) if a is IMG else a for a in args]
    with open(os.path.join(scratch, "err"), "w+b") as err:
        if verb.startswith("serve"):
            status = serve(full, what, err)
        else:
            status = ended(start([tool, verb.split("-")[0], *full], err), what)
        err.seek(0)
        said = err.read()
    if opened():
        failures.append(f"{what}: opened a file that is not allowed")
    if not writes and content(path) != before:
        failures.append(f"{what}: changed the image")
    if writes:
        os.unlink(path)
    if verb.startswith("convert"):
        read_well(name, what, status)
    if status and not verb.startswith(("check", "compare")):
        said_well(name, what, said)


# A disk of many terabytes is a file of many terabytes.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
names = sorted(n for n in os.listdir(images) if os.path.isfile(os.path.join(images, n)) and
               not n.startswith(("plain", "part-", "key")) and not os.path.islink(os.path.join(images, n)))
tried = 0
for verb, (args, writes) in verbs.items():
    if wanted != "all" and verb not in wanted.split(","):
        continue
    if verb.split("-")[0] not in there | {"serve"}:
        print(f"hostile-tools: tap-img has no {verb} here")
        continue
    for name in names:
        one(name, verb, args, writes)
        tried += 1
print(f"hostile-tools: {tried} runs; the slowest {slowest[0]:.2f} s ({slowest[1]}), the largest {largest[0]} MiB "
      f"({largest[1]})")
for f in failures[:400]:
    print("hostile-tools:", f)
sys.exit(f"hostile-tools: {len(failures)} findings" if failures else 0)
