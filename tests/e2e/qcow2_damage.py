# SPDX-License-Identifier: BSD-2-Clause
"""Damaged qcow2 images, in named ways: honest images are read here (an own, small reader) and one thing in them is made
wrong.  The same name, base and seed give the same image.

Each kind of damage returns the guest clusters whose data may be lost by it; all others have to read as before."""
import struct

COPIED = 1 << 63
PACKED = 1 << 62
OFF = 0x00FFFFFFFFFFFE00
MARK = b"Guest data that was lost"  # what a repair leaves where data was


class Image:
    """The bytes of an image, and where things are in it."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.b = bytearray(f.read())
        self.parse()

    def save(self, path):
        with open(path, "wb") as f:
            f.write(self.b)

    def u32(self, at):
        return struct.unpack_from(">I", self.b, at)[0]

    def u64(self, at):
        return struct.unpack_from(">Q", self.b, at)[0] if at + 8 <= len(self.b) else 0

    def put32(self, at, v):
        struct.pack_into(">I", self.b, at, v)

    def put64(self, at, v):
        struct.pack_into(">Q", self.b, at, v & (2**64 - 1))

    def parse(self):
        self.version = self.u32(4)
        self.bits = self.u32(20)
        self.cs = 1 << self.bits
        self.size = self.u64(24)
        self.l1_size, self.l1_off = self.u32(36), self.u64(40)
        self.rt_off, self.rt_clusters = self.u64(48), self.u32(56)
        self.nr_snaps, self.snaps_off = self.u32(60), self.u64(64)
        self.incompat = self.u64(72) if self.version >= 3 else 0
        self.order = self.u32(96) if self.version >= 3 else 4
        self.rbits = 1 << self.order
        self.per_block = self.cs * 8 // self.rbits
        self.data_file = bool(self.incompat & 4)
        self.extended = bool(self.incompat & 16)
        self.entry = 16 if self.extended else 8  # bytes of an L2 entry
        self.per_table = self.cs // self.entry

    # ---- what is there ----

    def clusters(self):
        return (len(self.b) + self.cs - 1) // self.cs

    def tables(self, l1_off=None, l1_size=None):
        """(index in L1, offset) of each L2 table."""
        l1_off, l1_size = (self.l1_off, self.l1_size) if l1_off is None else (l1_off, l1_size)
        return [(i, self.u64(l1_off + 8 * i) & OFF) for i in range(l1_size) if self.u64(l1_off + 8 * i) & OFF]

    def table(self, off):
        """(descriptor, what an extended entry says of its subclusters) of each entry."""
        words = struct.unpack(">%dQ" % (self.cs // 8), self.b[off:off + self.cs].ljust(self.cs, b"\0"))
        return list(zip(words[::2], words[1::2])) if self.extended else [(w, 0) for w in words]

    def entries(self, kind="data"):
        """(where, guest cluster, descriptor) of the L2 entries of a kind: data, packed, none, zero."""
        n = self.per_table
        return [(off + self.entry * k, i * n + k, e[0]) for i, off in self.tables()
                for k, e in enumerate(self.table(off)) if self.kind(*e) == kind]

    def kind(self, raw, bitmap):
        if raw & PACKED:
            return "packed"
        if self.extended:
            return "data" if raw & OFF and bitmap & 0xFFFFFFFF else "zero" if raw & OFF or bitmap else "none"
        if raw & 1:
            return "zero"
        return "data" if raw & OFF else "none"

    def block(self, region):
        return self.u64(self.rt_off + 8 * region) & OFF

    def blocks(self):
        n = self.rt_clusters * self.cs // 8
        return [(i, self.block(i)) for i in range(n) if self.block(i)]

    def count(self, cluster):
        block = self.block(cluster // self.per_block)
        if not block:
            return 0
        i = cluster % self.per_block
        if self.rbits >= 8:
            n = self.rbits // 8
            return int.from_bytes(self.b[block + i * n:block + i * n + n], "big")
        per = 8 // self.rbits
        return self.b[block + i // per] >> (i % per * self.rbits) & ((1 << self.rbits) - 1)

    def set_count(self, cluster, value):
        block = self.block(cluster // self.per_block)
        i = cluster % self.per_block
        value &= (1 << self.rbits) - 1
        if self.rbits >= 8:
            n = self.rbits // 8
            self.b[block + i * n:block + i * n + n] = value.to_bytes(n, "big")
        else:
            per = 8 // self.rbits
            shift = i % per * self.rbits
            self.b[block + i // per] &= ~(((1 << self.rbits) - 1) << shift) & 255
            self.b[block + i // per] |= value << shift

    def snapshots(self):
        """(where, L1 offset, L1 entries) of each."""
        at, found = self.snaps_off, []
        for _ in range(self.nr_snaps):
            idl, namel = struct.unpack_from(">HH", self.b, at + 12)
            extra = self.u32(at + 36)
            found.append((at, self.u64(at), self.u32(at + 8)))
            at = (at + 40 + extra + idl + namel + 7) & ~7
        return found

    def bitmaps(self):
        """Where the bitmaps extension's data is; None."""
        at = 72 if self.version == 2 else self.u32(100)
        while at + 8 <= self.cs and self.u32(at):
            if self.u32(at) == 0x23852875:
                return at + 8
            at += 8 + (self.u32(at + 4) + 7 & ~7)
        return None

    def append(self, data=b""):
        """A new cluster at the end, counted by nobody; its offset."""
        at = self.clusters() * self.cs
        self.b += bytes(at - len(self.b)) + data.ljust(self.cs, b"\0")
        return at

    # ---- what the guest sees ----

    def guest(self, l1_off=None, l1_size=None):
        """Guest cluster -> what is read there: bytes, "zero", "lost", or nothing for a hole."""
        seen = {}
        mask = (1 << (70 - self.bits)) - 1
        for i, table in self.tables(l1_off, l1_size):
            for k, (raw, bitmap) in enumerate(self.table(table)):
                if not raw and not bitmap:
                    continue
                g = i * self.per_table + k
                if raw & PACKED:
                    off = raw & mask
                    nsec = (raw & (PACKED - 1)) >> (70 - self.bits)
                    data = bytes(self.b[off:(off & ~511) + (nsec + 1) * 512])
                    seen[g] = "lost" if data[16:16 + len(MARK)] == MARK else data
                elif self.extended and self.data_file:
                    seen[g] = (raw & OFF, bitmap)
                elif self.extended:
                    seen[g] = self.subclusters(raw & OFF, bitmap)
                elif raw & 1:
                    seen[g] = "zero"
                elif raw & OFF and self.data_file:
                    seen[g] = raw & OFF
                elif raw & OFF:
                    seen[g] = bytes(self.b[raw & OFF:(raw & OFF) + self.cs].ljust(self.cs, b"\0"))
        return seen

    def subclusters(self, off, bitmap):
        size = self.cs // 32
        return [bytes(self.b[off + size * i:off + size * (i + 1)]) if bitmap >> i & 1 else
                "zero" if bitmap >> 32 + i & 1 else "hole" for i in range(32)]

    def all_guests(self):
        return [self.guest()] + [self.guest(off, n) for _, off, n in self.snapshots()]


# ---- damage ----

KINDS = {}


def damage(needs=""):
    """Register a kind; needs: words of fits()."""
    def register(fn):
        KINDS[fn.__name__.replace("_", "-")] = (fn, needs.split())
        return fn
    return register


def fits(base, needs):
    has = {"snaps": base.nr_snaps > 0, "packed": bool(base.entries("packed")), "data": bool(base.entries()),
           "zero": bool(base.entries("zero")),
           "bitmaps": base.bitmaps() is not None, "v3": base.version >= 3, "wide": base.rbits >= 4,
           "inside": not base.data_file, "tables": len(base.tables()) > 1, "v2": base.version == 2,
           "extended": base.extended}
    return all(has[n] for n in needs)


def pick_entry(im, rng, kind="data"):
    return rng.choice(im.entries(kind))


def all_of(im, table_index):
    n = im.per_table
    return set(range(table_index * n, (table_index + 1) * n))


# refcounts

@damage("data inside")
def count_of_data_zero(im, rng):
    im.set_count((pick_entry(im, rng)[2] & OFF) >> im.bits, 0)


@damage("data inside")
def counts_of_data_zero(im, rng):
    for where, g, raw in rng.sample(im.entries(), min(12, len(im.entries()))):
        im.set_count((raw & OFF) >> im.bits, 0)


@damage("data inside wide")
def count_of_data_high(im, rng):
    c = (pick_entry(im, rng)[2] & OFF) >> im.bits
    im.set_count(c, im.count(c) + rng.randrange(1, 9))


@damage("data inside wide")
def count_of_data_max(im, rng):
    im.set_count((pick_entry(im, rng)[2] & OFF) >> im.bits, 2**64 - 1)


@damage("snaps wide")
def count_of_shared_low(im, rng):
    shared = [r for _, _, r in im.entries() if im.count((r & OFF) >> im.bits) > 1]
    im.set_count((rng.choice(shared) & OFF) >> im.bits, 1)


@damage("")
def count_of_nothing(im, rng):
    for _ in range(rng.randrange(1, 5)):
        at = im.append(b"leak")
        if im.block((at >> im.bits) // im.per_block):
            im.set_count(at >> im.bits, rng.choice([1, 1, 2]) if im.rbits > 1 else 1)


@damage("")
def count_of_l1_zero(im, rng):
    im.set_count(im.l1_off >> im.bits, 0)


@damage("")
def count_of_l2_zero(im, rng):
    im.set_count(rng.choice(im.tables())[1] >> im.bits, 0)


@damage("wide")
def count_of_l2_high(im, rng):
    c = rng.choice(im.tables())[1] >> im.bits
    im.set_count(c, im.count(c) + 1)


@damage("")
def count_of_header_zero(im, rng):
    im.set_count(0, 0)


@damage("")
def count_of_reftable_zero(im, rng):
    im.set_count(im.rt_off >> im.bits, 0)


@damage("wide")
def count_of_reftable_high(im, rng):
    im.set_count(im.rt_off >> im.bits, 3)


@damage("")
def count_of_block_zero(im, rng):
    im.set_count(rng.choice(im.blocks())[1] >> im.bits, 0)


@damage("snaps")
def count_of_snapshot_table_zero(im, rng):
    im.set_count(im.snaps_off >> im.bits, 0)


@damage("snaps")
def count_of_snapshot_l1_zero(im, rng):
    im.set_count(rng.choice(im.snapshots())[1] >> im.bits, 0)


@damage("bitmaps v3")
def count_of_bitmap_directory_zero(im, rng):
    im.set_count(im.u64(im.bitmaps() + 16) >> im.bits, 0)


# refcount structure

@damage("")
def block_zeroed(im, rng):
    at = rng.choice(im.blocks())[1]
    im.b[at:at + im.cs] = bytes(im.cs)


@damage("")
def block_garbage(im, rng):
    at = rng.choice(im.blocks())[1]
    n = min(im.cs, 4096)
    im.b[at:at + n] = rng.randbytes(n)


@damage("")
def block_missing(im, rng):
    im.put64(im.rt_off + 8 * rng.choice(im.blocks())[0], 0)


@damage("")
def block_misaligned(im, rng):
    if im.cs == 512:
        return block_beyond(im, rng)
    i, at = rng.choice(im.blocks())
    im.put64(im.rt_off + 8 * i, at + 512)


@damage("")
def block_beyond(im, rng):
    im.put64(im.rt_off + 8 * rng.choice(im.blocks())[0], (im.clusters() + rng.randrange(3, 900)) * im.cs)


@damage("")
def block_reserved(im, rng):
    i, at = rng.choice(im.blocks())
    im.put64(im.rt_off + 8 * i, at | 1 << rng.randrange(0, 9))


@damage("")
def block_twice(im, rng):
    i, at = im.blocks()[-1]
    im.put64(im.rt_off + 8 * (i + 1), at)


@damage("data inside")
def block_on_data(im, rng):
    im.put64(im.rt_off + 8 * rng.choice(im.blocks())[0], pick_entry(im, rng)[2] & OFF)


@damage("")
def block_on_l1(im, rng):
    im.put64(im.rt_off + 8 * rng.choice(im.blocks())[0], im.l1_off)


@damage("")
def block_on_l2(im, rng):
    im.put64(im.rt_off + 8 * rng.choice(im.blocks())[0], rng.choice(im.tables())[1])


@damage("")
def reftable_misaligned(im, rng):
    im.put64(48, im.rt_off + 8)


@damage("")
def reftable_beyond(im, rng):
    im.put64(48, (im.clusters() + 10) * im.cs)


@damage("")
def reftable_empty(im, rng):
    im.put32(56, 0)


@damage("")
def reftable_zeroed(im, rng):
    im.b[im.rt_off:im.rt_off + im.cs] = bytes(im.cs)


# L1

@damage("")
def l1_reserved(im, rng):
    at = im.l1_off + 8 * rng.choice(im.tables())[0]
    im.put64(at, im.u64(at) | 1 << rng.choice([0, 3, 8, 57, 62]))


@damage("")
def l1_flag(im, rng):
    at = im.l1_off + 8 * rng.choice(im.tables())[0]
    im.put64(at, im.u64(at) ^ COPIED)


@damage("")
def l1_misaligned(im, rng):
    i, table = rng.choice(im.tables())
    if im.cs == 512:
        return l1_beyond(im, rng)
    im.put64(im.l1_off + 8 * i, im.u64(im.l1_off + 8 * i) + 512)
    return all_of(im, i)


@damage("")
def l1_beyond(im, rng):
    i, table = rng.choice(im.tables())
    im.put64(im.l1_off + 8 * i, (im.clusters() + rng.randrange(1, 1000)) * im.cs | COPIED)
    return all_of(im, i)


@damage("")
def l1_dropped(im, rng):
    i, table = rng.choice(im.tables())
    im.put64(im.l1_off + 8 * i, 0)
    return all_of(im, i)


@damage("tables")
def l1_twice(im, rng):
    (a, _), (b, other) = rng.sample(im.tables(), 2)
    im.put64(im.l1_off + 8 * a, im.u64(im.l1_off + 8 * b))
    return all_of(im, a)


@damage("")
def l1_on_reftable(im, rng):
    i, _ = rng.choice(im.tables())
    im.put64(im.l1_off + 8 * i, im.rt_off | COPIED)
    return all_of(im, i)


@damage("")
def l1_on_block(im, rng):
    i, _ = rng.choice(im.tables())
    im.put64(im.l1_off + 8 * i, im.blocks()[0][1] | COPIED)
    return all_of(im, i)


@damage("")
def l1_on_l1(im, rng):
    i, _ = rng.choice(im.tables())
    im.put64(im.l1_off + 8 * i, im.l1_off | COPIED)
    return all_of(im, i)


@damage("data inside")
def l1_on_data(im, rng):
    i, _ = rng.choice(im.tables())
    _, g, raw = pick_entry(im, rng)
    im.put64(im.l1_off + 8 * i, raw)
    return all_of(im, i)


@damage("")
def l2_garbage(im, rng):
    i, table = rng.choice(im.tables())
    n = min(im.cs, 1024)
    im.b[table:table + n] = rng.randbytes(n)
    return all_of(im, i)


# L2

@damage("data")
def l2_reserved(im, rng):
    at, _, raw = pick_entry(im, rng)
    im.put64(at, raw | 1 << rng.choice([1, 4, 8, 56, 61]))


@damage("data")
def l2_flag(im, rng):
    at, _, raw = pick_entry(im, rng)
    im.put64(at, raw ^ COPIED)


@damage("data")
def l2_flags(im, rng):
    for at, _, raw in rng.sample(im.entries(), min(9, len(im.entries()))):
        im.put64(at, raw ^ COPIED)


@damage("data inside")
def l2_misaligned(im, rng):
    if im.cs == 512:
        return l2_beyond(im, rng)
    at, g, raw = pick_entry(im, rng)
    im.put64(at, raw + 512 * rng.randrange(1, im.cs // 512))
    return {g}


@damage("data inside")
def l2_beyond(im, rng):
    at, g, raw = pick_entry(im, rng)
    im.put64(at, raw & ~OFF | (im.clusters() + rng.randrange(1, 1 << 20)) * im.cs)
    return {g}


@damage("data inside")
def l2_far_beyond(im, rng):
    at, g, raw = pick_entry(im, rng)
    im.put64(at, raw | 1 << 54)
    return {g}


@damage("data inside")
def l2_twice(im, rng):
    (a, g, _), (_, _, raw) = rng.sample(im.entries(), 2)
    im.put64(a, raw)
    return {g}


@damage("data inside")
def l2_dropped(im, rng):
    at, g, _ = pick_entry(im, rng)
    im.put64(at, 0)
    return {g}


@damage("data inside")
def l2_on_l1(im, rng):
    at, g, _ = pick_entry(im, rng)
    im.put64(at, im.l1_off | COPIED)
    return {g}


@damage("data inside")
def l2_on_l2(im, rng):
    at, g, _ = pick_entry(im, rng)
    im.put64(at, rng.choice(im.tables())[1] | COPIED)
    return {g}


@damage("data inside")
def l2_on_block(im, rng):
    at, g, _ = pick_entry(im, rng)
    im.put64(at, im.blocks()[0][1] | COPIED)
    return {g}


@damage("data inside")
def l2_on_reftable(im, rng):
    at, g, _ = pick_entry(im, rng)
    im.put64(at, im.rt_off | COPIED)
    return {g}


@damage("data inside v3")
def l2_zero_misaligned(im, rng):
    at, g, raw = pick_entry(im, rng)
    im.put64(at, (raw + (512 if im.cs > 512 else 1 << 40)) | 1)
    return {g}


@damage("data v3")
def l2_zero_beyond(im, rng):
    at, g, raw = pick_entry(im, rng)
    im.put64(at, raw & ~OFF | (im.clusters() + 77) * im.cs | 1)
    return {g}


@damage("data v2")
def l2_zero_in_v2(im, rng):
    at, g, raw = pick_entry(im, rng)
    im.put64(at, raw | 1)
    return {g}


@damage("inside")
def l2_nothing_copied(im, rng):
    at, g, _ = pick_entry(im, rng, "none")
    im.put64(at, COPIED)


# compressed

@damage("packed")
def packed_flag(im, rng):
    at, _, raw = pick_entry(im, rng, "packed")
    im.put64(at, raw | COPIED)


@damage("packed")
def packed_beyond(im, rng):
    at, g, raw = pick_entry(im, rng, "packed")
    low = (1 << (70 - im.bits)) - 1
    im.put64(at, raw & ~low | (len(im.b) + rng.randrange(1 << 20, 1 << 24)))
    return {g}


@damage("packed")
def packed_on_l1(im, rng):
    at, g, raw = pick_entry(im, rng, "packed")
    low = (1 << (70 - im.bits)) - 1
    im.put64(at, raw & ~low | im.l1_off + 100)
    return {g}


@damage("packed")
def packed_dropped(im, rng):
    at, g, raw = pick_entry(im, rng, "packed")
    im.put64(at, 0)
    return {g}


@damage("packed")
def packed_count_zero(im, rng):
    raw = pick_entry(im, rng, "packed")[2]
    im.set_count((raw & ((1 << (70 - im.bits)) - 1)) >> im.bits, 0)


# snapshots

@damage("snaps")
def snapshot_l1_misaligned(im, rng):
    at, off, _ = rng.choice(im.snapshots())
    im.put64(at, off + 8)


@damage("snaps")
def snapshot_l1_beyond(im, rng):
    im.put64(rng.choice(im.snapshots())[0], (im.clusters() + 50) * im.cs)


@damage("snaps")
def snapshot_l1_huge(im, rng):
    im.put32(rng.choice(im.snapshots())[0] + 8, 0x7FFFFFFF)


@damage("snaps")
def snapshot_l1_is_active(im, rng):
    im.put64(rng.choice(im.snapshots())[0], im.l1_off)


@damage("snaps")
def snapshot_entry_beyond(im, rng):
    _, off, n = rng.choice(im.snapshots())
    i, _ = rng.choice(im.tables(off, n))
    im.put64(off + 8 * i, (im.clusters() + 5) * im.cs)
    return all_of(im, i)


@damage("snaps")
def snapshot_entry_reserved(im, rng):
    _, off, n = rng.choice(im.snapshots())
    i, table = rng.choice(im.tables(off, n))
    im.put64(off + 8 * i, table | 1 << 60)


@damage("snaps v3")
def snapshot_incomplete(im, rng):
    at = rng.choice(im.snapshots())[0]
    name = im.b[at + 40 + im.u32(at + 36):]
    idl, namel = struct.unpack_from(">HH", im.b, at + 12)
    total = 40 + im.u32(at + 36) + idl + namel
    fill = (total + 7 & ~7) - 40 - idl - namel  # the name takes the room of the data that goes
    im.put32(at + 36, 0)
    im.b[at + 40:at + 40 + idl + namel] = name[:idl + namel]
    struct.pack_into(">H", im.b, at + 14, namel + fill)
    im.b[at + 40 + idl + namel:at + 40 + idl + namel + fill] = b"x" * fill


@damage("snaps")
def snapshot_fewer(im, rng):
    im.put32(60, im.nr_snaps - 1)


@damage("snaps")
def snapshot_table_beyond(im, rng):
    im.put64(64, (im.clusters() + 9) * im.cs)


@damage("snaps")
def snapshot_table_misaligned(im, rng):
    im.put64(64, im.snaps_off + 8)


# bitmaps

@damage("bitmaps v3")
def bitmap_bit_cleared(im, rng):
    im.put64(88, im.u64(88) & ~1)


@damage("bitmaps v3")
def bitmap_entry_wrong(im, rng):
    dir_off = im.u64(im.bitmaps() + 16)
    table = im.u64(dir_off)
    im.put64(table, im.u64(table) | 1 << 60)


@damage("bitmaps v3")
def bitmap_table_misaligned(im, rng):
    dir_off = im.u64(im.bitmaps() + 16)
    im.put64(dir_off, im.u64(dir_off) + 8)


@damage("bitmaps v3")
def bitmap_data_count_zero(im, rng):
    table = im.u64(im.u64(im.bitmaps() + 16))
    im.set_count((im.u64(table) & OFF) >> im.bits or table >> im.bits, 0)


# bits, and the file

@damage("v3")
def bit_corrupt(im, rng):
    im.put64(72, im.u64(72) | 2)


@damage("v3")
def bit_dirty(im, rng):
    im.put64(72, im.u64(72) | 1)


@damage("v3 data inside")
def bits_and_counts(im, rng):
    im.put64(72, im.u64(72) | 3)
    return counts_of_data_zero(im, rng)


@damage("data inside")
def cut_short(im, rng):
    keep = max(im.clusters() * 3 // 4, 5) * im.cs
    lost = {g for _, g, raw in im.entries() if (raw & OFF) + im.cs > keep}
    for i, table in im.tables():
        if table + im.cs > keep:
            lost |= all_of(im, i)
    lost |= {g for _, g, raw in im.entries("packed")}
    del im.b[keep:]
    return lost


@damage("data inside")
def cut_last(im, rng):
    last = max(raw & OFF for _, _, raw in im.entries())
    lost = {g for _, g, raw in im.entries() if (raw & OFF) >= last}
    lost |= {g for _, g, raw in im.entries("packed")}
    del im.b[last:]
    return lost


# extended entries: what they say of their subclusters

def change_bitmap(im, at, change):
    im.put64(at + 8, change(im.u64(at + 8)))


@damage("extended data")
def sub_both(im, rng):
    """One subcluster is data, and zeros."""
    at, g, _ = pick_entry(im, rng)
    i = rng.choice([i for i in range(32) if im.u64(at + 8) >> i & 1])
    change_bitmap(im, at, lambda b: b | 1 << 32 + i)
    return {g}


@damage("extended data")
def sub_all_both(im, rng):
    at, g, _ = pick_entry(im, rng)
    im.put64(at + 8, -1)
    return {g}


@damage("extended data")
def sub_data_nowhere(im, rng):
    """Data, and the cluster is gone."""
    at, g, _ = pick_entry(im, rng)
    im.put64(at, 0)
    return {g}


@damage("extended")
def sub_data_of_hole(im, rng):
    at, g, _ = pick_entry(im, rng, "none")
    im.put64(at + 8, 1 << rng.randrange(32))
    return {g}


@damage("extended zero")
def sub_data_of_zeros(im, rng):
    at, g, _ = pick_entry(im, rng, "zero")
    im.put64(at, 0)
    change_bitmap(im, at, lambda b: b >> 32 or 1)
    return {g}


@damage("extended packed")
def sub_of_packed(im, rng):
    at, _, _ = pick_entry(im, rng, "packed")
    im.put64(at + 8, rng.choice([1, 1 << 31, 1 << 32, 1 << 63, 2**64 - 1]))


@damage("extended data")
def sub_zero_flag(im, rng):
    """The flag that says zeros in other images."""
    at, _, raw = pick_entry(im, rng)
    im.put64(at, raw | 1)


@damage("extended data")
def sub_zeros_misaligned(im, rng):
    """A cluster without data is nobody's loss."""
    at, g, raw = pick_entry(im, rng)
    im.put64(at, raw + 512)
    change_bitmap(im, at, lambda b: 0xFFFFFFFF << 32)
    return {g}


@damage("extended data")
def sub_zeros_beyond(im, rng):
    at, g, raw = pick_entry(im, rng)
    im.put64(at, raw & ~OFF | (im.clusters() + 77) * im.cs)
    change_bitmap(im, at, lambda b: 0xFFFFFFFF << 32)
    return {g}


@damage("extended data")
def sub_reserved(im, rng):
    at, _, raw = pick_entry(im, rng)
    im.put64(at, raw | 1 << rng.choice([56, 61, 1, 8]) | 1)


@damage("extended data snaps")
def sub_both_of_snapshot(im, rng):
    """Entries of the snapshots too."""
    lost = set()
    for l1, n in [(off, n) for _, off, n in im.snapshots()]:
        for i, table in im.tables(l1, n):
            for k, (raw, bitmap) in enumerate(im.table(table)):
                if raw & OFF and bitmap & 1 and len(lost) < 3:
                    im.put64(table + im.entry * k + 8, bitmap | 1 << 32)
                    lost.add(i * im.per_table + k)
    return lost


def make(base, name, seed, rng):
    """Damage base (an Image, changed) and say which guest clusters may be lost."""
    fn, _ = KINDS[name]
    return fn(base, rng) or set()
