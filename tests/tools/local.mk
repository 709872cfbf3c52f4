# SPDX-License-Identifier: BSD-2-Clause
# tap-config's reading, alone and against xl's; progress and rates.
if HAVE_CMOCKA
TOOLS_TESTS = tests/tools/test-config tests/tools/test-layers tests/tools/test-progress
if HAVE_XLUTIL
TOOLS_TESTS += tests/tools/test-config-xl
endif
check_PROGRAMS += $(TOOLS_TESTS)
TESTS += $(TOOLS_TESTS)

TOOLS_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir) -I$(top_srcdir)/tests/tools
TOOLS_TEST_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -Wno-frame-larger-than

tests_tools_test_config_SOURCES = tests/tools/lines.c tests/tools/lines.h tests/tools/test-config.c
tests_tools_test_config_CPPFLAGS = $(TOOLS_TEST_CPPFLAGS)
tests_tools_test_config_CFLAGS = $(TOOLS_TEST_CFLAGS)
tests_tools_test_config_LDADD = tools/tap-config/libtapconfig.a $(CMOCKA_LIBS)

tests_tools_test_layers_SOURCES = tests/tools/test-layers.c tools/tap-img/commit.c tools/tap-img/meet.c \
	tools/tap-img/rebase.c tools/tap-img/walk.c
tests_tools_test_layers_CPPFLAGS = $(TOOLS_TEST_CPPFLAGS)
tests_tools_test_layers_CFLAGS = $(TOOLS_TEST_CFLAGS)
tests_tools_test_layers_LDADD = tests/lib/libtest.a tools/libtoolcommon.a $(DRIVER_LIBS) $(JANSSON_LIBS) \
	$(CMOCKA_LIBS) $(DRIVER_SYSLIBS)

tests_tools_test_progress_SOURCES = tests/tools/test-progress.c
tests_tools_test_progress_CPPFLAGS = $(TOOLS_TEST_CPPFLAGS)
tests_tools_test_progress_CFLAGS = $(TOOLS_TEST_CFLAGS)
tests_tools_test_progress_LDADD = tools/libtoolcommon.a drivers/rt/librt.a $(JANSSON_LIBS) $(CMOCKA_LIBS)

if HAVE_XLUTIL
tests_tools_test_config_xl_SOURCES = tests/tools/lines.c tests/tools/lines.h tests/tools/test-config-xl.c
tests_tools_test_config_xl_CPPFLAGS = $(TOOLS_TEST_CPPFLAGS)
tests_tools_test_config_xl_CFLAGS = $(TOOLS_TEST_CFLAGS) $(XLUTIL_CFLAGS)
tests_tools_test_config_xl_LDADD = tools/tap-config/libtapconfig.a $(CMOCKA_LIBS) $(XLUTIL_LIBS)
endif
endif

EXTRA_DIST += tests/tools/README.md
