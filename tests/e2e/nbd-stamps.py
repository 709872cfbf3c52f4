#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What an acknowledged write and a completed flush promise, written down and checked.

  nbd-stamps.py new STATE BYTES                      a disk of zeros, or the first BYTES of a larger one
  nbd-stamps.py load SOCKET STATE PID SECONDS SEED   random requests over NBD until PID is killed after SECONDS;
                                                     STATE.flushed is what was promised by flushes alone
  nbd-stamps.py put SOCKET PID BYTE                  write 64 KiB of BYTE at 0; PID is killed when that is answered
  nbd-stamps.py verify STATE RAW                     is what RAW holds allowed by what STATE says was promised?

Each write stamps each of its sectors with its own number and the sector's.  No two requests in flight touch the same
sector, so the requests of a sector are in one order, that of their numbers.  A request is *durable* if it was
acknowledged before a flush was sent that completed, or carried FUA and was acknowledged; and, the machine being well
and only the process killed, if it was acknowledged at all, once the disk was opened again.  After a crash a sector may
hold the stamp of its last durable write, or of any request sent after that (acknowledged or not), and nothing else:
nothing older, no other sector's stamp, no stamp of an earlier life of the disk, no half of a stamp.

A zeroing counts as a write of zeros.  A trimmed sector holds what it held before, or zeros.
"""
import os
import pickle
import random
import select
import signal
import socket
import struct
import sys
import threading

SECTOR = 512
ZEROS = bytes(SECTOR)
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO = range(7)
FUA, NO_HOLE = 1, 2
MULTI_CONN = 1 << 8


def stamp(number, sector):
    return (struct.pack(">8sQQ", b"STAMPED!", number, sector) * 22)[:SECTOR]


class Nbd:
    """One connection: fixed newstyle, simple replies, the empty export name."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        magic = self.recv(18)
        if magic[:16] != b"NBDMAGICIHAVEOPT":
            sys.exit("not an NBD server")
        self.sock.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
        self.size, self.flags = struct.unpack(">QH", self.recv(10))

    def recv(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data

    def send(self, kind, cookie, off=0, length=0, flags=0, data=b""):
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, off, length) + data)

    def reply(self):
        magic, error, cookie = struct.unpack(">IIQ", self.recv(16))
        if magic != 0x67446698:
            sys.exit("a reply of another kind: %#x" % magic)
        return cookie, error


class Disk:
    """What was promised of each sector: (number, kind) of the requests that may still show, the oldest first.

    The first entry is the last durable one (or what was there at the beginning)."""

    def __init__(self, sectors):
        self.sent = [[(0, ZERO)] for _ in range(sectors)]
        self.number = 0


class Load:
    def __init__(self, path, disk, rng):
        first = Nbd(path)
        self.conns = [first] + ([Nbd(path)] if first.flags & MULTI_CONN else [])
        self.disk = disk
        self.rng = rng
        self.sectors = len(disk.sent)
        if self.sectors > first.size // SECTOR:
            sys.exit("the disk has %d sectors, not %d" % (first.size // SECTOR, self.sectors))
        self.in_flight = {}  # cookie: (kind, first sector, count, flags); of a flush: the cookies it covers
        self.busy = set()
        self.acked = {}  # not yet durable: cookie: (kind, first sector, count)
        self.flushes = self.requests = 0

    def durable(self, cookie, request):
        """Nothing before this one can show again."""
        kind, first, count = request
        if kind == TRIM:
            return  # it promises nothing
        for s in range(first, first + count):
            self.disk.sent[s] = [e for e in self.disk.sent[s] if e[0] >= cookie]

    def pick(self):
        kind = self.rng.choices((WRITE, ZERO, TRIM, FLUSH), (75, 12, 8, 5))[0]
        if kind == FLUSH:
            return FLUSH, 0, 0
        # Half of it in a small corner, so that clusters are written again and again.
        area = self.sectors if self.rng.random() < 0.5 else min(self.sectors, 4096)
        count = self.rng.choice((1, 1, 2, 7, 8, 8, 16, 64, 128, 300))
        if kind != WRITE:
            count *= self.rng.choice((1, 4, 16))
        first = self.rng.randrange(area)
        return kind, first, min(count, self.sectors - first)

    def send_one(self):
        kind, first, count = self.pick()
        conn = self.rng.choice(self.conns)
        self.disk.number += 1
        cookie = self.disk.number
        if kind == FLUSH:
            self.in_flight[cookie] = (FLUSH, dict(self.acked), 0, 0)
            conn.send(FLUSH, cookie)
            return
        wanted = range(first, first + count)
        if not self.busy.isdisjoint(wanted):
            return
        flags = FUA if kind == WRITE and self.rng.random() < 0.04 else 0
        if kind == ZERO and self.rng.random() < 0.5:
            flags |= NO_HOLE
        self.busy.update(wanted)
        for s in wanted:
            self.disk.sent[s].append((cookie, kind))
        self.in_flight[cookie] = (kind, first, count, flags)
        data = b"".join(stamp(cookie, s) for s in wanted) if kind == WRITE else b""
        conn.send(kind, cookie, first * SECTOR, count * SECTOR, flags, data)

    def take_reply(self, conn):
        cookie, error = conn.reply()
        if error:
            sys.exit("request %s failed with %d" % (self.in_flight[cookie], error))
        kind, first, count, flags = self.in_flight.pop(cookie)
        self.requests += 1
        if kind == FLUSH:
            self.flushes += 1
            for number, request in first.items():
                self.durable(number, request)
                self.acked.pop(number, None)
            return
        self.busy.difference_update(range(first, first + count))
        if flags & FUA:
            self.durable(cookie, (kind, first, count))
        else:
            self.acked[cookie] = (kind, first, count)

    def run(self, depth=24):
        socks = {c.sock: c for c in self.conns}
        try:
            while True:
                while len(self.in_flight) < depth:
                    self.send_one()
                for sock in select.select(list(socks), [], [], 20)[0]:
                    self.take_reply(socks[sock])
        except (ConnectionError, BrokenPipeError):
            return


def load(path, state, pid, seconds, seed):
    with open(state, "rb") as f:
        disk = pickle.load(f)
    run = Load(path, disk, random.Random(int(seed)))
    threading.Timer(float(seconds), os.kill, (int(pid), signal.SIGKILL)).start()
    run.run()
    with open(state + ".flushed", "wb") as f:
        pickle.dump(disk, f)
    unflushed = len(run.acked)
    for cookie in sorted(run.acked):
        run.durable(cookie, run.acked[cookie])
    with open(state, "wb") as f:
        pickle.dump(disk, f)
    print("%d requests, %d flushes, %d answered and not flushed, %d in flight"
          % (run.requests, run.flushes, unflushed, len(run.in_flight)))


def put(path, pid, byte):
    conn = Nbd(path)
    conn.send(WRITE, 1, 0, 65536, 0, bytes([int(byte)]) * 65536)
    cookie, error = conn.reply()
    os.kill(int(pid), signal.SIGKILL)
    if error:
        sys.exit("the write failed with %d" % error)


def allowed(data, sent, sector):
    """None if this sector may be so, else what is wrong with it; and what it turned out to be."""
    if data == ZEROS:
        if any(kind in (ZERO, TRIM) for _, kind in sent):
            return None, (0, ZERO)
        return "zeros, but write %d is durable" % sent[0][0], None
    _, number, where = struct.unpack(">8sQQ", data[:24])
    if data != stamp(number, where):
        return "half of a stamp, or bytes of nobody", None
    if where != sector:
        return "the stamp of sector %d" % where, None
    if (number, WRITE) not in sent:
        return "the stamp of write %d, but %s %d is durable" % (
            number, "write" if sent[0][1] == WRITE else "zeroing", sent[0][0]), None
    return None, (number, WRITE)


def verify(state, raw):
    with open(state, "rb") as f:
        disk = pickle.load(f)
    bad = 0
    with open(raw, "rb") as f:
        for sector, sent in enumerate(disk.sent):
            wrong, found = allowed(f.read(SECTOR), sent, sector)
            if wrong:
                bad += 1
                if bad <= 10:
                    print("sector %d holds %s (allowed: %s)" % (sector, wrong, sent), file=sys.stderr)
            else:
                disk.sent[sector] = [found]  # what was seen once is there to stay
    if bad:
        sys.exit("%d sectors hold what they must not" % bad)
    with open(state, "wb") as f:
        pickle.dump(disk, f)


def new(state, size):
    with open(state, "wb") as f:
        pickle.dump(Disk(int(size) // SECTOR), f)


if __name__ == "__main__":
    {"load": load, "verify": verify, "new": new, "put": put}[sys.argv[1]](*sys.argv[2:])
