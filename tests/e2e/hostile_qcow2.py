# SPDX-License-Identifier: BSD-2-Clause
"""qcow2: what lies beside the tables of the disk: encryption headers, bitmaps, snapshots."""
import os
import struct
import subprocess

from hostile_lib import EITHER, FAR, WORKS

SLOTS, SLOT = 208, 48


def extension(data, magic):
    """Offset of the data of the header extension."""
    at = struct.unpack_from(">I", data, 100)[0]
    while True:
        kind, length = struct.unpack_from(">II", data, at)
        if kind == magic:
            return at + 8
        assert kind, "there is no such extension"
        at += 8 + (length + 7 & ~7)


def luks(f, whole):
    named = extension(whole, 0x0537be77)
    at, length = struct.unpack_from(">QQ", whole, named)
    l1 = struct.unpack_from(">Q", whole, 40)[0]
    f.put("sound", whole, read=WORKS)
    for name, off, n in (("far", FAR, length), ("wraps", 2**64 - 512, length), ("in-header", 0, length), ("odd",
            at + 1, length),
                         ("nothing", at, 0), ("short", at, 591), ("4G", at, 1 << 32), ("all-ones", at, 2**64 - 1)):
        f.put("area-" + name, whole, (named, "QQ", off, n))
    f.put("area-in-l1", whole, (named, "Q", l1), read=EITHER)
    for name, field, fmt, value in (("magic", 0, "6s", b"SKUL\xba\xbe"), ("version-2", 6, "H", 2), ("cipher", 8,
            "32s", b"des"),
                                    ("cipher-endless", 8, "32s", b"a" * 32), ("mode", 40, "32s", b"gcm-plain"),
                                    ("mode-no-hash", 40, "32s", b"cbc-essiv:"), ("mode-endless", 40, "32s",
                                            b"x" * 32),
                                    ("mode-controls", 40, "32s", b"a\x1b[2J"), ("hash", 72, "32s", b"md4"),
                                    ("hash-endless", 72, "32s", b"s" * 32), ("key-none", 108, "I", 0), ("key-odd",
                                            108, "I", 63),
                                    ("key-65", 108, "I", 65), ("key-4G", 108, "I", 2**32 - 1), ("rounds-none", 164,
                                            "I", 0),
                                    ("rounds-absurd", 164, "I", 2**32 - 1), ("uuid-endless", 168, "40s", b"u" * 40)):
        f.put("header-" + name, whole, (at + field, fmt, value))
    slot = at + SLOTS
    for name, field, value in (("state", 0, 7), ("rounds-none", 4, 0), ("rounds-absurd", 4, 2**32 - 1),
                               ("rounds-absurd-31", 4, 2**31 - 1), ("rounds-hours", 4, 1 << 30), ("sector-none", 40,
                                       0),
                               ("sector-in-header", 40, 1), ("sector-far", 40, 2**32 - 1),
                               ("sector-at-end", 40, length // 512 - 1), ("stripes-none", 44, 0), ("stripes-one",
                                       44, 1),
                               ("stripes-4G", 44, 2**32 - 1), ("off", 0, 0xdead)):
        f.put("slot-" + name, whole, (slot + field, "I", value))
    slots = [struct.unpack_from(">II32sII", whole, slot + i * SLOT) for i in range(8)]

    def all_slots(name, *patches, **change):
        data = b"".join(struct.pack(">II32sII", 0x00ac71f3, change["rounds"], b"\1" * 32, change.get("sector",
                s[3]), 4000)
                        for s in slots)
        f.put(name, whole, (slot, f"{len(data)}s", data), *patches)

    all_slots("slots-absurd", rounds=2**32 - 1)
    all_slots("slots-one-place", rounds=1, sector=slots[0][3])
    # All of them are tried: a quarter of what is allowed, as a machine may take four times as long as ours.
    all_slots("slots-dear", rounds=400000)


def bitmaps(f, whole):
    named = extension(whole, 0x23852875)
    _, _, length, at = struct.unpack_from(">IIQQ", whole, named)
    table = struct.unpack_from(">Q", whole, at)[0]
    for name, off, fmt, value in (("none", 0, "I", 0), ("4G", 0, "I", 2**32 - 1), ("65536", 0, "I", 65536),
            ("size-none", 8, "Q", 0),
                                  ("size-4G", 8, "Q", 1 << 32), ("size-all-ones", 8, "Q", 2**64 - 1), ("far", 16,
                                          "Q", FAR),
                                  ("odd", 16, "Q", at + 8), ("in-header", 16, "Q", 0), ("wraps", 16, "Q",
                                          2**64 - 65536)):
        f.put("directory-" + name, whole, (named + off, fmt, value), read=EITHER)
    for name, off, fmt, value in (("table-far", 0, "Q", FAR), ("table-odd", 0, "Q", 77), ("table-in-header", 0, "Q",
            0),
                                  ("table-4G", 8, "I", 2**32 - 1), ("table-none", 8, "I", 0), ("flags", 12, "I",
                                          2**32 - 1),
                                  ("type", 16, "B", 9), ("granularity-255", 17, "B", 255), ("granularity-0", 17,
                                          "B", 0),
                                  ("name-64K", 18, "H", 65535), ("name-none", 18, "H", 0), ("extra-4G", 20, "I",
                                          2**32 - 1),
                                  ("name-controls", 24, "2s", b"\x1b\x07")):
        f.put("record-" + name, whole, (at + off, fmt, value), read=EITHER)
    for name, value in (("far", FAR), ("odd", 77), ("in-header", 65536 * 0 + 512), ("all-ones", 2**64 - 1),
            ("itself", table)):
        f.put("table-entry-" + name, whole, (table, "Q", value), read=EITHER)
    del length


def snapshots(f, whole):
    at, = struct.unpack_from(">Q", whole, 64)
    for name, off, fmt, value in (("l1-far", 0, "Q", FAR), ("l1-odd", 0, "Q", 77), ("l1-in-header", 0, "Q", 0),
                                  ("l1-itself", 0, "Q", at), ("l1-4G", 8, "I", 2**32 - 1), ("l1-none", 8, "I", 0),
                                  ("id-64K", 12, "H", 65535), ("name-64K", 14, "H", 65535), ("vm-state", 32, "I",
                                          2**32 - 1),
                                  ("extra-4G", 36, "I", 2**32 - 1), ("size-all-ones", 48, "Q", 2**64 - 1),
                                  ("vm-state-exbibyte", 40, "Q", 1 << 60)):
        f.put("record-" + name, whole, (at + off, fmt, value), read=EITHER)
    table = struct.unpack_from(">Q", whole, at)[0]
    for name, value in (("far", FAR), ("odd", 1 << 63 | 77), ("in-header", 1 << 63), ("itself", 1 << 63 | table),
                        ("all-ones", 2**64 - 1)):
        f.put("l1-entry-" + name, whole, (table, "Q", value), read=EITHER)


def images(f, plain):
    key = os.path.join(f.out, "key")
    f.file("key", b"a pass phrase")
    os.chmod(key, 0o600)
    f.format("luks", "qcow2", f"key-file={key}")
    luks(f, f.make("-o", "encrypt.format=luks,encrypt.iter-time=1", source=plain, into=f"qcow2(key-file={key}):"))
    f.format("aes", "qcow2")
    f.put("no-key", f.make("-O", "qcow2", source=plain), (32, "I", 1))
    path = os.path.join(f.scratch, "with.qcow2")
    base = f.make("-O", "qcow2", source=plain)

    def after(*command):
        with open(path, "wb") as out:
            out.write(base)
        subprocess.run([f.tool, *command], check=True, stdout=subprocess.DEVNULL)
        with open(path, "rb") as made:
            return made.read()

    f.format("bitmap", "qcow2")
    bitmaps(f, after("bitmap", "--add", "-f", "qcow2", path, "b0"))
    f.format("snapshot", "qcow2")
    snapshots(f, after("snapshot", "-f", "qcow2", "-c", "one", path))
