# SPDX-License-Identifier: BSD-2-Clause
# The xenstore backend daemon. Everything but main() is a library: the tests link it with a xenstore of their own.
noinst_LIBRARIES += tapback/libtapback.a
tapback_libtapback_a_SOURCES = \
	tapback/announce.c tapback/announce.h \
	tapback/autoprobe.c tapback/autoprobe.h \
	tapback/backend.c tapback/backend.h \
	tapback/device-setup.c \
	tapback/device-steps.c \
	tapback/device.c tapback/device.h \
	tapback/disk.c tapback/disk.h \
	tapback/frontend.c tapback/frontend.h \
	tapback/fsm.c tapback/fsm.h \
	tapback/job.c tapback/job.h \
	tapback/node.c tapback/node.h \
	tapback/number.h \
	tapback/publish.c tapback/publish.h \
	tapback/recover.c tapback/recover.h \
	tapback/source.c tapback/source.h

sbin_PROGRAMS += bin/tapback
bin_tapback_SOURCES = tapback/main.c
bin_tapback_LDADD = tapback/libtapback.a xen/libxs.a blktap/libctl.a drivers/rt/librt.a $(JANSSON_LIBS) $(XEN_LIBS) \
	$(PTHREAD_LIBS)

EXTRA_DIST += tapback/README.md

systemdsystemunit_DATA = tapback/tapback.service
EXTRA_DIST += tapback/tapback.service.in
CLEANFILES += tapback/tapback.service
tapback/tapback.service: tapback/tapback.service.in Makefile
	$(AM_V_GEN)mkdir -p tapback && sed 's|@sbindir[@]|$(sbindir)|' $(srcdir)/tapback/tapback.service.in >$@

dist_man_MANS += man/tapback.8
dist_bashcompletion_DATA += tools/completions/tapback
