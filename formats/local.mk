# SPDX-License-Identifier: BSD-2-Clause
# Pure codecs. They alone are built with -Wconversion: every narrowing of a number from a file is written out.
noinst_LIBRARIES += formats/libformats.a
formats_libformats_a_SOURCES = \
	formats/blkif.c \
	formats/compress.c \
	formats/guid.c \
	formats/luks.c \
	formats/qcow.c \
	formats/qcow2-bitmap.c \
	formats/qcow2-ext.c \
	formats/qcow2-header.c \
	formats/qcow2-layout.c \
	formats/qcow2-refcount.c \
	formats/qcow2-snapshot.c \
	formats/qcow2-tables.c \
	formats/vdi.c \
	formats/vhd-footer.c \
	formats/vhd-header.c \
	formats/vhd-names.c \
	formats/vhd-tables.c \
	formats/vhdx-header.c \
	formats/vhdx-locator.c \
	formats/vhdx-log.c \
	formats/vhdx-metadata.c \
	formats/vmdk-cowd.c \
	formats/vmdk-desc.c \
	formats/vmdk-grain.c \
	formats/vmdk-header.c \
	formats/vmdk-sesparse.c \
	formats/vmdk-text.c
formats_libformats_a_CFLAGS = $(AM_CFLAGS) -Wconversion
EXTRA_DIST += formats/README.md
