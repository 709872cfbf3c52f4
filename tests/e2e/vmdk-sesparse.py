#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""vmdk-sesparse.py MODEL OUT [--base BASE] [--seed N] [--break WHAT]: a seSparse extent that reads as MODEL.

No free tool makes them.  Grains of zeros become holes, unmapped ones or zero ones; those that BASE has alike are left
out.  Grains lie in any order, with gaps, and their numbers need more than 12 bits.  WHAT: see BREAKS.
"""
import argparse, random, struct

SECTOR, GRAIN, PER_TABLE = 512, 4096, 4096
TABLE = PER_TABLE * 8 // SECTOR

# Where in the file, and which 8 bytes: what nobody may take for a disk.
BREAKS = {
    "magic": (0, 0xCAFEBABF), "version": (8, 0x300000001), "grain": (24, 16), "table": (32, 128), "flags": (40, 1),
    "reserved": (48, 1), "pad": (504, 1), "capacity": (16, 0), "vast": (16, 1 << 62), "gd-short": (136, 0),
    "gd-far": (128, 1 << 54), "gd-over": (128, 0), "volatile-far": (80, 1 << 40), "grains-over": (192, 4),
    "volatile-magic": (SECTOR, 1), "replay": (SECTOR + 24, 1), "volatile-pad": (SECTOR + 40, 1),
}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("out")
    p.add_argument("--base")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--break", dest="damage", choices=[*BREAKS, "gd-entry", "table-far", "entry", "entry-far"])
    a = p.parse_args()
    rnd = random.Random(a.seed)
    model = open(a.model, "rb").read()
    base = open(a.base, "rb").read() if a.base else b""
    grains = -(-len(model) // GRAIN)
    tables = -(-grains // PER_TABLE)
    gd, gd_len = 128, max(1, -(-tables * 8 // SECTOR))
    table_at = gd + gd_len + 3
    grains_at = table_at + tables * TABLE + 256  # free bitmap and back map lie between
    numbers = rnd.sample(range(4000, 4000 + 2 * grains), grains)
    entries = [0] * (tables * PER_TABLE)
    with open(a.out, "wb") as f:
        for i in range(grains):
            data = model[i * GRAIN:(i + 1) * GRAIN].ljust(GRAIN, b"\0")
            under = base[i * GRAIN:(i + 1) * GRAIN].ljust(GRAIN, b"\0")
            if data == under and rnd.random() < 0.9:
                continue
            if data.count(0) == GRAIN:
                entries[i] = rnd.choice([1, 2]) << 60
                continue
            n = numbers[i]
            entries[i] = 3 << 60 | (n & 0xFFF) << 48 | n >> 12
            f.seek((grains_at + n * 8) * SECTOR)
            f.write(data)
        order = rnd.sample(range(tables), tables)
        directory = [1 << 60 | order[t] if any(entries[t * PER_TABLE:(t + 1) * PER_TABLE]) else 0
                     for t in range(tables)]
        there = [i for i, e in enumerate(entries) if e]
        if a.damage == "gd-entry":
            directory[0] = 2 << 60
        elif a.damage == "table-far":
            directory[0] = 1 << 60 | tables
        elif a.damage in ("entry", "entry-far"):
            entries[there[0]] = 4 << 60 if a.damage == "entry" else 3 << 60 | 1 << 40
        for t in range(tables):
            f.seek((table_at + order[t] * TABLE) * SECTOR)
            f.write(struct.pack("<%dQ" % PER_TABLE, *entries[t * PER_TABLE:(t + 1) * PER_TABLE]))
        f.seek(gd * SECTOR)
        f.write(struct.pack("<%dQ" % tables, *directory))
        f.seek(0)
        f.write(struct.pack("<26Q", 0xCAFEBABE, 0x200000001, len(model) // SECTOR, GRAIN // SECTOR, TABLE, 0,
                            0, 0, 0, 0, 1, 1, 2, 2, 4, 100, gd, gd_len, table_at, tables * TABLE,
                            table_at + tables * TABLE, 128, table_at + tables * TABLE + 128, 128,
                            grains_at, 2 * grains * 8).ljust(SECTOR, b"\0"))
        f.write(struct.pack("<4Q", 0xCAFECAFE, 1, 7, 0).ljust(SECTOR, b"\0"))
        if a.damage in BREAKS:
            f.seek(BREAKS[a.damage][0])
            f.write(struct.pack("<Q", BREAKS[a.damage][1]))


main()
