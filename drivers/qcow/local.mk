# SPDX-License-Identifier: BSD-2-Clause
drivers_libdrivers_a_SOURCES += \
	drivers/qcow/qcow-backing.c \
	drivers/qcow/qcow-create.c \
	drivers/qcow/qcow-crypt.c \
	drivers/qcow/qcow-int.h \
	drivers/qcow/qcow-pack.c \
	drivers/qcow/qcow.c
EXTRA_DIST += drivers/qcow/README.md
