# SPDX-License-Identifier: BSD-2-Clause
# The ring server with a guest in the same process (guest.c): no Xen, no sockets.
if HAVE_CMOCKA
RING_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/blktap/ring -I$(top_srcdir)/tests/lib $(CMOCKA_CFLAGS)
RING_TEST_CFLAGS = $(AM_CFLAGS) -Wno-frame-larger-than
RING_TEST_LIBS = tests/ring/libguest.a blktap/libtapdisk.a tests/lib/libtest.a $(DRIVER_LIBS) $(CMOCKA_LIBS) \
	$(JANSSON_LIBS) $(DRIVER_SYSLIBS)

check_LIBRARIES += tests/ring/libguest.a
tests_ring_libguest_a_SOURCES = tests/ring/guest.c tests/ring/guest.h
tests_ring_libguest_a_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_libguest_a_CFLAGS = $(RING_TEST_CFLAGS)

RING_TESTS =

RING_TESTS += tests/ring/test-ring
tests_ring_test_ring_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_test_ring_CFLAGS = $(RING_TEST_CFLAGS)
tests_ring_test_ring_LDADD = $(RING_TEST_LIBS)

RING_TESTS += tests/ring/test-server
tests_ring_test_server_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_test_server_CFLAGS = $(RING_TEST_CFLAGS)
tests_ring_test_server_LDADD = $(RING_TEST_LIBS)

RING_TESTS += tests/ring/test-journal
tests_ring_test_journal_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_test_journal_CFLAGS = $(RING_TEST_CFLAGS)
tests_ring_test_journal_LDADD = $(RING_TEST_LIBS)

RING_TESTS += tests/ring/test-crash
tests_ring_test_crash_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_test_crash_CFLAGS = $(RING_TEST_CFLAGS)
tests_ring_test_crash_LDADD = $(RING_TEST_LIBS)

RING_TESTS += tests/ring/test-hostile
tests_ring_test_hostile_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_test_hostile_CFLAGS = $(RING_TEST_CFLAGS)
tests_ring_test_hostile_LDADD = $(RING_TEST_LIBS)

# Xen's libraries are played by the test: not linked.
if HAVE_XEN
RING_TESTS += tests/ring/test-xen
tests_ring_test_xen_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_test_xen_CFLAGS = $(RING_TEST_CFLAGS)
tests_ring_test_xen_LDADD = tests/ring/libguest.a blktap/libtapdisk.a blktap/libctl.a tests/lib/libtest.a \
	$(DRIVER_LIBS) $(CMOCKA_LIBS) $(JANSSON_LIBS) $(SECCOMP_LIBS) $(DRIVER_SYSLIBS)
endif

# For callgrind and perf, by hand: make tests/ring/bench-ring.
EXTRA_PROGRAMS += tests/ring/bench-ring
tests_ring_bench_ring_CPPFLAGS = $(RING_TEST_CPPFLAGS)
tests_ring_bench_ring_CFLAGS = $(RING_TEST_CFLAGS)
tests_ring_bench_ring_LDADD = $(RING_TEST_LIBS)

check_PROGRAMS += $(RING_TESTS)
TESTS += $(RING_TESTS)
endif
EXTRA_DIST += tests/ring/README.md
