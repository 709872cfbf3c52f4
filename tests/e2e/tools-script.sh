#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The hotplug script block-tapdisk: what it waits for, what it says, how it ends. xenstore is a folder here, its
# commands are a few lines each, tapback is whoever holds the lock.
. "${srcdir:-.}/tests/e2e/lib.sh"
. "${srcdir:-.}/tests/e2e/fake-xs.sh"
require flock

SCRIPT=$(cd "$srcdir" && pwd)/tools/xen/block-tapdisk
export XENBUS_TYPE=vbd XENBUS_PATH=backend/vbd/7/51712 XENBUS_BASE_PATH=backend
BE=$XS/$XENBUS_PATH

# A new folder as libxl leaves it.
new_disk()
{
	rm -rf "$XS"
	mkdir -p "$BE"
	echo qcow2:/srv/a.qcow2 >"$BE/params"
}

put() { printf '%s\n' "$2" >"$BE/.new" && mv "$BE/.new" "$BE/$1"; }

# start_tapback CLASS...: holds the lock until stop_tapback.
start_tapback()
{
	echo "$$ $*" >"$BLKTAP_RUN_DIR/tapback"
	flock -x "$BLKTAP_RUN_DIR/tapback" sh -c "touch '$T/locked'; exec sleep 3600" &
	TAPBACK=$!
	also_kill "$TAPBACK"
	wait_for 10 test -e "$T/locked"
	rm "$T/locked"
}

# flock and the command that it started both hold the lock.
stop_tapback()
{
	pkill -P "$TAPBACK"
	wait "$TAPBACK" || true
	forget_pid "$TAPBACK"
}

script() { /bin/sh "$SCRIPT" "$@"; }

# says FILE PATTERN
says() { grep -Eq -- "$2" "$1" || fail "expected /$2/ in $1, which holds: $(cat "$1")"; }

fake_xenstore
require pkill
export BLOCK_TAPDISK_GRACE_SECONDS=1

# ---- how it is called ----

new_disk
expect_fail 'usage' script
expect_fail 'usage' script online
expect_fail 'usage' script add add
expect_fail 'XENBUS_PATH' env -u XENBUS_PATH /bin/sh "$SCRIPT" add
expect_fail 'XENBUS_PATH' env -u XENBUS_TYPE /bin/sh "$SCRIPT" add

# ---- tapback is not running ----

expect_fail 'tapback is not running' script add
says "$BE/hotplug-error" 'tapback is not running'
says "$BE/hotplug-status" '^error$'
new_disk
sh -c "echo \$\$ vbd >'$BLKTAP_RUN_DIR/tapback'" # left by one that is gone
expect_fail 'tapback is not running' script add
echo "$$ vbd" >"$BLKTAP_RUN_DIR/tapback"	# its number is another's now
expect_fail 'tapback is not running' script add

# ---- it answers: at once, later ----

start_tapback vbd3 vbd qdisk
new_disk
put hotplug-status connected
script add
new_disk
script add &
pid=$!
sleep 0.3
is_gone_or_zombie "$pid" && fail "add did not wait"
put hotplug-status connected
wait "$pid" || fail "add: exit $?"

# ---- its refusal is passed on ----

new_disk
put hotplug-error 'qcow2 /srv/a.qcow2: no such file'
put hotplug-status error
expect_fail 'block-tapdisk: qcow2 /srv/a.qcow2: no such file' script add
says "$BE/hotplug-error" '^qcow2 /srv/a.qcow2: no such file$'
new_disk
put hotplug-status error
expect_fail 'could not open qcow2:/srv/a.qcow2' script add

# ---- it says nothing ----

new_disk
BLOCK_TAPDISK_ADD_SECONDS=1 expect_fail 'did not open qcow2:/srv/a.qcow2 within 1 seconds' script add
says "$BE/hotplug-error" 'within 1 seconds'
new_disk
XENBUS_TYPE=tap expect_fail 'does not serve class tap \(it serves: vbd3 vbd qdisk\)' script add

# ---- it goes away while it is waited for, and comes back ----

new_disk
script add 2>"$T/err" &
pid=$!
stop_tapback
wait "$pid" && fail "add succeeded without tapback"
says "$T/err" 'tapback is not running'
new_disk
BLOCK_TAPDISK_GRACE_SECONDS=600 script add &
pid=$!
start_tapback vbd
put hotplug-status connected
wait "$pid" || fail "add did not outlive a restart of tapback"

# ---- remove ----

new_disk
script remove	# nothing was open
put tapdisk-pid 4712
script remove &
pid=$!
sleep 0.3
is_gone_or_zombie "$pid" && fail "remove did not wait"
rm "$BE/tapdisk-pid"
wait "$pid" || fail "remove: exit $?"
put tapdisk-pid 4712
BLOCK_TAPDISK_REMOVE_SECONDS=1 script remove 2>"$T/err"
says "$T/err" 'still open after 1 seconds'
stop_tapback
script remove 2>"$T/err"
says "$T/err" 'tapback is not running'
