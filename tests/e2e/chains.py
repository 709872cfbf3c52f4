#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""chains.py SEED DIR [LAYERS]: a chain of images of random shape, made by QEMU's tools; the same seed gives the same.

Prints a line "FORMAT FILE" for each layer, the base first.  Layers differ in size and cluster size, hold data, zeros of
both kinds, compressed clusters (some), and nothing.
"""
import random
import subprocess
import sys

seed, where = int(sys.argv[1]), sys.argv[2]
rng = random.Random(seed)
extended = random.Random(seed * 31 + 7)  # its own: the shapes of a seed are what they were
layers = int(sys.argv[3]) if len(sys.argv) > 3 else rng.randint(1, 4)
KB = 1024


def run(*args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)


def qcow2_options():
    compat = rng.choice(["1.1", "1.1", "1.1", "0.10"])
    cluster = rng.choice([512, 4096, 65536, 65536, 262144])
    opts = ["cluster_size=%d" % cluster, "compat=" + compat]
    if compat == "1.1":
        opts.append("refcount_bits=%d" % rng.choice([1, 16, 64]))
        opts.append("lazy_refcounts=" + rng.choice(["off", "on"]))
    if compat == "1.1" and cluster >= 16 * KB and extended.random() < 0.75:
        opts.append("extended_l2=on")
    return ",".join(opts), compat


def commands(size, compat, first):
    todo, packed = [], {}
    for _ in range(rng.randint(1, 12)):
        off = rng.randrange(0, size // 512) * 512
        length = min(rng.choice([512, 4 * KB, 64 * KB, 300 * KB, 1024 * KB]), size - off)
        kind = rng.choice(["data", "data", "data", "zero", "unmap", "packed"])
        if kind == "data":
            todo.append("write -q -P %d %d %d" % (rng.randint(1, 255), off, length))
        elif kind == "zero":
            todo.append("write -q -z %d %d" % (off, length))
        elif kind == "unmap":
            todo.append("write -q -z -u %d %d" % (off, length))
        elif compat and not first:
            start = off // (256 * KB) * 256 * KB  # of every cluster size
            if start + 256 * KB <= size:
                packed[start] = "write -q -c -P %d %d %d" % (rng.randint(1, 255), start, 256 * KB)
    return list(packed.values()) + todo  # QEMU compresses only what is not there yet


below = None
for i in range(layers):
    raw = i == 0 and rng.random() < 0.5
    size = rng.randint(1, 12) * 512 * KB + rng.choice([0, 0, 512, 4096, 65536])
    name = "l%d" % i
    path = "%s/%s" % (where, name)
    compat = None
    if raw:
        run("qemu-img", "create", "-q", "-f", "raw", path, str(size))
    else:
        options, compat = qcow2_options()
        args = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options]
        if below:
            args += ["-b", below[1], "-F", below[0]]
        run(*args, path, str(size))
    below = ("raw" if raw else "qcow2", name)
    todo = commands(size, compat, i == 0)
    run("qemu-io", "-f", below[0], *[a for c in todo for a in ("-c", c)], "-c", "flush", path)
    print(*below)
