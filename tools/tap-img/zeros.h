// SPDX-License-Identifier: BSD-2-Clause
/*
 * Zeros among bytes: what need not be kept.
 */
#ifndef TAP_IMG_ZEROS_H
#define TAP_IMG_ZEROS_H

#include <blktap/base.h>

/*
 * How many bytes from buf on are of one kind, in whole units (the last one may be cut off by len): zeros, at least min
 * of them or all that is left, or anything else.
 */
size_t zeros_run(const void *buf, size_t len, size_t unit, size_t min, bool *ret_zero);

#endif
