# SPDX-License-Identifier: BSD-2-Clause
FUZZ_REPLAYS = \
	tests/fuzz/replay-bitmaps \
	tests/fuzz/replay-header \
	tests/fuzz/replay-inflate \
	tests/fuzz/replay-luks \
	tests/fuzz/replay-qcow \
	tests/fuzz/replay-snapshots \
	tests/fuzz/replay-tables \
	tests/fuzz/replay-vdi \
	tests/fuzz/replay-vhd \
	tests/fuzz/replay-vhdx \
	tests/fuzz/replay-vmdk

check_PROGRAMS += $(FUZZ_REPLAYS)
EXTRA_PROGRAMS += tests/fuzz/make-corpus
TESTS += $(FUZZ_REPLAYS) tests/fuzz/run.sh
dist_check_SCRIPTS += tests/fuzz/run.sh
EXTRA_DIST += tests/fuzz/README.md tests/fuzz/corpus

FUZZ_LIBS = formats/libformats.a drivers/rt/librt.a $(ZLIB_LIBS) $(LIBDEFLATE_LIBS) $(ZSTD_LIBS) $(PTHREAD_LIBS)
FUZZ_CFLAGS = $(AM_CFLAGS) -Wno-frame-larger-than

tests_fuzz_make_corpus_SOURCES = tests/fuzz/make-corpus.c
tests_fuzz_make_corpus_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_bitmaps_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-bitmaps.c tests/fuzz/fuzz.h
tests_fuzz_replay_bitmaps_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"bitmaps"'
tests_fuzz_replay_bitmaps_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_bitmaps_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_header_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-header.c tests/fuzz/fuzz.h
tests_fuzz_replay_header_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"header"'
tests_fuzz_replay_header_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_header_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_inflate_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-inflate.c tests/fuzz/fuzz.h
tests_fuzz_replay_inflate_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"inflate"'
tests_fuzz_replay_inflate_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_inflate_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_luks_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-luks.c tests/fuzz/fuzz.h
tests_fuzz_replay_luks_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"luks"'
tests_fuzz_replay_luks_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_luks_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_snapshots_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-snapshots.c tests/fuzz/fuzz.h
tests_fuzz_replay_snapshots_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"snapshots"'
tests_fuzz_replay_snapshots_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_snapshots_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_tables_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-tables.c tests/fuzz/fuzz.h
tests_fuzz_replay_tables_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"tables"'
tests_fuzz_replay_tables_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_tables_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_qcow_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-qcow.c tests/fuzz/fuzz.h
tests_fuzz_replay_qcow_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"qcow"'
tests_fuzz_replay_qcow_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_qcow_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_vdi_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-vdi.c tests/fuzz/fuzz.h
tests_fuzz_replay_vdi_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"vdi"'
tests_fuzz_replay_vdi_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_vdi_LDADD = $(FUZZ_LIBS)

tests_fuzz_replay_vhd_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-vhd.c tests/fuzz/fuzz.h
tests_fuzz_replay_vhd_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"vhd"'
tests_fuzz_replay_vhd_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_vhd_LDADD = $(FUZZ_LIBS)
tests_fuzz_replay_vhdx_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-vhdx.c tests/fuzz/fuzz.h
tests_fuzz_replay_vhdx_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"vhdx"'
tests_fuzz_replay_vhdx_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_vhdx_LDADD = $(FUZZ_LIBS)
tests_fuzz_replay_vmdk_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-vmdk.c tests/fuzz/fuzz.h
tests_fuzz_replay_vmdk_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_NAME='"vmdk"'
tests_fuzz_replay_vmdk_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_vmdk_LDADD = $(FUZZ_LIBS)

# Whole images through the driver: it runs on what the driver tests run on.
check_PROGRAMS += tests/fuzz/replay-image
TESTS += tests/fuzz/replay-image
FUZZ_IMAGE_SOURCES = tests/fuzz/fuzz-image.c tests/fuzz/image-input.c tests/fuzz/image-model.c \
	tests/fuzz/image-seeds.c tests/fuzz/image-input.h tests/fuzz/image-model.h tests/fuzz/image-seeds.h \
	tests/fuzz/fuzz.h
FUZZ_IMAGE_LIBS = tests/lib/libtest.a $(DRIVER_LIBS) $(DRIVER_SYSLIBS)
tests_fuzz_replay_image_SOURCES = tests/fuzz/image-replay.c $(FUZZ_IMAGE_SOURCES)
tests_fuzz_replay_image_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib
tests_fuzz_replay_image_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_image_LDADD = $(FUZZ_IMAGE_LIBS)

# The ring server: programs of guest actions.
check_PROGRAMS += tests/fuzz/replay-ring
TESTS += tests/fuzz/replay-ring
tests_fuzz_replay_ring_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-ring.c tests/fuzz/fuzz-vbd.h tests/fuzz/fuzz.h
tests_fuzz_replay_ring_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib -I$(top_srcdir)/blktap/ring \
	-DFUZZ_NAME='"ring"'
tests_fuzz_replay_ring_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_ring_LDADD = blktap/libtapdisk.a $(FUZZ_IMAGE_LIBS) $(JANSSON_LIBS)

# The NBD server, over a real socket.
check_PROGRAMS += tests/fuzz/replay-nbd
TESTS += tests/fuzz/replay-nbd
tests_fuzz_replay_nbd_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-nbd.c tests/fuzz/fuzz-vbd.h tests/fuzz/fuzz.h
tests_fuzz_replay_nbd_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib -I$(top_srcdir)/blktap \
	-DFUZZ_NAME='"nbd"'
tests_fuzz_replay_nbd_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_nbd_LDADD = blktap/libtapdisk.a $(FUZZ_IMAGE_LIBS) $(JANSSON_LIBS)

# Refcounts that lie, through the driver's repair.
check_PROGRAMS += tests/fuzz/replay-refcounts
TESTS += tests/fuzz/replay-refcounts
tests_fuzz_replay_refcounts_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz-refcounts.c tests/fuzz/fuzz.h \
	tests/driver/qcow2-fsck.c tests/driver/qcow2-fsck.h
tests_fuzz_replay_refcounts_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib \
	-I$(top_srcdir)/tests/driver -DFUZZ_NAME='"refcounts"'
tests_fuzz_replay_refcounts_CFLAGS = $(FUZZ_CFLAGS)
tests_fuzz_replay_refcounts_LDADD = $(FUZZ_IMAGE_LIBS)

EXTRA_DIST += tests/fuzz/image-mutator.c

# For long sessions by hand: ./configure --enable-fuzz CC=clang --enable-sanitizers.
if FUZZ
FUZZ_TARGETS = \
	tests/fuzz/fuzz-bitmaps \
	tests/fuzz/fuzz-header \
	tests/fuzz/fuzz-inflate \
	tests/fuzz/fuzz-luks \
	tests/fuzz/fuzz-qcow \
	tests/fuzz/fuzz-snapshots \
	tests/fuzz/fuzz-tables \
	tests/fuzz/fuzz-vdi \
	tests/fuzz/fuzz-vhd \
	tests/fuzz/fuzz-vhdx \
	tests/fuzz/fuzz-vmdk

noinst_PROGRAMS += $(FUZZ_TARGETS)

tests_fuzz_fuzz_bitmaps_SOURCES = tests/fuzz/fuzz-bitmaps.c
tests_fuzz_fuzz_bitmaps_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_bitmaps_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_header_SOURCES = tests/fuzz/fuzz-header.c
tests_fuzz_fuzz_header_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_header_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_inflate_SOURCES = tests/fuzz/fuzz-inflate.c
tests_fuzz_fuzz_inflate_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_inflate_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_luks_SOURCES = tests/fuzz/fuzz-luks.c
tests_fuzz_fuzz_luks_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_luks_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_qcow_SOURCES = tests/fuzz/fuzz-qcow.c
tests_fuzz_fuzz_qcow_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_qcow_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_snapshots_SOURCES = tests/fuzz/fuzz-snapshots.c
tests_fuzz_fuzz_snapshots_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_snapshots_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_tables_SOURCES = tests/fuzz/fuzz-tables.c
tests_fuzz_fuzz_tables_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_tables_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_vdi_SOURCES = tests/fuzz/fuzz-vdi.c
tests_fuzz_fuzz_vdi_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_vdi_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_vhd_SOURCES = tests/fuzz/fuzz-vhd.c
tests_fuzz_fuzz_vhd_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_vhd_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_vhdx_SOURCES = tests/fuzz/fuzz-vhdx.c
tests_fuzz_fuzz_vhdx_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_vhdx_LDADD = $(FUZZ_LIBS)
tests_fuzz_fuzz_vmdk_SOURCES = tests/fuzz/fuzz-vmdk.c
tests_fuzz_fuzz_vmdk_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_vmdk_LDADD = $(FUZZ_LIBS)
endif
