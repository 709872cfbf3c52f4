# SPDX-License-Identifier: BSD-2-Clause
"""A small client of the ring in shared memory (blktap-ring(7)), for tests that have to do what the library cannot."""
import array
import fcntl
import mmap
import os
import select
import socket
import struct
import sys
import time

MAGIC, VERSION = 0x526B6C62, 1
HELLO, CONNECT, READY, CHANGE, STOPPED = 1, 2, 3, 4, 5
HEAD, HELLO_LEN, CONNECT_LEN, READY_LEN, CHANGE_LEN, STOPPED_LEN = 8, 72, 56, 248, 24, 248
F_ADD_SEALS, F_SEAL_SHRINK, F_SEAL_GROW = 1033, 2, 4
PAGE = 4096
READ, WRITE, BARRIER, FLUSH, DISCARD, INDIRECT = 0, 1, 2, 3, 5, 6


def check(what, ok):
    if not ok:
        print(f"FAILED: {what}")
        sys.exit(1)


def memfd(size, seal=True, flags=0):
    fd = os.memfd_create("blktap-client-test", os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(fd, size)
    if seal:
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
    return fd


class Client:
    """One queue, x86_64 layout; page 0.. the ring, then the buffers."""

    def __init__(self, path, timeout=200):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.settimeout(timeout)
        self.s.connect(path)
        self.call = None

    def recv(self):
        """(type, body, descriptors); type None: the end."""
        try:
            data, anc, _, _ = self.s.recvmsg(4096, socket.CMSG_SPACE(64))
        except (ConnectionResetError, BrokenPipeError):
            return None, b"", []
        fds = array.array("i")
        for level, kind, payload in anc:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % 4])
        if not data:
            return None, b"", list(fds)
        magic, kind, size = struct.unpack_from("<IHH", data)
        check("the head is right", magic == MAGIC and size == len(data))
        return kind, data[HEAD:], list(fds)

    def hello(self):
        kind, body, _ = self.recv()
        check("HELLO comes first", kind == HELLO and len(body) == HELLO_LEN - HEAD)
        v = struct.unpack("<IIQQ10I", body)
        names = ("version features sectors max_memory sector_size physical_sector_size info state "
                 "discard_granularity discard_alignment max_indirect max_order max_queues reserved").split()
        self.disk = dict(zip(names, v))
        return self

    def choice(self, version=VERSION, features=0xF, abi=0, order=0, queues=1, memory=1 << 20, pages=(0, 0, 0, 0),
               magic=MAGIC, kind=CONNECT, size=CONNECT_LEN):
        return struct.pack("<IHHIIIIIIQ4I", magic, kind, size, version, features, abi, order, queues, 0, memory,
                           *pages)

    def send(self, packet, fds=()):
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        return self.s.sendmsg([packet], anc)

    def ready(self):
        """(error, sentence, descriptors); error None: hung up without a word."""
        kind, body, fds = self.recv()
        if kind is None:
            return None, "", fds
        check("READY comes next", kind == READY)
        error, _ = struct.unpack_from("<iI", body)
        return error, body[8:].split(b"\0")[0].decode(), fds

    def connect(self, pages=256, order=0):
        self.hello()
        fd = memfd(pages * PAGE)
        self.mem = mmap.mmap(fd, pages * PAGE)
        self.nr = 32 << order
        self.prod = self.cons = self.kicked = 0
        struct.pack_into("<4I", self.mem, 0, 0, 1, 0, 1)
        self.send(self.choice(order=order, memory=pages * PAGE), [fd])
        os.close(fd)
        error, why, fds = self.ready()
        check(f"it is served ({why})", error == 0 and len(fds) == 2)
        self.kick, self.call = fds
        return self

    def slot(self, raw):
        """Put a slot's bytes at the next place."""
        at = 64 + (self.prod % self.nr) * 112
        self.mem[at:at + len(raw)] = raw
        self.prod += 1

    def request(self, op, sector, segs, ident=0, nr=None):
        raw = struct.pack("<BBHIQQ", op, len(segs) if nr is None else nr, 0, 0, ident, sector)
        for gref, first, last in segs:
            raw += struct.pack("<IBBH", gref, first, last, 0)
        self.slot(raw)

    def ring_bell(self, prod=None):
        struct.pack_into("<I", self.mem, 0, (self.prod if prod is None else prod) & 0xFFFFFFFF)
        os.write(self.kick, struct.pack("<Q", 1))

    def answers(self, want=1, timeout=200):
        """[(id, status)]"""
        out, end = [], time.monotonic() + timeout
        ep = select.epoll.fromfd(self.call)
        try:
            while len(out) < want and time.monotonic() < end:
                prod = struct.unpack_from("<I", self.mem, 8)[0]
                while self.cons % (1 << 32) != prod:
                    ident, _, status = struct.unpack_from("<QBxh", self.mem, 64 + (self.cons % self.nr) * 112)
                    out.append((ident, status))
                    self.cons += 1
                struct.pack_into("<I", self.mem, 12, (self.cons + 1) & 0xFFFFFFFF)
                if len(out) < want and struct.unpack_from("<I", self.mem, 8)[0] == prod:
                    ep.poll(0.1)
        finally:
            self.call = os.dup(self.call)
            ep.close()
        return out

    def read(self, sector, page=16):
        """The status of one read of 8 sectors."""
        self.request(READ, sector, [(page, 0, 7)], 77)
        self.ring_bell()
        got = self.answers()
        return got[0][1] if got else None

    def close(self):
        self.s.close()
        if self.call is not None:
            os.close(self.kick)
            os.close(self.call)
            self.mem.close()
            self.call = None
