# SPDX-License-Identifier: BSD-2-Clause
noinst_LIBRARIES += tools/libtoolcommon.a
tools_libtoolcommon_a_SOURCES = \
	tools/common/cli.c tools/common/cli.h \
	tools/common/diskspec.c tools/common/diskspec.h \
	tools/common/operand.c tools/common/operand.h \
	tools/common/print.c tools/common/print.h \
	tools/common/progress.c tools/common/progress.h

sbin_PROGRAMS += bin/tap-ctl
bin_tap_ctl_SOURCES = \
	tools/tap-ctl/allocate.c \
	tools/tap-ctl/attach.c \
	tools/tap-ctl/check.c \
	tools/tap-ctl/create.c \
	tools/tap-ctl/destroy.c \
	tools/tap-ctl/gc-attach.c \
	tools/tap-ctl/gc-daemons.c \
	tools/tap-ctl/gc-mounts.c \
	tools/tap-ctl/gc-report.c \
	tools/tap-ctl/gc-run-dir.c \
	tools/tap-ctl/gc.c tools/tap-ctl/gc.h \
	tools/tap-ctl/list.c \
	tools/tap-ctl/main.c \
	tools/tap-ctl/minor.c tools/tap-ctl/minor.h \
	tools/tap-ctl/open.c tools/tap-ctl/open.h \
	tools/tap-ctl/pause.c \
	tools/tap-ctl/policy.c \
	tools/tap-ctl/resize.c \
	tools/tap-ctl/set.c \
	tools/tap-ctl/spawn.c \
	tools/tap-ctl/stats.c \
	tools/tap-ctl/steps.c tools/tap-ctl/steps.h \
	tools/tap-ctl/taps.c tools/tap-ctl/taps.h \
	tools/tap-ctl/verbs.c tools/tap-ctl/verbs.h
bin_tap_ctl_LDADD = tools/libtoolcommon.a xen/libxs.a blktap/libctl.a $(DRIVER_LIBS) $(JANSSON_LIBS) \
	$(XEN_LIBS) $(DRIVER_SYSLIBS)

bin_PROGRAMS += bin/tap-img
bin_tap_img_SOURCES = \
	tools/tap-img/amend.c \
	tools/tap-img/bench.c \
	tools/tap-img/bitmap.c \
	tools/tap-img/bitmaps.c tools/tap-img/bitmaps.h \
	tools/tap-img/check.c \
	tools/tap-img/commit.c \
	tools/tap-img/compare.c \
	tools/tap-img/convert.c \
	tools/tap-img/copy.c tools/tap-img/copy.h \
	tools/tap-img/create.c \
	tools/tap-img/dd.c \
	tools/tap-img/digest.c tools/tap-img/digest.h \
	tools/tap-img/env.c tools/tap-img/env.h \
	tools/tap-img/facts.c tools/tap-img/facts.h \
	tools/tap-img/info.c \
	tools/tap-img/main.c \
	tools/tap-img/map.c \
	tools/tap-img/measure.c \
	tools/tap-img/meet.c tools/tap-img/meet.h \
	tools/tap-img/newimage.c tools/tap-img/newimage.h \
	tools/tap-img/plan.c tools/tap-img/plan.h \
	tools/tap-img/rebase.c \
	tools/tap-img/resize.c \
	tools/tap-img/snaps.c tools/tap-img/snaps.h \
	tools/tap-img/snapshot.c \
	tools/tap-img/source.c tools/tap-img/source.h \
	tools/tap-img/stream.c tools/tap-img/stream.h \
	tools/tap-img/target.c tools/tap-img/target.h \
	tools/tap-img/turns.h \
	tools/tap-img/verbs.h \
	tools/tap-img/walk.c tools/tap-img/walk.h \
	tools/tap-img/zeros.c tools/tap-img/zeros.h
bin_tap_img_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS)
bin_tap_img_LDADD = tools/libtoolcommon.a blktap/libctl.a $(DRIVER_LIBS) $(JANSSON_LIBS) $(CRYPTO_LIBS) \
	$(DRIVER_SYSLIBS)

bin_PROGRAMS += bin/tapfuse
bin_tapfuse_SOURCES = tools/tapfuse/main.c
bin_tapfuse_LDADD = tools/libtoolcommon.a blktap/libctl.a $(DRIVER_LIBS) $(JANSSON_LIBS) $(DRIVER_SYSLIBS)

dist_bashcompletion_DATA += tools/completions/tapdisk tools/completions/tapfuse
dist_bashcompletion_DATA += tools/completions/tap-ctl tools/completions/tap-img

EXTRA_DIST += tools/README.md tools/completions/README.md
