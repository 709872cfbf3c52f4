# SPDX-License-Identifier: BSD-2-Clause
# The ring server and its two transports; part of libtapdisk.a.
blktap_libtapdisk_a_SOURCES += \
	blktap/ring/ring-features.c \
	blktap/ring/ring-grants.c \
	blktap/ring/ring-journal.c \
	blktap/ring/ring-json.c \
	blktap/ring/ring-private.h \
	blktap/ring/ring-request.c \
	blktap/ring/ring-xen-absent.c \
	blktap/ring/ring-xen-queue.c \
	blktap/ring/ring-xen.c \
	blktap/ring/ring-xen.h \
	blktap/ring/ring.c \
	blktap/ring/ring.h
blktap_libtapdisk_a_SOURCES += \
	blktap/ring/ring-shm-conn.c \
	blktap/ring/ring-shm-mem.c \
	blktap/ring/ring-shm-queue.c \
	blktap/ring/ring-shm.c \
	blktap/ring/ring-shm.h
dist_man_MANS += man/blktap-ring.7
EXTRA_DIST += blktap/ring/README.md
