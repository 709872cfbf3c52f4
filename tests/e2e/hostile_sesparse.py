# SPDX-License-Identifier: BSD-2-Clause
"""seSparse extents of vmdk: both headers, the directory, a table.  By hand: ESXi alone makes them."""
import struct

from hostile_lib import EITHER, FAILS, FAR, WORKS

SECTOR, GRAIN, PER_TABLE = 512, 4096, 4096
TABLE = PER_TABLE * 8 // SECTOR
GD, TABLES = 8, 9  # sectors; one table
GRAINS = TABLES + TABLE
(MAGIC, VERSION, CAPACITY, GRAIN_SIZE, TABLE_SIZE, FLAGS, RESERVED, VOLATILE, JOURNAL, GD_AT, GT_AT, FREE_AT, BACK_AT,
 DATA_AT, PAD) = (0, 8, 16, 24, 32, 40, 48, 80, 96, 128, 144, 160, 176, 192, 208)
ONES = 2**64 - 1


def grain(n, kind=3):
    return kind << 60 | (n & 0xfff) << 48 | n >> 12


def sound(plain):
    grains = len(plain) // GRAIN
    head = struct.pack("<26Q", 0xcafebabe, 0x200000001, len(plain) // SECTOR, GRAIN // SECTOR, TABLE, 0, 0, 0, 0, 0,
                       1, 1, 2, 2, 4, 4, GD, 1, TABLES, TABLE, 0, 0, 0, 0, GRAINS, len(plain) // SECTOR)
    volatile = struct.pack("<4Q", 0xcafecafe, 1, grains, 0)
    directory = struct.pack("<Q", 1 << 60)
    table = struct.pack(f"<{grains}Q", *[grain(n) for n in range(grains)])
    return b"".join((head.ljust(SECTOR, b"\0"), volatile.ljust(7 * SECTOR, b"\0"), directory.ljust(SECTOR, b"\0"),
                     table.ljust(TABLE * SECTOR, b"\0"), plain))


def headers(f, whole):
    f.put("sound", whole, read=WORKS)
    for n in (1, 511, 512, 1023, GD * SECTOR, TABLES * SECTOR, TABLES * SECTOR + 8, GRAINS * SECTOR,
              len(whole) - 4096):
        f.put(f"cut-{n}", whole, size=n)
    for name, at, value in (
            ("magic", MAGIC, 0xcafebabf), ("magic-long", MAGIC, 1 << 32 | 0xcafebabe),
            ("version", VERSION, 0x300000001),
            ("version-none", VERSION, 0), ("capacity-none", CAPACITY, 0), ("capacity-all-ones", CAPACITY, ONES),
            ("capacity-sign", CAPACITY, 1 << 63), ("capacity-exbibyte", CAPACITY, 1 << 51),
            ("capacity-a-table-more", CAPACITY, (PER_TABLE * 64 + 1) * 8), ("grain-none", GRAIN_SIZE, 0),
            ("grain-all-ones", GRAIN_SIZE, ONES), ("table-none", TABLE_SIZE, 0), ("table-all-ones", TABLE_SIZE, ONES),
            ("flags", FLAGS, ONES), ("reserved", RESERVED + 24, 1), ("pad", SECTOR - 8, 1 << 56),
            ("volatile-none", VOLATILE, 0), ("volatile-far", VOLATILE, FAR >> 9),
            ("volatile-all-ones", VOLATILE, ONES),
            ("volatile-wraps", VOLATILE, 1 << 55), ("volatile-in-gd", VOLATILE, GD),
            ("volatile-in-table", VOLATILE, 20),
            ("gd-none", GD_AT, 0), ("gd-far", GD_AT, FAR >> 9), ("gd-all-ones", GD_AT, ONES),
            ("gd-wraps", GD_AT, 1 << 55),
            ("gd-in-table", GD_AT, TABLES), ("gd-length-none", GD_AT + 8, 0), ("gd-length-all-ones", GD_AT + 8, ONES),
            ("gd-length-over-tables", GD_AT + 8, 2), ("tables-none", GT_AT, 0), ("tables-all-ones", GT_AT, ONES),
            ("tables-in-gd", GT_AT, GD), ("tables-length-none", GT_AT + 8, 0),
            ("tables-length-all-ones", GT_AT + 8, ONES),
            ("tables-length-short", GT_AT + 8, TABLE - 1), ("grains-none", DATA_AT, 0),
            ("grains-far", DATA_AT, FAR >> 9),
            ("grains-all-ones", DATA_AT, ONES), ("grains-in-table", DATA_AT, TABLES)):
        f.put(name, whole, (at, "<Q", value))
    for name, at, value in (("magic", 0, 0), ("replay", 24, 1), ("replay-all-ones", 24, ONES), ("pad", 504, 1)):
        f.put("volatile-header-" + name, whole, (SECTOR + at, "<Q", value))
    # Of what we do not use nothing is asked.
    for name, at in (("journal", JOURNAL), ("free-bitmap", FREE_AT), ("back-map", BACK_AT)):
        f.put(name + "-all-ones", whole, (at, "<QQ", ONES, ONES), read=EITHER)


def entries(f, whole):
    grains = len(whole) // GRAIN - GRAINS // 8
    for name, value in (("all-ones", ONES), ("kind-2", 2 << 60), ("kind-none", 1), ("between", 1 << 60 | 1 << 40),
                        ("behind", 1 << 60 | 1), ("4G", 1 << 60 | 2**32 - 1)):
        f.put("directory-" + name, whole, (GD * SECTOR, "<Q", value))
    for name, value in (("all-ones", ONES), ("kind-none", 1), ("kind-4", 4 << 60), ("kind-15", 15 << 60),
                        ("behind", grain(grains + 1)), ("far", grain(1 << 40)), ("largest", grain((1 << 60) - 1)),
                        ("wraps", grain(1 << 52))):
        f.put("entry-" + name, whole, (TABLES * SECTOR + 8, "<Q", value))
    f.put("entries-all-one", whole, (TABLES * SECTOR, "<64Q", *[grain(0)] * 64), read=WORKS)
    f.put("entries-zero-with-junk", whole, (TABLES * SECTOR, "<2Q", 2 << 60 | 77, 1 << 60 | 77), read=EITHER)
    # 64 TiB, whose directory is a hole, and one whose tables are all the same; more than is supported.
    for name, capacity in (("64T", 1 << 37), ("2P", 1 << 42), ("32P", 1 << 46)):
        length = -(-capacity // (8 * PER_TABLE) * 8 // SECTOR)
        after = GD + length
        big = ((CAPACITY, "<Q", capacity), (GD_AT, "<4Q", GD, length, after, TABLE), (DATA_AT, "<Q", after + TABLE))
        start, read = whole[:GD * SECTOR], EITHER if name == "64T" else FAILS
        f.put(f"directory-of-{name}-not-there", start, *big)
        f.put(f"directory-of-{name}-hole", start, *big, size=max(FAR, (after + TABLE) * SECTOR), read=read)
        f.put(f"directory-of-{name}-one-table", start + struct.pack("<Q", 1 << 60) * 16384, *big,
              size=max(FAR, (after + TABLE) * SECTOR), read=read)


def images(f, plain):
    f.format("sesparse", "vmdk", rare=True)
    with open(plain, "rb") as source:
        whole = sound(source.read())
    headers(f, whole)
    entries(f, whole)
