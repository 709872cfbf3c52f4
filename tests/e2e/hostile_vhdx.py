# SPDX-License-Identifier: BSD-2-Clause
"""vhdx: headers, regions, metadata, the BAT, logs that lie, names of parents.  vhdxlib.py makes them."""
import struct

import vhdxlib as x
from hostile_lib import EITHER, FAR, FAILS, WORKS, paths
from vhdxlib import BAT, LOG, META, MIB, PARTLY, PRESENT, SECTOR

FIRST, SECOND, REGIONS, REGIONS_2 = 64 << 10, 128 << 10, 192 << 10, 256 << 10
ONE, OURS = b"\1" * 16, x.guid("99999999-0000-0000-0000-000000000009")
BASE = "22222222-0000-0000-0000-000000000002"
ONES = 2**64 - 1


def disk():
    im = x.Image(4 * MIB)
    im.put(0, PRESENT, b"\1" * MIB)
    im.put(2, PRESENT, b"\3" * MIB)
    return im


def put(f, name, *pieces, read=FAILS, length=None, im=None, items=(), bat=()):
    if not f.takes(name):
        return
    im = im or disk()
    im.items.update(items)
    im.bat.update(bat)
    im.save(f.place(name, read), *pieces, length=length)


def header(f, name, read=FAILS, more=(), length=None, **fields):
    put(f, "header-" + name, (SECOND, x.header(3, ONE, **fields)), *more, read=read, length=length)


def headers(f):
    put(f, "sound", read=WORKS)
    for n in (0, 7, 8, FIRST, SECOND, REGIONS, REGIONS_2 + 100, MIB, BAT, META, META + 65536, META + 65600):
        put(f, f"cut-{n}", length=n)
    put(f, "data-cut", length=disk().length() - 4096)
    put(f, "headers-none", (FIRST, bytes(4096)), (SECOND, bytes(4096)))
    put(f, "headers-checksum", (FIRST + 100, b"x"), (SECOND + 100, b"x"))
    put(f, "headers-one", (SECOND, bytes(4096)), read=WORKS)
    put(f, "headers-as-new", (FIRST, x.header(7, ONE)), (SECOND, x.header(7, OURS)))
    put(f, "headers-all-ones", (FIRST, b"\xff" * 4096), (SECOND, b"\xff" * 4096))
    header(f, "version-9", version=9)
    for name, off, length in (("none", LOG, 0), ("odd", LOG, 4096), ("far", 1 << 50, MIB),
                              ("wraps", ONES - MIB + 1, MIB),
                              ("4G", LOG, 0xfff00000), ("2G", LOG, 1 << 31), ("in-headers", 0, MIB),
                              ("unaligned", 77, MIB),
                              ("over-bat", BAT, MIB), ("over-metadata", META, MIB), ("over-both", LOG, 4 * MIB)):
        header(f, "log-" + name, log_guid=ONE, log_off=off, log_len=length)
        header(f, f"no-log-{name}", log_off=off, log_len=length, read=EITHER)
    log_version = bytearray(x.header(3, ONE, ONE))
    struct.pack_into("<H", log_version, 64, 9)
    put(f, "header-log-version", (SECOND, x.summed(log_version)))
    header(f, "log-of-nothing", log_guid=ONE, read=WORKS)


def both(data):
    return (REGIONS, data), (REGIONS_2, data)


def regions(f):
    put(f, "regions-none", *both(bytes(65536)))
    put(f, "regions-one", (REGIONS, bytes(65536)), read=WORKS)
    put(f, "regions-checksum", (REGIONS + 8, b"x"), (REGIONS_2 + 8, b"x"))
    for count in (0, 1, 2047, 2048, 65536, 2**32 - 1):
        data = bytearray(x.regions())
        struct.pack_into("<I", data, 8, count)
        put(f, f"regions-count-{count}", *both(x.summed(data)), read=EITHER if count == 2047 else FAILS)
    meta, table = (META, MIB), (BAT, MIB)
    for name, bat, metadata in (
            ("bat-none", (0, 0), meta), ("bat-in-headers", (0, MIB), meta), ("bat-odd", (BAT + 4096, MIB), meta),
            ("bat-far", (1 << 60, MIB), meta), ("bat-all-ones", (ONES - MIB + 1, MIB), meta),
            ("bat-length-none", (BAT, 0), meta),
            ("bat-length-odd", (BAT, 4096), meta), ("bat-4G", (BAT, 0xfff00000), meta),
            ("bat-over-metadata", (META, MIB), meta),
            ("metadata-none", table, (0, 0)), ("metadata-in-headers", table, (0, MIB)),
            ("metadata-far", table, (1 << 60, MIB)),
            ("metadata-4G", table, (META, 0xfff00000)), ("metadata-in-data", table, (5 * MIB, MIB)),
            ("metadata-in-bat", table, (BAT, MIB))):
        put(f, "regions-" + name, *both(x.regions((bat, metadata))))
    known = struct.pack("<16sQII", x.guid("2dc27766-f623-4200-9d64-115e9bfd4a08"), BAT, MIB, 1)
    put(f, "regions-bat-twice", *both(x.regions(more=known)))
    put(f, "regions-unknown-needed", *both(x.regions(more=struct.pack("<16sQII", ONE, 9 * MIB, MIB, 1))))
    put(f, "regions-unknown", *both(x.regions(more=struct.pack("<16sQII", ONE, ONES, 2**32 - 1, 0))), read=EITHER)


def metadata(f):
    entry = META + 32
    put(f, "metadata-mark", (META, b"x"))
    for count in (0, 4, 2047, 2048, 65535):
        put(f, f"metadata-count-{count}", (META + 10, struct.pack("<H", count)),
            read=EITHER if count == 2047 else FAILS)
    for name, off, length in (("in-table", 0, 8), ("before", 65535, 8), ("far", 2**32 - 8, 8), ("wraps", 2**32 - 4, 8),
                              ("length-none", 65536, 0), ("length-4G", 65536, 2**32 - 1), ("length-7", 65536, 7)):
        put(f, "metadata-item-" + name, (entry + 16, struct.pack("<II", off, length)))
    put(f, "metadata-item-at-end", (entry + 16, struct.pack("<II", MIB - 8, 8)))
    put(f, "metadata-item-twice", (entry + 32, x.guid(x.ITEMS["file"])))
    put(f, "metadata-unknown-needed", (META + 10, struct.pack("<H", 6)),
        (entry + 160, struct.pack("<16sIIII", ONE, 65536, 8, 4, 0)))
    put(f, "metadata-unknown", (META + 10, struct.pack("<H", 6)),
        (entry + 160, struct.pack("<16sIIII", ONE, 2**32 - 1, 2**32 - 1, 0, 0)), read=EITHER)
    for value in (0, 1, 512, 1 << 19, 3 << 20, 512 << 20, 1 << 31, 2**32 - 1):
        put(f, f"block-size-{value}", items={"file": struct.pack("<II", value, 0)})
    put(f, "block-size-256M", items={"file": struct.pack("<II", 256 << 20, 0)}, read=EITHER)
    put(f, "flags-all", items={"file": struct.pack("<II", MIB, 2**32 - 1)})
    for name, value in (("none", 0), ("odd", 4 * MIB + 1), ("512T", 1 << 49), ("sign", 1 << 63), ("all-ones", ONES),
                        ("sector-more", ONES - 511), ("beyond-bat", 128 << 30)):
        put(f, "size-" + name, items={"size": struct.pack("<Q", value)})
    put(f, "size-64T", im=x.Image(64 << 40, block=256 * MIB), length=19 * MIB,
        *both(x.regions(((16 * MIB, 3 * MIB), (META, MIB)))), read=EITHER)
    put(f, "size-100G", items={"size": struct.pack("<Q", 100 << 30)}, read=WORKS)
    for value in (0, 1, 520, 1 << 31, 2**32 - 1):
        put(f, f"sector-{value}", items={"logical": struct.pack("<I", value)})
        put(f, f"physical-sector-{value}", items={"physical": struct.pack("<I", value)}, read=EITHER)
    put(f, "sector-4096-size-odd", items={"logical": struct.pack("<I", 4096),
                                          "size": struct.pack("<Q", 4 * MIB - 512)})


def blocks(f):
    end = disk().length()
    for name, entry in (("all-ones", ONES), ("far", 1 << 61 | PRESENT), ("behind", end | PRESENT),
                        ("state-4", x.BLOCKS | 4),
                        ("state-5", x.BLOCKS | 5), ("partly", x.BLOCKS | PARTLY), ("in-headers", PRESENT),
                        ("in-log", LOG | PRESENT), ("in-bat", BAT | PRESENT), ("in-metadata", META | PRESENT),
                        ("last-sign", (1 << 63) | PRESENT)):
        put(f, "block-" + name, bat={0: entry}, read=EITHER if name == "in-log" else FAILS)
    put(f, "block-reserved-bits", bat={0: x.BLOCKS | 0xffff8 | PRESENT}, read=EITHER)
    put(f, "blocks-all-one", bat={i: x.BLOCKS | PRESENT for i in range(4)}, read=WORKS)
    put(f, "blocks-undefined", bat={i: ONES & ~7 | s for i, s in enumerate((0, 1, 2, 3))}, read=WORKS)
    put(f, "block-half-behind", length=end - 512 * 1024, read=EITHER)


def logs(f):
    def log(name, *entries, tail=0, size=None, read=FAILS, at=0, ring=MIB, more=(), **fields):
        im = disk()
        data = b"".join(x.log_entry(n, tail, OURS, changes, size or im.length()) for n, changes in entries)
        put(f, "log-" + name, (SECOND, x.header(3, ONE, OURS, log_len=ring, **fields)), (LOG + at, data), *more, im=im,
            read=read)

    im = disk()
    good = [(BAT, im.bat_sector())]
    log("sound", (5, good), (6, good), read=WORKS)
    log("block-behind", (5, [(BAT, im.bat_sector({0: FAR | PRESENT}))]))
    log("block-in-log", (5, [(BAT, im.bat_sector({0: LOG | PRESENT}))]), read=EITHER)
    log("block-in-metadata", (5, [(BAT, im.bat_sector({0: META | PRESENT}))]))
    log("no-metadata", (5, [(META, 4096)]))
    log("other-metadata", (5, [(META + 65536, struct.pack("<IIQ", 512, 0, ONES).ljust(4096, b"\xff"))]))
    log("over-headers", (5, [(0, 65536), (FIRST, b"\xff" * 4096), (REGIONS, 131072)]), read=WORKS)
    log("over-itself", (5, [(LOG, MIB)]), (6, [(LOG, b"loge" * 1024)]), read=EITHER)
    log("over-all", (5, [(0, 1 << 62)]))
    log("over-all-twice", (5, [(0, 1 << 63)]), read=WORKS)
    log("zeros-all-ones", (5, [(0, ONES & ~4095)]), read=WORKS)
    log("zeros-wrap", (5, [(1 << 40, ONES & ~4095)]), read=WORKS)
    log("zeros-odd", (5, [(BAT, 777)]), read=WORKS)
    log("zeros-none", (5, [(BAT, 0)]), read=WORKS)
    log("place-far", (5, [(1 << 62, b"x" * 4096)]), read=EITHER)
    log("place-odd", (5, [(BAT + 1, b"x" * 4096)]), read=WORKS)
    log("place-all-ones", (5, [(ONES, b"x" * 4096)]), read=WORKS)
    log("file-all-ones", (5, good), size=ONES)
    log("file-far", (5, good), size=1 << 50)
    log("tail-behind", (5, good), tail=4096, read=EITHER)
    log("tail-far", (5, good), tail=2**32 - 4096, read=WORKS)
    log("tail-odd", (5, good), tail=1, read=WORKS)
    log("sequence-none", (0, [(BAT, 4096)]), read=WORKS)
    log("sequence-largest", (ONES, good), read=EITHER)
    log("sequence-gap", (5, good), (7, [(BAT, 4096)]), read=EITHER)
    log("around", (5, good), at=MIB - 4096, read=EITHER)
    for name, at, fmt, value in (("none", 8, "I", 0), ("odd", 8, "I", 4097), ("4G", 8, "I", 0xfffff000),
                                 ("ring", 8, "I", MIB), ("more-than-ring", 8, "I", 2 * MIB),
                                 ("count-4G", 24, "I", 2**32 - 1),
                                 ("count-more", 24, "I", 3), ("guid", 32, "16s", ONE)):
        entry = bytearray(x.log_entry(5, 0, OURS, [(BAT, 4096)], im.length()))
        struct.pack_into("<" + fmt, entry, at, value)
        put(f, "log-entry-" + name, (SECOND, x.header(3, ONE, OURS)), (LOG, x.summed(entry)), read=WORKS)
    entry = bytearray(x.log_entry(5, 0, OURS, [(BAT, b"\xff" * 4096)], im.length()))
    for name, at in (("torn", 4096 + 100), ("data-mark", 4096), ("data-sequence", 4096 + 4), ("desc-mark", 64)):
        torn = bytearray(entry)
        torn[at] ^= 1
        put(f, "log-entry-" + name, (SECOND, x.header(3, ONE, OURS)), (LOG, torn), read=WORKS)
    log("changes-most", (5, [(BAT + 8192, 4096)] * 16383 + good), read=WORKS)
    log("changes-more", (5, [(BAT + 8192, 4096)] * 16385))
    # A block of many pieces, which the oldest changes make, and which all entries name.
    often = x.Image(32 << 20)
    often.put(0, PRESENT, b"\1" * MIB)
    often.bat = {i: x.BLOCKS | PRESENT for i in range(32)}
    often.ring[:] = x.log_entry(5, 0, OURS, [(x.BLOCKS + n * 8192, 4096) for n in range(128)] +
                                [(BAT + (n & 1) * 8192 + 65536, 4096) for n in range(16000)],
                                often.length()).ljust(MIB, b"\0")
    often.log_guid = OURS
    put(f, "log-changes-read-often", im=often, read=WORKS)
    # 64 MiB of entries that begin and do not end.
    start = struct.pack("<4sIIIQII16s", b"loge", 0, 64 * MIB, 0, 1, 1, 0, OURS)
    put(f, "log-of-beginnings", (SECOND, x.header(3, ONE, OURS, log_len=64 * MIB, log_off=16 * MIB)),
        *[(at, start) for at in range(16 * MIB, 80 * MIB, 8 * SECTOR)], length=80 * MIB, read=WORKS)


def parents(f):
    base = x.Image(4 * MIB, data_guid=x.guid(BASE))
    base.put(1, PRESENT, b"\2" * MIB)
    base.save(f.out + "/part-base.vhdx")

    def child(name, read=FAILS, pieces=(), items=(), **values):
        if not f.takes(name):
            return
        im = x.Image(4 * MIB, data_guid=x.guid(BASE), parent={"parent_linkage": "{" + BASE + "}", **values})
        im.put(0, PARTLY, [b"\7" * 512 if i % 2 else None for i in range(2048)])
        im.items.update(items)
        im.save(f.place(name, read), *pieces)

    child("parent-sound", relative_path=".\\part-base.vhdx", read=WORKS)
    for name, path in paths(f.out) + [("device-path", "\\\\.\\PhysicalDrive0"), ("unc", "\\\\server\\a\\x.vhdx"),
                                      ("controls", "a\x1b[2J\n"), ("nul", "\0" * 40), ("nothing", ""),
                                      ("plain", "plain"),
                                      ("endless", "x" * 32000)]:
        windows = path.replace("/", "\\")
        child(f"parent-{name}-relative", relative_path=windows)
        child(f"parent-{name}-absolute", absolute_win32_path="C:" + windows if path[:1] == "/" else windows)
    child("parent-volume", volume_path="\\\\?\\Volume{" + BASE + "}\\part-base.vhdx")
    child("parent-itself", relative_path="vhdx-parent-itself")
    child("parent-two-a", relative_path="vhdx-parent-two-b")
    child("parent-two-b", relative_path="vhdx-parent-two-a")
    child("parent-unnamed")
    child("parent-other", relative_path="part-base.vhdx", parent_linkage="{33333333-0000-0000-0000-000000000003}")
    for n, junk in enumerate(("", "{", "x" * 38, "{" + "\u0130" * 36 + "}", "{" + BASE[:-1] + "g}")):
        child(f"parent-linkage-{n}", relative_path="part-base.vhdx", parent_linkage=junk)
    good = x.locator(parent_linkage="{" + BASE + "}", relative_path=".\\part-base.vhdx")
    for name, at, fmt, value in (("type", 0, "16s", ONE), ("count-none", 18, "H", 0), ("count-64K", 18, "H", 65535),
                                 ("key-far", 20, "I", 2**32 - 2), ("value-far", 24, "I", 2**32 - 2),
                                 ("key-none", 28, "H", 0),
                                 ("key-64K", 28, "H", 65535), ("value-odd", 30, "H", 77),
                                 ("value-64K", 30, "H", 65535),
                                 ("value-in-head", 24, "I", 0)):
        data = bytearray(good)
        struct.pack_into("<" + fmt, data, at, value)
        child("locator-" + name, items={"locator": bytes(data)}, read=EITHER if name == "value-odd" else FAILS)
    child("locator-junk", items={"locator": b"\xff" * 500})
    child("locator-short", items={"locator": good[:19]})
    surrogates = x.locator(parent_linkage="{" + BASE + "}", relative_path="x" * 20)
    child("locator-surrogates", items={"locator": surrogates[:-40] + b"\0\xd8" * 20})
    bits = x.Image(4 * MIB).ratio
    for name, entry in (("far", 1 << 60 | PRESENT), ("none", 0), ("in-headers", PRESENT), ("in-bat", BAT | PRESENT),
                        ("state", x.BLOCKS | 5), ("behind", 64 * MIB | PRESENT)):
        child("bitmap-" + name, pieces=[(BAT + 8 * bits, struct.pack("<Q", entry))], relative_path=".\\part-base.vhdx")


def images(f, _plain):
    f.format("vhdx", rare=True)
    headers(f)
    regions(f)
    metadata(f)
    blocks(f)
    logs(f)
    parents(f)
