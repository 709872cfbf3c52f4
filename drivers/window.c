// SPDX-License-Identifier: BSD-2-Clause
/*
 * A window on what lies below an image: one part's share of it.  It stands as the part's backing image, so that a part
 * reads, copies and asks as any image does.
 */
#include "drivers.h"

struct window {
	struct td_image *im; /* whose chain it shows */
	uint64_t start;
};

static int window_preadv(struct td_image *w, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	const struct window *state = w->state;

	(void)flags;
	return td_chain_read(state->im, state->start + off, iov);
}

static int window_extent(struct td_image *w, uint64_t off, uint64_t len, struct td_extent *ret)
{
	const struct window *state = w->state;
	int r = td_chain_extent(state->im, state->start + off, len, ret);

	ret->has_host = false; /* it would be in another layer's file */
	return r;
}

static const struct td_driver window_driver = {
	.name = "window",
	.preadv = window_preadv,
	.extent = window_extent,
};

static struct td_image *window_new(struct td_image *im, uint64_t start, uint64_t len)
{
	struct td_image *w = calloc(1, sizeof(*w));
	struct window *state = calloc(1, sizeof(*state));

	if (!w || !state) {
		free(w);
		free(state);
		return NULL;
	}
	*state = (struct window){ im, start };
	w->drv = &window_driver;
	w->env = im->env;
	w->state = state;
	w->name = strdup(im->name);
	w->path = strdup(im->path);
	w->size = len;
	w->read_only = true;
	if (!w->name || !w->path) {
		td_image_free(w);
		return NULL;
	}
	return w;
}

int td_image_part_window(struct td_image *im, struct td_image *part, uint64_t start, uint64_t len)
{
	part->backing = window_new(im, start, len);
	return part->backing ? 0 : -ENOMEM;
}
