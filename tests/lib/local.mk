# SPDX-License-Identifier: BSD-2-Clause
# Shared by the driver tests: link tests/lib/libtest.a before $(DRIVER_LIBS).
check_LIBRARIES += tests/lib/libtest.a
tests_lib_libtest_a_SOURCES = \
	tests/lib/model.c \
	tests/lib/model.h \
	tests/lib/simdisk.c \
	tests/lib/simdisk.h \
	tests/lib/simfile.c \
	tests/lib/simfile.h \
	tests/lib/testenv.c \
	tests/lib/testenv.h \
	tests/lib/workload.c \
	tests/lib/workload.h
EXTRA_DIST += tests/lib/README.md
