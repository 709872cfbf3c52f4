# SPDX-License-Identifier: BSD-2-Clause
drivers_libdrivers_a_SOURCES += drivers/vdi/vdi.c
EXTRA_DIST += drivers/vdi/README.md
