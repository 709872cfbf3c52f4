// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the frontend wrote; see frontend.h.
 *
 *	one queue, one page	ring-ref, event-channel
 *	one queue, more		ring-page-order, ring-ref0.., event-channel
 *	several queues		multi-queue-num-queues, and of the above all but the order in queue-N/
 */
#include "frontend.h"
#include "node.h"
#include <stdio.h>

/* A number that has to be there. */
static int take(struct td_xs *xs, const char *dir, const char *key, uint32_t *ret, struct td_err *ret_err)
{
	uint64_t n = 0;
	int r = node_number(xs, dir, key, UINT32_MAX, &n);

	if (r < 0)
		return td_err_set(ret_err, r == -ENOENT ? -EINVAL : r, "the guest's %s/%s: %s", dir, key,
				  r == -ENOENT ? "is not there" : "is no number that it could be");
	*ret = (uint32_t)n;
	return 0;
}

/* A number that may be missing. */
static int take_choice(struct td_xs *xs, const char *dir, const char *key, unsigned min, unsigned max,
		       unsigned *ret, struct td_err *ret_err)
{
	uint64_t n = 0;
	int r = node_number(xs, dir, key, UINT32_MAX, &n);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && (n < min || n > max))
		r = -EINVAL;
	if (r < 0)
		return td_err_set(ret_err, r, "the guest's %s/%s: should be a number from %u to %u", dir, key,
				  min, max);
	*ret = (unsigned)n;
	return 0;
}

static int take_refs(struct td_xs *xs, const char *dir, unsigned order, uint32_t *refs,
		     struct td_err *ret_err)
{
	uint64_t one = 0;
	char key[32];
	int r = 0;

	if (order == 0 && node_number(xs, dir, "ring-ref", UINT32_MAX, &one) == 0) {
		refs[0] = (uint32_t)one;
		return 0;
	}
	if (order == 0 && node_number(xs, dir, "ring-ref0", UINT32_MAX, &one) < 0)
		return take(xs, dir, "ring-ref", &refs[0], ret_err); /* for the sentence */
	for (unsigned i = 0; i < 1u << order && r == 0; i++) {
		snprintf(key, sizeof(key), "ring-ref%u", i);
		r = take(xs, dir, key, &refs[i], ret_err);
	}
	return r;
}

static int take_queue(struct td_xs *xs, const char *dir, struct frontend *f, unsigned i,
		      struct td_err *ret_err)
{
	int r = take_refs(xs, dir, f->order, f->queue[i].refs, ret_err);

	if (r == 0)
		r = take(xs, dir, "event-channel", &f->queue[i].port, ret_err);
	if (r == 0 && f->queue[i].port == 0)
		r = td_err_set(ret_err, -EINVAL, "the guest's %s/event-channel: 0 is no port", dir);
	return r;
}

static int take_queues(struct td_xs *xs, const char *dir, struct frontend *f, struct td_err *ret_err)
{
	char sub[NODE_PATH_MAX + 16];
	int r = 0;

	if (f->nr_queues == 1)
		return take_queue(xs, dir, f, 0, ret_err);
	for (unsigned i = 0; i < f->nr_queues && r == 0; i++) {
		snprintf(sub, sizeof(sub), "%s/queue-%u", dir, i);
		r = take_queue(xs, sub, f, i, ret_err);
	}
	return r;
}

static int take_protocol(struct td_xs *xs, const char *dir, struct frontend *f, struct td_err *ret_err)
{
	td_cleanup(free) char *text = node_text(xs, dir, "protocol");

	if (!text)
		return 0;
	if (strlen(text) >= sizeof(f->protocol))
		return td_err_set(ret_err, -EINVAL, "the guest's %s/protocol: is none that there is", dir);
	memcpy(f->protocol, text, strlen(text) + 1);
	return 0;
}

int frontend_read(struct td_xs *xs, const char *dir, unsigned max_queues, unsigned max_order,
		  struct frontend *ret, struct td_err *ret_err)
{
	struct frontend f = { .nr_queues = 1 };
	unsigned persistent = 0;
	int r;

	max_queues = TD_MIN(max_queues, FRONTEND_QUEUES);
	max_order = TD_MIN(max_order, FRONTEND_ORDER);
	r = take_choice(xs, dir, "multi-queue-num-queues", 1, max_queues, &f.nr_queues, ret_err);
	if (r == 0)
		r = take_choice(xs, dir, "ring-page-order", 0, max_order, &f.order, ret_err);
	if (r == 0)
		r = take_choice(xs, dir, "feature-persistent", 0, 1, &persistent, ret_err);
	if (r == 0)
		r = take_protocol(xs, dir, &f, ret_err);
	if (r == 0)
		r = take_queues(xs, dir, &f, ret_err);
	if (r < 0)
		return r;
	f.persistent = persistent;
	*ret = f;
	return 0;
}
