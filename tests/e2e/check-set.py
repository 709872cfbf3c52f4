#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""check-set.py DIR all|quick [KIND[/BASE[/SEED]]]...: our check and qemu-img's on damaged images, and what repair makes
of them.

For each image: the verdict (the exit code) and the numbers of leaks and corruptions are the same; after our repair
both find nothing, and the guest reads what it did, or an error where the damage was; after qemu-img's repair we find
what it finds.  Where we differ for a reason, the kind of damage is listed below, with the reason."""
import json
import os
import random
import subprocess
import sys

import qcow2_damage as damage

# kind: why.  The verdict is another one.
OTHER_VERDICT = {
    "block-misaligned": "QEMU cannot go on where a refcount block is not aligned; we say what is wrong, and repair it",
    "reftable-misaligned": "QEMU cannot open the image; we make a new table",
    "snapshot-table-misaligned": "QEMU's check ends there; ours goes on and says what is wrong",
    "bitmap-entry-wrong": "QEMU cannot open the image; we declare the bitmaps void",
    "bitmap-table-misaligned": "QEMU cannot open the image; we declare the bitmaps void",
    "cut-short/bitmaps": "QEMU cannot open the image; we declare the bitmaps void",
    "cut-last/bitmaps": "the same",
    "l2-zero-in-v2": "QEMU's check is silent, and its reads fail: version 2 has no zero flag",
    "l2-zero-beyond/data-file": "the same: in a data file each cluster has one place",
    "sub-zeros-beyond/data-file": "the same",
    "l1-twice/data-file": "the same",
}
# The numbers are others.
OTHER_NUMBERS = {
    "l1-misaligned": "QEMU reads a table from there all the same",
    "l1-on-reftable": "QEMU takes other metadata for an L2 table, and counts what it finds in it",
    "l1-on-block": "the same",
    "l1-on-l1": "the same",
    "l1-on-data": "the same, of data",
    "l2-garbage": "what is an entry and what is not differs in details for random bytes",
    "block-twice": "the second reading of one block counts nothing with us",
    "snapshot-table-beyond": "QEMU reads zeros there, and takes them for snapshots",
    "cut-short/snaps-4k": "the same",
    "cut-short/snaps-v2": "the same",
    "cut-short/snaps-64k-8bit": "the same",
    "cut-short/extended-snaps": "the same",
    "sub-of-packed": "QEMU does not count the stream of such an entry, and takes its cluster for a leak",
    "snapshot-l1-beyond": "QEMU reads zeros there",
    "snapshot-l1-huge": "QEMU reads what there is of it",
    "snapshot-l1-is-active": "QEMU counts the table and all it names twice; so do we, but for its flags",
}
# Nobody can repair it: without that table all that it names would go.
NOT_REPAIRED = {
    "cut-short/snaps-4k": "the snapshot table was in what is gone",
    "cut-short/snaps-v2": "the same",
    "cut-short/snaps-64k-8bit": "the same",
    "cut-short/extended-snaps": "the same",
    "l1-misaligned/data-file": "what is lost cannot be marked: there are no compressed clusters in another file",
    "l1-beyond/data-file": "the same",
    "l1-on-l1/data-file": "the same",
    "l2-garbage/data-file": "the same",
    "sub-both/data-file": "the same",
    "sub-all-both/data-file": "the same",
    "sub-data-nowhere/data-file": "the same",
    "sub-data-of-hole/data-file": "the same",
    "sub-data-of-zeros/data-file": "the same",
    "l2-zero-beyond/data-file": "which of the two places is right nobody knows",
    "l1-twice/data-file": "the same",
    "sub-zeros-misaligned/data-file": "the same",
    "sub-zeros-beyond/data-file": "the same",
    "l1-on-reftable/data-file": "the same",
    "l1-on-block/data-file": "the same",
    "l1-misaligned/2m-8bit": "a table of 262144 entries would take 2 GiB of marks, where a refcount goes to 255",
    "l1-beyond/2m-8bit": "the same",
    "l1-on-l1/2m-8bit": "the same",
    "snapshot-table-beyond": "QEMU gives up all snapshots for one wrong number in the header",
    "snapshot-table-misaligned": "the same",
}
LUKS = ["--object", "secret,id=s,data=x", "--image-opts"]


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                          check=False)


def must(*argv):
    r = run(*argv)
    if r.returncode:
        sys.exit("%s: %s" % (" ".join(argv), r.stderr))


def io(path, *cmds, opts=()):
    argv = ["qemu-io", *opts]
    for c in cmds:
        argv += ["-c", c]
    must(*argv, path)


# ---- honest images ----

def scatter(path, size, step, length, opts=()):
    """Data all over the disk, each piece other bytes."""
    io(path, *["write -q -P %d %d %d" % (i % 250 + 1, off, length) for i, off in enumerate(range(0, size, step))],
       opts=opts)


def create(path, opts, size, by="qemu-img"):
    if by == "qemu-img":
        must("qemu-img", "create", "-q", "-f", "qcow2", "-o", opts, path, str(size))
    else:
        must("tap-img", "create", "-f", "qcow2", "-o", opts, path, str(size))


def with_snapshots(path, size, step, length):
    scatter(path, size, step, length)
    must("qemu-img", "snapshot", "-c", "one", path)
    io(path, "write -q -P 77 0 %d" % (2 * length), "write -q -z %d %d" % (step, length))
    must("qemu-img", "snapshot", "-c", "two", path)
    io(path, "write -q -P 78 %d %d" % (2 * step, length))


K, M, G = 1 << 10, 1 << 20, 1 << 30


def plain(opts, size, step, length, by="qemu-img"):
    def make(path, d):
        create(path, opts, size, by)
        scatter(path, min(size, G), step, length)
    return make


def snapshots(opts, size, step, length):
    def make(path, d):
        create(path, opts, size)
        with_snapshots(path, size, step, length)
    return make


def make_raw(d):
    path = os.path.join(d, "raw")
    if not os.path.exists(path):
        with open(path, "wb") as f:
            for i in range(64):
                f.write(bytes([i + 1, i * 3 & 255]) * (16 * K))
                f.seek(64 * K, 1)
    return path


def packed(opts):
    def make(path, d):
        must("qemu-img", "convert", "-c", "-O", "qcow2", "-o", opts, make_raw(d), path)
        io(path, "write -q -P 9 1M 200k")
    return make


def over(path, d):
    must("qemu-img", "create", "-q", "-f", "qcow2", "-b", make_raw(d), "-F", "raw", path)
    scatter(path, 6 * M, M, 100 * K)


def bitmaps(path, d):
    create(path, "cluster_size=4k", 64 * M)
    must("qemu-img", "bitmap", "--add", "--enable", "-g", "512", path, "b0")
    must("qemu-img", "bitmap", "--add", "--enable", path, "b1")
    scatter(path, 64 * M, 4 * M, 12 * K)


def wide(path, d):
    create(path, "cluster_size=2M,refcount_bits=8", 1 << 40)
    scatter(path, 16 * M, 4 * M, 64 * K)


def data_file(path, d):
    must("qemu-img", "create", "-q", "-f", "qcow2", "-o",
         "data_file=%s,cluster_size=4k" % os.path.join(d, "data"), path, "8M")
    scatter(path, 8 * M, 512 * K, 16 * K)


def extended(opts, size, step, by="qemu-img"):
    """All that an extended entry can say, in the first clusters too: data, zeros and nothing in one, and a stream."""
    def make(path, d):
        create(path, "extended_l2=on," + opts, size, by)
        scatter(path, size, step, 10 * K)
        io(path, *["write -q -P %d %d 3k" % (i + 90, i * step + 11 * K) for i in range(4)],
           *["write -q -z %d 2k" % (i * step + 2 * K) for i in range(4)],
           "write -q -z %d %d" % (2 * step, step // 2), "write -q -z -u %d %d" % (3 * step, step // 2),
           "write -q -c -P 5 %d %d" % (step // 2, 64 * K), "write -q -c -P 6 %d %d" % (5 * step // 2, 64 * K))
    return make


def extended_data_file(path, d):
    create(path, "extended_l2=on,cluster_size=16k,data_file=%s" % os.path.join(d, "extended-data"), 24 * M)
    scatter(path, 24 * M, 512 * K, 10 * K)
    io(path, "write -q -P 90 11k 3k", "write -q -z 2k 2k", "write -q -z %d 2k" % (512 * K + 2 * K),
       "write -q -z %d %d" % (M, 256 * K), "write -q -z -u %d %d" % (3 * M, 256 * K))


def extended_snapshots(path, d):
    extended("cluster_size=16k", 24 * M, 512 * K)(path, d)
    with_snapshots(path, 24 * M, 512 * K, 9 * K)


def luks(path, d):
    # It measures the processor first, and gives up where that is too busy to be measured.
    for _ in range(5):
        if run("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o",
               "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,cluster_size=4k",
               path, "4M").returncode == 0:
            scatter("driver=qcow2,encrypt.key-secret=s,file.filename=" + path, 4 * M, 512 * K, 16 * K, opts=LUKS)
            return
    if os.path.exists(path):
        os.unlink(path)
    print("# luks: cannot be made here")


BASES = {
    "64k": plain("cluster_size=64k", G, 150 * M, 256 * K),
    "4k-ours": plain("cluster_size=4k", 8 * M, 256 * K, 12 * K, "tap-img"),
    "512-1bit": plain("cluster_size=512,refcount_bits=1", M, 16 * K, 2 * K),
    "512-64bit-ours": plain("cluster_size=512,refcount_bits=64", M, 16 * K, 2 * K, "tap-img"),
    "snaps-4k": snapshots("cluster_size=4k", 8 * M, 512 * K, 16 * K),
    "snaps-v2": snapshots("compat=0.10,cluster_size=4k", 8 * M, 512 * K, 16 * K),
    "snaps-64k-8bit": snapshots("cluster_size=64k,refcount_bits=8", G, 170 * M, 256 * K),
    "packed-64k": packed("cluster_size=64k"),
    "packed-4k-zstd": packed("cluster_size=4k,compression_type=zstd"),
    "lazy": plain("cluster_size=4k,lazy_refcounts=on", 8 * M, 300 * K, 8 * K, "tap-img"),
    "over": over,
    "bitmaps": bitmaps,
    "2m-8bit": wide,
    "data-file": data_file,
    "extended": extended("cluster_size=16k", 24 * M, 512 * K),
    "extended-ours": extended("cluster_size=64k,refcount_bits=64", 64 * M, 2 * M, "tap-img"),
    "extended-snaps": extended_snapshots,
    "extended-data-file": extended_data_file,
    "luks": luks,
}


def make_bases(d, names):
    for name in names or BASES:
        BASES[name](os.path.join(d, name), d)
    return [n for n in names or BASES if os.path.exists(os.path.join(d, n))]


# ---- the two checkers ----

def qemu(path, base, repair=None):
    argv = ["qemu-img", "check", "--output=json"] + (["-r", repair] if repair else [])
    if base == "luks":
        r = run(*argv, *LUKS, "driver=qcow2,encrypt.key-secret=s,file.filename=" + path)
    else:
        r = run(*argv, "-f", "qcow2", path)
    return verdict(r)


def ours(path, repair=None):
    argv = ["tap-img", "check", "--output=json", "-f", "qcow2"] + (["--repair=" + repair] if repair else [])
    r = run(*argv, path)
    if r.returncode not in (0, 1, 2, 3):
        return (r.returncode, r.stderr, r.stderr)
    return verdict(r)


def verdict(r):
    """(exit code, (corruptions, leaks, other counters), what it said)"""
    try:
        j = json.loads(r.stdout)
    except ValueError:
        return (r.returncode, None, r.stderr)
    names = ("corruptions", "leaks", "allocated-clusters", "fragmented-clusters", "compressed-clusters",
             "total-clusters", "image-end-offset")
    return (r.returncode, tuple(j.get(n, 0) for n in names), r.stderr)


# ---- one image ----

class Wrong(Exception):
    pass


def check_guests(before, path, may_lose, kind):
    after = damage.Image(path).all_guests()
    if len(after) != len(before) and not kind.startswith("snapshot"):
        raise Wrong("%d snapshots are left of %d" % (len(after) - 1, len(before) - 1))
    for n, (was, now) in enumerate(zip(before, after)):
        if n > 0 and (len(after) != len(before) or kind == "snapshot-l1-is-active"):
            break  # which of them is left is not looked at, nor what it has of the disk as it is now
        for g in sorted(set(was) | set(now)):
            if g not in may_lose and was.get(g) != now.get(g):
                raise Wrong("guest cluster %d of table %d has changed" % (g, n))


def listed(exceptions, kind, base):
    sort = "data-file" if base.endswith("data-file") else base
    return kind in exceptions or kind + "/" + sort in exceptions


def one(d, base, kind, seed):
    path = os.path.join(d, "damaged")
    image = damage.Image(os.path.join(d, base))
    may_lose = damage.make(image, kind, seed, random.Random("%s/%s/%d" % (kind, base, seed)))
    image.save(path)
    before = damage.Image(os.path.join(d, base)).all_guests()

    q, o = qemu(path, base), ours(path)
    if q[0] != o[0] and not listed(OTHER_VERDICT, kind, base):
        raise Wrong("qemu-img: %s\ntap-img: %s" % (q, o))
    if (q[1] and o[1] and q[1][:2] != o[1][:2] and not listed(OTHER_NUMBERS, kind, base) and
            not listed(OTHER_VERDICT, kind, base)):
        raise Wrong("qemu-img: %s\ntap-img: %s" % (q, o))
    if q[0] == 0 and o[0] == 0 and q[1] != o[1]:
        raise Wrong("of a clean image: qemu-img: %s\ntap-img: %s" % (q, o))

    # Ours repairs; both find nothing.
    r = ours(path, "all")
    if listed(NOT_REPAIRED, kind, base):
        if r[0] == 0 or open(path, "rb").read() != bytes(image.b):
            raise Wrong("was to be left alone: %s" % (r,))
    else:
        q, o = qemu(path, base), ours(path)
        if r[0] or q[0] or o[0]:
            raise Wrong("after our repair: repair %s\nqemu-img: %s\ntap-img: %s" % (r, q, o))
        check_guests(before, path, may_lose, kind)

    # QEMU repairs; we find what it finds.
    image.save(path)
    r = qemu(path, base, "all")
    q, o = qemu(path, base), ours(path)
    if q[0] == 0 and o[0] != 0 and not listed(AFTER_QEMU, kind, base):
        raise Wrong("after QEMU's repair: qemu-img: %s\ntap-img: %s" % (q, o))
    if q[0] in (2, 3) and o[0] != q[0] and not listed(OTHER_VERDICT, kind, base):
        raise Wrong("after QEMU's repair: qemu-img: %s\ntap-img: %s" % (q, o))


# QEMU is satisfied, and we are not.
AFTER_QEMU = {
    "l2-on-l1": "QEMU counts the guest's data that lies in a table twice, and is satisfied; a read returns the table",
    "l2-on-l2": "the same",
    "packed-on-l1": "the same",
    "l1-on-l1": "the same",
    "l1-on-data": "the same",
    "l1-on-reftable": "the same",
    "l1-on-block": "the same",
    "l2-on-block": "the same",
    "l2-on-reftable": "the same",
    "l2-zero-in-v2": "see above",
    "l2-zero-beyond/data-file": "see above",
    "sub-zeros-beyond/data-file": "see above",
    "l1-twice/data-file": "see above",
    "snapshot-l1-is-active": "two L1 tables in one place",
}


# Small and quickly made, and among them is what most kinds of damage need.
QUICK = ["4k-ours", "snaps-4k", "512-1bit", "bitmaps", "packed-4k-zstd", "extended"]


def choose(images, amount, only):
    """(base, kind, seed)"""
    todo = []
    for k, (kind, (_, needs)) in enumerate(damage.KINDS.items()):
        fit = [b for b in images if damage.fits(images[b], needs)]
        if amount == "quick":
            fit = [fit[k % len(fit)]] if fit and k % 3 == 0 else []
        todo += [(b, kind, n) for n, b in enumerate(fit)]
    if only:
        todo = [t for t in todo if any(("%s/%s/%d" % (t[1], t[0], t[2])).startswith(o) for o in only)]
    return todo


def main():
    d, amount, only = sys.argv[1], sys.argv[2], sys.argv[3:]
    bases = make_bases(d, QUICK if amount == "quick" else None)
    images = {b: damage.Image(os.path.join(d, b)) for b in bases}
    bad = 0
    for b in bases:
        path = os.path.join(d, b)
        q, o = qemu(path, b), ours(path)
        if q[:2] != o[:2] or q[0]:
            print("%s, undamaged: qemu-img %s, tap-img %s" % (b, q, o))
            bad += 1
    todo = choose(images, "all" if only else amount, only)
    for b, kind, n in todo:
        try:
            one(d, b, kind, n)
        except Wrong as e:
            print("%s/%s/%d: %s" % (kind, b, n, e))
            bad += 1
    print("# %d damaged images, %d kinds of damage, %d honest images: %d wrong" %
          (len(todo), len({t[1] for t in todo}), len(bases), bad))
    sys.exit(1 if bad else 0)


main()
