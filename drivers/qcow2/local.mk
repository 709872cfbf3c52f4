# SPDX-License-Identifier: BSD-2-Clause
drivers_libdrivers_a_SOURCES += \
	drivers/qcow2/qcow2-adopt.c \
	drivers/qcow2/qcow2-alloc.c \
	drivers/qcow2/qcow2-backing.c \
	drivers/qcow2/qcow2-cache.c \
	drivers/qcow2/qcow2-check-compare.c \
	drivers/qcow2/qcow2-check-count.c \
	drivers/qcow2/qcow2-check-extra.c \
	drivers/qcow2/qcow2-check-mend.c \
	drivers/qcow2/qcow2-check-rebuild.c \
	drivers/qcow2/qcow2-check-uses.c \
	drivers/qcow2/qcow2-check-walk.c \
	drivers/qcow2/qcow2-check.c \
	drivers/qcow2/qcow2-check.h \
	drivers/qcow2/qcow2-commit.c \
	drivers/qcow2/qcow2-counts.c \
	drivers/qcow2/qcow2-create.c \
	drivers/qcow2/qcow2-crypt.c \
	drivers/qcow2/qcow2-discard.c \
	drivers/qcow2/qcow2-empty.c \
	drivers/qcow2/qcow2-file.c \
	drivers/qcow2/qcow2-frees.c \
	drivers/qcow2/qcow2-header.c \
	drivers/qcow2/qcow2-int.h \
	drivers/qcow2/qcow2-keep.c \
	drivers/qcow2/qcow2-map.c \
	drivers/qcow2/qcow2-measure.c \
	drivers/qcow2/qcow2-overlap.c \
	drivers/qcow2/qcow2-pack.c \
	drivers/qcow2/qcow2-packed.c \
	drivers/qcow2/qcow2-prealloc.c \
	drivers/qcow2/qcow2-read.c \
	drivers/qcow2/qcow2-reap.c \
	drivers/qcow2/qcow2-refs.c \
	drivers/qcow2/qcow2-repair.c \
	drivers/qcow2/qcow2-resize.c \
	drivers/qcow2/qcow2-shadow-count.c \
	drivers/qcow2/qcow2-shadow.c \
	drivers/qcow2/qcow2-shadow.h \
	drivers/qcow2/qcow2-snaps.c \
	drivers/qcow2/qcow2-snapshot.c \
	drivers/qcow2/qcow2-table.c \
	drivers/qcow2/qcow2-tree.c \
	drivers/qcow2/qcow2-write.c \
	drivers/qcow2/qcow2.c
EXTRA_DIST += drivers/qcow2/README.md
