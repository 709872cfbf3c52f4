# SPDX-License-Identifier: BSD-2-Clause
noinst_LIBRARIES += drivers/io/libio.a

drivers_io_libio_a_SOURCES = \
	drivers/io/engine-libaio.c \
	drivers/io/engine-sync.c \
	drivers/io/engine-threads.c \
	drivers/io/engine.c \
	drivers/io/engine.h \
	drivers/io/io.c
if HAVE_LIBURING
drivers_io_libio_a_SOURCES += drivers/io/engine-uring.c
endif

EXTRA_DIST += drivers/io/README.md
