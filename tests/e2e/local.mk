# SPDX-License-Identifier: BSD-2-Clause
# End-to-end tests, one line each.
EXTRA_DIST += tests/e2e/lib.sh tests/e2e/README.md

E2E =
E2E += tests/e2e/tools-tap-ctl.sh
E2E += tests/e2e/tools-tap-img.sh
E2E += tests/e2e/tools-check.sh
E2E += tests/e2e/check-damaged.sh
EXTRA_DIST += tests/e2e/check-set.py tests/e2e/qcow2_damage.py
E2E += tests/e2e/tools-bench.sh
E2E += tests/e2e/tools-commit.sh
E2E += tests/e2e/tools-bitmap.sh
E2E += tests/e2e/tools-map.sh
E2E += tests/e2e/tools-rebase.sh
E2E += tests/e2e/rebase-vmdk.sh
E2E += tests/e2e/rebase-qcow.sh
EXTRA_DIST += tests/e2e/chains.py
E2E += tests/e2e/tools-snapshot.sh
E2E += tests/e2e/tools-config.sh
E2E += tests/e2e/tools-compare.sh
E2E += tests/e2e/tools-convert.sh
E2E += tests/e2e/tools-convert-fail.sh
E2E += tests/e2e/convert-stream.sh
EXTRA_DIST += tests/e2e/convert-lib.sh tests/e2e/vmdk-stream.py
E2E += tests/e2e/tools-block-tap.sh
EXTRA_DIST += tests/e2e/fake-xs.sh
E2E += tests/e2e/tools-gc.sh
E2E += tests/e2e/tools-script.sh
E2E += tests/e2e/tools-dm.sh
EXTRA_DIST += tests/e2e/tools-dm.py
E2E += tests/e2e/tools-docs.sh
E2E += tests/e2e/interop-crypt.sh
E2E += tests/e2e/interop-data-file.sh
E2E += tests/e2e/interop-qcow2.sh
E2E += tests/e2e/interop-qcow.sh
E2E += tests/e2e/interop-vdi.sh
E2E += tests/e2e/interop-vhd.sh
E2E += tests/e2e/interop-vhdx.sh
EXTRA_DIST += tests/e2e/interop-lib.sh tests/e2e/vhdxlib.py
E2E += tests/e2e/interop-sesparse.sh
EXTRA_DIST += tests/e2e/vmdk-sesparse.py
E2E += tests/e2e/interop-vmdk.sh
E2E += tests/e2e/kill9.sh
E2E += tests/e2e/kill9-tools.sh
EXTRA_DIST += tests/e2e/nbd-stamps.py

E2E += tests/e2e/daemon-control.sh
E2E += tests/e2e/daemon-filters.sh
E2E += tests/e2e/daemon-life.sh
E2E += tests/e2e/daemon-policy.sh
E2E += tests/e2e/daemon-resize.sh
E2E += tests/e2e/sandbox.sh
E2E += tests/e2e/daemon-ring.sh
E2E += tests/e2e/nbd-hostile.sh
E2E += tests/e2e/nbd-interop.sh
E2E += tests/e2e/nbd-load.sh
E2E += tests/e2e/nbd-protocol.sh
EXTRA_DIST += tests/e2e/nbdlib.py tests/e2e/nbd-hostile.py tests/e2e/nbd-protocol.py

E2E += tests/e2e/attach-crash.sh
E2E += tests/e2e/attach-disk.sh
E2E += tests/e2e/attach-refuse.sh
E2E += tests/e2e/fuse-data.sh
E2E += tests/e2e/fuse-ops.sh
E2E += tests/e2e/tapfuse.sh
EXTRA_DIST += tests/e2e/fuse-lib.sh

E2E += tests/e2e/ring-client.sh
E2E += tests/e2e/ring-hostile.sh
E2E += tests/e2e/ring-life.sh
E2E += tests/e2e/ring-load.sh
EXTRA_DIST += tests/e2e/ringlib.py tests/e2e/ring-hostile.py

E2E += tests/e2e/grains-repair.sh
EXTRA_DIST += tests/e2e/grains-damage.py
E2E += tests/e2e/hostile-images.sh
E2E += tests/e2e/hostile-tools.sh
EXTRA_DIST += tests/e2e/hostile-corpus.py tests/e2e/hostile-tools.py tests/e2e/hostile-formats.py
EXTRA_DIST += tests/e2e/hostile_lib.py tests/e2e/hostile_qcow.py tests/e2e/hostile_qcow2.py
EXTRA_DIST += tests/e2e/hostile_vhd.py tests/e2e/hostile_vmdk.py tests/e2e/hostile_vhdx.py tests/e2e/hostile_vdi.py
EXTRA_DIST += tests/e2e/hostile_qcow2_more.py tests/e2e/hostile_sesparse.py
E2E += tests/e2e/device-images.sh
E2E += tests/e2e/images.sh
E2E += tests/e2e/matrix.sh
E2E += tests/e2e/man.sh
E2E += tests/e2e/readme.sh
EXTRA_DIST += tests/e2e/docs-lib.sh

# What matrix.sh runs.
check_PROGRAMS += tests/driver/qcow2-matrix
tests_driver_qcow2_matrix_SOURCES = \
	tests/driver/matrix-formats.c \
	tests/driver/matrix-scribble.c \
	tests/driver/matrix-shape.c \
	tests/driver/matrix-shape.h \
	tests/driver/qcow2-matrix.c
tests_driver_qcow2_matrix_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/lib
tests_driver_qcow2_matrix_CFLAGS = $(AM_CFLAGS) -Wno-frame-larger-than
tests_driver_qcow2_matrix_LDADD = tests/lib/libtest.a $(DRIVER_LIBS) $(DRIVER_SYSLIBS)

dist_check_SCRIPTS += $(E2E)
TESTS += $(E2E)
