// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk cut into pieces to be copied one by one: data in transfers of one size, zeros in one piece as far as they
 * reach.  The cuts are where the target's clusters begin.
 */
#ifndef TAP_IMG_PLAN_H
#define TAP_IMG_PLAN_H

#include "source.h"

struct piece {
	uint64_t number; /* 0, 1, 2 ... in the order of their offsets */
	uint64_t off, len;
	bool zero;   /* reads as zeros, says the source */
	bool filled; /* its bytes are in the buffer already */
};

struct plan {
	const struct source *source;
	uint64_t unit;          /* a power of two: the cuts are multiples of it */
	uint64_t chunk;         /* of data; a multiple of unit */
	uint64_t max_zero;      /* a multiple of unit */
	bool all_data;          /* do not ask the source where it has none */
	uint64_t at, number;    /* of the next piece */
	struct td_extent known; /* what the source said last */
	uint64_t known_off;
};

/* 1: *ret; 0: that was all; -errno.  One at a time. */
TD_CO TD_CHECK int plan_next(struct plan *p, struct piece *ret);

#endif
