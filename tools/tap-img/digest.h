// SPDX-License-Identifier: BSD-2-Clause
/*
 * The SHA-256 of a disk's bytes, computed by a worker while the pieces are copied, in their order.
 */
#ifndef TAP_IMG_DIGEST_H
#define TAP_IMG_DIGEST_H

#include <blktap/pool.h>

#include "turns.h"

#define DIGEST_TEXT 65

struct digest {
	struct evp_md_ctx_st *ctx; /* NULL: none is wanted */
	struct td_pool *pool;
	struct turns turns;
	int result; /* of the first piece that failed */
};

TD_CHECK int digest_open(struct digest *d, struct td_pool *pool);
void digest_close(struct digest *d); /* all-zero: fine */

/* Piece number: buf NULL is len zeros.  Returns when it has been counted; without a ctx at once. */
TD_CO TD_CHECK int digest_add(struct digest *d, uint64_t number, const void *buf, uint64_t len);

/* In hexadecimal, after the last piece. */
TD_CHECK int digest_text(struct digest *d, char ret[static DIGEST_TEXT]);

#endif
