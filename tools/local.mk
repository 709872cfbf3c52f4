# SPDX-License-Identifier: BSD-2-Clause
noinst_LIBRARIES += tools/libtoolcommon.a
tools_libtoolcommon_a_SOURCES = \
	tools/common/cli.c tools/common/cli.h \
	tools/common/diskspec.c tools/common/diskspec.h \
	tools/common/print.c tools/common/print.h

sbin_PROGRAMS += tools/tap-ctl/tap-ctl
tools_tap_ctl_tap_ctl_SOURCES = \
	tools/tap-ctl/create.c \
	tools/tap-ctl/destroy.c \
	tools/tap-ctl/list.c \
	tools/tap-ctl/main.c \
	tools/tap-ctl/minor.c tools/tap-ctl/minor.h \
	tools/tap-ctl/pause.c \
	tools/tap-ctl/spawn.c \
	tools/tap-ctl/stats.c \
	tools/tap-ctl/steps.c tools/tap-ctl/steps.h \
	tools/tap-ctl/taps.c tools/tap-ctl/taps.h \
	tools/tap-ctl/verbs.h
tools_tap_ctl_tap_ctl_LDADD = tools/libtoolcommon.a blktap/libctl.a $(DRIVER_LIBS) $(JANSSON_LIBS) $(DRIVER_SYSLIBS)

dist_bashcompletion_DATA += tools/completions/tap-ctl

EXTRA_DIST += tools/README.md tools/completions/README.md
