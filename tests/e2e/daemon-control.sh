#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The control socket: every message, garbage, half lines, slow commands, many clients.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

truncate -s 16M "$T/a" "$T/b"
start_tapdisk --name mine
python3 - "$BLKTAP_RUN_DIR" "$TAPDISK_PID" "$T" <<PY
import json, os, socket, sys, threading
sys.path.insert(0, "$srcdir/tests/e2e")
from nbdlib import *

run, pid, t = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Control:
    def __init__(self):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(f"{run}/ctl{pid}")
        self.s.settimeout(200)
        self.f = self.s.makefile("rb")

    def raw(self, data):
        self.s.sendall(data)
        line = self.f.readline()
        return json.loads(line) if line else None

    def __call__(self, cmd, **fields):
        return self.raw(json.dumps(dict(fields, cmd=cmd)).encode() + b"\n")


def ok(what, r):
    check(f"{what}: {r}", r["ok"] is True)


def refused(what, r, errno, *words):
    check(f"{what}: {r}", r["ok"] is False and r["errno"] == errno and all(w in r["error"] for w in words))


c = Control()

# ---- garbage ----
for junk in (b"hello", b"", b"[]", b"{", b"42", b'"x"', b"\xff\xfe", b'{"cmd":1}', b'{"cmd":"info","cmd":"info"}',
             b"[" * 3000):
    r = c.raw(junk + b"\n")
    check(f"junk is refused: {r}", r["ok"] is False and r["error"])
refused("an unknown command by its name", c("explode"), "ENOSYS", '"explode"')
refused("an unknown field by its name", c("info", colour="red"), "EINVAL", '"colour"')
refused("a wrong type by its name", c("attach", minor="3"), "EINVAL", '"minor"', "integer")
refused("a missing field by its name", c("open"), "EINVAL", '"spec"')
refused("a list of something else", c("open", spec=f"raw:{t}/a", nbd=[1]), "EINVAL", "nbd")
check("the id comes back", c("info", id="q-7")["id"] == "q-7" and c("info", id=9)["id"] == 9 and "id" not in c("info"))
check("also with a refusal", c("explode", id=5)["id"] == 5)
one = Control()
one.s.sendall(b'{"cmd":"info","x":"' + b"a" * 70000)
check("a line without an end is refused", json.loads(one.f.readline())["errno"] == "EMSGSIZE")
try:
    check("and ends the connection", one.f.readline() == b"")
except ConnectionResetError:
    pass
two = Control()
two.s.sendall(b'{"id":1,"cmd":"info"}\n{"id":2,"cmd":"sta')
check("the first of two", json.loads(two.f.readline())["id"] == 1)
two.s.sendall(b'ts"}\n{"id":3,"cmd":"info"}\n')
check("a line in two pieces", [json.loads(two.f.readline())["id"] for _ in range(2)] == [2, 3])
two.s.sendall(b'{"cmd":"info"}\n')
two.s.shutdown(socket.SHUT_WR)
check("who sends no more is still answered", json.loads(two.f.readline())["ok"] and two.f.readline() == b"")

# ---- the states ----
i = c("info")
check(f"closed at first: {i}", (i["state"], i["minor"], i["spec"], i["name"], i["pid"]) ==
      ("closed", None, None, "mine", pid))
refused("close when closed", c("close"), "ENODEV")
refused("pause when closed", c("pause"), "ENODEV")
refused("unpause when closed", c("unpause"), "ENODEV")
refused("detach when detached", c("detach"), "ENODEV")
ok("attach", c("attach", minor=3))
ok("attach again", c("attach", minor=3))
refused("attach to another", c("attach", minor=4), "EBUSY", "3")
refused("open what is not there", c("open", spec=f"raw:{t}/nothing"), "ENOENT", "nothing")
refused("open with a bad address", c("open", spec=f"raw:{t}/a", nbd=["ftp:x"]), "EINVAL", "ftp:x")
check("nothing stays open then", c("info")["state"] == "closed")
ok("open", c("open", spec=f"tap:raw:{t}/a", direct=False))
i = c("info")
check(f"running: {i}", (i["state"], i["minor"], i["driver"], i["path"], i["size"], i["read_only"]) ==
      ("running", 3, "aio", f"{t}/a", 16 << 20, False))
address = f"{run}/nbd{pid}.3"
check("its export", [(e["type"], e["address"], e["clients"]) for e in i["exports"]] == [("nbd", "unix:" + address, 0)])
refused("open twice", c("open", spec=f"raw:{t}/b"), "EBUSY")
refused("detach while open", c("detach"), "EBUSY")
n = Conn(address).start(name=b"mine")
check("the disk works", n.write(0, b"a" * 4096) == 0 and n.read(0, 4096)[1] == b"a" * 4096)
check("a client is counted", c("info")["exports"][0]["clients"] == 1)

ok("pause", c("pause"))
ok("pause again", c("pause"))
check("paused", c("info")["state"] == "paused" and c("info")["size"] == 16 << 20)
n.send(READ, 0, 4096)
n.s.settimeout(.2)
try:
    n.reply()
    check("a request waits during the pause", False)
except TimeoutError:
    n.s.settimeout(200)
wait_until("it is counted", lambda: c("stats")["vbd"]["waiting"] == 1)
refused("unpause onto nothing", c("unpause", spec=f"raw:{t}/nothing"), "ENOENT")
check("still paused", c("info")["state"] == "paused")
ok("unpause onto another image", c("unpause", spec=f"raw:{t}/b"))
check("the request was answered from there", n.reply()[2][0][1][8:] == bytes(4096))
refused("unpause onto another while running", c("unpause", spec=f"raw:{t}/a"), "EBUSY")
ok("unpause while running", c("unpause"))
check("the new image", c("info")["path"] == f"{t}/b")

s = c("stats")
check(f"statistics: {s}", s["vbd"]["read"]["requests"] == 2 and s["vbd"]["write"]["bytes"] == 4096 and
      s["images"][0]["driver"] == "aio" and s["engine"]["requests"] > 0 and s["process"]["rss"] > 0)

# ---- slow commands ----
ok("close", c("close"))
check("the socket of the export is gone", not os.path.exists(address))
check("its client too", n.is_gone())
ok("open read-only on two sockets", c("open", spec=f"fault/raw:{t}/a", read_only=True,
                                       nbd=[f"unix:{run}/x", f"unix:{run}/y"]))
n = Conn(f"{run}/y").start()
check("read-only", n.flags & 2 and n.write(0, bytes(512)) == EPERM and c("info")["read_only"])
slow = Control()
for delay in (500, 3000, 20000):  # a busy machine may need longer than the request takes to see the state between
    ok("a slow disk", c("set", driver="fault", options=f"delay-ms={delay}"))
    n.send(READ, 0, 4096)
    wait_until("the request is in flight", lambda: c("stats")["vbd"]["in_flight"] == 1)
    slow.s.sendall(b'{"cmd":"pause"}\n{"cmd":"info"}\n')
    while (state := c("info")["state"]) == "running":
        pass
    check("in order", json.loads(slow.f.readline())["ok"] and json.loads(slow.f.readline())["state"] == "paused")
    check("the request was drained", n.reply()[1] == 0)
    if state == "pausing":
        break
    ok("once more", c("unpause"))
check("others are served while one drains", state == "pausing")
gone = Control()
gone.s.sendall(b'{"cmd":"unpause"}\n')
gone.s.close()
while c("info")["state"] != "running":
    time.sleep(.01)
crowd = [Control() for _ in range(15)]
many = socket.socket(socket.AF_UNIX)
many.connect(f"{run}/ctl{pid}")
ok("with many clients", c("info"))
for x in crowd + [slow]:
    x.f.close()
    x.s.close()
many.sendall(b'{"cmd":"info"}\n')
many.settimeout(200)
check("who had to wait is served when others leave", b'"ok":true' in many.recv(65536))
ok("close again", c("close"))
ok("detach", c("detach"))
ok("shutdown", c("shutdown"))
check("and it ends", c.f.readline() == b"")
PY
wait "$TAPDISK_PID" || fail "exit $?"
forget_pid "$TAPDISK_PID"
[ -z "$(ls -A "$BLKTAP_RUN_DIR")" ] || fail "left: $(ls "$BLKTAP_RUN_DIR")"
say "passed"
