# SPDX-License-Identifier: BSD-2-Clause
if HAVE_CMOCKA
RT_TESTS = \
	tests/rt/test-co \
	tests/rt/test-engine \
	tests/rt/test-err-log \
	tests/rt/test-hist \
	tests/rt/test-io \
	tests/rt/test-iov \
	tests/rt/test-lock \
	tests/rt/test-loop \
	tests/rt/test-opts \
	tests/rt/test-pace \
	tests/rt/test-pool

RT_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/drivers $(CMOCKA_CFLAGS)
RT_LIBS = drivers/rt/librt.a $(CMOCKA_LIBS) $(PTHREAD_LIBS)
RT_IO_LIBS = drivers/io/libio.a drivers/rt/librt.a $(URING_LIBS) $(CMOCKA_LIBS) $(PTHREAD_LIBS)

tests_rt_test_co_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_co_LDADD = $(RT_LIBS)
tests_rt_test_engine_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_engine_LDADD = $(RT_IO_LIBS)
tests_rt_test_err_log_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_err_log_LDADD = $(RT_LIBS)
tests_rt_test_hist_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_hist_LDADD = $(RT_LIBS)
tests_rt_test_io_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_io_LDADD = $(RT_IO_LIBS)
tests_rt_test_iov_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_iov_LDADD = $(RT_LIBS)
tests_rt_test_lock_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_lock_LDADD = $(RT_LIBS)
tests_rt_test_loop_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_loop_LDADD = $(RT_LIBS)
tests_rt_test_opts_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_opts_LDADD = $(RT_LIBS)
tests_rt_test_pace_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_pace_LDADD = $(RT_LIBS)
tests_rt_test_pool_CPPFLAGS = $(RT_CPPFLAGS)
tests_rt_test_pool_LDADD = $(RT_LIBS)

check_PROGRAMS += $(RT_TESTS)
TESTS += $(RT_TESTS)
endif

# A measurement, not a test.
noinst_PROGRAMS += tests/rt/bench-engine
tests_rt_bench_engine_LDADD = drivers/io/libio.a drivers/rt/librt.a $(URING_LIBS) $(PTHREAD_LIBS)

EXTRA_DIST += tests/rt/README.md
