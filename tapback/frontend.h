// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the frontend wrote to have its ring connected.  Untrusted: each number is parsed strictly and has a bound.
 */
#ifndef TAPBACK_FRONTEND_H
#define TAPBACK_FRONTEND_H

#include <blktap/xs.h>

#define FRONTEND_QUEUES 4u
#define FRONTEND_ORDER  4u

struct frontend {
	unsigned nr_queues, order;
	bool persistent;
	char protocol[32]; /* empty: it wrote none */
	struct {
		uint32_t refs[1u << FRONTEND_ORDER];
		uint32_t port;
	} queue[FRONTEND_QUEUES];
};

/* dir: its folder; what it was offered bounds what it may choose.  -EINVAL with a sentence that names the node. */
TD_CHECK int frontend_read(struct td_xs *xs, const char *dir, unsigned max_queues, unsigned max_order,
			   struct frontend *ret, struct td_err *ret_err);

#endif
