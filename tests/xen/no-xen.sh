# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Debian's kernel without Xen: what was built against Xen's libraries runs, says that Xen is absent where that matters,
# and block-attach does its work without the ring.

check "tap-img" tap-img create qcow2:/srv/d.qcow2 64M
check "block-attach 0 tap:qcow2:... xvda w" block-attach 0 tap:qcow2:/srv/d.qcow2 xvda w
check "ext4 on it" fs_check /dev/xvda
check "block-list names it" eval 'block-list 0 | grep xvda'
check "block-detach 0 xvda" block-detach 0 xvda
cp /srv/d.qcow2 /out/
