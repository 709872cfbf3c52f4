# SPDX-License-Identifier: BSD-2-Clause
# Tests of blktap/ that need no process: link the daemon's library and call it.
if HAVE_CMOCKA
DAEMON_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/blktap -I$(top_srcdir)/tests/lib $(CMOCKA_CFLAGS)
DAEMON_TEST_LIBS = blktap/libtapdisk.a tests/lib/libtest.a $(DRIVER_LIBS) $(CMOCKA_LIBS) $(DRIVER_SYSLIBS)

DAEMON_TESTS =

DAEMON_TESTS += tests/daemon/test-nbd-wire
tests_daemon_test_nbd_wire_CPPFLAGS = $(DAEMON_TEST_CPPFLAGS)
tests_daemon_test_nbd_wire_LDADD = $(DAEMON_TEST_LIBS)

DAEMON_TESTS += tests/daemon/test-vbd
tests_daemon_test_vbd_CPPFLAGS = $(DAEMON_TEST_CPPFLAGS)
tests_daemon_test_vbd_LDADD = $(DAEMON_TEST_LIBS)

DAEMON_TESTS += tests/daemon/test-vbd-policy
tests_daemon_test_vbd_policy_CPPFLAGS = $(DAEMON_TEST_CPPFLAGS)
tests_daemon_test_vbd_policy_LDADD = $(DAEMON_TEST_LIBS)

DAEMON_TESTS += tests/daemon/test-ctl-events
tests_daemon_test_ctl_events_CPPFLAGS = $(DAEMON_TEST_CPPFLAGS)
tests_daemon_test_ctl_events_LDADD = blktap/libctl.a $(DRIVER_LIBS) $(CMOCKA_LIBS) $(JANSSON_LIBS) \
	$(DRIVER_SYSLIBS)

# The guest's export is played by the test.
DAEMON_TESTS += tests/daemon/test-guests
tests_daemon_test_guests_CPPFLAGS = $(DAEMON_TEST_CPPFLAGS)
tests_daemon_test_guests_LDADD = blktap/libtapdisk.a blktap/libctl.a tests/lib/libtest.a $(DRIVER_LIBS) \
	$(CMOCKA_LIBS) $(JANSSON_LIBS) $(SECCOMP_LIBS) $(DRIVER_SYSLIBS)

DAEMON_TESTS += tests/daemon/test-sandbox
tests_daemon_test_sandbox_SOURCES = tests/daemon/attack.c tests/daemon/attack.h tests/daemon/test-sandbox.c
tests_daemon_test_sandbox_CPPFLAGS = $(DAEMON_TEST_CPPFLAGS) -I$(top_srcdir)/drivers
tests_daemon_test_sandbox_LDADD = blktap/libtapdisk.a blktap/libctl.a tests/lib/libtest.a $(DRIVER_LIBS) \
	$(CMOCKA_LIBS) $(JANSSON_LIBS) $(SECCOMP_LIBS) $(XEN_LIBS) $(DRIVER_SYSLIBS)

check_PROGRAMS += $(DAEMON_TESTS)
TESTS += $(DAEMON_TESTS)
endif

EXTRA_DIST += tests/daemon/README.md
