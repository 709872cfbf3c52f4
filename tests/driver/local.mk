# SPDX-License-Identifier: BSD-2-Clause
if HAVE_CMOCKA
DRIVER_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/drivers -I$(top_srcdir)/tests/lib $(CMOCKA_CFLAGS)
DRIVER_TEST_LIBS = tests/lib/libtest.a $(DRIVER_LIBS) $(CMOCKA_LIBS) $(DRIVER_SYSLIBS)

# Each a test-x.c with nothing but the shared helpers.
DRIVER_TESTS =

DRIVER_TESTS += tests/driver/test-aio
tests_driver_test_aio_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_aio_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-chain
tests_driver_test_chain_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_chain_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-crypt
tests_driver_test_crypt_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_crypt_CFLAGS = $(AM_CFLAGS) -Wno-frame-larger-than
tests_driver_test_crypt_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-fault
tests_driver_test_fault_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_fault_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-image
tests_driver_test_image_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_image_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-lock
tests_driver_test_lock_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_lock_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-open
tests_driver_test_open_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_open_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-part
tests_driver_test_part_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_part_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-policy
tests_driver_test_policy_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_policy_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-sim-aio
tests_driver_test_sim_aio_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_sim_aio_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-throttle
tests_driver_test_throttle_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_throttle_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-spec
tests_driver_test_spec_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_spec_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-meta
tests_driver_test_meta_SOURCES = tests/driver/test-meta.c tests/driver/kept.c tests/driver/kept.h \
	tests/driver/toy.c tests/driver/toy.h
tests_driver_test_meta_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_meta_LDADD = $(DRIVER_TEST_LIBS)

VHD_TEST_SOURCES = tests/driver/vhd-fixture.h tests/driver/vhd-fsck.c tests/driver/vhd-fsck.h

DRIVER_TESTS += tests/driver/test-vhd
tests_driver_test_vhd_SOURCES = tests/driver/test-vhd.c $(VHD_TEST_SOURCES)
tests_driver_test_vhd_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_vhd_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-vhd-parent
tests_driver_test_vhd_parent_SOURCES = tests/driver/test-vhd-parent.c $(VHD_TEST_SOURCES)
tests_driver_test_vhd_parent_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_vhd_parent_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-vhd-tail
tests_driver_test_vhd_tail_SOURCES = tests/driver/test-vhd-tail.c $(VHD_TEST_SOURCES)
tests_driver_test_vhd_tail_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_vhd_tail_LDADD = $(DRIVER_TEST_LIBS)

QCOW2_TEST_SOURCES = tests/driver/qcow2-fsck.c tests/driver/qcow2-fsck.h

FORMAT_TEST_SOURCES = tests/driver/format-list.c tests/driver/format-run.c tests/driver/format-run.h \
	tests/driver/kept.c tests/driver/kept.h tests/driver/vhd-fsck.c tests/driver/vhd-fsck.h $(QCOW2_TEST_SOURCES)

DRIVER_TESTS += tests/driver/test-qcow2-basic
tests_driver_test_qcow2_basic_SOURCES = tests/driver/test-qcow2-basic.c $(FORMAT_TEST_SOURCES)
tests_driver_test_qcow2_basic_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_basic_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-backing
tests_driver_test_qcow2_backing_SOURCES = tests/driver/test-qcow2-backing.c tests/driver/qcow2-fsck.c \
	tests/driver/qcow2-fsck.h
tests_driver_test_qcow2_backing_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_backing_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-adopt
tests_driver_test_qcow2_adopt_SOURCES = tests/driver/test-qcow2-adopt.c tests/driver/qcow2-fsck.c \
	tests/driver/qcow2-fsck.h
tests_driver_test_qcow2_adopt_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_adopt_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-bitmap
tests_driver_test_qcow2_bitmap_SOURCES = tests/driver/test-qcow2-bitmap.c
tests_driver_test_qcow2_bitmap_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_bitmap_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-check
tests_driver_test_qcow2_check_SOURCES = tests/driver/test-qcow2-check.c $(FORMAT_TEST_SOURCES)
tests_driver_test_qcow2_check_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_check_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-hostile
tests_driver_test_qcow2_hostile_SOURCES = tests/driver/test-qcow2-hostile.c tests/driver/qcow2-fsck.c \
	tests/driver/qcow2-fsck.h
tests_driver_test_qcow2_hostile_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_hostile_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-keyslots
tests_driver_test_qcow2_keyslots_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_keyslots_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-pack
tests_driver_test_qcow2_pack_SOURCES = tests/driver/test-qcow2-pack.c tests/driver/qcow2-fsck.c \
	tests/driver/qcow2-fsck.h
tests_driver_test_qcow2_pack_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_pack_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-packed
tests_driver_test_qcow2_packed_SOURCES = tests/driver/test-qcow2-packed.c
tests_driver_test_qcow2_packed_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_packed_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-prealloc
tests_driver_test_qcow2_prealloc_SOURCES = tests/driver/test-qcow2-prealloc.c tests/driver/qcow2-fsck.c \
	tests/driver/qcow2-fsck.h
tests_driver_test_qcow2_prealloc_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_prealloc_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-shrink
tests_driver_test_qcow2_shrink_SOURCES = tests/driver/test-qcow2-shrink.c tests/driver/qcow2-fsck.c \
	tests/driver/qcow2-fsck.h
tests_driver_test_qcow2_shrink_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_shrink_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-snapshot
tests_driver_test_qcow2_snapshot_SOURCES = tests/driver/test-qcow2-snapshot.c $(FORMAT_TEST_SOURCES)
tests_driver_test_qcow2_snapshot_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_snapshot_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow2-space
tests_driver_test_qcow2_space_SOURCES = tests/driver/test-qcow2-space.c tests/driver/qcow2-fsck.c \
	tests/driver/qcow2-fsck.h
tests_driver_test_qcow2_space_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow2_space_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-grains-cut
tests_driver_test_grains_cut_SOURCES = tests/driver/test-grains-cut.c
tests_driver_test_grains_cut_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_grains_cut_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-grains-packed
tests_driver_test_grains_packed_SOURCES = tests/driver/test-grains-packed.c
tests_driver_test_grains_packed_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_grains_packed_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-qcow-backing
tests_driver_test_qcow_backing_SOURCES = tests/driver/test-qcow-backing.c
tests_driver_test_qcow_backing_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_qcow_backing_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-vmdk-backing
tests_driver_test_vmdk_backing_SOURCES = tests/driver/test-vmdk-backing.c
tests_driver_test_vmdk_backing_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_vmdk_backing_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-vmdk-commit
tests_driver_test_vmdk_commit_SOURCES = tests/driver/test-vmdk-commit.c
tests_driver_test_vmdk_commit_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_vmdk_commit_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-format-faults
tests_driver_test_format_faults_SOURCES = tests/driver/test-format-faults.c $(FORMAT_TEST_SOURCES)
tests_driver_test_format_faults_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_format_faults_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-format-crash
tests_driver_test_format_crash_SOURCES = tests/driver/test-format-crash.c $(FORMAT_TEST_SOURCES)
tests_driver_test_format_crash_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_format_crash_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-format-kill
tests_driver_test_format_kill_SOURCES = tests/driver/test-format-kill.c $(FORMAT_TEST_SOURCES)
tests_driver_test_format_kill_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_format_kill_LDADD = $(DRIVER_TEST_LIBS)

DRIVER_TESTS += tests/driver/test-format-zero
tests_driver_test_format_zero_SOURCES = tests/driver/test-format-zero.c
tests_driver_test_format_zero_CPPFLAGS = $(DRIVER_TEST_CPPFLAGS)
tests_driver_test_format_zero_LDADD = $(DRIVER_TEST_LIBS)

check_PROGRAMS += $(DRIVER_TESTS)
TESTS += $(DRIVER_TESTS)
endif

EXTRA_DIST += tests/driver/README.md
