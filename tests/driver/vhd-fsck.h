// SPDX-License-Identifier: BSD-2-Clause
/*
 * A checker of dynamic and differencing vhd images, written for the tests alone and from the specification: it shares
 * nothing with the driver's own.
 */
#ifndef TESTS_DRIVER_VHD_FSCK_H
#define TESTS_DRIVER_VHD_FSCK_H

#include <blktap/base.h>

struct vhd_fsck {
	uint64_t blocks;
	uint64_t holes; /* space of blocks that no block has */
	bool whole;     /* the footer at the end is there, and the copy's equal */
};

/* 0, or -1 and a line on stderr: other programs would lose data, or not open it at all. */
TD_CHECK int vhd_fsck(const char *path, struct vhd_fsck *ret);

#endif
