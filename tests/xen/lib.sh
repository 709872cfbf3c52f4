# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What every scenario has, in domain 0. A line "ok: TEXT" or "FAILED: TEXT" for each check.

export BE=/local/domain/0/backend

now()
{
	cut -d' ' -f1 /proc/uptime
}

since()
{
	awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'
}

# check TEXT COMMAND...: runs it, and says how it went, how long it took and, after a failure, what it said.
check()
{
	local text=$1 from
	from=$(now)
	shift
	if "$@" >/tmp/check.out 2>&1; then
		echo "ok: $text ($(since "$from"))"
	else
		echo "FAILED: $text"
		tail -n 40 /tmp/check.out | sed 's/^/    /'
	fi
}

# refused PATTERN COMMAND...: it fails, and says what the (extended) pattern says.
refused()
{
	local pattern=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "should have failed: $*"
		return 1
	fi
	echo "$out"
	grep -Eq -- "$pattern" <<<"$out" || { echo "expected: $pattern"; return 1; }
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for()
{
	local end=$((SECONDS + $1 * 5 + 1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "waited in vain for: $*"; return 1; }
		sleep 0.2
	done
}

# ---- file systems ----

drop_caches()
{
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# An ext4 file system on DEVICE holds what was written, also past the cache.
fs_check()
{
	local a b
	mkdir -p /mnt/fs
	mkfs.ext4 -qF "$1" && mount -t ext4 "$1" /mnt/fs &&
		dd if=/dev/urandom of=/mnt/fs/data bs=64k count=64 2>/dev/null && a=$(sha256sum </mnt/fs/data) &&
		umount /mnt/fs && drop_caches && mount -t ext4 "$1" /mnt/fs &&
		b=$(sha256sum </mnt/fs/data) && umount /mnt/fs && [ -n "$a" ] && [ "$a" = "$b" ]
}

# ---- the end of a scenario ----

# Daemons of the scenario that still run are a finding.
closing()
{
	check "${scenario:?}: no tapdisk is left" no_tapdisk
}

no_tapdisk()
{
	local list
	list=$(tap-ctl list) && [ -z "$list" ] || { echo "$list"; return 1; }
	! pidof tapdisk
}
