# SPDX-License-Identifier: BSD-2-Clause
drivers_libdrivers_a_SOURCES += \
	drivers/vhdx/vhdx-check.c \
	drivers/vhdx/vhdx-int.h \
	drivers/vhdx/vhdx-load.c \
	drivers/vhdx/vhdx-log.c \
	drivers/vhdx/vhdx-map.c \
	drivers/vhdx/vhdx-parent.c \
	drivers/vhdx/vhdx.c
EXTRA_DIST += drivers/vhdx/README.md
