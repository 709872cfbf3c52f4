# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
# For tests of formats that are only read: what QEMU is to write, and whether a map tells the truth.  Sourced after
# lib.sh.

# random_writes COUNT BYTES: more arguments for qemu-io, in $OPS.
random_writes()
{
	local i at len
	for ((i = 0; i < $1; i++)); do
		len=$((512 << RANDOM % 12))
		at="$(((RANDOM << 15 | RANDOM) % (($2 - len) / 512 + 1) * 512)) $len"
		case $((RANDOM % 8)) in
		0) OPS+=(-c "write -z $at") ;;
		*) OPS+=(-c "write -P $((RANDOM % 255 + 1)) $at") ;;
		esac
	done
}

# map_is_true SPEC MODEL: what it calls data lies in the file where it says, and all else is zeros.
map_is_true()
{
	tap-img map --output=json "$1" >map.out
	python3 - "${1#*:}" "$2" <<'PY' || fail "map: $(cat map.out)"
import json
import sys
at, disk = 0, open(sys.argv[2], "rb").read()
with open(sys.argv[1], "rb") as f:
    for e in json.load(open("map.out")):
        assert e["start"] == at
        if e["data"]:
            f.seek(e["offset"])
            assert f.read(e["length"]) == disk[at:at + e["length"]]
        else:
            assert not any(disk[at:at + e["length"]])
        at += e["length"]
assert at == len(disk)
PY
}
