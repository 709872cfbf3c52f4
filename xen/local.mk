# SPDX-License-Identifier: BSD-2-Clause
# Xenstore and names of devices. Link $(XEN_LIBS) behind it.
noinst_LIBRARIES += xen/libxs.a
xen_libxs_a_SOURCES = \
	xen/dom0.c \
	xen/vdev.c \
	xen/xs-absent.c \
	xen/xs.c

EXTRA_DIST += xen/README.md
