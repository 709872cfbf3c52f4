# SPDX-License-Identifier: BSD-2-Clause
# Real Xen, emulated: minutes, so not in `make check`; bootstrap's check runs it.
EXTRA_DIST += tests/xen/README.md \
	tests/xen/agent.sh \
	tests/xen/beside.sh \
	tests/xen/boot.sh \
	tests/xen/check-xen.sh \
	tests/xen/crash.sh \
	tests/xen/dom0-attach.sh \
	tests/xen/errors.sh \
	tests/xen/features.sh \
	tests/xen/guests-boot.sh \
	tests/xen/guests.sh \
	tests/xen/lib.sh \
	tests/xen/machine.sh \
	tests/xen/no-xen.sh \
	tests/xen/readme.sh \
	tests/xen/snapshot.sh \
	tests/xen/tap-class.sh
EXTRA_DIST += tests/testbed/README.md \
	tests/testbed/common.sh \
	tests/testbed/fetch.sh \
	tests/testbed/guest/domu-init.sh \
	tests/testbed/guest/init.sh \
	tests/testbed/run.sh

# Runs in guests, which have no libraries.
EXTRA_PROGRAMS += tests/xen/stamps
tests_xen_stamps_SOURCES = tests/xen/stamps.c
tests_xen_stamps_CFLAGS = $(AM_CFLAGS) -Wno-frame-larger-than
tests_xen_stamps_LDFLAGS = -all-static -pthread
CLEANFILES += tests/xen/stamps

# CHECK_XEN=SCENARIO... picks some.
check-xen: all tests/xen/stamps
	@status=0; srcdir=$(srcdir) $(top_srcdir)/tests/xen/check-xen.sh $(CHECK_XEN) || status=$$?; \
		test $$status = 77 || exit $$status
.PHONY: check-xen
