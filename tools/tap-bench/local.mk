# SPDX-License-Identifier: BSD-2-Clause
bin_PROGRAMS += bin/tap-bench
bin_tap_bench_SOURCES = \
	tools/tap-bench/bench.h \
	tools/tap-bench/file.c \
	tools/tap-bench/load.c \
	tools/tap-bench/main.c \
	tools/tap-bench/report.c \
	tools/tap-bench/ring.c \
	tools/tap-bench/run.c \
	tools/tap-bench/server.c \
	tools/tap-bench/stamp.c
bin_tap_bench_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/client
# With the library's archive: a program that can be run where it was built.
bin_tap_bench_LDFLAGS = $(AM_LDFLAGS) -static-libtool-libs
bin_tap_bench_LDADD = client/libblktap-client.la tools/libtoolcommon.a blktap/libctl.a $(DRIVER_LIBS) \
	$(JANSSON_LIBS) $(DRIVER_SYSLIBS)

dist_bashcompletion_DATA += tools/completions/tap-bench
dist_man_MANS += man/tap-bench.1
EXTRA_DIST += tools/tap-bench/README.md
