# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The testbed itself: Xen is there, and Debian's own block backend serves a disk to domain 0's own blkfront.

has_dom0()
{
	xl list | grep -q '^Domain-0 ' && [ "$(xenstore-read /local/domain/0/name)" = Domain-0 ] && xenstore-ls
}

check "xenstore answers and xl lists Domain-0" has_dom0
check "device nodes" ls /dev/xen/{evtchn,gntdev,gntalloc,privcmd,xenbus} /proc/xen/capabilities
