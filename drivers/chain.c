// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading down a chain of backing images.  The layers are walked in a loop by asking each what it holds, never by a
 * format calling the format below it, so a chain of hundreds of images needs no more stack than one of two.
 *
 *	top   |..DDDD....ZZ......|	D data  Z zeros  . not here: look below
 *	 2    |DD....DD..DD..|		a shorter image reads as zeros past its end,
 *	base  |DDDDDDDDDDDDDDDDDDDDD|	whatever lies below that place
 *
 * Backing images are read-only, so what a layer answered stays true until it is read.  A commit writes to one of them,
 * but only where a layer above it answers for the chain.
 */
#include "drivers.h"

int td_layer_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct td_extent e = { .kind = TD_EXTENT_DATA, .allocated = true, .len = len };
	int r = 0;

	if (im->drv->extent) {
		im->in_flight++;
		r = im->drv->extent(im, off, len, &e);
		im->in_flight--;
	}
	if (r < 0) {
		im->stats.errors++;
		return r;
	}
	/* A driver that answers nonsense must not make us run in circles, or hand out somebody's zeros. */
	if (e.len == 0 || e.len > len)
		return -EIO;
	/* A filter answers for the chain below it. */
	if (!(im->drv->flags & TD_FILTER)) {
		e.held = e.kind != TD_EXTENT_BACKING;
		e.depth = 0;
	}
	*ret = e;
	return 0;
}

/*
 * The first layer from im on down that holds something at off.  *ret tells what, and for how long no layer above has
 * anything to say; *ret_layer is the layer, or NULL for the zeros where no layer has anything.  The walk ends at stop:
 * BACKING, and *ret_layer is stop.
 */
static int chain_find(struct td_image *im, const struct td_image *stop, uint64_t off, uint64_t len,
		      struct td_extent *ret, struct td_image **ret_layer)
{
	struct td_extent e = { .kind = TD_EXTENT_BACKING, .len = len };
	unsigned depth = 0;
	int r;

	for (; im && im != stop; im = im->backing, depth++) {
		if (off >= im->size) {
			im = NULL;
			break;
		}
		len = TD_MIN(e.len, im->size - off);
		r = td_layer_extent(im, off, len, &e);
		if (r < 0)
			return r;
		if (e.kind != TD_EXTENT_BACKING)
			break;
	}
	if (!im) {
		e = (struct td_extent){ .kind = TD_EXTENT_ZERO, .len = e.len };
		depth -= depth > 0;
	}
	e.depth += depth;
	*ret = e;
	*ret_layer = im;
	return 0;
}

int td_chain_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct td_image *layer;

	return chain_find(im->backing, NULL, off, len, ret, &layer);
}

int td_image_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct td_image *layer;
	struct td_extent e;
	int r;

	if (len == 0 || !td_in_range(off, len, im->size))
		return -EINVAL;
	r = chain_find(im, NULL, off, len, &e, &layer);
	if (r < 0)
		return r;
	if (layer != im)
		e.allocated = false;
	*ret = e;
	return 0;
}

int td_image_extent_above(struct td_image *im, const struct td_image *base, uint64_t off, uint64_t len,
			  struct td_extent *ret)
{
	struct td_image *layer;

	if (len == 0 || !td_in_range(off, len, im->size))
		return -EINVAL;
	return chain_find(td_image_layer(im), base, off, len, ret, &layer);
}

/* Read what fits of [off, off + iov->len) in one piece from the chain that starts with im; *ret: how much it was. */
static int chain_read_piece(struct td_image *im, uint64_t off, const struct td_iov *iov, uint64_t *ret)
{
	struct td_image *layer = NULL;
	struct td_extent e = { .kind = TD_EXTENT_ZERO, .len = iov->len };
	struct td_iov part;
	int r = 0;

	if (im && !im->backing && off < im->size) {
		/* The last layer knows itself what it does not hold: no need to ask first. */
		e = (struct td_extent){ .kind = TD_EXTENT_DATA, .len = TD_MIN(iov->len, im->size - off) };
		layer = im;
	} else if (im) {
		r = chain_find(im, NULL, off, iov->len, &e, &layer);
		if (r < 0)
			return r;
	}
	part = td_iov_slice(iov, 0, e.len);
	if (e.kind == TD_EXTENT_DATA)
		r = td_image_preadv(layer, off, &part, 0);
	else
		td_iov_zero(&part);
	*ret = e.len;
	return r;
}

int td_chain_read(struct td_image *im, uint64_t off, const struct td_iov *iov)
{
	int r = 0;

	for (uint64_t done = 0, n; r == 0 && done < iov->len; done += n) {
		struct td_iov rest = td_iov_slice(iov, done, iov->len - done);

		n = 0;
		r = chain_read_piece(im->backing, off + done, &rest, &n);
	}
	return r;
}
