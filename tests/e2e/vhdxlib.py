# SPDX-License-Identifier: BSD-2-Clause
# VHDX images by hand, from the specification: what no program here makes (differencing disks, logs with more than one
# entry), and what is wrong in one place.
import functools
import struct
import uuid

MIB = 1 << 20
SECTOR = 4096
LOG, BAT, META, BLOCKS = MIB, 2 * MIB, 3 * MIB, 4 * MIB  # as they lie in these images
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, PRESENT, PARTLY = 0, 1, 2, 3, 6, 7
ITEMS = {"file": "caa16737-fa36-4d43-b3b6-33f0aa44e76b", "size": "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
         "id": "beca12ab-b2e6-4523-93ef-c309e000c746", "logical": "8141bf1d-a96f-4709-ba47-f233a8faab5f",
         "physical": "cda348c7-445d-4471-9cc9-e9885251c556", "locator": "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"}


def guid(text):
    return uuid.UUID(text).bytes_le


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc32c.table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xffffffff


crc32c.table = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
    crc32c.table.append(n)


def summed(data):
    data = bytearray(data)
    struct.pack_into("<I", data, 4, 0)
    struct.pack_into("<I", data, 4, crc32c(data))
    return bytes(data)


def header(sequence, data_guid, log_guid=bytes(16), log_len=MIB, log_off=LOG, version=1):
    head = struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, sequence, bytes(16), data_guid, log_guid, 0, version, log_len,
                       log_off)
    return summed(head.ljust(4096, b"\0"))


@functools.lru_cache(maxsize=None)
def regions(entries=((BAT, MIB), (META, MIB)), more=b""):
    names = "2dc27766-f623-4200-9d64-115e9bfd4a08", "8b7ca206-4790-4b9a-b8fe-575f050f886e"
    body = b"".join(struct.pack("<16sQII", guid(g), off, n, 1) for g, (off, n) in zip(names, entries)) + more
    return summed((struct.pack("<4sIII", b"regi", 0, len(body) // 32, 0) + body).ljust(65536, b"\0"))


def locator(**values):
    values = [(k.encode("utf-16-le"), v.encode("utf-16-le")) for k, v in values.items()]
    head, body = b"", b""
    at = 20 + 12 * len(values)
    for key, value in values:
        off = at + len(body)
        head += struct.pack("<IIHH", off, off + len(key), len(key), len(value))
        body += key + value
    return guid("b04aefb7-d19e-4a81-b789-25b8e9445913") + struct.pack("<HH", 0, len(values)) + head + body


def metadata(items):
    table, body = b"", b""
    for name, value in items.items():
        table += struct.pack("<16sIIII", guid(ITEMS[name]), 65536 + len(body), len(value), 6, 0)
        body += value
    return (struct.pack("<8sHH20x", b"metadata", 0, len(items)) + table).ljust(65536, b"\0") + body


# An entry of the log: changes are (offset, 4096 bytes) or (offset, how many zeros).
def log_entry(sequence, tail, log_guid, changes, file_len):
    descs, data = b"", b""
    for off, what in changes:
        if isinstance(what, int):
            descs += struct.pack("<4sIQQQ", b"zero", 0, what, off, sequence)
        else:
            descs += struct.pack("<4s4s8sQQ", b"desc", what[-4:], what[:8], off, sequence)
            data += struct.pack("<4sI", b"data", sequence >> 32) + what[8:-4] + struct.pack("<I", sequence & 0xffffffff)
    size = -(-(64 + len(descs)) // SECTOR) * SECTOR
    head = struct.pack("<4sIIIQII16sQQ", b"loge", 0, size + len(data), tail, sequence, len(changes), 0, log_guid,
                       file_len, file_len)
    return summed((head + descs).ljust(size, b"\0") + data)


class Image:
    # blocks: number -> (state, bytes); of PARTLY ones the bytes are sectors, None where the parent has them.
    def __init__(self, size, block=MIB, data_guid=guid("11111111-0000-0000-0000-000000000000"), parent=None):
        self.size, self.block, self.data_guid, self.parent = size, block, data_guid, parent
        self.log_guid, self.ring = bytes(16), bytearray(MIB)
        self.bat, self.blocks, self.bits = {}, [], bytearray(MIB)
        self.ratio = (512 << 23) // block
        self.items = {"file": struct.pack("<II", block, 2 if parent else 0), "size": struct.pack("<Q", size),
                      "id": bytes(16), "logical": struct.pack("<I", 512), "physical": struct.pack("<I", 4096)}
        if parent:
            self.items["locator"] = locator(**parent)
            self.bitmap_at = self.add(b"")
            self.bat[self.ratio] = self.bitmap_at | PRESENT

    def add(self, data):
        at = BLOCKS + sum(len(b) for b in self.blocks)
        self.blocks.append(data.ljust(-(-max(len(data), 1) // MIB) * MIB, b"\0"))
        return at

    def put(self, number, state, data=None):
        at = 0
        if state == PARTLY:
            for i, sector in enumerate(data):
                if sector is not None:
                    bit = number * (self.block // 512) + i
                    self.bits[bit // 8] |= 1 << bit % 8
            data = b"".join(s or b"\xee" * 512 for s in data)
        if data is not None:
            at = self.add(data)
        self.bat[number + number // self.ratio] = at | state
        return at

    def bat_sector(self, changes=()):
        entries = dict(self.bat, **dict(changes)) if not changes else {**self.bat, **dict(changes)}
        return b"".join(struct.pack("<Q", entries.get(i, 0)) for i in range(512))

    # Entries one behind the other from a byte of the ring on; each is (sequence, changes).
    def log(self, log_guid, entries, start=0):
        self.log_guid = log_guid
        at = start
        for sequence, changes in entries:
            raw = log_entry(sequence, start, log_guid, changes, self.length())
            for i in range(0, len(raw), SECTOR):
                self.ring[(at + i) % MIB:(at + i) % MIB + SECTOR] = raw[i:i + SECTOR]
            at += len(raw)

    def length(self):
        return BLOCKS + sum(len(b) for b in self.blocks)

    def pieces(self):
        out = [(0, b"vhdxfile"), (65536, header(1, self.data_guid)), (131072, header(2, self.data_guid, self.log_guid)),
               (192 << 10, regions()), (256 << 10, regions()), (LOG, bytes(self.ring)), (META, metadata(self.items))]
        out += [(BAT + 8 * i, struct.pack("<Q", e)) for i, e in self.bat.items()]
        at = BLOCKS
        for data in self.blocks:
            out.append((at, data))
            at += len(data)
        if self.parent:
            out.append((self.bitmap_at, bytes(self.bits)))
        return out

    def save(self, path, *more, length=None):
        with open(path, "wb") as f:
            f.truncate(self.length() if length is None else max(length, self.length()))
            for at, data in self.pieces() + list(more):
                f.seek(at)
                f.write(data)
            if length is not None:
                f.truncate(length)
