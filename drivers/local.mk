# SPDX-License-Identifier: BSD-2-Clause
noinst_LIBRARIES += drivers/libdrivers.a
drivers_libdrivers_a_SOURCES = \
	drivers/aio-create.c \
	drivers/aio-open.c \
	drivers/aio.c \
	drivers/aio.h \
	drivers/backing.c \
	drivers/buf.c \
	drivers/chain.c \
	drivers/check.c \
	drivers/codec.c \
	drivers/create.c \
	drivers/crypt-kdf.c \
	drivers/crypt-luks.c \
	drivers/crypt-pbkdf2.c \
	drivers/crypt.c \
	drivers/drivers.h \
	drivers/edge.c \
	drivers/fault.c \
	drivers/filelock.c \
	drivers/grains-check.c \
	drivers/grains-file.c \
	drivers/grains-int.h \
	drivers/grains-map.c \
	drivers/grains-read.c \
	drivers/grains-write.c \
	drivers/grains-zero.c \
	drivers/grains.c \
	drivers/image.c \
	drivers/keep-file.h \
	drivers/keep-old.c \
	drivers/keep.c \
	drivers/meta-cache.c \
	drivers/meta-commit.c \
	drivers/meta-int.h \
	drivers/meta-keep.c \
	drivers/meta.c \
	drivers/null.c \
	drivers/open.c \
	drivers/packed.c \
	drivers/part.c \
	drivers/policy.c \
	drivers/probe.c \
	drivers/ram.c \
	drivers/registry.c \
	drivers/secret.c \
	drivers/spec.c \
	drivers/stack.c \
	drivers/stdout.c \
	drivers/throttle-gate.c \
	drivers/throttle-gate.h \
	drivers/throttle.c \
	drivers/window.c
EXTRA_DIST += drivers/README.md
