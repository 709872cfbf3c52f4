# SPDX-License-Identifier: BSD-2-Clause
# Each command of tap-img on each image of a folder.  usage: hostile-tools.py TAP-IMG IMAGES SCRATCH MEMORY-MIB
# It ends by itself within 2 s of processor time and the memory; where it fails, it says one line, fit for a terminal,
# that names the image; whom it only reads it does not change; and nothing outside is opened (inotify watches).
import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
import time

tool, images, scratch, limit = sys.argv[1:4] + [int(sys.argv[4])]
IN_OPEN, IN_NONBLOCK = 0x20, 0o4000
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(IN_NONBLOCK)
secret = os.path.join(images, "../elsewhere/secret")
if libc.inotify_add_watch(watch, secret.encode(), IN_OPEN) < 0:
    sys.exit("no inotify")

help_text = subprocess.run([tool, "--help"], capture_output=True, text=True).stdout
there = set(re.findall(r"^  ([a-z]+) ", help_text, re.M))
IMG, OUT = "@image", os.path.join(scratch, "out")
verbs = {  # command: arguments, does it write to the image
    "info": (["--backing-chain", "-f", "qcow2", IMG], False),
    "check": (["-f", "qcow2", IMG], False),
    "check-repair": (["--repair=all", "-f", "qcow2", IMG], True),
    "convert": (["-f", "qcow2", "-O", "raw", IMG, OUT], False),
    "convert-packed": (["-f", "qcow2", "-O", "qcow2", "-c", IMG, OUT], False),
    "compare": (["-f", "qcow2", "-F", "raw", IMG, os.path.join(images, "plain")], False),
    "map": (["-f", "qcow2", IMG], False),
    "measure": (["-f", "qcow2", "-O", "qcow2", IMG], False),
    "rebase": (["-f", "qcow2", "-u", "-b", "plain", "-F", "raw", IMG], True),
    "rebase-safe": (["-f", "qcow2", "-b", "plain", "-F", "raw", IMG], True),
    "commit": (["-f", "qcow2", IMG], True),
    "resize": (["-f", "qcow2", IMG, "+1M"], True),
    "bench": (["-f", "qcow2", "-c", "16", IMG], False),
}
failures = []
slowest = (0, "")
largest = (0, "")


def opened():
    try:
        return os.read(watch, 4096) != b""
    except BlockingIOError:
        return False


def run(args, what):
    """The exit status, or None after a complaint; and what it said."""
    global slowest, largest
    with open(os.path.join(scratch, "err"), "w+b") as err:
        p = subprocess.Popen([tool, *args], stdout=subprocess.DEVNULL, stderr=err,
                             stdin=subprocess.DEVNULL, close_fds=False)  # so it need not fork all of us
        end = time.monotonic() + 200
        while True:
            pid, status, used = os.wait4(p.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                p.kill()
                os.wait4(p.pid, 0)
                failures.append(f"{what}: hangs")
                return None, b""
            time.sleep(.002)
        p.returncode = 0
        err.seek(0)
        said = err.read()
    cpu = used.ru_utime + used.ru_stime
    slowest = max(slowest, (cpu, what))
    largest = max(largest, (used.ru_maxrss >> 10, what))
    if os.WIFSIGNALED(status):
        failures.append(f"{what}: killed by signal {os.WTERMSIG(status)}")
    elif cpu > 10 or used.ru_maxrss > limit << 10:
        failures.append(f"{what}: takes {cpu:.1f} s, {used.ru_maxrss >> 10} MiB")
    return (None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), said


def content(path):
    """Its bytes, as far as they are no hole."""
    with open(path, "rb") as f:
        return os.fstat(f.fileno()).st_size, f.read(1 << 22)


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
    status, said = run([verb.split("-")[0]] + [path if a is IMG else a for a in args], what)
    if opened():
        failures.append(f"{what}: opened a file that is not allowed")
    if not writes and content(path) != before:
        failures.append(f"{what}: changed the image")
    if writes:
        os.unlink(path)
    if status and not verb.startswith(("check", "compare")):
        text = said.decode("utf-8", "replace")
        if text.count("\n") != 1:
            failures.append(f"{what}: not one line: {text!r}")
        elif any(ord(c) < 32 for c in text[:-1]):
            failures.append(f"{what}: control characters: {text!r}")
        elif name not in text and images not in text:  # or another of its chain
            failures.append(f"{what}: does not name the image: {text!r}")


names = sorted(n for n in os.listdir(images) if os.path.isfile(os.path.join(images, n)) and n != "plain" and
               not os.path.islink(os.path.join(images, n)))
tried = 0
for verb, (args, writes) in verbs.items():
    if verb.split("-")[0] not in there:
        print(f"hostile-tools: tap-img has no {verb} here")
        continue
    for name in names:
        one(name, verb, args, writes)
        tried += 1
print(f"hostile-tools: {tried} runs; the slowest {slowest[0]:.2f} s ({slowest[1]}), the largest {largest[0]} MiB "
      f"({largest[1]})")
for f in failures[:40]:
    print("hostile-tools:", f)
sys.exit(f"hostile-tools: {len(failures)} findings" if failures else 0)
