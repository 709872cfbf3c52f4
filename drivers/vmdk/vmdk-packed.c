// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading a compressed grain: found, inflated as a whole in the worker pool, and of that what was asked for.
 */
#include <blktap/iov.h>
#include <blktap/pool.h>

#include "vmdk-sparse.h"

struct inflate {
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_len;
	size_t short_len; /* of the disk's last grain: what of it is inside */
};

static int inflate_work(void *arg)
{
	const struct inflate *w = arg;
	int r = vmdk_grain_inflate(w->in, w->in_len, w->out, w->out_len);

	if (r == -EUCLEAN && w->short_len < w->out_len)
		r = vmdk_grain_inflate(w->in, w->in_len, w->out, w->short_len);
	return r;
}

/* The stream of the grain at g->host_off, into buf of max bytes; *ret_len is its length. */
static int read_stream(const struct vmdk_sparse *s, const struct td_grain *g, uint64_t grain_off,
		       uint8_t *buf, size_t max, size_t *ret_len)
{
	struct td_image *child = s->im->child;
	struct vmdk_marker m;
	uint64_t left;
	int r;

	if (!td_in_range(g->host_off, VMDK_SECTOR, child->size))
		return -EUCLEAN;
	left = child->size - g->host_off;
	r = td_image_pread(child, g->host_off, buf, TD_MIN(left, (uint64_t)max), 0);
	if (r < 0)
		return r;
	r = vmdk_marker_decode(buf, &m);
	if (r < 0)
		return r;
	if (m.type != VMDK_MARKER_GRAIN || m.value != grain_off / VMDK_SECTOR ||
	    m.size > TD_MIN(left, (uint64_t)max) - VMDK_GRAIN_MARKER)
		return -EUCLEAN;
	*ret_len = m.size;
	return 0;
}

static int unpack(const struct vmdk_sparse *s, const struct td_grain *g, uint64_t grain_off, uint8_t *in,
		  size_t in_max, uint8_t *out, size_t out_len)
{
	struct inflate w = {
		.in = in + VMDK_GRAIN_MARKER,
		.out = out,
		.out_len = out_len,
		.short_len = TD_MIN((uint64_t)out_len, s->im->size - grain_off),
	};
	int r = read_stream(s, g, grain_off, in, in_max, &w.in_len);

	return r < 0 ? r : td_pool_run(s->im->env->pool, inflate_work, &w);
}

int vmdk_read_packed(const struct vmdk_sparse *s, const struct td_grain *g, uint64_t grain_off, uint64_t in,
		     const struct td_iov *iov)
{
	const size_t len = (size_t)1 << s->config.grain_bits;
	/* What does not shrink grows by less than this. */
	const size_t max = len + len / 8 + 2ull * VMDK_SECTOR;
	uint8_t *packed = td_buf_alloc(max), *grain = td_buf_alloc(len);
	int r = -ENOMEM;

	if (packed && grain)
		r = unpack(s, g, grain_off, packed, max, grain, len);
	if (r == 0)
		td_iov_from_buf(iov, grain + in);
	if (packed)
		td_buf_free(packed, max);
	if (grain)
		td_buf_free(grain, len);
	return r;
}
