# SPDX-License-Identifier: BSD-2-Clause
# Every option and every command of the NBD protocol, field by field.  usage: SOCKET NAME SIZE; the disk may be written.
import struct
import sys

from nbdlib import *

sock, name, size = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3])


def options():
    c = Conn(sock)
    check("the server speaks fixed newstyle without zeroes", c.hs_flags == 3)
    replies = c.option(LIST)
    check("LIST names the disk", [r[0] for r in replies] == [SERVER, ACK] and
          replies[0][1] == struct.pack(">I", len(name)) + name)
    check("LIST with data is invalid", c.option(LIST, b"x")[-1][0] == ERR_INVALID)
    check("STARTTLS is refused by name", (r := c.option(STARTTLS)[-1])[0] == ERR_UNSUP and b"TLS" in r[1])
    check("an unknown option is unsupported", c.option(77, b"abc")[-1][0] == ERR_UNSUP)
    for n in b"", name:
        replies = c.info(INFO, n, (0, 1, 2, 3, 99))
        got = {struct.unpack(">H", d[:2])[0]: d[2:] for t, d in replies if t == REP_INFO}
        check("INFO answers export, name and block size, and ignores the rest", sorted(got) == [0, 1, 3])
        check("INFO tells the size", struct.unpack(">Q", got[0][:8])[0] == size and got[1] == name)
        low, preferred, high = struct.unpack(">III", got[3])
        check("block sizes are 1, a power of two, 32 MiB",
              low == 1 and preferred & (preferred - 1) == 0 and high == MAX)
    check("INFO of another name is unknown", c.info(INFO, b"nobody")[-1][0] == ERR_UNKNOWN)
    check("GO of another name is unknown, and the session goes on", c.info(GO, b"nobody")[-1][0] == ERR_UNKNOWN)
    check("INFO whose lengths do not add up is invalid",
          c.option(INFO, b"\xff\xff\xff\xff\0\0")[-1][0] == ERR_INVALID)
    check("INFO without data is invalid", c.option(INFO)[-1][0] == ERR_INVALID)
    check("INFO with one byte too many is invalid", c.option(INFO, bytes(7))[-1][0] == ERR_INVALID)

    check("SET_META_CONTEXT needs structured replies", c.meta(SET_META)[-1][0] == ERR_INVALID)
    check("STRUCTURED_REPLY with data is invalid", c.option(STRUCTURED, b"x")[-1][0] == ERR_INVALID)
    check("STRUCTURED_REPLY is accepted", c.option(STRUCTURED)[-1][0] == ACK)
    check("LIST_META_CONTEXT without query lists all", [r[0] for r in c.meta(LIST_META, queries=())] == [META, ACK])
    check("base: is a wildcard when listing", [r[0] for r in c.meta(LIST_META, queries=(b"base:",))] == [META, ACK])
    check("base: selects nothing", [r[0] for r in c.meta(SET_META, queries=(b"base:",))] == [ACK])
    check("unknown contexts are ignored", [r[0] for r in c.meta(SET_META, queries=(b"qemu:x", b"base:no"))] == [ACK])
    check("the context is selected among others",
          c.meta(SET_META, name, (b"x-y:z", b"base:allocation"))[0] == (META, bytes(4) + b"base:allocation"))
    check("contexts of another disk are unknown", c.meta(SET_META, b"nobody")[-1][0] == ERR_UNKNOWN)
    check("a query longer than the option is invalid",
          c.option(SET_META, bytes(4) + struct.pack(">II", 1, 100) + b"base:")[-1][0] == ERR_INVALID)
    check("ABORT is acknowledged", c.option(ABORT)[-1][0] == ACK)
    check("after ABORT the server hangs up", c.is_gone())


def export_name():
    for flags, zeroes in (3, 0), (1, 124):
        for n in b"", name:
            c = Conn(sock, hello=False)
            c.hello(flags)
            c.send_option(EXPORT_NAME, n)
            got, _ = struct.unpack(">QH", c.get(10))
            check("EXPORT_NAME tells the size", got == size)
            check("zeroes only if they were not declined", c.get(zeroes) == bytes(zeroes))
            check("the session works", c.read(0, 512)[0] == 0)
            c.close()
    c = Conn(sock)
    c.send_option(EXPORT_NAME, b"nobody")
    check("EXPORT_NAME of another name ends the session", c.is_gone())
    c = Conn(sock, hello=False)
    c.hello(0x80000003)
    check("unknown client flags end the session", c.is_gone())


def commands(c):
    one, two = bytes(range(256)) * 16, b"\xa5" * 4096
    check("write", c.write(8192, one) == 0)
    check("what was written is read", c.read(8192, 4096) == (0, one))
    check("a write with FUA", c.write(12288, two, FUA) == 0)
    check("an unaligned write", c.write(8192 + 100, b"hello") == 0)
    check("an unaligned read over it", c.read(8192 + 98, 9) == (0, one[98:100] + b"hello" + one[105:107]))
    check("flush", c.call(FLUSH) == 0)
    check("zero", c.call(ZERO, 8192, 4096) == 0 and c.read(8192, 4096) == (0, bytes(4096)))
    check("what is beside the zeros stays", c.read(12288, 4096) == (0, two))
    check("zero, no hole, FUA", c.call(ZERO, 12288, 2048, NO_HOLE | FUA) == 0)
    check("half of it is zero", c.read(12288, 4096) == (0, bytes(2048) + two[2048:]))
    check("fast zero is done or refused as such", c.call(ZERO, 12288, 4096, FAST) in (0, ENOTSUP))
    check("trim", c.call(TRIM, 8192, 8192) == 0)
    check("trim with FUA", c.call(TRIM, 8192, 8192, FUA) == 0)
    check("cache", c.call(CACHE, 0, 65536) == 0)
    check("the largest read", len(c.read(0, MAX)[1]) == MAX)
    big = bytes(i * 7 & 255 for i in range(1 << 16)) * 512
    check("the largest write", c.write(1 << 20, big) == 0)
    check("it is read back in pieces", c.read((1 << 20) + 4096 * 3 + 1, 1 << 20)[1] == big[12289:12289 + (1 << 20)])
    for cmd in READ, WRITE, TRIM, ZERO, CACHE:
        check("a request of no bytes is no reason to hang up", c.call(cmd, 4096, 0) in (0, EINVAL))


def refusals(c):
    end = size - 4096
    check("the last block", c.write(end, b"z" * 4096) == 0 and c.read(end, 4096) == (0, b"z" * 4096))
    for off in end + 1, size, 1 << 62, (1 << 64) - 4096, (1 << 64) - 1:
        check(f"read beyond the end at {off}", c.read(off, 4096)[0] == EINVAL)
        check(f"write beyond the end at {off}, its payload swallowed", c.write(off, bytes(4096)) == ENOSPC)
        check(f"zero beyond the end at {off}", c.call(ZERO, off, 4096) == ENOSPC)
        check(f"trim beyond the end at {off}", c.call(TRIM, off, 4096) == EINVAL)
    check("a length that wraps", c.call(TRIM, (1 << 64) - 4096, 0xFFFFFFFF) == EINVAL)
    check("a read that is too long", c.read(0, MAX + 1)[0] == EINVAL)
    check("a write that is too long, its payload swallowed", c.write(0, bytes(MAX + 1)) == EINVAL)
    check("an unknown command", c.call(42, 0, 512) == EINVAL)
    check("an unknown flag", c.call(FLUSH, flags=0x8000) == EINVAL)
    check("a flag of another command", c.read(0, 512, NO_HOLE)[0] == EINVAL)
    check("a bad flag of a write, its payload swallowed", c.write(0, bytes(70000), REQ_ONE) == EINVAL)
    check("a flush of a range", c.call(FLUSH, 0, 512) == EINVAL)
    check("nothing of this was written", c.read(end, 4096) == (0, b"z" * 4096))
    check("FUA is accepted everywhere", c.read(0, 512, FUA)[0] == 0 and c.call(FLUSH, flags=FUA) == 0)


def block_status(c):
    check("status of all of it", (r := c.status(0, min(size, 0xFFFFFFFF)))[0] == 0 and sum(x[0] for x in r[1]) > 0)
    check("one extent if only one is wanted", (r := c.status(0, 1 << 20, REQ_ONE))[0] == 0 and len(r[1]) == 1 and
          r[1][0][0] <= 1 << 20)
    check("status beyond the end", c.status(size, 4096)[0] == EINVAL)
    check("neighbours differ", all(a[1] != b[1] for a, b in zip(r[1], r[1][1:])))
    check("what was written is data",
          c.write(1 << 20, b"x" * 65536) == 0 and c.status(1 << 20, 65536)[1] == [(65536, 0)])


def pipelined(c, n=200):
    """Answers may come in any order, each once."""
    want = {}
    for i in range(n):
        want[c.send(WRITE, i * 4096, 4096, 0, bytes([i & 255]) * 4096)] = None
    for _ in range(n):
        cookie, error, _ = c.reply()
        check("each answer belongs to a request of ours", error == 0 and cookie in want)
        del want[cookie]
    for i in range(n):
        want[c.send(READ, i * 4096, 4096)] = bytes([i & 255]) * 4096
    for _ in range(n):
        cookie, error, chunks = c.reply(4096)
        data = chunks[0][1][8:] if c.structured else chunks
        check("each read has its own bytes", error == 0 and data == want.pop(cookie))


options()
export_name()
for structured in True, False:
    c = Conn(sock).start(structured, name=name if structured else b"")
    check("the size", c.size == size)
    check("the flags", c.flags == (0xD6D if not structured else 0xDED))
    commands(c)
    refusals(c)
    if structured:
        check("DF is accepted", c.read(0, 1 << 20, DF)[0] == 0)
        block_status(c)
    else:
        check("DF needs structured replies", c.read(0, 512, DF)[0] == EINVAL)
        check("block status needs a context", c.call(STATUS, 0, 512) == EINVAL)
    pipelined(c)
    c.send(DISC)
    check("DISC ends the session", c.is_gone())
c = Conn(sock).start(meta=False)
check("block status without a context", c.call(STATUS, 0, 512) == EINVAL)
c.send(READ, 0, 4096)
c.send(DISC)
check("what was asked before DISC is answered", c.reply()[1] == 0 and c.is_gone())
print("protocol: all as it should be")
