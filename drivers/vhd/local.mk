# SPDX-License-Identifier: BSD-2-Clause
drivers_libdrivers_a_SOURCES += \
	drivers/vhd/vhd-alloc.c \
	drivers/vhd/vhd-area.c \
	drivers/vhd/vhd-batmap.c \
	drivers/vhd/vhd-change.c \
	drivers/vhd/vhd-check.c \
	drivers/vhd/vhd-create.c \
	drivers/vhd/vhd-footer.c \
	drivers/vhd/vhd-int.h \
	drivers/vhd/vhd-load.c \
	drivers/vhd/vhd-map.c \
	drivers/vhd/vhd-parent.c \
	drivers/vhd/vhd-place.c \
	drivers/vhd/vhd-read.c \
	drivers/vhd/vhd-write.c \
	drivers/vhd/vhd.c
EXTRA_DIST += drivers/vhd/README.md
