# SPDX-License-Identifier: BSD-2-Clause
"""A plain NBD client for tests: every field can be wrong on purpose.  Not a good client."""
import json
import os
import signal
import socket
import struct
import sys
import time

IHAVEOPT, REPLY = 0x49484156454F5054, 0x0003E889045565A9
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META = 1, 2, 3, 5, 6, 7, 8, 9, 10
ACK, SERVER, REP_INFO, META = 1, 2, 3, 4
ERR_UNSUP, ERR_INVALID, ERR_UNKNOWN = (0x80000000 | n for n in (1, 3, 6))
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST = 1, 2, 4, 8, 16
EPERM, EIO, EINVAL, ENOSPC, ENOTSUP, ESHUTDOWN = 1, 5, 22, 28, 95, 108
MAX = 32 << 20


class Gone(Exception):
    pass


class Conn:
    def __init__(self, address, hello=True, timeout=200):
        if isinstance(address, tuple):
            self.s = socket.create_connection(address, timeout)
        else:
            self.s = socket.socket(socket.AF_UNIX)
            self.s.connect(address)  # waits while the listener's queue is full
            self.s.settimeout(timeout)
        self.structured = False
        self.cookie = 0
        if hello:
            self.hello()

    def get(self, n):
        data = bytearray()
        while len(data) < n:
            try:
                more = self.s.recv(min(n - len(data), 1 << 20))
            except ConnectionError:
                more = b""
            if not more:
                raise Gone()
            data += more
        return bytes(data)

    def put(self, data):
        try:
            self.s.sendall(data)
        except ConnectionError:
            raise Gone() from None

    def close(self):
        self.s.close()

    def is_gone(self):
        """Does the server hang up?"""
        try:
            while self.s.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    # ---- handshake ----

    def hello(self, flags=3):
        magic, opt, self.hs_flags = struct.unpack(">QQH", self.get(18))
        assert (magic, opt) == (0x4E42444D41474943, IHAVEOPT)
        self.put(struct.pack(">I", flags))

    def send_option(self, option, data=b""):
        self.put(struct.pack(">QII", IHAVEOPT, option, len(data)) + data)

    def option(self, option, data=b""):
        """All replies: [(type, data)...]; the last is the final one."""
        self.send_option(option, data)
        replies = []
        while True:
            magic, opt, rep, n = struct.unpack(">QIII", self.get(20))
            assert magic == REPLY and opt == option, (hex(magic), opt)
            replies.append((rep, self.get(n)))
            if rep == ACK or rep & 0x80000000:
                return replies

    def info(self, option, name=b"", wants=(3,)):
        data = struct.pack(">I", len(name)) + name + struct.pack(">H", len(wants))
        return self.option(option, data + b"".join(struct.pack(">H", w) for w in wants))

    def meta(self, option, name=b"", queries=(b"base:allocation",)):
        data = struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries))
        return self.option(option, data + b"".join(struct.pack(">I", len(q)) + q for q in queries))

    def start(self, structured=True, meta=True, name=b""):
        """To the transmission phase; returns self."""
        if structured:
            assert self.option(STRUCTURED)[-1][0] == ACK
            self.structured = True
        if structured and meta:
            assert [r[0] for r in self.meta(SET_META)] == [META, ACK]
        replies = self.info(GO, name)
        assert replies[-1][0] == ACK, replies
        info = {struct.unpack(">H", d[:2])[0]: d[2:] for t, d in replies if t == REP_INFO}
        self.size, self.flags = struct.unpack(">QH", info[0])
        return self

    # ---- transmission ----

    def send(self, cmd, off=0, length=0, flags=0, payload=b"", magic=0x25609513):
        self.cookie += 1
        self.put(struct.pack(">IHHQQI", magic, flags, cmd, self.cookie, off, length) + payload)
        return self.cookie

    def reply(self, read_len=0):
        """(cookie, error, chunks): chunks is [(type, payload)...], or the data of a simple read."""
        chunks, error = [], 0
        while True:
            magic = struct.unpack(">I", self.get(4))[0]
            if magic == 0x67446698:
                error, cookie = struct.unpack(">IQ", self.get(12))
                return cookie, error, self.get(read_len) if read_len and not error else b""
            assert magic == 0x668E33EF, hex(magic)
            flags, kind, cookie, n = struct.unpack(">HHQI", self.get(16))
            payload = self.get(n)
            if kind & 0x8000:
                error, text = struct.unpack(">IH", payload[:6])
                assert error and len(payload) == 6 + text
            chunks.append((kind, payload))
            if flags & 1:
                return cookie, error, chunks

    def call(self, cmd, off=0, length=0, flags=0, payload=b""):
        """One request, alone: its error."""
        mine = self.send(cmd, off, length, flags, payload)
        cookie, error, _ = self.reply(length if cmd == READ and not self.structured else 0)
        assert cookie == mine
        return error

    def write(self, off, data, flags=0):
        return self.call(WRITE, off, len(data), flags, data)

    def read(self, off, length, flags=0):
        """(error, data)"""
        mine = self.send(READ, off, length, flags)
        cookie, error, chunks = self.reply(length)
        assert cookie == mine
        if not self.structured or error:
            return error, b"" if error else chunks
        data = bytearray(length)
        for kind, payload in chunks:
            if kind == 1:
                at = struct.unpack(">Q", payload[:8])[0] - off
                data[at:at + len(payload) - 8] = payload[8:]
        return 0, bytes(data)

    def status(self, off, length, flags=0):
        """(error, [(length, state)...])"""
        self.send(STATUS, off, length, flags)
        _, error, chunks = self.reply()
        if error:
            return error, []
        assert len(chunks) == 1 and chunks[0][0] == 5 and chunks[0][1][:4] == bytes(4)
        return 0, list(struct.iter_unpack(">II", chunks[0][1][4:]))


def check(what, ok):
    """A test is a sentence."""
    if not ok:
        print(f"{os.path.basename(sys.argv[0])}: FAILED: {what}", file=sys.stderr)
        sys.exit(1)


def hangs_up(what, fn):
    """fn has to lose its connection."""
    try:
        fn()
    except Gone:
        return
    check(what, False)


def wait_until(what, fn):
    """fn has to become true, on however slow a machine."""
    end = time.monotonic() + 200
    while not fn():
        check(f"{what} in time", time.monotonic() < end)
        time.sleep(.01)


def stats(pid):
    """What the daemon of that number has counted."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(200)
    s.connect(f"{os.environ['BLKTAP_RUN_DIR']}/ctl{pid}")
    s.sendall(b'{"cmd":"stats"}\n')
    with s.makefile("rb") as f:
        return json.loads(f.readline())


def taken(pid):
    """How many requests it has taken from its clients so far, answered or not."""
    v = stats(pid)["vbd"]
    return v["in_flight"] + v["waiting"] + sum(v[op]["requests"] for op in ("read", "write", "flush", "trim", "zero"))


def terminate(pid, limit):
    """SIGTERM; seconds until the process has ended."""
    os.kill(pid, signal.SIGTERM)
    start = time.monotonic()
    while time.monotonic() - start < limit:
        try:
            with open(f"/proc/{pid}/stat") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        time.sleep(.01)
    return time.monotonic() - start
