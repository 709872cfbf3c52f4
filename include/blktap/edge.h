// SPDX-License-Identifier: BSD-2-Clause
/*
 * For drivers that write whole clusters: what goes around the guest's bytes.
 *
 *	     |<-- first cluster -->|  ...  |<-- last cluster -->|
 *	     | head |     guest data, any length     |   tail   |
 */
#ifndef BLKTAP_EDGE_H
#define BLKTAP_EDGE_H

#include <blktap/iov.h>

struct td_edge {
	uint64_t off, len; /* of the disk */
	bool zero;         /* reads as zeros: nothing to copy */
	uint8_t *buf;      /* else the copy: len bytes of td_buf_alloc */
};

/*
 * [head | guest | tail] as one vector, for one write; an edge without a copy is zeros.  *ret_vec is freed by the
 * caller.  -ENOMEM; -EINVAL: guest's list says less than its length.
 */
TD_CHECK int td_edges_join(const struct td_edge *head, const struct td_iov *guest, const struct td_edge *tail,
			   struct iovec **ret_vec, struct td_iov *ret);
void td_edge_done(struct td_edge *e); /* frees the copy */

#endif
