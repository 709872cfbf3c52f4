# SPDX-License-Identifier: BSD-2-Clause
"""QMP as libxl and libxenstat speak it, to the socket in argv[1].  argv[2]: which conversation."""
import json
import socket
import sys


class Client:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(200)
        self.s.connect(path)
        self.buf = b""

    def line(self):
        """libxl cuts at CR LF."""
        while b"\r\n" not in self.buf:
            got = self.s.recv(4096)
            if not got:
                raise EOFError
            self.buf += got
        line, self.buf = self.buf.split(b"\r\n", 1)
        return json.loads(line)

    def raw(self, data):
        try:
            self.s.sendall(data)
        except BrokenPipeError:
            pass  # it has had enough; the answer can be read
        return self.line()

    def call(self, name, ident=None, end=b"\r\n", **arguments):
        message = {"execute": name}
        if ident is not None:
            message["id"] = ident
        if arguments:
            message["arguments"] = arguments
        return self.raw(json.dumps(message).encode() + end)

    def closed(self):
        try:
            return self.s.recv(1) == b""
        except ConnectionResetError:
            return True


def greeted(path):
    c = Client(path)
    hello = c.line()["QMP"]
    assert hello["version"]["qemu"]["major"] >= 4, hello
    assert hello["capabilities"] == [], hello
    return c


def ready(path):
    c = greeted(path)
    assert c.call("qmp_capabilities", 1) == {"return": {}, "id": 1}
    return c


def error(answer, name):
    assert answer["error"]["class"] == name and answer["error"]["desc"], answer
    return answer


def libxl(path):
    c = greeted(path)
    answer = error(c.call("query-status", 7), "CommandNotFound")
    assert answer["id"] == 7 and "qmp_capabilities" in answer["error"]["desc"]
    assert c.call("qmp_capabilities", 1048576) == {"return": {}, "id": 1048576}
    error(c.call("qmp_capabilities"), "CommandNotFound")
    chardevs = c.call("query-chardev", 1048577)
    assert chardevs["id"] == 1048577
    assert [d["label"] for d in chardevs["return"]][0] == "libxl-cmd", chardevs
    assert c.call("query-version")["return"]["qemu"]["major"] >= 4
    assert c.call("query-status")["return"]["status"] == "running"
    assert c.call("query-vnc") == {"return": {"enabled": False}}
    assert c.call("query-command-line-options") == {"return": []}
    assert c.call("system_wakeup", "text") == {"return": {}, "id": "text"}
    for name in ["cont", "query-fdsets", "query-block"]:
        assert "return" in c.call(name)
    known = [x["name"] for x in c.call("query-commands")["return"]]
    assert "quit" in known and "blockdev-add" not in known, known
    for name in ["blockdev-add", "device_add", "eject", "xen-save-devices-state", "", "quit "]:
        assert error(c.call(name, {"a": [1]}), "CommandNotFound")["id"] == {"a": [1]}


def xenstat(path):
    """No line ends at all; two messages in one segment; a message in pieces."""
    c = greeted(path)
    assert c.call("qmp_capabilities", end=b"") == {"return": {}}
    assert c.call("query-blockstats", end=b"") == {"return": []}
    assert c.raw(b'{ "execute": "query-block" }{"execute":"query-version","id":2}') == {"return": []}
    assert c.line()["id"] == 2
    for byte in b'{"execute": "query-status", "id": "a}\\"]"':
        c.s.sendall(bytes([byte]))
    assert c.raw(b"}")["id"] == 'a}"]'


def hostile(path):
    """What is no message gets an error; none of it ends the server."""
    for bad in [b"x", b"\x00", b"[1]", b"]", b"}", b"\xff" * 5000]:
        c = greeted(path)
        error(c.raw(bad), "GenericError")
        assert c.closed(), bad
    c = ready(path)
    for bad in [b"{]", b"{}", b'{"execute":1}', b'{"a":"\xff"}', b'{"execute":"quit","execute":"quit"}',
                b'{"execute":"\\u0000"}', b'{"execute":null}']:
        error(c.raw(bad), "GenericError")
    error(c.raw(b'{"execute":"' + b"a" * 60000 + b'"}'), "CommandNotFound")
    assert "return" in c.call("query-status")
    error(c.raw(b'{"execute":"' + b"a" * 70000), "GenericError")
    assert c.closed()
    c = ready(path)
    error(c.raw(b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}"), "GenericError")
    c.s.close()
    c = ready(path)
    try:
        # Never reads: is dropped before long, and with it what waits.
        for _ in range(100):
            c.s.sendall(b'{"execute":"query-commands"}' * 1000)
        assert False, "it reads on for ever"
    except (BrokenPipeError, ConnectionResetError):
        pass
    greeted(path).s.close()
    libxl(path)


def paused(path):
    c = ready(path)
    assert c.call("query-status")["return"]["status"] == "prelaunch"


def cont(path):
    c = ready(path)
    print(json.dumps(c.call("cont")))
    print(c.call("query-status")["return"]["status"])


def quit_(path):
    c = ready(path)
    assert c.call("quit", 9) == {"return": {}, "id": 9}
    assert c.closed()


{"libxl": libxl, "xenstat": xenstat, "hostile": hostile, "paused": paused, "cont": cont,
 "quit": quit_}[sys.argv[2]](sys.argv[1])
