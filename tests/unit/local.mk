# SPDX-License-Identifier: BSD-2-Clause
# One test file for each source file of formats/.
if HAVE_CMOCKA
UNIT_TESTS = \
	tests/unit/test-blkif \
	tests/unit/test-compress \
	tests/unit/test-guid \
	tests/unit/test-luks \
	tests/unit/test-qcow \
	tests/unit/test-qcow2-bitmap \
	tests/unit/test-qcow2-ext \
	tests/unit/test-qcow2-header \
	tests/unit/test-qcow2-layout \
	tests/unit/test-qcow2-refcount \
	tests/unit/test-qcow2-snapshot \
	tests/unit/test-qcow2-tables \
	tests/unit/test-qcow2-interop \
	tests/unit/test-vdi \
	tests/unit/test-vhd-footer \
	tests/unit/test-vhd-header \
	tests/unit/test-vhd-names \
	tests/unit/test-vhd-tables \
	tests/unit/test-vhdx-header \
	tests/unit/test-vhdx-locator \
	tests/unit/test-vhdx-log \
	tests/unit/test-vhdx-metadata \
	tests/unit/test-vdev \
	tests/unit/test-vmdk-cowd \
	tests/unit/test-vmdk-desc \
	tests/unit/test-vmdk-grain \
	tests/unit/test-vmdk-header \
	tests/unit/test-vmdk-sesparse \
	tests/unit/test-vmdk-text \
	tests/unit/test-attach-ring

check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)

# No coroutine stacks here: frames may be large.
UNIT_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -Wno-frame-larger-than
UNIT_LIBS = formats/libformats.a drivers/rt/librt.a $(CMOCKA_LIBS) $(ZLIB_LIBS) $(LIBDEFLATE_LIBS) $(ZSTD_LIBS) \
	$(PTHREAD_LIBS)

# Xen's header, where it is installed, in two layouts.
tests_unit_test_blkif_SOURCES = tests/unit/test-blkif.c tests/unit/unit.h \
	tests/unit/blkif-xen.c tests/unit/blkif-xen-32.c tests/unit/blkif-xen.h
tests_unit_test_blkif_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_blkif_LDADD = $(UNIT_LIBS)
tests_unit_test_compress_SOURCES = tests/unit/test-compress.c tests/unit/unit.h
tests_unit_test_compress_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_compress_LDADD = $(UNIT_LIBS)
tests_unit_test_compress_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=inflateInit2_,--wrap=inflate,--wrap=deflateInit2_ \
	-Wl,--wrap=libdeflate_alloc_decompressor,--wrap=libdeflate_alloc_compressor \
	-Wl,--wrap=ZSTD_createDCtx,--wrap=ZSTD_createCCtx
tests_unit_test_guid_SOURCES = tests/unit/test-guid.c tests/unit/unit.h
tests_unit_test_guid_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_guid_LDADD = $(UNIT_LIBS)
tests_unit_test_luks_SOURCES = tests/unit/test-luks.c tests/unit/unit.h
tests_unit_test_luks_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_luks_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow_SOURCES = tests/unit/test-qcow.c tests/unit/unit.h
tests_unit_test_qcow_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow2_ext_SOURCES = tests/unit/test-qcow2-ext.c tests/unit/unit.h
tests_unit_test_qcow2_ext_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_ext_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow2_header_SOURCES = tests/unit/test-qcow2-header.c tests/unit/unit.h
tests_unit_test_qcow2_header_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_header_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow2_layout_SOURCES = tests/unit/test-qcow2-layout.c tests/unit/unit.h
tests_unit_test_qcow2_layout_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_layout_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow2_refcount_SOURCES = tests/unit/test-qcow2-refcount.c tests/unit/unit.h
tests_unit_test_qcow2_refcount_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_refcount_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow2_bitmap_SOURCES = tests/unit/test-qcow2-bitmap.c tests/unit/unit.h
tests_unit_test_qcow2_bitmap_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_bitmap_LDADD = $(UNIT_LIBS)

tests_unit_test_qcow2_snapshot_SOURCES = tests/unit/test-qcow2-snapshot.c tests/unit/unit.h
tests_unit_test_qcow2_snapshot_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_snapshot_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow2_tables_SOURCES = tests/unit/test-qcow2-tables.c tests/unit/unit.h
tests_unit_test_qcow2_tables_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_tables_LDADD = $(UNIT_LIBS)
tests_unit_test_qcow2_interop_SOURCES = tests/unit/test-qcow2-interop.c tests/unit/unit.h
tests_unit_test_qcow2_interop_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_qcow2_interop_LDADD = $(UNIT_LIBS)
tests_unit_test_vdi_SOURCES = tests/unit/test-vdi.c tests/unit/unit.h
tests_unit_test_vdi_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vdi_LDADD = $(UNIT_LIBS)
tests_unit_test_vhd_footer_SOURCES = tests/unit/test-vhd-footer.c tests/unit/unit.h tests/unit/vhd-make.h
tests_unit_test_vhd_footer_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhd_footer_LDADD = $(UNIT_LIBS)
tests_unit_test_vhd_header_SOURCES = tests/unit/test-vhd-header.c tests/unit/unit.h tests/unit/vhd-make.h
tests_unit_test_vhd_header_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhd_header_LDADD = $(UNIT_LIBS)
tests_unit_test_vhd_names_SOURCES = tests/unit/test-vhd-names.c tests/unit/unit.h
tests_unit_test_vhd_names_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhd_names_LDADD = $(UNIT_LIBS)
tests_unit_test_vhd_tables_SOURCES = tests/unit/test-vhd-tables.c tests/unit/unit.h
tests_unit_test_vhd_tables_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhd_tables_LDADD = $(UNIT_LIBS)
tests_unit_test_vhdx_header_SOURCES = tests/unit/test-vhdx-header.c tests/unit/unit.h
tests_unit_test_vhdx_header_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhdx_header_LDADD = $(UNIT_LIBS)
tests_unit_test_vhdx_locator_SOURCES = tests/unit/test-vhdx-locator.c tests/unit/unit.h
tests_unit_test_vhdx_locator_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhdx_locator_LDADD = $(UNIT_LIBS)
tests_unit_test_vhdx_log_SOURCES = tests/unit/test-vhdx-log.c tests/unit/unit.h
tests_unit_test_vhdx_log_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhdx_log_LDADD = $(UNIT_LIBS)
tests_unit_test_vhdx_metadata_SOURCES = tests/unit/test-vhdx-metadata.c tests/unit/unit.h
tests_unit_test_vhdx_metadata_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vhdx_metadata_LDADD = $(UNIT_LIBS)
tests_unit_test_vmdk_cowd_SOURCES = tests/unit/test-vmdk-cowd.c tests/unit/unit.h
tests_unit_test_vmdk_cowd_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vmdk_cowd_LDADD = $(UNIT_LIBS)
tests_unit_test_vmdk_desc_SOURCES = tests/unit/test-vmdk-desc.c tests/unit/unit.h
tests_unit_test_vmdk_desc_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vmdk_desc_LDADD = $(UNIT_LIBS)
tests_unit_test_vmdk_grain_SOURCES = tests/unit/test-vmdk-grain.c tests/unit/unit.h
tests_unit_test_vmdk_grain_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vmdk_grain_LDADD = $(UNIT_LIBS)
tests_unit_test_vmdk_header_SOURCES = tests/unit/test-vmdk-header.c tests/unit/unit.h
tests_unit_test_vmdk_header_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vmdk_header_LDADD = $(UNIT_LIBS)
tests_unit_test_vmdk_sesparse_SOURCES = tests/unit/test-vmdk-sesparse.c tests/unit/unit.h
tests_unit_test_vmdk_sesparse_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vmdk_sesparse_LDADD = $(UNIT_LIBS)
tests_unit_test_vmdk_text_SOURCES = tests/unit/test-vmdk-text.c tests/unit/unit.h
tests_unit_test_vmdk_text_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vmdk_text_LDADD = $(UNIT_LIBS)
tests_unit_test_vdev_SOURCES = tests/unit/test-vdev.c tests/unit/unit.h
tests_unit_test_vdev_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_vdev_LDADD = xen/libxs.a $(CMOCKA_LIBS)
tests_unit_test_attach_ring_SOURCES = tests/unit/test-attach-ring.c tests/unit/unit.h \
	tests/tapback/fake-xs.c tests/tapback/fake-xs.h
tests_unit_test_attach_ring_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tools/attach -I$(top_srcdir)/tests/tapback
tests_unit_test_attach_ring_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_attach_ring_LDADD = tools/attach/libattach.a xen/libxs.a blktap/libctl.a drivers/rt/librt.a \
	$(CMOCKA_LIBS) $(JANSSON_LIBS) $(BLKID_LIBS)
endif
EXTRA_DIST += tests/unit/README.md
