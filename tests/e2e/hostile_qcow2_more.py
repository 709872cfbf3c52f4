# SPDX-License-Identifier: BSD-2-Clause
"""qcow2: extended L2 entries, and files that hold the data of an image."""
import os
import struct

from hostile_lib import EITHER, FAR, FAILS, WORKS, patched, paths

L2 = 0x00fffffffffffe00
COPIED, PACKED, ZEROS = 1 << 63, 1 << 62, 1
ALL = 2**32 - 1
DATA_FILE, AUTOCLEAR_RAW = 0x44415441, 2


def l2_of(data):
    l1, = struct.unpack_from(">Q", data, 40)
    return struct.unpack_from(">Q", data, l1)[0] & L2


def extended(f, whole, packed, unmapped):
    table = l2_of(whole)
    first, = struct.unpack_from(">Q", whole, table)

    def entry(name, raw, bitmap, read=FAILS, base=whole, at=table):
        f.put(name, base, (at, "QQ", raw, bitmap), read=read)

    f.put("sound", whole, read=WORKS)
    for name, bitmap in (("one", 1 << 32 | 1), ("all", 2**64 - 1), ("last", 1 << 63 | 1 << 31),
                         ("halves", ALL << 32 | 1)):
        entry("data-and-zeros-" + name, first, bitmap)
        entry("data-and-zeros-of-none-" + name, 0, bitmap)
    for name, bitmap in (("none", 0), ("zeros", ALL << 32), ("one", 1), ("turns", 0x55555555 | 0xaaaaaaaa << 32)):
        entry("bitmap-" + name, first, bitmap, read=WORKS)
    entry("data-of-none", 0, ALL)
    entry("one-of-none", 0, 1 << 31)
    entry("zeros-of-none", 0, ALL << 32, read=WORKS)
    # What is reserved a check finds; it has no meaning to a reader.
    for name, bits in (("zero-bit", ZEROS), ("reserved-bits", 0x1fe), ("reserved-high", 0x3f << 56)):
        entry(name, first | bits, ALL, read=EITHER)
    for name, off in (("far", FAR), ("behind", len(whole) + 65536), ("largest", L2), ("odd", (first & L2) + 512),
                      ("header", 0),
                      ("itself", table)):
        entry("cluster-" + name, COPIED | off, ALL, read=FAILS)
        entry("cluster-unused-" + name, COPIED | off, ALL << 32, read=EITHER)
        entry("cluster-one-" + name, COPIED | off, 1 << 31, read=FAILS)
    f.put("cut-in-a-subcluster", whole, size=(first & L2) + 4096 + 512)
    f.put("table-of-ones", whole, (table, "64Q", *[2**64 - 1] * 64))
    entries = [v for i in range(16) for v in (first, ALL if i % 2 else ALL << 32)]
    f.put("all-one-cluster", whole, (table, f"{len(entries)}Q", *entries), read=WORKS)
    f.put("not-extended", whole, (72, "Q", 0))
    f.put("extended-that-is-not", unmapped, (72, "Q", 16), read=EITHER)
    f.put("clusters-of-512", whole, (20, "I", 9))
    f.put("clusters-of-8K", whole, (20, "I", 13))
    f.put("version-2", whole, (4, "I", 2), read=EITHER)
    table = l2_of(packed)
    stream, = struct.unpack_from(">Q", packed, table)
    assert stream & PACKED
    for name, bitmap in (("one", 1), ("zeros", 1 << 32), ("all-zeros", ALL << 32), ("all", ALL), ("both", 2**64 - 1)):
        entry("packed-with-bitmap-" + name, stream, bitmap, base=packed, at=table, read=EITHER)
    entry("packed-copied", stream | COPIED, 0, base=packed, at=table, read=EITHER)
    entry("packed-behind", 2**63 - 1, 0, base=packed, at=table)
    f.put("packed-sound", packed, read=WORKS)


def named(whole, name, *more, raw=True):
    """The same with that name of its data file."""
    at, = struct.unpack_from(">I", whole, 100)
    name = name if isinstance(name, bytes) else name.encode()
    data = struct.pack(">II", DATA_FILE, len(name)) + name + bytes(-len(name) % 8 + 8)
    return patched(whole, (at, "4096s", data), (88, "Q", AUTOCLEAR_RAW if raw else 0), *more)


def data_files(f, whole, data):
    f.file("part-data", data)
    f.file("part-short", data[:len(data) // 2 - 100])
    f.file("part-long", data + b"x" * 777)
    f.file("part-empty", b"")
    os.symlink("part-data", os.path.join(f.out, "part-link"))
    for kind, raw in (("", False), ("raw-", True)):
        for name in ("data", "short", "long", "empty", "link"):
            f.put(kind + name, named(whole, "part-" + name, raw=raw), read=WORKS)
        for name, path in paths(f.out) + [
                ("nothing", ""), ("spec", "raw:part-data"), ("nbd", "nbd://127.0.0.1:1/"), ("nul", "part\0-data"),
                ("json", 'json:{"driver":"file","filename":"../elsewhere/secret"}'), ("controls", "a\n\x1b[2J"),
                ("slash", "part-data/"), ("endless", "z" * 4000),
                ("json-inside", 'json:{"driver":"raw","file":"part-data"}')]:
            f.put(kind + "name-" + name, named(whole, path, raw=raw))
        f.put(kind + "name-bytes", named(whole, b"\xff\xfe\x80/x", raw=raw))
        # By its own name, by another, and one whose data are in one whose data are in it.
        f.put(kind + "itself", named(whole, f"{f.prefix}-{kind}itself", raw=raw))
        os.symlink(f"{f.prefix}-{kind}by-a-link", os.path.join(f.out, f"part-{kind}self"))
        f.put(kind + "by-a-link", named(whole, f"part-{kind}self", raw=raw))
        f.put(kind + "hard", named(whole, f"part-{kind}hard", raw=raw))
        if f.takes(kind + "hard"):
            os.link(os.path.join(f.out, f"{f.prefix}-{kind}hard"), os.path.join(f.out, f"part-{kind}hard"))
        f.put(kind + "two-a", named(whole, f"{f.prefix}-{kind}two-b", raw=raw), read=EITHER)
        f.put(kind + "two-b", named(whole, f"{f.prefix}-{kind}two-a", raw=raw), read=EITHER)
    table = l2_of(whole)
    sound = named(whole, "part-data")
    for name, raw in (("other-place", COPIED | 65536), ("far", COPIED | FAR), ("odd", COPIED | 512),
                      ("zero-and-far", COPIED | FAR | 1),
                      ("packed", PACKED | 65536), ("packed-far", 2**63 - 1), ("reserved", COPIED | 0x1fe)):
        f.put("entry-" + name, sound, (table, "Q", raw), read=EITHER if name in ("zero-and-far",
                                                                                 "reserved") else FAILS)
    at, = struct.unpack_from(">I", whole, 100)
    for name, length in (("4G", 2**32 - 1), ("64K", 65536), ("header", 65536 - at - 8)):
        f.put("extension-" + name, sound, (at + 4, "I", length), read=EITHER if name == "header" else FAILS)
    f.put("extension-none", sound, (at, "QQ", 0, 0))
    f.put("extension-twice", patched(sound, (at + 24, "II16s", DATA_FILE, 16, b"../elsewhere/sec")), read=EITHER)
    f.put("without-its-bit", sound, (72, "Q", 0), read=EITHER)
    f.put("raw-bit-alone", sound, (72, "Q", 0), (88, "Q", ALL), read=EITHER)
    f.put("and-extended", sound, (72, "Q", 4 | 16), read=EITHER)
    f.put("and-backing", sound, (8, "QI", 4096, 5), (4096, "5s", b"plain"), read=EITHER)
    f.put("and-encrypted", sound, (32, "I", 1))
    f.put("and-snapshot", sound, (60, "IQ", 1, 65536), read=EITHER)
    for name, size in (("exbibyte", 1 << 60), ("all-ones", 2**64 - 1), ("petabyte", 1 << 50)):
        f.put("size-" + name, sound, (24, "Q", size))


def images(f, plain):
    f.format("extended", "qcow2", rare=True)
    extended(f, f.make("-O", "qcow2", "-o", "extended_l2=on", source=plain),
             f.make("-c", "-O", "qcow2", "-o", "extended_l2=on", source=plain), f.make("-O", "qcow2", source=plain))
    f.format("datafile", "qcow2", rare=True)
    whole = f.make("-O", "qcow2", "-o", "data_file=made-data,data_file_raw=on", source=plain)
    with open(os.path.join(f.scratch, "made-data"), "rb") as data:
        data_files(f, whole, data.read())
