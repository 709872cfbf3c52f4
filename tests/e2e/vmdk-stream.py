# SPDX-License-Identifier: BSD-2-Clause
# vmdk-stream.py IMAGE RAW: is IMAGE a streamOptimized extent of RAW, field by field as VMware's "Virtual Disk Format
# 5.0" has it?  It is read once, from its first byte to its last, as a program at the end of a pipe would.
import re
import struct
import sys
import zlib

SECTOR = 512
HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
GD_AT_END = 0xFFFFFFFFFFFFFFFF
EOS, TABLE, DIRECTORY, FOOTER = range(4)

data = open(sys.argv[1], "rb").read()
raw = open(sys.argv[2], "rb").read()
GRAIN = 128 * SECTOR


def check(what, is_, should):
    if is_ != should:
        sys.exit(f"{sys.argv[1]}: {what}: {is_!r} instead of {should!r}")


def check_header(sector, where, gd):
    (magic, version, flags, capacity, grain, desc, desc_len, per_table, rgd, gd_off, overhead, unclean, newlines,
     algorithm) = HEADER.unpack_from(sector)
    check(f"{where} magicNumber", magic, b"KDMV")
    check(f"{where} version", version, 3)
    check(f"{where} flags", flags, 1 | 1 << 16 | 1 << 17)  # line ends, compressed grains, markers
    check(f"{where} capacity", capacity, len(raw) // SECTOR)
    check(f"{where} grainSize", grain, GRAIN // SECTOR)
    check(f"{where} descriptorOffset", desc, 1)
    check(f"{where} descriptorSize", desc_len, 20)
    check(f"{where} numGTEsPerGT", per_table, 512)
    check(f"{where} rgdOffset", rgd, 0)
    check(f"{where} gdOffset", gd_off, gd)
    check(f"{where} overHead", overhead, 128)
    check(f"{where} uncleanShutdown", unclean, 0)
    check(f"{where} line ends", newlines, b"\n \r\n")
    check(f"{where} compressAlgorithm", algorithm, 1)
    check(f"{where} pad", sector[HEADER.size:], bytes(SECTOR - HEADER.size))


def check_descriptor(text):
    end = text.find(b"\0")
    check("behind the descriptor", text[end:].strip(b"\0"), b"")
    text = text[:end].decode()
    for line in (r"# Disk DescriptorFile", r"version=1", r"CID=[0-9a-f]{8}", r"parentCID=ffffffff",
                 r'createType="streamOptimized"', rf'RW {len(raw) // SECTOR} SPARSE "[^"]+\.vmdk(\.partial)?"',
                 r'ddb\.virtualHWVersion = "7"', r'ddb\.adapterType = "lsilogic"',
                 r'ddb\.geometry\.cylinders = "\d+"', r'ddb\.geometry\.heads = "255"',
                 r'ddb\.geometry\.sectors = "63"'):
        check(f"lines /{line}/ in the descriptor", len(re.findall(rf"^{line}$", text, re.M)), 1)
    check("partial name", "partial" in text, False)


check("whole sectors", len(data) % SECTOR, 0)
check_header(data[:SECTOR], "header", GD_AT_END)
check_descriptor(data[SECTOR:21 * SECTOR])
check("between descriptor and overHead", data[21 * SECTOR:GRAIN].strip(b"\0"), b"")

nr_grains = -(-len(raw) // GRAIN)
nr_tables = -(-nr_grains // 512)
grains, tables, directory, footer = {}, {}, None, None
at, last = 128, -1
while True:
    value, size, kind = struct.unpack_from("<QII", data, at * SECTOR)
    if size:  # a grain: no type, the data follow at once
        check("grain behind the directory", directory, None)
        check(f"grain at sector {value}: alignment", value % 128, 0)
        check(f"grain at sector {value} behind {last}", value > last, True)
        last = value
        start = at * SECTOR + 12
        inflate = zlib.decompressobj()
        grain = inflate.decompress(data[start:start + size])
        check(f"grain at sector {value}: end of the stream", (inflate.eof, inflate.unused_data), (True, b""))
        check(f"grain at sector {value}: bytes", grain, raw[value * SECTOR:value * SECTOR + GRAIN].ljust(GRAIN, b"\0"))
        check(f"grain at sector {value} of zeros", grain.count(0) == GRAIN, False)
        grains[value // 128] = at
        end = -(-(start + size) // SECTOR)
        check(f"grain at sector {value}: pad", data[start + size:end * SECTOR].strip(b"\0"), b"")
        at = end
        continue
    check("marker pad", data[at * SECTOR + 16:(at + 1) * SECTOR].strip(b"\0"), b"")
    at += 1
    body = data[at * SECTOR:(at + value) * SECTOR]
    check(f"marker of type {kind}: its sectors", len(body), value * SECTOR)
    if kind == EOS:
        check("end of stream", (value, at * SECTOR), (0, len(data)))
        break
    check("footer is not the last", footer, None)
    if kind == TABLE:
        check("grain table: sectors", value, 4)
        tables[at] = struct.unpack("<512I", body)
    elif kind == DIRECTORY:
        check("grain directory: sectors", value, -(-nr_tables * 4 // SECTOR))
        directory = (at, struct.unpack(f"<{len(body) // 4}I", body))
    elif kind == FOOTER:
        check("footer: sectors", value, 1)
        check_header(body, "footer", directory[0])
        footer = at
    else:
        check("marker's type", kind, "known")
    at += value

check("footer", footer, len(data) // SECTOR - 2)
check("behind the directory's entries", directory[1][nr_tables:].count(0), len(directory[1]) - nr_tables)
check("tables that are named", sorted(x for x in directory[1] if x), sorted(tables))
for n in range(nr_tables):
    entries = tables[directory[1][n]] if directory[1][n] else (0,) * 512
    check(f"entries of table {n}", entries, tuple(grains.get(n * 512 + i, 0) for i in range(512)))
for n in range(nr_grains):
    if n not in grains:
        left = raw[n * GRAIN:(n + 1) * GRAIN]
        check(f"grain {n}, which is left out: zeros", left.count(0), len(left))
