# SPDX-License-Identifier: BSD-2-Clause
"""vhd: footers, headers, block tables, batmaps, names of parents."""
import os
import struct

from hostile_lib import EITHER, FAR, FAILS, WORKS, patched, paths

FOOTER, SUM = 512, 64
DATA, CREATOR, CREATOR_VERSION, SIZE, CHS, TYPE, UUID = 16, 28, 32, 48, 56, 60, 68
BAT, ENTRIES, BLOCK, HEADER_SUM, PARENT_UUID, PARENT_NAME, LOCATORS = 16, 28, 32, 36, 40, 64, 576


def summed(data, at, length, field):
    data = bytearray(data)
    data[at + field:at + field + 4] = bytes(4)
    struct.pack_into(">I", data, at + field, ~sum(data[at:at + length]) & 0xffffffff)
    return bytes(data)


class Image:
    """A dynamic or differencing disk whose checksums stay right."""

    def __init__(self, data):
        self.data = data
        self.header = struct.unpack_from(">Q", data, DATA)[0]
        self.bat = struct.unpack_from(">Q", data, self.header + BAT)[0]

    def footers(self, *patches):
        """Both of them."""
        data = patched(self.data[:-FOOTER], *patches)
        data = summed(data, 0, FOOTER, SUM)
        return data + data[:FOOTER]

    def headers(self, *patches, data=None):
        data = patched(data or self.data, *[(self.header + p[0], *p[1:]) for p in patches])
        return summed(data, self.header, 1024, HEADER_SUM)


def footers(f, d, fixed):
    whole = d.data
    for n in (1, 510, 511, 512, 1024, 1536, 2048, 4096):
        f.put(f"cut-{n}", whole, size=n)
    f.put("empty", b"")
    f.put("end-lost", whole[:-FOOTER], read=WORKS)
    f.put("end-of-511", whole[:-1], read=WORKS)
    f.put("start-lost", whole, (0, "512s", b""), read=WORKS)
    f.put("both-lost", whole[:-FOOTER], (0, "512s", b""))
    f.put("start-checksum", whole, (100, "B", 77), read=WORKS)
    for name, at, fmt, value in (("size-all-ones", SIZE, "Q", 2**64 - 1), ("size-sign", SIZE, "Q", 1 << 63),
                                 ("size-exbibyte", SIZE, "Q", 1 << 60), ("size-too-large", SIZE, "Q", 1 << 40),
                                 ("header-far", DATA, "Q", FAR), ("header-wraps", DATA, "Q", 2**64 - 512),
                                 ("header-none", DATA, "Q", 2**64 - 1), ("header-in-footer", DATA, "Q", 0),
                                 ("header-odd", DATA, "Q", 513), ("header-in-data", DATA, "Q", 65536),
                                 ("type-none", TYPE, "I", 0), ("type-9", TYPE, "I", 9), ("version-9", 12, "I",
                                         9 << 16),
                                 ("resize-journal", 0, "8s", b"v_poison"), ("cookie", 0, "8s", b"connectx")):
        f.put("footer-" + name, d.footers((at, fmt, value)))
    f.put("footer-size-none", d.footers((SIZE, "Q", 0)), read=EITHER)
    f.put("footer-differencing", d.footers((TYPE, "I", 4)), read=EITHER)
    for name, chs in (("none", 0), ("heads-none", 0xffff00ff), ("all-ones", 0xffffffff)):
        f.put("footer-geometry-" + name, d.footers((CHS, "I", chs), (CREATOR, "4s", b"vpc ")), read=WORKS)
    f.put("footer-geometry-small", d.footers((CHS, "I", 0x00010101), (CREATOR, "4s", b"vpc ")), read=EITHER)
    # Each of the two says something else.
    f.put("footers-fixed-at-end", whole[:-FOOTER] + fixed[-FOOTER:], read=EITHER)
    f.put("footers-dynamic-at-end", fixed[:-FOOTER] + d.data[-FOOTER:])
    f.put("footers-other-size", whole[:-FOOTER] + d.footers((SIZE, "Q", 512))[-FOOTER:], read=EITHER)
    f.put("fixed-sound", fixed, read=WORKS)
    for name, size in (("large", 1 << 40), ("all-ones", 2**64 - 1), ("exbibyte", 1 << 60)):
        end = summed(patched(fixed[-FOOTER:], (SIZE, "Q", size)), 0, FOOTER, SUM)
        f.put("fixed-" + name, fixed[:-FOOTER] + end)
    f.put("fixed-only-footer", fixed[-FOOTER:])


def tables(f, d):
    whole = d.data
    for name, at, fmt, value in (("cookie", 0, "8s", b"cxsparsf"), ("version-9", 24, "I", 9 << 16),
                                 ("bat-far", BAT, "Q", FAR), ("bat-wraps", BAT, "Q", 2**64 - 512),
                                 ("bat-in-footer", BAT, "Q", 0), ("bat-odd", BAT, "Q", 1537),
                                 ("bat-in-header", BAT, "Q", d.header), ("entries-none", ENTRIES, "I", 0),
                                 ("entries-4G", ENTRIES, "I", 2**32 - 1), ("block-none", BLOCK, "I", 0),
                                 ("block-one", BLOCK, "I", 1), ("block-three", BLOCK, "I", 3 << 20),
                                 ("block-512", BLOCK, "I", 512), ("block-2G", BLOCK, "I", 1 << 31),
                                 ("block-4G", BLOCK, "I", 2**32 - 1)):
        f.put("header-" + name, d.headers((at, fmt, value)))
    f.put("header-checksum", whole, (d.header + 1000, "B", 1))
    end = len(whole) // 512
    for name, entry in (("far", 2**32 - 2), ("behind", end), ("at-end", end - 1), ("in-footer", 0),
                        ("in-header", d.header // 512), ("in-table", d.bat // 512)):
        f.put("block-" + name, whole, (d.bat, "I", entry))
    first, = struct.unpack_from(">I", whole, d.bat)
    f.put("blocks-all-one", whole, (d.bat, "2I", first, first), read=WORKS)
    f.put("blocks-overlap", whole, (d.bat, "2I", first, first + 1), read=EITHER)
    f.put("bitmap-none", whole, (first * 512, "512s", b""), read=WORKS)
    # Tables as long as the format lets them be, in a file of one hole.
    for name, block, entries in (("2M", 2 << 20, 1 << 19), ("64K", 1 << 16, 1 << 23), ("512", 512, 1 << 31)):
        endless = d.footers((SIZE, "Q", block * entries))
        data = d.headers((BLOCK, "I", block), (ENTRIES, "I", entries), data=endless[:-FOOTER])
        f.put("table-for-blocks-of-" + name, data, size=FAR, read=EITHER)
        data = d.headers((BLOCK, "I", block), (ENTRIES, "I", entries), (BAT, "Q", 1 << 30), data=endless[:-FOOTER])
        f.put("holes-for-blocks-of-" + name, data, size=FAR, read=EITHER)


def batmaps(f, d):
    entries, = struct.unpack_from(">I", d.data, d.header + ENTRIES)
    where = d.bat + -(-entries * 4 // 512) * 512
    tap = d.footers((CREATOR, "4sI", b"tap\0", 0x00010003))
    for name, off, sectors in (("sound", where + 512, 1), ("far", FAR, 1), ("wraps", 2**64 - 512, 1), ("in-footer",
            0, 1),
                               ("in-header", d.header, 1), ("4G", where + 512, 2**32 - 1), ("none", where + 512, 0)):
        bits = b"\xff" * 512
        summed_ = ~sum(bits) & 0xffffffff
        head = struct.pack(">8sQIIII", b"tdbatmap", off, sectors, 0x00010002, summed_, 0)
        f.put("batmap-" + name, tap, (where, "512s512s", head, bits), read=EITHER)


def locator(f, d, name, code, text, space=512, length=None, off=None, read=FAILS):
    """A child with that name of its parent, and nothing else to go by."""
    at = len(d.data) + -len(d.data) % 512
    data = d.headers((LOCATORS, "192s", b""), (LOCATORS, "4sIIIQ", code, space,
            len(text) if length is None else length, 0,
                                               at if off is None else off), (PARENT_NAME, "512s", b""))
    data = data[:-FOOTER].ljust(at, b"\0") + text.ljust(-(-len(text) // 512) * 512, b"\0")
    f.put(name, data + d.data[-FOOTER:], read=read)


def parents(f, d):
    def utf16(text):
        return text.encode("utf-16-le")

    f.file("part-base.vhd", d["base"].data)
    x = d["child"]
    locator(f, x, "parent-sound", b"W2ru", utf16(".\\part-base.vhd"), read=WORKS)
    for name, path in paths(f.out):
        windows = path.replace("/", "\\")
        locator(f, x, f"parent-{name}-w2ru", b"W2ru", utf16(windows))
        locator(f, x, f"parent-{name}-w2ku", b"W2ku", utf16("C:" + windows))
        locator(f, x, f"parent-{name}-macx", b"MacX", ("file://" + path).encode())
    for name, code, text in (("device", b"W2ku", utf16("\\\\.\\PhysicalDrive0")), ("unc", b"W2ku",
            utf16("\\\\server\\a\\x.vhd")),
                             ("host", b"MacX", b"file://server/part-base.vhd"), ("percent", b"MacX",
                                     b"file:///%00%2e%2e/x%zz"),
                             ("query", b"MacX", b"http://server/x"), ("controls", b"W2ru", utf16("a\x1b[2J\n")),
                             ("surrogate", b"W2ru", b"\x00\xd8" * 40), ("nul", b"W2ru", b"\0" * 40), ("odd",
                                     b"W2ru", b"abc"),
                             ("unknown", b"ABCD", b"part-base.vhd"), ("endless", b"W2ru", utf16("x" * 30000))):
        locator(f, x, "parent-" + name, code, text)
    good = utf16(".\\part-base.vhd")
    for name, length, off in (("4G", 2**32 - 1, None), ("none", 0, None), ("far", 30, FAR), ("wraps", 30, 2**64 - 15),
                              ("in-footer", 30, 0), ("in-header", 30, x.header)):
        locator(f, x, f"locator-{name}", b"W2ru", good, length=length, off=off)
    locator(f, x, "locator-space-none", b"W2ru", good, space=0, read=EITHER)
    locator(f, x, "locator-space-4G", b"W2ru", good, space=2**32 - 1, read=EITHER)
    locator(f, x, "parent-itself", b"W2ru", utf16("vhd-parent-itself"))
    locator(f, x, "parent-two-a", b"W2ru", utf16("vhd-parent-two-b"))
    locator(f, x, "parent-two-b", b"W2ru", utf16("vhd-parent-two-a"))
    locator(f, x, "parent-no-vhd", b"W2ru", utf16("plain"))
    other = Image(x.headers((PARENT_UUID, "16s", b"another disk ...")))
    locator(f, other, "parent-other-uuid", b"W2ru", good)
    for name, text in (("up", "../elsewhere/secret"), ("absolute", os.path.abspath(f.out + "/../elsewhere/secret")),
                       ("zero", "/dev/zero"), ("controls", "a\x1b[2J"), ("full", "n" * 256), ("loop",
                               "vhd-header-name-loop")):
        f.put("header-name-" + name, x.headers((LOCATORS, "192s", b""),
                                               (PARENT_NAME, "512s", text.encode("utf-16-be")[:512])))


def images(f, plain):
    f.format("vhd")
    d = Image(f.make("-O", "vhd", source=plain))
    fixed = f.make("-O", "vhd", "-o", "subformat=fixed", source=plain)
    footers(f, d, fixed)
    tables(f, d)
    batmaps(f, d)
    with open(os.path.join(f.scratch, "base.vhd"), "wb") as base:
        base.write(d.data)
    child = Image(f.make("-f", "vhd", "-b", os.path.join(f.scratch, "base.vhd"), "-F", "vhd", "1M"))
    parents(f, {"base": d, "child": child})
