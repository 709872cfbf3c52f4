#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tap-dm, with the command lines that libxl 4.14 to 4.20 writes and the conversations that libxl and libxenstat have.
# Without Xen there is no xenstore: that this is said, and that nothing else depends on it.
. "${srcdir:-.}/tests/e2e/lib.sh"
require python3

QMP=$T/qmp-libxl-7
STAT=$T/qmp-libxenstat-7

talk() { python3 "$srcdir/tests/e2e/tools-dm.py" "$@"; }

# The line of libxl 4.16 and later for a PV domain, before the machine.
# shellcheck disable=SC2054 # its values have commas
new_style=(-xen-domid 7 -no-shutdown -chardev "socket,id=libxl-cmd,path=$QMP,server=on,wait=off"
	-mon chardev=libxl-cmd,mode=control -chardev "socket,id=libxenstat-cmd,path=$STAT,server=on,wait=off"
	-mon chardev=libxenstat-cmd,mode=control -nodefaults -no-user-config -xen-attach -name guest -vnc none
	-display none)
# shellcheck disable=SC2034 # by its name
old_style=("${new_style[@]//server=on,wait=off/server,nowait}")

# start_dm ARGS...: until it listens.
start_dm()
{
	tap-dm "$@" 2>"$T/dm.err" &
	DM=$!
	also_kill "$DM"
	local end=$((SECONDS + 200))
	until [ -S "$QMP" ]; do
		is_gone_or_zombie "$DM" && fail "tap-dm $*: $(cat "$T/dm.err")"
		[ "$SECONDS" -lt "$end" ] || fail "tap-dm $*: no socket in time"
		sleep 0.02
	done
}

# ended: it exits 0 and leaves no socket.
ended()
{
	wait_for 20 is_gone_or_zombie "$DM"
	wait "$DM" || fail "exit $?: $(cat "$T/dm.err")"
	forget_pid "$DM"
	if [ -e "$QMP" ] || [ -e "$STAT" ]; then fail "a socket is left"; fi
}

# ---- what libxl does ----

for style in new old; do
	line="${style}_style[@]"
	start_dm "${!line}" -machine xenpv -m 128 --no-xenstore
	[ "$(stat -c %a "$QMP")" = 700 ] || fail "others may use the socket"
	talk "$QMP" libxl
	talk "$QMP" xenstat
	talk "$STAT" xenstat
	talk "$QMP" libxl
	kill -HUP "$DM"
	ended
done

# A killed one leaves its sockets; the next one takes their place.
start_dm "${new_style[@]}" -machine xenpv --no-xenstore
kill -KILL "$DM"
wait "$DM" 2>/dev/null || true
start_dm "${new_style[@]}" -machine xenpv --no-xenstore
wait_for 20 talk "$QMP" libxl
talk "$QMP" quit
ended

# -S, and one that waits behind another client.
start_dm "${new_style[@]}" -S -machine xenpv --no-xenstore
talk "$QMP" paused
[ "$(talk "$QMP" cont)" = $'{"return": {}}\nrunning' ] || fail "cont: $(talk "$QMP" cont)"
talk "$QMP" hostile
kill -TERM "$DM"
ended

# A listening socket is handed over, as for the probe of newer versions and under dm_restrict.
handed_over()
{
	python3 - "$QMP" "$@" <<'END'
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(1)
os.dup2(s.fileno(), 9)
os.execvp("tap-dm", ["tap-dm"] + sys.argv[2:])
END
}
handed_over -S -no-user-config -nodefaults -nographic -machine none,accel=xen \
	-chardev socket,id=libxl-cmd,fd=9,server=on,wait=off -mon chardev=libxl-cmd,mode=control 2>"$T/dm.err" &
DM=$!
also_kill "$DM"
wait_for 20 test -S "$QMP"
wait_for 20 talk "$QMP" paused
talk "$QMP" quit
wait "$DM" || fail "the probe: exit $?: $(cat "$T/dm.err")"
forget_pid "$DM"
rm "$QMP"

# Domain 0's, as Xen's own service starts it.
tap-dm -xen-domid 0 -xen-attach -name dom0 -nographic -M xenpv -daemonize -monitor /dev/null -serial /dev/null \
	-parallel /dev/null -nodefaults -no-user-config -pidfile "$T/pid" --no-xenstore
DM=$(cat "$T/pid")
also_kill "$DM"
kill -0 "$DM" || fail "it is not there"
kill -TERM "$DM"
wait_for 20 is_gone "$DM"
[ ! -e "$T/pid" ] || fail "the file with the process id is left"
forget_pid "$DM"
tap-dm --xen-domid 7 --machine xenpv --qmp "unix:$QMP,server=on,wait=off" --daemonize --pidfile "$T/pid" --no-xenstore
DM=$(cat "$T/pid")
also_kill "$DM"
talk "$QMP" quit
wait_for 20 is_gone "$DM"
forget_pid "$DM"

# ---- what it refuses ----

refuse() { expect_fail "$1" tap-dm "${@:2}"; }

refuse 'machine xenfv.*no PV domain.*real QEMU' "${new_style[@]}" -device VGA -machine xenfv,suppress-vmdesc=on
refuse 'machine pc.*no PV domain' -xen-domid 7 -boot order=c -machine pc,accel=xen
refuse 'machine \(none named\)' -xen-domid 7
refuse '-xen-domid is missing' -machine xenpv
refuse 'not the number of a domain' -xen-domid 7x -machine xenpv
refuse 'not the number of a domain' -xen-domid 32752 -machine xenpv
refuse 'wants a value' -machine xenpv -xen-domid
refuse '-vnc 127.0.0.1:0: a framebuffer.*real QEMU' -xen-domid 7 -vnc 127.0.0.1:0 -machine xenpv
refuse '-display sdl' -xen-domid 7 -display none -display sdl -machine xenpv
refuse '-netdev.*real QEMU' -xen-domid 7 -netdev type=tap -machine xenpv
refuse '-incoming' -xen-domid 7 -incoming fd:5 -machine xenpv
refuse 'a channel' -xen-domid 7 -chardev pty,id=libxl-channel0 -machine xenpv
refuse 'a channel' -xen-domid 7 -chardev "socket,id=libxl-channel0,path=$T/c,server=on" -machine xenpv
refuse 'with host=' -xen-domid 7 -chardev socket,id=a,host=::1,port=3,server=on -machine xenpv
refuse 'server' -xen-domid 7 -chardev "socket,id=a,path=$T/c" -machine xenpv
refuse 'one of path= and fd=' -xen-domid 7 -chardev "socket,id=a,server=on" -machine xenpv
refuse 'too long' -xen-domid 7 -chardev "socket,id=a,path=/$(printf 'a%.0s' {1..120}),server=on" -machine xenpv
refuse 'no -chardev of that name' -xen-domid 7 -mon chardev=b,mode=control -machine xenpv
refuse 'not mode=control' -xen-domid 7 -chardev "socket,id=b,path=$T/b,server=on" -mon chardev=b,mode=readline
refuse 'not a listening socket' -xen-domid 7 -chardev "socket,id=b,fd=0,server=on" -mon chardev=b,mode=control \
	-machine xenpv
refuse 'cannot listen there' -xen-domid 7 -qmp "unix:$T/no/b,server=on" -machine xenpv
echo text >"$T/file"
refuse 'cannot listen there' -xen-domid 7 -qmp "unix:$T/file,server=on" -machine xenpv
same "$T/file" <(echo text)

# ---- without Xen ----

if [ ! -e /proc/xen/capabilities ] && [ ! -e /dev/xen/xenbus ]; then
	refuse . "${new_style[@]}" -machine xenpv
	[ ! -e "$QMP" ] || fail "a socket is left"
	refuse . "${new_style[@]}" -machine xenpv -daemonize
	start_dm "${new_style[@]}" -S -machine xenpv
	talk "$QMP" cont >"$T/cont"
	grep -q '"class": "GenericError"' "$T/cont" || fail "cont without xenstore: $(cat "$T/cont")"
	grep -qx prelaunch "$T/cont" || fail "it says that it runs"
	kill -HUP "$DM"
	ended
fi
