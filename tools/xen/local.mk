# SPDX-License-Identifier: BSD-2-Clause
# What libxl starts: the hotplug script, and the device model that stands in for QEMU.
xenscriptdir = $(sysconfdir)/xen/scripts
dist_xenscript_SCRIPTS = tools/xen/block-tapdisk

sbin_PROGRAMS += bin/tap-dm
bin_tap_dm_SOURCES = \
	tools/tap-dm/args.c tools/tap-dm/args.h \
	tools/tap-dm/main.c \
	tools/tap-dm/qmp.c tools/tap-dm/qmp.h \
	tools/tap-dm/server.c tools/tap-dm/server.h
bin_tap_dm_LDADD = xen/libxs.a drivers/rt/librt.a $(JANSSON_LIBS) $(XEN_LIBS)

dist_man_MANS += man/block-tapdisk.8 man/tap-dm.8
dist_bashcompletion_DATA += tools/completions/tap-dm
