// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading a compressed grain: found, and inflated in the worker pool; always as a whole, because only then its check
 * sum tells whether it is what was written.
 */
#include <blktap/codec.h>
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
	struct qcow2_codec *k = td_codec_mine();
	int r = k ? vmdk_grain_inflate(k, w->in, w->in_len, w->out, w->out_len) : -ENOMEM;

	if (r == -EUCLEAN && w->short_len < w->out_len)
		r = vmdk_grain_inflate(k, w->in, w->in_len, w->out, w->short_len);
	return r;
}

/*
 * Only the marker says how long a stream is: as much is read with it as the streams before had, and the rest if there
 * is one.
 */
static void learn(struct vmdk_sparse *s, size_t len)
{
	if (len > s->stream_len)
		s->stream_len = len;
	else
		s->stream_len -= (s->stream_len - len) / 32;
}

/* The stream of this grain, into buf of max bytes; *ret_len is its length. */
static int read_stream(struct vmdk_sparse *s, const struct td_packed_at *at, uint8_t *buf, uint64_t max,
		       size_t *ret_len)
{
	struct td_image *child = s->im->child;
	struct vmdk_marker m;
	uint64_t first;
	int r;

	if (!td_in_range(at->off, VMDK_SECTOR, child->size))
		return -EUCLEAN;
	max = TD_MIN(max, child->size - at->off);
	first = TD_MIN(max, td_align_up(TD_MAX(s->stream_len, 1u), VMDK_SECTOR));
	r = td_image_pread(child, at->off, buf, first, 0);
	if (r < 0)
		return r;
	r = vmdk_marker_decode(buf, &m);
	if (r < 0)
		return r;
	if (m.type != VMDK_MARKER_GRAIN || m.value != at->guest / VMDK_SECTOR ||
	    m.size > max - VMDK_GRAIN_MARKER)
		return -EUCLEAN;
	*ret_len = m.size;
	learn(s, VMDK_GRAIN_MARKER + m.size);
	if (VMDK_GRAIN_MARKER + m.size <= first)
		return 0;
	max = TD_MIN(max, td_align_up(VMDK_GRAIN_MARKER + m.size, VMDK_SECTOR));
	return td_image_pread(child, at->off + first, buf + first, max - first, 0);
}

int vmdk_unpack(struct td_image *im, const struct td_packed_at *at, uint8_t *out, size_t out_len,
		struct td_pace *pace)
{
	struct vmdk_sparse *s = vmdk_sparse_of(im);
	/* What does not shrink grows by less than this. */
	const size_t max = out_len + out_len / 8 + 2ull * VMDK_SECTOR;
	uint8_t *in = td_buf_alloc(max);
	struct inflate w = { .out = out, .out_len = out_len };
	int r;

	if (!in)
		return -ENOMEM;
	w.in = in + VMDK_GRAIN_MARKER;
	w.short_len = TD_MIN((uint64_t)out_len, im->size - at->guest);
	r = read_stream(s, at, in, max, &w.in_len);
	if (r == 0)
		r = td_pool_run_paced(im->env->pool, inflate_work, &w, pace, out_len);
	td_buf_free(in, max);
	return r;
}
