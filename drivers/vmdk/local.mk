# SPDX-License-Identifier: BSD-2-Clause
drivers_libdrivers_a_SOURCES += \
	drivers/vmdk/vmdk-backing.c \
	drivers/vmdk/vmdk-check.c \
	drivers/vmdk/vmdk-cid.c \
	drivers/vmdk/vmdk-cowd-file.c \
	drivers/vmdk/vmdk-create-sparse.c \
	drivers/vmdk/vmdk-create.c \
	drivers/vmdk/vmdk-create.h \
	drivers/vmdk/vmdk-directory.c \
	drivers/vmdk/vmdk-extents.c \
	drivers/vmdk/vmdk-hosted.c \
	drivers/vmdk/vmdk-int.h \
	drivers/vmdk/vmdk-io.c \
	drivers/vmdk/vmdk-load.c \
	drivers/vmdk/vmdk-measure.c \
	drivers/vmdk/vmdk-names.c \
	drivers/vmdk/vmdk-packed.c \
	drivers/vmdk/vmdk-parent.c \
	drivers/vmdk/vmdk-part.c \
	drivers/vmdk/vmdk-sesparse-file.c \
	drivers/vmdk/vmdk-sparse.c \
	drivers/vmdk/vmdk-sparse.h \
	drivers/vmdk/vmdk-stream.c \
	drivers/vmdk/vmdk-stream.h \
	drivers/vmdk/vmdk.c
EXTRA_DIST += drivers/vmdk/README.md
