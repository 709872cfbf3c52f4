// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dirty bitmaps of one image made anew in another one that holds the same disk: convert --bitmaps.
 */
#ifndef TAP_IMG_BITMAPS_H
#define TAP_IMG_BITMAPS_H

#include <blktap/image.h>

struct bitmaps {
	struct td_image *from, *to;
	bool skip_broken; /* those that are inconsistent are left out; otherwise there must be none */
	struct td_err *err;
};

/* Before the disk is copied: all that can be known to fail. */
TD_CO TD_CHECK int bitmaps_check(const struct bitmaps *b);

/* After it.  Each is durable before the next; -errno: there are some of them. */
TD_CO TD_CHECK int bitmaps_copy(const struct bitmaps *b);

#endif
