# SPDX-License-Identifier: BSD-2-Clause
# Images that lie, one file each.  usage: hostile-corpus.py WHOLE PACKED DIR SEED MUTATIONS
# WHOLE: a qcow2 of 4 MiB in clusters of 4K, its first MiB written: header, refcount table and block, L1, L2, data.
# PACKED: a compressed one in clusters of 64K.
import os
import random
import struct
import sys
import zlib

whole, packed = (open(f, "rb").read() for f in sys.argv[1:3])
out, seed, mutations = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
L1, L2 = (struct.unpack_from(">Q", whole, 40)[0], 0)
L2 = struct.unpack_from(">Q", whole, L1)[0] & 0x00fffffffffffe00
REFTABLE = struct.unpack_from(">Q", whole, 48)[0]
REFBLOCK = struct.unpack_from(">Q", whole, REFTABLE)[0]
BIG = 1 << 40


def image(name, *patches, base=whole, size=None):
    data = bytearray(base)
    for at, fmt, *values in patches:
        piece = struct.pack(">" + fmt, *values)
        data[at:at + len(piece)] = piece
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)
        if size is not None:
            f.truncate(size)


def backed(name, backing, fmt="raw"):
    ext = struct.pack(">II", 0xE2792ACA, len(fmt)) + fmt.encode().ljust(8, b"\0") if fmt else b""
    data = backing if isinstance(backing, bytes) else backing.encode()
    image(name, (8, "QI", 1024, len(data)), (112, f"{len(ext) + 8}s", ext), (1024, f"{len(data)}s", data))


# ---- the header ----
for n in (1, 71, 104, 511, 4096, 8192, 12288, len(whole) - 4096):
    image(f"cut-{n}", size=n)
image("empty", size=0)
image("size-all-ones", (24, "Q", 2**64 - 1))
image("size-sign", (24, "Q", 1 << 63))
image("size-exbibyte", (24, "Q", 1 << 60))
image("l1-entries-4G", (36, "I", 2**32 - 1))
image("l1-entries-none", (36, "I", 0))
image("l1-far", (40, "Q", BIG))
image("l1-unaligned", (40, "Q", L1 + 8))
image("l1-wraps", (40, "Q", 2**64 - 4096))
image("reftable-far", (48, "Q", BIG))
image("reftable-huge", (56, "I", 2**32 - 1))
image("reftable-over-header", (48, "Q", 0))
image("cluster-bits-31", (20, "I", 31))
image("cluster-bits-0", (20, "I", 0))
image("refcount-order-9", (96, "I", 9))
image("header-length", (100, "I", 2**32 - 8))
image("version-9", (4, "I", 9))
image("encrypted", (32, "I", 1))
image("feature", (72, "Q", 1 << 40))
image("data-file", (72, "Q", 4))
image("extended-l2", (72, "Q", 16))
image("extension-endless", (112, "II", 0x12345678, 2**32 - 1))
image("dirty-and-huge", (72, "Q", 1), size=1 << 40)

# ---- tables ----
image("l1-in-header", (L1, "Q", 1 << 63 | 0))
image("l1-to-itself", (L1, "Q", 1 << 63 | L1))
image("l1-past-end", (L1, "Q", 1 << 63 | BIG))
image("l2-past-end", (L2, "Q", 1 << 63 | BIG))
image("l2-misaligned", (L2, "Q", 1 << 63 | 0x5200))
image("l2-in-reftable", (L2, "Q", 1 << 63 | REFTABLE))
image("l2-all-one-cluster", (L2, "512Q", *[1 << 63 | 0x5000] * 512))
image("l2-compressed-past-end", (L2, "Q", 0x7fffffffffffffff))
image("refblock-to-l1", (REFTABLE, "Q", L1))
image("refblock-past-end", (REFTABLE, "Q", BIG))
image("refcounts-none", (REFBLOCK, "4096s", b""))
image("refcounts-full", (REFBLOCK, "2048H", *[65535] * 2048))
for name, count, at in (("many", 65536, len(whole)), ("past-end", 3, BIG), ("over-l1", 2, L1), ("negative", 2**31, L1)):
    image("snapshots-" + name, (60, "IQ", count, at))
record = struct.pack(">QIHHIIQII", L1, 1 << 22, 1, 1, 0, 0, 0, 0, 16)
record += struct.pack(">QQ", 0, 1 << 60) + b"1x" + bytes(6)
image("snapshot-l1-huge", (60, "IQ", 1, len(whole)), base=whole + record.ljust(4096, b"\0"))
image("snapshot-extra-4G", (60, "IQ", 1, len(whole)), (len(whole) + 36, "I", 2**32 - 1),
      base=whole + record.ljust(4096, b"\0"))

# ---- compressed clusters ----
pl1 = struct.unpack_from(">Q", packed, 40)[0]
pl2 = struct.unpack_from(">Q", packed, pl1)[0] & 0x00fffffffffffe00
entry = struct.unpack_from(">Q", packed, pl2)[0]
at = entry & ((1 << 54) - 1)
raw = zlib.compressobj(9, zlib.DEFLATED, -12)
bomb = raw.compress(bytes(64 << 20)) + raw.flush()
end = len(packed) + -len(packed) % 65536
image("inflates-to-64M", (pl2, "Q", 1 << 62 | (len(bomb) // 512) << 54 | end),
      base=packed.ljust(end, b"\0") + bomb.ljust(1 << 17, b"\0"))
image("inflates-to-little", (at, "6s", b"\x01\x01\x00\xfe\xff\x61"), base=packed)
image("inflates-to-nothing", (at, "8s", b""), base=packed)
image("no-deflate", (at, "10s", b"\xff" * 10), base=packed)
image("compressed-by-what", (72, "Q", 8), (104, "B", 77), base=packed)

# ---- files that it names ----
backed("backing-itself", "backing-itself", "qcow2")
backed("backing-two-a", "backing-two-b", "qcow2")
backed("backing-two-b", "backing-two-a", "qcow2")
for name, path in (("up", "../elsewhere/secret"), ("absolute", os.path.abspath(out + "/../elsewhere/secret")),
                   ("link", "way-out"), ("around", "./../images/../elsewhere/secret"), ("passwd", "/etc/passwd"),
                   ("proc", "/proc/self/mem"), ("fifo", "fifo"), ("zero", "/dev/zero"), ("folder", "."),
                   ("device", os.environ.get("DEVICE", "/dev/null")), ("none", "nothing"), ("long", "x" * 1023),
                   ("json", 'json:{"driver":"file","filename":"../elsewhere/secret"}'), ("nbd", "nbd://127.0.0.1:1/"),
                   ("controls", b"a\n\033[2J\xe9")):
    backed("backing-" + name, path)
backed("backing-no-format", "../elsewhere/secret", "")
backed("backing-format-unknown", "plain", "qed")
image("backing-name-past-end", (8, "QI", BIG, 10))
image("backing-name-4G", (8, "QI", 1024, 2**32 - 1))

# ---- anything ----
rnd = random.Random(seed)
for i in range(mutations):
    data = bytearray(packed if i % 4 == 3 else whole)
    for _ in range(rnd.choice((1, 2, 8))):
        where = rnd.choice((rnd.randrange(112), L1 + rnd.randrange(64), L2 + rnd.randrange(4096),
                            REFTABLE + rnd.randrange(64), REFBLOCK + rnd.randrange(600), rnd.randrange(len(data))))
        data[where % len(data)] = rnd.choice((0, 1, 0x7f, 0x80, 0xff, rnd.randrange(256)))
    image(f"mutation-{i}", base=bytes(data), size=rnd.choice((None, None, rnd.randrange(len(data)))))
