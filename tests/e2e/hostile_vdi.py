# SPDX-License-Identifier: BSD-2-Clause
"""vdi: the header and the map.  By hand: no program here makes one with a lie in it."""
import struct

from hostile_lib import EITHER, FAR, WORKS

(MAGIC, VERSION, LENGTH, TYPE, MAP, DATA, SECTOR, SIZE, BLOCK, EXTRA, BLOCKS, ALLOCATED, UUID, PARENT) = (
    64, 68, 72, 76, 340, 344, 360, 368, 376, 380, 384, 388, 392, 424)
MAP_OFF, DATA_OFF, BLOCK_SIZE = 512, 1024, 65536
FREE, ZERO = 2**32 - 1, 2**32 - 2


def sound(plain, extra=4):
    """All of plain, and a few blocks that were never written."""
    blocks = len(plain) // BLOCK_SIZE
    head = bytearray(512)
    head[:38] = b"<<< Oracle VM VirtualBox Disk Image >>"
    struct.pack_into("<IIII", head, MAGIC, 0xbeda107f, 0x00010001, 400, 1)
    struct.pack_into("<II", head, MAP, MAP_OFF, DATA_OFF)
    struct.pack_into("<I", head, SECTOR, 512)
    struct.pack_into("<QIIII", head, SIZE, (blocks + extra) * BLOCK_SIZE, BLOCK_SIZE, 0, blocks + extra, blocks)
    head[UUID:UUID + 16] = b"any identity ..."
    table = struct.pack(f"<{blocks + extra}I", *range(blocks), *[FREE] * extra)
    return bytes(head) + table.ljust(DATA_OFF - MAP_OFF, b"\xff") + plain


def headers(f, whole):
    for n in (1, 64, 72, 393, 511, 512, 515, 527):
        f.put(f"cut-{n}", whole, size=n)
    f.put("empty", b"")
    f.put("data-cut", whole, size=len(whole) - 4096)
    f.put("no-data", whole, size=DATA_OFF)
    for name, at, value in (
            ("magic", MAGIC, 0), ("version-0", VERSION, 2), ("version-9", VERSION, 9 << 16),
            ("version-all-ones", VERSION, FREE), ("length-none", LENGTH, 0), ("length-short", LENGTH, 383),
            ("length-over-map", LENGTH, 512), ("length-all-ones", LENGTH, FREE), ("length-wraps", LENGTH, FREE - 72),
            ("type-none", TYPE, 0), ("type-undo", TYPE, 3), ("type-differencing", TYPE, 4), ("type-9", TYPE, 9),
            ("type-all-ones", TYPE, FREE), ("map-in-header", MAP, 0), ("map-odd", MAP, 513), ("map-far", MAP, 1 << 31),
            ("map-at-end", MAP, FREE - 511), ("map-over-data", MAP, DATA_OFF), ("data-in-header", DATA, 0),
            ("data-over-map", DATA, MAP_OFF), ("data-odd", DATA, DATA_OFF + 1), ("data-far", DATA, FREE - 511),
            ("sector-none", SECTOR, 0), ("sector-4096", SECTOR, 4096), ("sector-all-ones", SECTOR, FREE),
            ("block-none", BLOCK, 0), ("block-one", BLOCK, 1), ("block-512", BLOCK, 512),
            ("block-three", BLOCK, 3 << 20),
            ("block-2G", BLOCK, 1 << 31), ("block-all-ones", BLOCK, FREE), ("extra", EXTRA, 512),
            ("extra-all-ones", EXTRA, FREE), ("blocks-none", BLOCKS, 0), ("blocks-too-few", BLOCKS, 3),
            ("blocks-4G", BLOCKS, FREE), ("allocated-4G", ALLOCATED, FREE), ("parent", PARENT, 1)):
        f.put(name, whole, (at, "<I", value))
    for name, value in (("none", 0), ("all-ones", 2**64 - 1), ("sign", 1 << 63), ("exbibyte", 1 << 60),
                        ("a-block-more", 1 << 20)):
        f.put("size-" + name, whole, (SIZE, "<Q", value))
    f.put("sound", whole, read=WORKS)
    f.put("static", whole, (TYPE, "<I", 2), read=WORKS)
    f.put("size-odd", whole, (SIZE, "<Q", 65537), read=WORKS)
    f.put("blocks-too-many", whole, (BLOCKS, "<I", 128), read=EITHER)
    f.put("allocated-none", whole, (ALLOCATED, "<I", 0), read=WORKS)
    f.put("uuid-none", whole, (UUID, "16s", b""), read=WORKS)


def maps(f, whole):
    blocks = (len(whole) - DATA_OFF) // BLOCK_SIZE
    for name, value in (("behind", blocks), ("last", blocks + 3), ("none-such", blocks + 4), ("sign", 1 << 31),
                        ("almost-zero", ZERO - 1)):
        f.put("entry-" + name, whole, (MAP_OFF + 4, "<I", value))
    f.put("entries-all-one", whole, (MAP_OFF, f"<{blocks}I", *[0] * blocks), read=WORKS)
    f.put("entries-all-zero", whole, (MAP_OFF, f"<{blocks}I", *[ZERO] * blocks), read=WORKS)
    f.put("entries-all-free", whole, (MAP_OFF, f"<{blocks}I", *[FREE] * blocks), read=WORKS)
    # A map as long as a header can say, in a file of one hole: 4 PiB, all of them block 0; and the same, of no block.
    most = (FREE - 511 - MAP_OFF) // 4 // 128 * 128
    for name, size, block in (("petabytes", most << 20, 1 << 20), ("128M", most << 27, 128 << 20),
                              ("tebibytes", most << 12, 4096)):
        big = ((DATA, "<I", MAP_OFF + most * 4), (SIZE, "<QIIII", size, block, 0, most, 1))
        f.put(f"map-{name}-not-there", whole[:512], *big)
        f.put(f"map-{name}-cut", whole[:512] + b"\xff" * 65536, *big, size=MAP_OFF + most * 4 - 512)
    # Blocks that name each other's bytes are as much data as they say; so no more of them than can be read.
    few = 16384
    f.put("map-free", whole[:512] + b"\xff" * few * 4, (DATA, "<I", 512 + few * 4),
          (SIZE, "<QIIII", few << 27, 128 << 20, 0,
          few, 0), size=FAR, read=EITHER)
    f.put("map-behind", whole[:512] + b"\xfd" * few * 4, (DATA, "<I", 512 + few * 4),
          (SIZE, "<QIIII", few << 20, 1 << 20, 0,
          few, few))


def images(f, plain):
    f.format("vdi", rare=True)
    with open(plain, "rb") as source:
        whole = sound(source.read())
    headers(f, whole)
    maps(f, whole)
