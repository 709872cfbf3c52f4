// SPDX-License-Identifier: BSD-2-Clause
/* The i386 layout of Xen's header. */
#define LAYOUT_I386
#include "blkif-xen.c"
