# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What cannot be served: the sentence that says why reaches whoever asked.
. /tests/guests.sh

attach="xl block-attach 0 script=block-tapdisk,vdev=xvda,access=w,target"
check "without tapback: block-attach says so" refused 'tapback' block-attach 0 tap:aio:/srv/root.img xvda r
check "without tapback: xl says so" refused 'tapback is not running' $attach=aio:/srv/root.img
check "  xl block-detach clears what it left" eval 'xl block-detach 0 xvda; ! xenstore-exists $BE/vbd/0/51712'

start_tapback
head -c 1048576 /dev/urandom >/srv/broken.qcow2
check "a broken image: xl block-attach says what is wrong with it" \
	refused 'broken.qcow2' $attach=qcow2:/srv/broken.qcow2
check "  xl block-detach clears what it left" eval 'xl block-detach 0 xvda; ! xenstore-exists $BE/vbd/0/51712'
check "a missing image: xl block-attach says so" refused 'missing.img.*No such file' $attach=aio:/srv/missing.img
check "  xl block-detach clears what it left" eval 'xl block-detach 0 xvda; ! xenstore-exists $BE/vbd/0/51712'
check "a broken image: block-attach says what is wrong with it" \
	refused 'broken.qcow2' block-attach 0 tap:qcow2:/srv/broken.qcow2 xvda w
guest_config broken 'script=block-tapdisk,vdev=xvda,access=w,target=qcow2:/srv/broken.qcow2' >/run/broken.cfg
check "a broken image: xl create fails with our sentence" refused 'broken.qcow2' xl create -q /run/broken.cfg
check "  no domain is left" refused '' xl domid broken
check "nothing is left in xenstore" nothing_of 0
stop_tapback
rm -f /srv/broken.qcow2
