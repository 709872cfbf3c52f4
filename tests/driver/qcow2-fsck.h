// SPDX-License-Identifier: BSD-2-Clause
/*
 * A small checker of qcow2 images for the driver's tests: reads the file itself, shares only the codec with the driver.
 */
#ifndef TESTS_DRIVER_QCOW2_FSCK_H
#define TESTS_DRIVER_QCOW2_FSCK_H

#include <blktap/qcow2.h>

struct fsck {
	uint64_t corruptions; /* a count too low, a flag or an offset that is wrong */
	uint64_t leaks;       /* a count too high */
	uint64_t clusters;
	bool dirty; /* the dirty bit: counts that are too low are allowed then */
	struct qcow2_header h;
};

/* 0, or -errno if the file cannot be read or its header is no header.  Findings go to stderr. */
TD_CHECK int qcow2_fsck(const char *path, struct fsck *ret);

#endif
