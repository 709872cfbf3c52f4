# SPDX-License-Identifier: BSD-2-Clause
"""qcow, version 1: header, tables, compressed clusters, names of backing files."""
import struct

from hostile_lib import EITHER, FAR, WORKS, bomb, paths

BACKING, SIZE, CLUSTER_BITS, L2_BITS, CRYPT, L1_OFF = 8, 24, 32, 33, 36, 40


def be(data, at):
    return struct.unpack_from(">Q", data, at)[0]


def header(f, whole):
    for n in (1, 47, 48, be(whole, L1_OFF) + 7, 512, 4096, 8192, len(whole) - 4096):
        f.put(f"cut-{n}", whole, size=n)
    for name, at, fmt, value in (("size-none", SIZE, "Q", 0), ("size-one", SIZE, "Q", 1), ("size-all-ones", SIZE,
            "Q", 2**64 - 1),
                                 ("size-sign", SIZE, "Q", 1 << 63), ("size-exbibyte", SIZE, "Q", 1 << 60),
                                 ("size-tebibytes", SIZE, "Q", 1 << 44), ("cluster-bits-0", CLUSTER_BITS, "B", 0),
                                 ("cluster-bits-255", CLUSTER_BITS, "B", 255), ("cluster-bits-17", CLUSTER_BITS,
                                         "B", 17),
                                 ("l2-bits-0", L2_BITS, "B", 0), ("l2-bits-255", L2_BITS, "B", 255),
                                 ("crypt-9", CRYPT, "I", 9), ("crypt-no-key", CRYPT, "I", 1), ("l1-far", L1_OFF,
                                         "Q", FAR),
                                 ("l1-in-header", L1_OFF, "Q", 0), ("l1-odd", L1_OFF, "Q", 49), ("l1-wraps", L1_OFF,
                                         "Q", 2**64 - 8),
                                 ("version-9", 4, "I", 9), ("version-0", 4, "I", 0)):
        f.put(name, whole, (at, fmt, value))
    # An L1 table of 2 GiB, and one as long as is allowed, in a file of one hole.
    f.put("l1-of-2G", whole[:48], (SIZE, "Q", 1 << 49), (L1_OFF, "Q", 4096), size=FAR)
    f.put("l1-of-128M", whole[:48], (SIZE, "Q", 1 << 45), (L1_OFF, "Q", 4096), size=FAR, read=EITHER)


def tables(f, whole):
    l1 = be(whole, L1_OFF)
    l2 = be(whole, l1)
    for name, value in (("far", FAR), ("all-ones", 2**64 - 1), ("sign", 1 << 63), ("behind", len(whole))):
        f.put("l1-entry-" + name, whole, (l1, "Q", value))
        f.put("l2-entry-" + name, whole, (l2, "Q", value))
    f.put("l1-entry-in-header", whole, (l1, "Q", 1))
    f.put("l1-entry-in-l1", whole, (l1, "Q", l1))
    f.put("l2-entry-odd", whole, (l2, "Q", be(whole, l2) + 1))
    f.put("l2-entry-in-header", whole, (l2, "Q", 512), read=EITHER)
    f.put("l2-entries-all-one", whole, (l2, "64Q", *[be(whole, l2)] * 64), read=WORKS)
    f.put("l2-table-of-ones", whole, (l2, "4096s", b"\xff" * 4096))


def packed(f, whole):
    """Clusters of 4K: the length stands in 12 bits, above 51 of the place."""
    l2 = be(whole, be(whole, L1_OFF))
    at = be(whole, l2) & ((1 << 51) - 1)
    end = len(whole)

    def entry(where, length):
        return 1 << 63 | length << 51 | where

    big = bomb(16, -12)[:4095]
    f.put("packed-inflates-to-4M", whole + big, (l2, "Q", entry(end, len(big))), read=EITHER)
    f.put("packed-of-nothing", whole, (l2, "Q", entry(at, 0)))
    f.put("packed-far", whole, (l2, "Q", entry(FAR, 100)))
    f.put("packed-over-end", whole, (l2, "Q", entry(end - 10, 4095)))
    f.put("packed-in-header", whole, (l2, "Q", entry(0, 100)))
    f.put("packed-junk", whole, (at, "12s", b"\xff" * 12))
    f.put("packed-little", whole, (at, "8s", b"\x01\x01\x00\xfe\xff\x61"))
    f.put("packed-and-sealed", whole, (CRYPT, "I", 1))


def backing(f, whole):
    def over(name, text, off=48, length=None):
        text = text if isinstance(text, bytes) else text.encode()
        f.put(name, whole, (BACKING, "QI", off, len(text) if length is None else length),
              (48, f"{len(text)}s", text), (L1_OFF, "Q", FAR >> 20), size=(FAR >> 20) + 4096)

    over("backing-itself", "qcow-backing-itself")
    over("backing-behind", "x", off=FAR)
    over("backing-wraps", "x", off=2**64 - 1)
    over("backing-4G", "x", length=2**32 - 1)
    over("backing-nothing", "\0\0\0\0")
    over("backing-controls", "a\x1b[2J\n")
    over("backing-nbd", "nbd://127.0.0.1:1/")
    over("backing-json", 'json:{"driver":"file","filename":"../elsewhere/secret"}')
    for name, path in paths(f.out):
        over("backing-" + name, path)


def images(f, plain):
    # A format has to be said for the backing file: then the loops are looked for.
    f.format("qcow")
    whole = f.make("-O", "qcow", source=plain)
    header(f, whole)
    tables(f, whole)
    packed(f, f.make("-c", "-O", "qcow", source=plain))
    f.format("qcow", options="backing-format=raw")
    backing(f, f.make("-f", "qcow", "1M"))
    f.format("qcow", options="backing-format=qcow")
    empty = f.make("-f", "qcow", "1M")
    for name, text in (("chain-itself", b"qcow-chain-itself"), ("chain-two-a", b"qcow-chain-two-b"),
                       ("chain-two-b", b"qcow-chain-two-a")):
        f.put(name, empty, (BACKING, "QI", 2048, len(text)), (2048, f"{len(text)}s", text))
