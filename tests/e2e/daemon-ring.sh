#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The control messages for Xen guests, as far as they go without Xen: what a disk offers, and every refusal.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

truncate -s 16M "$T/a"
start_tapdisk
python3 - "$BLKTAP_RUN_DIR" "$TAPDISK_PID" "$T" <<'PY'
import copy, json, os, socket, sys

run, pid, t = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_UNIX)
s.connect(f"{run}/ctl{pid}")
s.settimeout(200)
f = s.makefile("rb")


def check(what, ok):
    if not ok:
        sys.exit(f"FAILED: {what}")


def ctl(cmd, **fields):
    s.sendall(json.dumps(dict(fields, cmd=cmd)).encode() + b"\n")
    return json.loads(f.readline())


def refused(what, r, errnos, *words):
    check(f"{what}: {r}", not r["ok"] and r["errno"] in errnos.split("|") and all(w in r["error"] for w in words))


good = {"domid": 3, "devid": 51712, "protocol": "x86_64-abi", "persistent": True, "max_grants": 100, "poll_us": 0,
        "cookie": 1, "recover": False, "queues": [{"refs": [8], "port": 5}]}

refused("features when closed", ctl("ring-features"), "ENODEV")
refused("connect when closed", ctl("ring-connect", **good), "ENODEV", "no disk")
refused("disconnect when closed", ctl("ring-disconnect", domid=3, devid=51712), "ENOENT", "domain 3", "51712")

# ---- features: what works on this disk ----
check("open", ctl("open", spec=f"raw:{t}/a")["ok"])
names = {"sectors", "sector_size", "physical_sector_size", "info", "flush", "barrier", "discard", "discard_granularity",
         "discard_alignment", "max_indirect", "max_order", "max_queues", "persistent"}
r = ctl("ring-features")
check(f"features: {r}", names < set(r) and r["sectors"] == 32768 and r["sector_size"] == 512 and r["info"] == 0 and
      r["flush"] is True and r["max_indirect"] >= 256 and r["max_order"] == 4 and 1 <= r["max_queues"] <= 4)
ctl("close")
check("read-only", ctl("open", spec=f"raw:{t}/a", read_only=True)["ok"] and ctl("ring-features")["info"] & 4)
check("and so no discard", ctl("ring-features")["discard"] is False)
ctl("close")
check("open", ctl("open", spec=f"raw:{t}/a")["ok"])


# ---- nonsense ----
def bad(what, *words, **fields):
    refused(what, ctl("ring-connect", **dict(good, **fields)), "EINVAL", *words)


def bad_queue(what, *words, **fields):
    bad(what, *words, queues=[dict(good["queues"][0], **fields)])


bad("a domain that cannot be", "domid", domid=2**40)
bad("a reserved domain", "domid", domid=0x7ff0)
bad("a negative domain", "domid", domid=-1)
bad("a device that cannot be", "devid", devid=2**31)
bad("a negative device", "devid", devid=-1)
bad("a negative cookie", "cookie", cookie=-1)
bad("too many grants", "max_grants", max_grants=2**30)
bad("a negative number of grants", "max_grants", max_grants=-5)
bad("polling for ever", "poll_us", poll_us=2**31)
bad("no queues", "queues", queues=[])
bad("a thousand queues", "queues", queues=good["queues"] * 1000)
bad("a queue that is none", "queues", queues=[7])
bad("a queue of nothing", "queues", queues=[{}])
bad("queues of another type", "queues", queues="x")
bad_queue("three refs", "refs", "3", refs=[1, 2, 3])
bad_queue("no refs", "refs", refs=[])
bad_queue("32 refs", "refs", refs=list(range(32)))
bad_queue("a ref that cannot be", "refs", refs=[2**32])
bad_queue("a negative ref", "refs", refs=[-1])
bad_queue("a ref that is none", "refs", refs=["8"])
bad_queue("refs that are none", "refs", refs=8)
bad_queue("a negative port", "port", port=-1)
bad_queue("a port that cannot be", "port", port=2**40)
bad_queue("a field that nobody knows", "queues", colour=1)
bad("an unknown field", '"colour"', colour="red")
bad("persistent is no number", "persistent", persistent=1)
for name in good:
    if name in ("protocol", "max_grants", "poll_us"):
        continue
    less = copy.deepcopy(good)
    del less[name]
    refused(f"without {name}", ctl("ring-connect", **less), "EINVAL", name)
if ctl("ring-connect", **dict(good, protocol="sparc-abi"))["errno"] != "ENOSYS":  # built with Xen's libraries
    bad("a protocol that nobody speaks", "sparc-abi", "x86_64-abi", protocol="sparc-abi")
    bad("an empty protocol", protocol="")
refused("disconnect of nonsense", ctl("ring-disconnect", domid=2**40, devid=1), "EINVAL", "domid")
refused("disconnect of what is not there", ctl("ring-disconnect", domid=3, devid=51712), "ENOENT")

# ---- no Xen here, or a guest that does not exist ----
if os.path.exists("/dev/xen/gntdev"):
    for recover in (False, True):
        r = ctl("ring-connect", **dict(good, domid=0x7fef, recover=recover))
        check(f"no such guest: {r}", not r["ok"] and "domain 32751" in r["error"])
else:
    for fields in ({}, {"recover": True}, {"protocol": "x86_32-abi"}, {"queues": good["queues"] * 4}):
        refused("no Xen", ctl("ring-connect", **dict(good, **fields)), "ENODEV|ENOSYS", "Xen")
    less = dict(good)
    del less["protocol"]
    refused("no Xen, and no protocol", ctl("ring-connect", **less), "ENODEV|ENOSYS", "Xen")
check("nothing is left of it", [n for n in os.listdir(run) if n.startswith("ring")] == [])
check("and it is not in the lists", all(e["type"] == "nbd" for e in ctl("info")["exports"] + ctl("stats")["exports"]))
check("the disk is well", ctl("close")["ok"])
PY
stop_tapdisk
say "passed"
