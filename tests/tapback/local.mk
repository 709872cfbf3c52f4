# SPDX-License-Identifier: BSD-2-Clause
# tapback, on a xenstore and tapdisks in memory: see README.md.
if HAVE_CMOCKA
TAPBACK_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tapback $(CMOCKA_CFLAGS)
TAPBACK_LIBS = tapback/libtapback.a blktap/libctl.a drivers/rt/librt.a $(CMOCKA_LIBS) $(JANSSON_LIBS) $(PTHREAD_LIBS)

check_LIBRARIES += tests/tapback/libworld.a
tests_tapback_libworld_a_SOURCES = \
	tests/tapback/fake-disk.c tests/tapback/fake-disk.h \
	tests/tapback/fake-xs.c tests/tapback/fake-xs.h \
	tests/tapback/world.c tests/tapback/world.h
tests_tapback_libworld_a_CPPFLAGS = $(TAPBACK_CPPFLAGS)

# tapback before the xenstore that it is given, once more behind it.
WORLD_LIBS = tests/tapback/libworld.a tapback/libtapback.a tests/tapback/libworld.a $(TAPBACK_LIBS)

TAPBACK_TESTS =

TAPBACK_TESTS += tests/tapback/test-trap
tests_tapback_test_trap_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_trap_LDADD = $(WORLD_LIBS)

TAPBACK_TESTS += tests/tapback/test-fsm
tests_tapback_test_fsm_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_fsm_LDADD = tapback/libtapback.a $(TAPBACK_LIBS)

TAPBACK_TESTS += tests/tapback/test-announce
tests_tapback_test_announce_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_announce_LDADD = tapback/libtapback.a $(TAPBACK_LIBS)

TAPBACK_TESTS += tests/tapback/test-source
tests_tapback_test_source_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_source_LDADD = tapback/libtapback.a $(TAPBACK_LIBS)

TAPBACK_TESTS += tests/tapback/test-life
tests_tapback_test_life_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_life_LDADD = $(WORLD_LIBS)

TAPBACK_TESTS += tests/tapback/test-overlay
tests_tapback_test_overlay_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_overlay_LDADD = $(WORLD_LIBS)

TAPBACK_TESTS += tests/tapback/test-autoprobe
tests_tapback_test_autoprobe_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_autoprobe_LDADD = $(WORLD_LIBS)

TAPBACK_TESTS += tests/tapback/test-hostile
tests_tapback_test_hostile_CPPFLAGS = $(TAPBACK_CPPFLAGS)
tests_tapback_test_hostile_LDADD = $(WORLD_LIBS)

check_PROGRAMS += $(TAPBACK_TESTS)
TESTS += $(TAPBACK_TESTS)
endif

EXTRA_DIST += tests/tapback/README.md
