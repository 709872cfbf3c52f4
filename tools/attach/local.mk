# SPDX-License-Identifier: BSD-2-Clause
# block-attach, block-detach, block-list.
sbin_PROGRAMS += bin/block-attach bin/block-detach bin/block-list

noinst_LIBRARIES += tools/attach/libattach.a
tools_attach_libattach_a_SOURCES = \
	tools/attach/args.c \
	tools/attach/attach.h \
	tools/attach/daemon.c \
	tools/attach/holders.c \
	tools/attach/list.h \
	tools/attach/loop-attach.c \
	tools/attach/loopdev.c \
	tools/attach/names.c \
	tools/attach/partitions.c \
	tools/attach/record.c \
	tools/attach/release.c \
	tools/attach/ring-attach.c \
	tools/attach/ring-detach.c \
	tools/attach/ring-domain.c \
	tools/attach/ring-list.c \
	tools/attach/ring-nodes.c \
	tools/attach/ring-wait.c \
	tools/attach/ring.h \
	tools/attach/undo.c \
	tools/attach/util.c

tools_attach_libattach_a_CFLAGS = $(AM_CFLAGS) $(BLKID_CFLAGS)

ATTACH_LIBS = tools/attach/libattach.a tools/libtoolcommon.a xen/libxs.a blktap/libctl.a

bin_block_attach_SOURCES = tools/attach/block-attach.c
bin_block_attach_LDADD = $(ATTACH_LIBS) $(DRIVER_LIBS) $(JANSSON_LIBS) $(BLKID_LIBS) $(XEN_LIBS) $(DRIVER_SYSLIBS)
bin_block_detach_SOURCES = tools/attach/block-detach.c
bin_block_detach_LDADD = $(ATTACH_LIBS) drivers/rt/librt.a $(JANSSON_LIBS) $(BLKID_LIBS) $(XEN_LIBS)
bin_block_list_SOURCES = tools/attach/block-list.c
bin_block_list_LDADD = $(ATTACH_LIBS) drivers/rt/librt.a $(JANSSON_LIBS) $(BLKID_LIBS) $(XEN_LIBS)

EXTRA_DIST += tools/attach/README.md

dist_man_MANS += man/block-attach.8 man/block-detach.8 man/block-list.8
dist_bashcompletion_DATA += \
	tools/completions/block-attach \
	tools/completions/block-detach \
	tools/completions/block-list
