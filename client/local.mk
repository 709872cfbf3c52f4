# SPDX-License-Identifier: BSD-2-Clause
# libblktap-client: the one library that is installed.  It needs nothing of the others: the ring's codec is compiled in.
lib_LTLIBRARIES = client/libblktap-client.la
client_libblktap_client_la_SOURCES = \
	client/client.h \
	client/connect.c \
	client/control.c \
	client/memory.c \
	client/queue.c \
	formats/blkif.c
client_libblktap_client_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/client
client_libblktap_client_la_CFLAGS = $(AM_CFLAGS)
# Not AM_LDFLAGS: -pie is for programs.
client_libblktap_client_la_LDFLAGS = -Wl,-z,relro,-z,now $(SAN_FLAGS) -no-undefined -version-info 0:0:0 \
	-export-symbols-regex '^blktap_'
client_libblktap_client_la_LIBADD = $(PTHREAD_LIBS)

include_HEADERS = client/blktap-client.h
pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = client/blktap-client.pc

EXTRA_DIST += client/README.md
dist_man_MANS += man/libblktap-client.3
