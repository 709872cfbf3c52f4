# SPDX-License-Identifier: BSD-2-Clause
"""What the generators of images that lie have in common."""
import json
import os
import struct
import subprocess
import zlib

FAILS, WORKS, EITHER = "fails", "works", "either"  # to read all of the disk
FAR = 1 << 40  # bytes, behind every file here
BLOCK = 65536  # of zeros that become a hole


class Folder:
    """Where images go.  A name begins with its format; what each is to do when it is read is in expect.json."""

    def __init__(self, out, scratch, tool):
        self.out, self.scratch, self.tool = os.path.abspath(out), os.path.abspath(scratch), tool
        self.prefix, self.options, self.rare = "", "", False
        self.expect = {}

    def format(self, name, driver=None, options="", rare=False):
        """The format of all that follows: what names begin with, and how an image of it is named to the tools.
        rare: where not all commands are tried, a sixth of them is, always the same."""
        self.prefix, self.driver, self.options, self.rare = name, driver or name, options, rare

    def takes(self, name):
        """Is this one to be made?"""
        everything = not self.rare or os.environ.get("HOSTILE_VERBS") == "all"
        return everything or zlib.crc32(f"{self.prefix}-{name}".encode()) % 6 == 0

    def place(self, name, read=FAILS):
        """Where an image goes that the caller writes."""
        name = f"{self.prefix}-{name}"
        self.expect[name] = {"driver": self.driver, "options": self.options, "read": read}
        return os.path.join(self.out, name)

    def put(self, name, data, *patches, read=FAILS, size=None):
        """An image: data with patches (offset, struct format, values...), cut or made longer to size."""
        if self.takes(name):
            self.file(self.place(name, read), patched(data, *patches), size)

    def file(self, name, data, size=None):
        """A file that images name, or an image by another name."""
        with open(os.path.join(self.out, name), "wb") as f:
            for at in range(0, len(data), BLOCK):
                piece = data[at:at + BLOCK]
                if piece.strip(b"\0"):
                    f.seek(at)
                    f.write(piece)
            f.truncate(len(data) if size is None else size)

    def make(self, *args, source=None, into=""):
        """The bytes of a sound image that tap-img makes: an empty one, or a copy of source; into: DRIVER(OPTIONS):"""
        path = os.path.join(self.scratch, "made.img")
        for name in os.listdir(self.scratch):
            if name.startswith("made"):
                os.unlink(os.path.join(self.scratch, name))
        if source:
            command = [self.tool, "convert", "-f", "raw", *args, source, into + path]
        else:
            command = [self.tool, "create", *args[:-1], path, args[-1]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(path, "rb") as f:
            return f.read()

    def done(self, path):
        with open(path, "w") as f:
            json.dump(self.expect, f)


def patched(data, *patches, order=">"):
    data = bytearray(data)
    for at, fmt, *values in patches:
        piece = struct.pack(fmt if fmt[0] in "<>" else order + fmt, *values)
        if at + len(piece) > len(data):
            data.extend(bytes(at + len(piece) - len(data)))
        data[at:at + len(piece)] = piece
    return bytes(data)


def bomb(mib, bits):
    """So many MiB of zeros, deflated; bits as for zlib."""
    z = zlib.compressobj(9, zlib.DEFLATED, bits)
    return z.compress(bytes(mib << 20)) + z.flush()


def paths(out):
    """Names of files that no image may make us open, or that are none: (word, name)."""
    elsewhere = os.path.abspath(os.path.join(out, "../elsewhere"))
    return [("up", "../elsewhere/secret"), ("absolute", elsewhere + "/secret"), ("link", "way-out"),
            ("around", "./../images/../elsewhere/secret"), ("passwd", "/etc/passwd"), ("proc", "/proc/self/mem"),
            ("fifo", "fifo"), ("zero", "/dev/zero"), ("folder", "."), ("device", os.environ.get("DEVICE",
                    "/dev/null")),
            ("node", elsewhere + "/node"), ("none", "nothing"), ("long", "x" * 1000)]
