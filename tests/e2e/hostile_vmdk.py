# SPDX-License-Identifier: BSD-2-Clause
"""vmdk: descriptors, sparse extents, streams, COWD."""
import os
import struct
import zlib

from hostile_lib import EITHER, FAR, WORKS, bomb, paths, patched

SECTOR = 512
VERSION, FLAGS, CAPACITY, GRAIN, DESC, DESC_LEN, PER_TABLE, RGD, GD, OVERHEAD, NEWLINES, COMPRESSION = (
    4, 8, 12, 20, 28, 36, 44, 48, 56, 64, 73, 77)
HEAD = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={}\ncreateType=\"{}\"\n"


def le(data, at, fmt="Q"):
    return struct.unpack_from("<" + fmt, data, at)[0]


def descriptor(*extents, parent="ffffffff", kind="twoGbMaxExtentFlat", more=""):
    return (HEAD.format(parent, kind) + more).encode() + b"".join(
        (e if isinstance(e, bytes) else e.encode()) + b"\n" for e in extents)


def sparse(f, whole):
    """One extent with its descriptor inside; the disk has 1 MiB of data."""
    for n in (1, 511, 512, 1024, 11000, 65536, len(whole) - 65536):
        f.put(f"cut-{n}", whole, size=n)
    f.put("empty", b"")
    for name, at, fmt, value in (
            ("capacity-all-ones", CAPACITY, "<Q", 2**64 - 1), ("capacity-none", CAPACITY, "<Q", 0),
            ("capacity-exbibyte", CAPACITY, "<Q", 1 << 51), ("capacity-tebibytes", CAPACITY, "<Q", 1 << 40),
            ("grain-none", GRAIN, "<Q", 0), ("grain-three", GRAIN, "<Q", 3), ("grain-huge", GRAIN, "<Q", 1 << 40),
            ("grain-32M", GRAIN, "<Q", 65536), ("table-none", PER_TABLE, "<I", 0), ("table-one", PER_TABLE, "<I", 1),
            ("table-4G", PER_TABLE, "<I", 2**32 - 1), ("table-2G", PER_TABLE, "<I", 1 << 31),
            ("descriptor-far", DESC, "<Q", FAR >> 9), ("descriptor-wraps", DESC, "<Q", 2**64 - 1),
            ("descriptor-4G", DESC_LEN, "<Q", 1 << 23), ("descriptor-all", DESC_LEN, "<Q", 2**64 - 1),
            ("gd-far", GD, "<Q", FAR >> 9), ("gd-wraps", GD, "<Q", 2**64 - 2), ("gd-at-end", GD, "<Q", 2**64 - 1),
            ("gd-in-header", GD, "<Q", 0), ("gd-in-descriptor", GD, "<Q", 1), ("version-9", VERSION, "<I", 9),
            ("version-0", VERSION, "<I", 0), ("newlines", NEWLINES, "<I", 0x0a0a0a0a),
            ("compression-7", COMPRESSION, "<H", 7)):
        f.put(name, whole, (at, fmt, value))
    f.put("rgd-far", whole, (RGD, "<Q", FAR >> 9), read=EITHER)
    f.put("rgd-is-gd", whole, (RGD, "<Q", le(whole, GD)))
    f.put("overhead-none", whole, (OVERHEAD, "<Q", 0), read=WORKS)
    f.put("overhead-all", whole, (OVERHEAD, "<Q", 2**64 - 1), read=WORKS)
    f.put("flags-all", whole, (FLAGS, "<I", 2**32 - 1))
    f.put("compressed-and-plain", whole, (FLAGS, "<I", 0x30003), (COMPRESSION, "<H", 1))
    gd = le(whole, GD) * SECTOR
    table = le(whole, gd, "I") * SECTOR
    for name, value in (("far", FAR >> 9), ("all-ones", 2**32 - 1), ("in-gd", gd // SECTOR), ("behind",
            len(whole) // 512)):
        f.put(f"table-{name}", whole, (gd, "<I", value))
        f.put(f"grain-{name}", whole, (table, "<I", value), read=EITHER if name == "in-gd" else "fails")
    f.put("table-in-header", whole, (gd, "<I", 0xffff0000))
    f.put("grain-in-header", whole, (table, "<I", 1), read=EITHER)
    f.put("grain-in-table", whole, (table, "<I", table // SECTOR), read=EITHER)
    f.put("grains-all-one", whole, (table, "<16I", *[le(whole, table, "I")] * 16), read=WORKS)
    # As large as the descriptor lets it be: a directory of 64 MiB, and another one.
    text = descriptor(f'RW {1 << 39} SPARSE "vmdk-directories-of-64M"', kind="monolithicSparse").ljust(20 * SECTOR,
            b"\0")
    for name, flags in (("directories-of-64M", 3), ("directory-of-64M", 1)):
        f.put(name, whole[:SECTOR] + text, (FLAGS, "<I", flags), (CAPACITY, "<Q", 1 << 39), (RGD, "<Q", 64),
              (GD, "<Q", 64 + (1 << 16)), (OVERHEAD, "<Q", 1 << 18), read=EITHER, size=FAR)


def stream(f, packed):
    for n in (512, 1024, len(packed) - 512, len(packed) - 1024, len(packed) - 1536, len(packed) - 4096):
        f.put(f"stream-cut-{n - len(packed)}", packed, size=n)
    footer = len(packed) - 2 * SECTOR
    gd = le(packed, footer + GD) * SECTOR
    table = le(packed, gd, "I") * SECTOR
    grain = le(packed, table, "I") * SECTOR
    size = le(packed, grain + 8, "I")
    f.put("stream-no-footer", packed, (footer, "512s", b""))
    f.put("stream-footer-gd-far", packed, (footer + GD, "<Q", FAR >> 9))
    f.put("stream-footer-gd-at-end", packed, (footer + GD, "<Q", 2**64 - 1))
    f.put("stream-footer-other-disk", packed, (footer + CAPACITY, "<Q", 1 << 40))
    f.put("stream-end-lies", packed, (len(packed) - 512, "<QII", 1, 7, 77), read=EITHER)
    f.put("stream-footer-marker-lies", packed, (footer - 512, "<QII", 1 << 60, 0, 3), read=EITHER)
    f.put("stream-marker-other-grain", packed, (grain, "<Q", 128 * 7))
    for name, n in (("none", 0), ("one", 1), ("4G", 2**32 - 1), ("short", size // 2)):
        f.put(f"stream-grain-of-{name}", packed, (grain + 8, "<I", n))
    f.put("stream-no-deflate", packed, (grain + 12, "16s", b"\xff" * 16))
    f.put("stream-checksum", packed, (grain + 12 + size - 4, "4s", b"abcd"))
    big = bomb(64, 15)
    where = len(packed) + -len(packed) % SECTOR
    marker = struct.pack("<QI", 0, len(big)) + big
    # The footer has to stay at the end.
    body = packed[:footer - 512] + marker.ljust(-(-len(marker) // 512) * 512, b"\0") + packed[footer - 512:]
    f.put("stream-inflates-to-64M", body, (table, "<I", (footer - 512) // 512))
    little = zlib.compress(b"little")
    f.put("stream-inflates-to-little", packed, (grain + 8, f"<I{len(little)}s", len(little), little))
    f.put("stream-grain-far", packed, (table, "<I", where // 512 + 999))
    f.put("stream-grain-in-header", packed, (table, "<I", 1))


def cowd(f, descriptor_text, whole):
    """whole: the extent, COWD; its descriptor names part-cowd."""
    def put(name, *patches, size=None, read="fails"):
        f.file(f"part-cowd-{name}", patched(whole, *[(at, "<I", v) for at, v in patches]), size)
        f.put(f"cowd-{name}", descriptor_text.replace(b"made-delta.img", f"part-cowd-{name}".encode()), read=read)

    gd = le(whole, 20, "I") * SECTOR
    table = le(whole, gd, "I") * SECTOR
    for n in (3, 512, 2047, 2048, len(whole) // 2):
        put(f"cut-{n}", size=n)
    for name, at, value in (("capacity-none", 12, 0), ("capacity-4G", 12, 2**32 - 1), ("grain-none", 16, 0),
                            ("grain-three", 16, 3), ("grain-4G", 16, 1 << 31), ("gd-none", 20, 0), ("gd-far", 20,
                                    2**32 - 1),
                            ("gd-in-header", 20, 1), ("gd-entries-none", 24, 0), ("version-9", 4, 9)):
        put(name, (at, value))
    put("gd-entries-4G", (24, 2**32 - 1))
    put("free-none", (28, 0), read=EITHER)
    put("free-far", (28, 2**32 - 1), read=EITHER)
    put("table-far", (gd, 2**32 - 1))
    put("table-in-header", (gd, 1), read=EITHER)
    put("grain-far", (table, 2**32 - 1))
    put("grain-in-header", (table, 1), read=EITHER)


def lines(f, flat):
    """Descriptors apart.  part-flat has 1 MiB."""
    f.file("part-flat", flat)
    n = len(flat) // SECTOR

    def put(name, *extents, read="fails", **more):
        f.put("text-" + name, descriptor(*extents, **more), read=read)

    put("sound", f'RW {n} FLAT "part-flat" 0', read=WORKS)
    for name, path in paths(f.out) + [("itself", "vmdk-text-flat-itself"), ("windows-up", "..\\elsewhere\\secret"),
                                      ("drive", "C:\\windows\\..\\..\\elsewhere\\secret"), ("unc",
                                              "\\\\server\\share\\x"),
                                      ("pipe", "\\\\.\\pipe\\x"), ("nothing", ""), ("quote", 'a"b'), ("endless",
                                              "y" * 5000),
                                      ("controls", "a\x1b[2J\x07b"), ("nbd", "nbd://127.0.0.1:1/")]:
        put("flat-" + name, f'RW 128 FLAT "{path}" 0')
        put("sparse-" + name, f'RW 128 SPARSE "{path}"')
    put("sparse-of-itself", 'RW 128 SPARSE "vmdk-text-sparse-of-itself"')
    put("sparse-of-text", 'RW 128 SPARSE "vmdk-text-sound"')
    put("cowd-of-flat", 'RW 128 VMFSSPARSE "part-flat"')
    for name, size in (("2^63", 1 << 63), ("endless", "9" * 40), ("negative", -1), ("none", ""), ("hex", "0x10"),
                       ("2^54", 1 << 54)):
        put(f"size-{name}", f'RW {size} FLAT "part-flat" 0')
    for name, off in (("behind", n), ("2^63", 1 << 63), ("2^54", (1 << 54) - 1), ("negative", -8)):
        put(f"offset-{name}", f'RW 128 FLAT "part-flat" {off}')
    put("sum-wraps", *[f"RW {(1 << 54) - 2} ZERO"] * 3)
    put("exbibytes-of-zeros", f"RW {1 << 53} ZERO", read=EITHER)
    put("overlaps", 'RW 128 FLAT "part-flat" 0', 'RW 128 FLAT "part-flat" 64')
    put("same-twice", *['RW 128 FLAT "part-flat" 0'] * 2)
    put("two-names", 'RW 128 FLAT "part-flat" 0', 'RW 128 FLAT "./part-flat" 0', read=EITHER)
    put("empty-extents", *["RW 0 ZERO"] * 100, read=EITHER)
    put("type-unknown", 'RW 128 NONSENSE "part-flat" 0')
    put("device-map", 'RW 128 VMFSRDM "part-flat" 0')
    put("se-sparse", 'RW 128 SESPARSE "part-flat"')
    put("access-unknown", f'WHAT {n} FLAT "part-flat" 0', read=EITHER)
    put("no-access", f'NOACCESS {n} FLAT "part-flat" 0')
    put("no-extent")
    put("extents-8193", *["RW 1 ZERO"] * 8193)
    put("extents-8192", *["RW 1 ZERO"] * 8192, read=WORKS)
    put("extents-of-one-file", *[f'RW 1 FLAT "part-flat" {i % n}' for i in range(8000)])
    put("extents-of-no-file", *[f'RW 1 FLAT "no{i}" 0' for i in range(8000)])
    put("geometry-none", f'RW {n} FLAT "part-flat" 0', read=WORKS,
        more='ddb.geometry.cylinders = "0"\nddb.geometry.heads = "0"\nddb.geometry.sectors = "0"\n')
    put("geometry-endless", f'RW {n} FLAT "part-flat" 0', read=EITHER,
        more=f'ddb.geometry.cylinders = "{"9" * 400}"\nddb.adapterType = "{"x" * 9000}"\n')
    good = descriptor(f'RW {n} FLAT "part-flat" 0')
    f.put("text-no-cid", good.replace(b"CID=12345678\n", b""))
    f.put("text-cid-strange", good.replace(b"CID=12345678", b"CID=xyz"))
    f.put("text-cid-long", good.replace(b"CID=12345678", b"CID=" + b"1" * 5000))
    f.put("text-version-9", good.replace(b"version=1", b"version=9"))
    f.put("text-encoding-strange", good.replace(b"version=1", b'version=1\nencoding="\xff\x1b[2J"'), read=WORKS)
    f.put("text-no-line-end", b"# Disk DescriptorFile" + b"A" * 100000)
    f.put("text-line-of-2M", good[:-1] + b" " + b"A" * ((2 << 20) - len(good)), read=EITHER)
    f.put("text-name-of-1M", descriptor('RW 1 FLAT "' + "A" * (1 << 20)))
    f.put("text-quotes", descriptor('RW 1 FLAT ' + '"' * 100000))
    f.put("text-too-long", good + b"\n" * (2 << 20))
    f.put("text-nul-lines", good.replace(b"\n", b"\n\0"))
    f.put("text-lines-of-one", b"# Disk DescriptorFile\nCID=1\n" + b"a=b\n" * 400000 + good, read=WORKS)
    f.put("text-only-head", b"# Disk DescriptorFile\n")
    f.put("text-binary", b"# Disk DescriptorFile\n" + bytes(range(128, 256)) * 500)


def parents(f, n):
    f.make("-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", str(n * SECTOR))
    with open(os.path.join(f.scratch, "made-s001.img"), "rb") as part:
        part = part.read()

    def over(name, hint, parent="12345678"):
        f.file(f"part-{name}", part)
        f.put(name, descriptor(f'RW {n} SPARSE "part-{name}"', parent=parent, kind="twoGbMaxExtentSparse",
                               more=f'parentFileNameHint="{hint}"\n'))

    over("parent-itself", "vmdk-parent-itself")
    over("parent-two-a", "vmdk-parent-two-b")
    over("parent-two-b", "vmdk-parent-two-a")
    over("parent-stale", "vmdk-text-sound", parent="87654321")
    over("parent-sound", "vmdk-text-sound")
    f.expect["vmdk-parent-sound"]["read"] = WORKS
    over("parent-no-vmdk", "plain")
    over("parent-is-an-extent", "part-parent-sound")
    for name, path in paths(f.out) + [("drive", "C:\\elsewhere\\secret"), ("unc", "\\\\server\\x.vmdk"), ("nothing",
            ""),
                                      ("controls", "a\x1b[2J"), ("endless", "z" * 100000)]:
        over("parent-" + name, path)


def images(f, plain):
    f.format("vmdk")
    sparse(f, f.make("-O", "vmdk", "-o", "subformat=monolithicSparse", source=plain))
    stream(f, f.make("-O", "vmdk", "-o", "subformat=streamOptimized", source=plain))
    text = f.make("-O", "vmdk", "-o", "subformat=vmfsSparse", source=plain)
    extent = next(n for n in os.listdir(f.scratch) if n.startswith("made-"))
    with open(os.path.join(f.scratch, extent), "rb") as whole:
        cowd(f, text.replace(extent.encode(), b"made-delta.img"), whole.read())
    with open(plain, "rb") as flat:
        lines(f, flat.read())
    parents(f, os.path.getsize(plain) // SECTOR)
