# SPDX-License-Identifier: BSD-2-Clause
# What libxl starts: the hotplug script, and the device model that stands in for QEMU.
xenscriptdir = $(sysconfdir)/xen/scripts
dist_xenscript_SCRIPTS = tools/xen/block-tapdisk

dist_man_MANS += man/block-tapdisk.8
