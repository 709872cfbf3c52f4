# SPDX-License-Identifier: BSD-2-Clause
noinst_LIBRARIES += drivers/rt/librt.a

drivers_rt_librt_a_SOURCES = \
	drivers/rt/background.c \
	drivers/rt/co.c \
	drivers/rt/hist.c \
	drivers/rt/iov.c \
	drivers/rt/join.c \
	drivers/rt/lock.c \
	drivers/rt/log.c \
	drivers/rt/loop.c \
	drivers/rt/opts.c \
	drivers/rt/pace.c \
	drivers/rt/pool.c \
	drivers/rt/sanitize.h

EXTRA_DIST += drivers/rt/README.md
