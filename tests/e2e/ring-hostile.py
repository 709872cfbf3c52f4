# SPDX-License-Identifier: BSD-2-Clause
"""Clients of the ring that lie.  SOCKET PID"""
import os
import random
import resource
import socket
import sys

from ringlib import *

path, pid = sys.argv[1], int(sys.argv[2])
seed = int(os.environ.get("TEST_SEED", random.randrange(1 << 32)))
print(f"hostile: seed {seed}")
rng = random.Random(seed)


def fds():
    return len(os.listdir(f"/proc/{pid}/fd"))


def settle(want, what):
    for _ in range(6000):
        if fds() <= want and "blktap-client" not in open(f"/proc/{pid}/maps").read():
            return
        time.sleep(0.02)
    check(f"nothing is left after: {what} ({fds()} descriptors, not {want})", False)


def serves():
    c = Client(path).connect()
    check("an honest client is served", c.read(0) == 0)
    c.close()


def refused(what, packet, fds_, want):
    """want: a word of the sentence; None: it may just hang up."""
    c = Client(path).hello()
    c.send(packet(c) if callable(packet) else packet, fds_)
    error, why, got = c.ready()
    check(f"{what}: refused, not {error} {why}", error is None or error < 0)
    check(f"{what}: no doorbells", not got)
    check(f"{what}: the reason is told ({why})", want is None or want in why)
    check(f"{what}: and it is the end", c.recv()[0] is None)
    c.close()
    for fd in fds_:
        os.close(fd)


before = fds()
serves()
settle(before, "an honest client")

# ---- what a CONNECT message may say ----
MEM = 64 * PAGE


def ok(**kw):
    kw.setdefault("memory", MEM)
    return lambda c: c.choice(**kw)


refused("version 2", ok(version=2), [memfd(MEM)], "version")
refused("abi 3", ok(abi=3), [memfd(MEM)], "layout")
refused("abi 2^32-1", ok(abi=0xFFFFFFFF), [memfd(MEM)], "layout")
refused("order 5", ok(order=5), [memfd(MEM)], "order")
refused("order 2^31", ok(order=1 << 31), [memfd(MEM)], "order")
refused("no queue", ok(queues=0), [memfd(MEM)], "queues")
refused("5 queues", ok(queues=5, pages=(0, 1, 2, 3)), [memfd(MEM)], "queues")
refused("ring beyond the memory", ok(pages=(64, 0, 0, 0)), [memfd(MEM)], "not in the memory")
refused("ring's end beyond it", ok(order=2, pages=(61, 0, 0, 0)), [memfd(MEM)], "not in the memory")
refused("ring page 2^32-1", ok(order=2, pages=(0xFFFFFFFF, 0, 0, 0)), [memfd(MEM)], "not in the memory")
refused("one page for two rings", ok(queues=2, order=1, pages=(4, 5, 0, 0)), [memfd(MEM)], "share")
refused("memory 0", ok(memory=0), [memfd(MEM)], "whole pages")
refused("memory of half a page", ok(memory=MEM + 2048), [memfd(2 * MEM)], "whole pages")
refused("2 GiB", ok(memory=2 << 30), [memfd(2 << 30)], "at most")
refused("2^64-4096", ok(memory=(1 << 64) - PAGE), [memfd(MEM)], "at most")
refused("more than the memfd", ok(memory=2 * MEM), [memfd(MEM)], "shorter")
refused("not sealed", ok(), [memfd(MEM, seal=False)], "not sealed")

# ---- descriptors that are no memfd ----
refused("none", ok(), [], "one descriptor")
refused("two", ok(), [memfd(MEM), memfd(MEM)], "one descriptor")
refused("a pipe", ok(), [os.pipe()[0]], "not a memfd")
refused("a file", ok(), [os.open(sys.argv[0], os.O_RDONLY)], "not a memfd")
refused("a socket", ok(), [socket.socket(socket.AF_UNIX).detach()], "not a memfd")
refused("a device", ok(), [os.open("/dev/zero", os.O_RDWR)], "not a memfd")
refused("a folder", ok(), [os.open("/", os.O_RDONLY)], "not a memfd")
read_only = memfd(MEM)
refused("read-only", ok(), [os.open(f"/proc/self/fd/{read_only}", os.O_RDONLY)], "map")
os.close(read_only)
write_sealed = memfd(MEM)
fcntl.fcntl(write_sealed, F_ADD_SEALS, 8)
refused("sealed against writing", ok(), [write_sealed], "map")
try:
    huge = memfd(2 << 20, flags=getattr(os, "MFD_HUGETLB", 4))
except OSError:
    huge = None
if huge is not None:
    refused("huge pages", ok(memory=2 << 20), [huge], "huge")

# ---- packets that are no message ----
good = Client(path).hello().choice(memory=MEM)
for n in list(range(1, CONNECT_LEN)) + [CONNECT_LEN + 1, 4096, 60000]:
    refused(f"{n} bytes", (good + bytes(60000))[:n], [memfd(MEM)] if n % 2 else [], None)
refused("another magic", ok(magic=1), [memfd(MEM)], None)
refused("another type", ok(kind=READY), [memfd(MEM)], None)
refused("another size", ok(size=55), [memfd(MEM)], None)
for i in range(300):
    junk = bytearray(good)
    for _ in range(rng.randrange(1, 6)):
        junk[rng.randrange(len(junk))] = rng.randrange(256)
    c = Client(path).hello()
    c.send(bytes(junk), [fd := memfd(MEM)])
    os.close(fd)
    error, why, got = c.ready()
    for f in got:
        os.close(f)
    c.close()
serves()
settle(before, "packets")

# ---- half connections ----
half = []
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
for i in range(1000):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(200)
    s.connect(path)
    half.append(s)
    if i % 100 == 50:
        serves()  # it is let in all the same
# 32 of them; and those that had to go for the last batch that was let in, until the daemon's next turn.
check(f"half connections are bounded ({fds()} descriptors, {before} before)", fds() <= before + 100)
serves()
for s in half:
    s.close()
settle(before, "1,000 half connections")

# ---- too many that are served ----
many = [Client(path).connect() for _ in range(8)]
c = Client(path).hello()
c.send(c.choice(memory=MEM), [fd := memfd(MEM)])
os.close(fd)
error, why, _ = c.ready()
check("the ninth is refused", error == -16 and "8 clients" in why)
c.close()
for m in many:
    check("each of eight is served", m.read(8) == 0)
    m.close()
settle(before, "eight clients")

# ---- inside the ring ----
# Pages beyond the memory: an error for that request, and no more.
c = Client(path).connect(pages=64)
for gref in (64, 65, 1 << 20, 0xFFFFFFFF):
    c.request(READ, 0, [(gref, 0, 7)], gref)
    c.request(WRITE, 0, [(20, 0, 7), (gref, 0, 7)], gref)
c.request(INDIRECT, 0, [])
c.prod -= 1
c.slot(struct.pack("<BBHIQQHHI8I", INDIRECT, READ, 20, 0, 5, 0, 0, 0, 99999, *[0] * 8)[:64])
c.ring_bell()
got = c.answers(9)
check(f"each is an error: {got}", len(got) == 9 and all(s == -1 for _, s in got))
check("and the ring goes on", c.read(0) == 0)

# A message where none is expected ends the connection.
c.send(good)
check("chatter ends it", c.recv()[0] is None)
c.close()

# A producer index that is not within the ring stops it, with a reason.
for ahead in (33, 1 << 16, 1 << 31, 0xFFFFFFFF):
    c = Client(path).connect()
    c.ring_bell(ahead)
    kind, body, _ = c.recv()
    check("STOPPED", kind == STOPPED and b"producer index" in body)
    check("and the end", c.recv()[0] is None)
    c.close()

# The doorbells are filled, and made to block: that is the client's own loss.
c = Client(path).connect()
os.set_blocking(c.kick, True)
os.eventfd_write(c.kick, 0xFFFFFFFFFFFFFFF0) if hasattr(os, "eventfd_write") else os.write(
    c.kick, struct.pack("<Q", 0xFFFFFFFFFFFFFFF0))
check("still served", c.read(0) == 0)
c.close()

# Vanishing in each phase.
for i in range(200):
    c = Client(path)
    if i % 4 > 0:
        c.hello()
    if i % 4 > 1:
        c.send(c.choice(memory=MEM), [fd := memfd(MEM)])
        os.close(fd)
    c.s.close()
    if i % 4 == 3:
        c = Client(path).connect()
        for j in range(30):
            c.request(rng.choice([READ, WRITE, FLUSH]), 8 * j, [(20 + j, 0, 7)], j)
        c.ring_bell()
        c.close()
serves()
settle(before, "clients that vanish")
print("hostile: all survived")
