# SPDX-License-Identifier: BSD-2-Clause
# Clients that mean no good.  usage: SOCKET PID; the disk has 128 MiB.  After each of them an honest one is served.
import os
import random
import struct
import sys
import time

from nbdlib import *

sock, pid = sys.argv[1], sys.argv[2]
seed = int(os.environ.get("TEST_SEED", random.randrange(1 << 32)))
rnd = random.Random(seed)
print(f"hostile: seed {seed}")


def resident():
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * 4096


def descriptors():
    return len(os.listdir(f"/proc/{pid}/fd"))


def honest(what):
    c = Conn(sock).start()
    check(f"an honest client is served after: {what}", c.write(0, b"ok" * 256) == 0 and
          c.read(0, 512) == (0, b"ok" * 256))
    c.send(DISC)
    check("it leaves in order", c.is_gone())


def bad_magics():
    c = Conn(sock)
    c.put(struct.pack(">QII", 1, LIST, 0))
    check("an option with a wrong magic ends the session", c.is_gone())
    c = Conn(sock).start()
    c.send(READ, 0, 512, magic=0x12560953)
    check("a request with a wrong magic ends the session", c.is_gone())


def huge_option():
    c = Conn(sock)
    c.put(struct.pack(">QII", IHAVEOPT, GO, 0xFFFFFFFF))
    check("an option of 4 GiB ends the session", c.is_gone())


def endless_options():
    c = Conn(sock)

    def go():
        for _ in range(100000):
            c.option(LIST)
    hangs_up("endless options end the session", go)


def unread_options():
    """Asks and asks, and reads nothing."""
    c = Conn(sock)
    c.s.settimeout(5)

    def go():
        for _ in range(100000):
            c.send_option(INFO, struct.pack(">I", 0) + struct.pack(">HH", 1, 3))
    try:
        hangs_up("replies that nobody reads end the session", go)
    except TimeoutError:
        pass  # not read from any more is fine too
    c.close()


def many_queries():
    c = Conn(sock)
    c.option(STRUCTURED)
    n = 4000
    data = bytes(4) + struct.pack(">I", n) + n * bytes(4)
    check("thousands of empty queries", c.option(SET_META, data)[-1][0] in (ACK, ERR_INVALID))
    check("a lie about their number", c.option(SET_META, bytes(4) + b"\xff" * 4 + bytes(64))[-1][0] == ERR_INVALID)


def leaves_at_once():
    for _ in range(200):
        Conn(sock, hello=False).close()


def leaves_in_flight():
    """With reads and writes in flight, in the middle of a payload, in the middle of a header."""
    for i in range(30):
        c = Conn(sock).start()
        for k in range(40):
            if rnd.random() < .5:
                c.send(READ, rnd.randrange(0, 64 << 20), 1 << rnd.randrange(21))
            else:
                n = 1 << rnd.randrange(17)
                c.send(WRITE, (64 << 20) + rnd.randrange(0, 32 << 20), n, 0, bytes(n))
        if i % 3 == 0:
            c.send(WRITE, 64 << 20, 1 << 20, 0, bytes(rnd.randrange(1 << 20)))
        elif i % 3 == 1:
            c.put(bytes(rnd.randrange(1, 28)))
        c.close()


def garbage():
    for _ in range(60):
        c = Conn(sock, hello=False)
        c.get(18)
        data = rnd.randbytes(rnd.randrange(1, 3000))
        if rnd.random() < .7:
            data = struct.pack(">IQII", 3, IHAVEOPT, rnd.randrange(12), rnd.randrange(64)) + data
        try:
            c.put(data)
            c.s.settimeout(.02)
            c.s.recv(65536)
        except (Gone, TimeoutError, ConnectionError):
            pass
        c.close()


def random_requests():
    """Valid heads, nonsense in every field: the stream stays in step, so each is answered."""
    c = Conn(sock).start()
    for _ in range(2000):
        cmd = rnd.choice([READ, WRITE, FLUSH, TRIM, CACHE, ZERO, STATUS, 8, 99, 65535])
        off = rnd.choice([0, 512, rnd.randrange(1 << 27), (1 << 27) - 512, 1 << 63, (1 << 64) - 512,
                          rnd.randrange(1 << 64)])
        n = rnd.choice([0, 1, 512, rnd.randrange(70000), 5 if cmd == WRITE else MAX + 1,
                        7 if cmd == WRITE else 0xFFFFFFFF])
        flags = rnd.choice([0, 0, 1, rnd.randrange(32), rnd.randrange(1 << 16)])
        mine = c.send(cmd, off, n, flags, bytes(n) if cmd == WRITE else b"")
        cookie, _, _ = c.reply()
        check("each request gets its answer", cookie == mine)


def never_reads():
    """Two who ask for 64 MiB and read nothing do not stop small requests, and hold a bounded amount of memory."""
    hoarders = [Conn(sock).start() for _ in range(4)]
    before = resident()
    for c in hoarders:
        for i in range(64):
            c.send(READ, 0, 1 << 20)
    time.sleep(.3)
    check("memory is bounded", resident() - before < 120 << 20)
    start = time.monotonic()
    c = Conn(sock).start()
    for i in range(50):
        check("small requests pass", c.read(i * 4096, 4096)[0] == 0)
    check("and are not held up", time.monotonic() - start < 8)  # of the 10 s that a hoarder has
    check("a large one has to wait until the hoarders are dropped, no longer", len(c.read(0, MAX)[1]) == MAX)
    for h in hoarders:
        h.close()


def stalled_writers():
    """Announce 32 MiB, send one byte."""
    stalled = [Conn(sock).start() for _ in range(4)]
    for c in stalled:
        c.send(WRITE, 0, MAX, 0, b"x")
    honest("announced writes")
    for c in stalled:
        c.close()


def too_many():
    """64 are served, the next waits until one leaves."""
    conns = [Conn(sock).start() for _ in range(64)]
    late = Conn(sock, hello=False, timeout=1)
    try:
        late.get(18)
        check("the 65th has to wait", False)
    except TimeoutError:
        pass
    conns.pop().close()
    late.s.settimeout(200)
    late.hello()
    check("then it is served", late.start().read(0, 512)[0] == 0)
    for c in conns:
        c.close()


tests = [bad_magics, huge_option, endless_options, unread_options, many_queries, leaves_at_once, leaves_in_flight,
         garbage, random_requests, stalled_writers, too_many, never_reads]
honest("nothing")
fds = descriptors()
for t in tests:
    t()
    honest(t.__name__)
for _ in range(4000):
    if descriptors() <= fds + 1:
        break
    time.sleep(.05)
check("no connection is left behind", descriptors() <= fds + 1)
print("hostile: all survived")
