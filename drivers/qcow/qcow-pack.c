// SPDX-License-Identifier: BSD-2-Clause
/*
 * Compressed clusters: raw deflate streams, one behind another from byte to byte at the end of the file.
 *
 * The entry says how many bytes a stream has, always fewer than a cluster.
 */
#include "qcow-int.h"

#include <blktap/codec.h>
#include <blktap/lock.h>
#include <blktap/pool.h>
#include <blktap/qcow2.h>

#define PARALLEL 4u

struct work {
	const void *in;
	size_t in_len;
	void *out;
	size_t out_len;
	bool head; /* inflating: there is more of the cluster than out_len */
};

/* ---- reading ---- */

static int inflate_work(void *arg)
{
	const struct work *w = arg;
	struct qcow2_codec *k = td_codec_mine();

	if (!k)
		return -ENOMEM;
	return w->head ? qcow2_inflate_head_with(k, w->in, w->in_len, w->out, w->out_len)
		       : qcow2_inflate_with(k, QCOW2_DEFLATE, w->in, w->in_len, w->out, w->out_len);
}

int qcow_unpack(struct td_image *im, const struct td_packed_at *at, uint8_t *out, size_t out_len,
		struct td_pace *pace)
{
	const struct qcow *q = im->state;
	struct work w = {
		.in_len = at->len, .out = out, .out_len = out_len, .head = out_len < qcow_cluster_size(q)
	};
	uint8_t *in = td_buf_alloc(at->len);
	int r;

	if (!in)
		return -ENOMEM;
	w.in = in;
	r = td_image_pread(im->child, at->off, in, at->len, TD_EXACT);
	if (r == 0)
		r = td_pool_run_paced(im->env->pool, inflate_work, &w, pace, out_len);
	td_buf_free(in, at->len);
	return r == -EINVAL ? -EUCLEAN : r; /* behind the end of the file */
}

size_t qcow_unpack_enough(const struct td_image *im, size_t from, size_t to)
{
	return qcow2_inflate_enough(QCOW2_DEFLATE, qcow_cluster_size(im->state), from, to);
}

/* ---- writing ---- */

struct part {
	struct qcow *q;
	uint64_t off;
	struct td_iov iov;
};

static int deflate_work(void *arg)
{
	struct work *w = arg;
	struct qcow2_codec *k = td_codec_mine();
	int64_t n = k ? qcow2_deflate_with(k, QCOW2_DEFLATE, w->in, w->in_len, w->out, w->out_len) : -ENOMEM;

	if (n >= 0)
		w->out_len = (size_t)n;
	return n < 0 ? (int)n : 0;
}

/* The stream, and then the entry.  1: the cluster is there already, and is written in place. */
static int place(struct qcow *q, uint64_t off, const void *stream, size_t len)
{
	struct td_grain g = { .kind = TD_GRAIN_PACKED, .len = len }, old = { 0 };
	struct td_range range;
	int r;

	td_grains_lock(q->grains, &range, off, qcow_cluster_size(q));
	r = td_grains_get(q->grains, off, &old);
	if (r == 0 && old.kind == TD_GRAIN_DATA)
		r = 1;
	if (r == 0)
		r = td_grains_alloc(q->grains, len, 1, &g.host_off);
	if (r == 0)
		r = td_image_pwrite(q->im->child, g.host_off, stream, len, 0);
	if (r == 0)
		r = td_grains_link(q->grains, off, &g);
	td_grains_unlock(q->grains, &range);
	return r;
}

/* Zeros are a hole, where it reads as zeros. */
static int write_zeros(struct qcow *q, uint64_t off, uint64_t len)
{
	return td_grains_zero(q->grains, off, len, TD_MAY_UNMAP);
}

/* bytes: a whole cluster, with zeros behind the disk's end; out: less than that. */
static int write_cluster(const struct part *p, const uint8_t *bytes, uint8_t *out)
{
	struct qcow *q = p->q;
	struct work w = {
		.in = bytes, .in_len = qcow_cluster_size(q), .out = out, .out_len = qcow_cluster_size(q) - 1
	};
	int r;

	if (td_is_zero(bytes, qcow_cluster_size(q)))
		return write_zeros(q, p->off, p->iov.len);
	r = td_pool_run(q->im->env->pool, deflate_work, &w);
	if (r == 0)
		r = place(q, p->off, out, w.out_len);
	if (r == -ENOSPC && w.out_len == qcow_cluster_size(q) - 1) /* it does not become smaller */
		r = 1;
	return r == 1 ? td_grains_pwritev(q->grains, p->off, &p->iov, 0) : r;
}

static int write_part(void *arg)
{
	const struct part *p = arg;
	size_t size = qcow_cluster_size(p->q);
	uint8_t *buf = td_buf_alloc(2 * size);
	int r;

	if (!buf)
		return -ENOMEM;
	memset(buf + p->iov.len, 0, size - p->iov.len);
	td_iov_to_buf(&p->iov, buf);
	r = write_cluster(p, buf, buf + size);
	td_buf_free(buf, 2 * size);
	return r;
}

int qcow_write_packed(struct qcow *q, uint64_t off, const struct td_iov *iov)
{
	size_t size = qcow_cluster_size(q);
	struct part part[PARALLEL];
	uint64_t done = 0;
	int r = 0;

	if (off % size || (iov->len % size && off + iov->len != q->im->size))
		return -EINVAL;
	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < PARALLEL && done < iov->len; n++) {
			uint64_t len = TD_MIN((uint64_t)size, iov->len - done);

			part[n] = (struct part){ .q = q, .off = off + done };
			part[n].iov = td_iov_slice(iov, done, len);
			done += len;
			td_join_start(&j, write_part, &part[n]);
		}
		r = td_join_wait(&j);
	}
	return r;
}
