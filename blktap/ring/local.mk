# SPDX-License-Identifier: BSD-2-Clause
# The ring server and its two transports; part of libtapdisk.a.
blktap_libtapdisk_a_SOURCES += \
	blktap/ring/ring-stats.c \
	blktap/ring/ring.h
