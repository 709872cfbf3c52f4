#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Damage the map of a qcow (version 1) or a sparse vmdk: grains-damage.py FILE HOW SEED

HOW: entry	some entries lead behind the end of the file; of a vmdk in both copies
     copy	the same, in one of the two copies of a vmdk alone
     table	an entry of the directory does; of a vmdk in one of its two directories
Prints OFFSET LENGTH of each range of the disk that is lost with it.
"""
import random
import struct
import sys


class Map:
    """entries() and tables(): where it stands, in each copy; guest offset and length; a table's own place."""

    def __init__(self, path):
        self.f = open(path, "r+b")
        self.f.seek(0, 2)
        self.end = self.f.tell()

    def at(self, off, fmt):
        self.f.seek(off)
        return struct.unpack(fmt, self.f.read(struct.calcsize(fmt)))[0]

    def put(self, off, fmt, value):
        self.f.seek(off)
        self.f.write(struct.pack(fmt, value))


class Qcow(Map):
    fmt = ">Q"

    def __init__(self, path):
        super().__init__(path)
        self.size, self.l1 = self.at(24, ">Q"), self.at(40, ">Q")
        self.cluster, self.per = 1 << self.at(32, "B"), 1 << self.at(33, "B")

    def tables(self):
        span = self.cluster * self.per
        for i in range((self.size + span - 1) // span):
            table = self.at(self.l1 + i * 8, ">Q")
            if table:
                yield [self.l1 + i * 8], i * span, span, [table]

    def entries(self):
        for _, start, _, (table,) in self.tables():
            for k in range(self.per):
                if self.at(table + k * 8, ">Q"):
                    yield [table + k * 8], start + k * self.cluster, self.cluster

    def bad(self, rnd):
        return (self.end // self.cluster + 1 + rnd.randrange(1000)) * self.cluster


class Vmdk(Map):
    fmt = "<I"

    def __init__(self, path):
        super().__init__(path)
        self.size, self.grain = self.at(12, "<Q") * 512, self.at(20, "<Q") * 512
        self.per = self.at(44, "<I")
        self.dirs = [self.at(48, "<Q") * 512, self.at(56, "<Q") * 512]

    def tables(self):
        span = self.grain * self.per
        for i in range((self.size + span - 1) // span):
            where = [d + i * 4 for d in self.dirs]
            yield where, i * span, span, [self.at(w, "<I") * 512 for w in where]

    def entries(self):
        for _, start, _, tables in self.tables():
            for k in range(self.per):
                if self.at(tables[0] + k * 4, "<I") > 1:
                    yield [t + k * 4 for t in tables], start + k * self.grain, self.grain

    def bad(self, rnd):
        return self.end // 512 + 200 + rnd.randrange(100000)


def main():
    path, how, rnd = sys.argv[1], sys.argv[2], random.Random(int(sys.argv[3]))
    with open(path, "rb") as f:
        m = Vmdk(path) if f.read(4) == b"KDMV" else Qcow(path)
    if how == "table":
        where, start, length, _ = rnd.choice(list(m.tables()))
        some = [(where, start, length)]
    else:
        every = list(m.entries())
        some = rnd.sample(every, min(len(every), 1 + rnd.randrange(6)))
    for where, start, length in some:
        if how == "copy":
            where = [rnd.choice(where)]
        elif how == "table" and len(where) > 1:
            where = [rnd.choice(where)]
        else:
            print(start, min(length, m.size - start))
        for w in where:
            m.put(w, m.fmt, m.bad(rnd))


main()
