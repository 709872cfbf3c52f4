// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading compressed clusters.
 *
 * A cluster is inflated as a whole, or as far as a read somewhere in it needs, if that is sooner done
 * (qcow2_inflate_enough): in the worker pool or at once, by the time that it takes.  The last few are kept
 * (blktap/packed.h).
 *
 * When reads have come from one cluster to the next the one after that is inflated meanwhile, so that two cores have
 * work.  Only one is under way at a time, and it is kept like the others: nobody reads it, and it goes with time.
 *
 * Data that does not inflate fails its own reads (-EUCLEAN) and does not freeze the image: no table is in doubt.
 */
#include <blktap/codec.h>
#include <blktap/packed.h>
#include <blktap/pool.h>

#include "qcow2-int.h"

struct qcow2_packed {
	struct td_packed *kept;
	uint64_t last; /* cluster of the guest that was read last */
	uint64_t next; /* ... that is to be inflated ahead, or being so */
	bool next_busy;
	struct td_waitq quiet;
};

struct inflate {
	enum qcow2_compression how;
	const void *in;
	size_t in_len;
	void *out;
	size_t len, cluster_size; /* len <= cluster_size */
};

static int inflate_work(void *arg)
{
	const struct inflate *w = arg;
	struct qcow2_codec *k = td_codec_mine();

	if (!k)
		return -ENOMEM;
	if (w->len < w->cluster_size)
		return qcow2_inflate_head_with(k, w->in, w->in_len, w->out, w->len);
	return qcow2_inflate_with(k, w->how, w->in, w->in_len, w->out, w->len);
}

static int unpack(struct td_image *im, const struct td_packed_at *at, uint8_t *out, size_t out_len,
		  struct td_pace *pace)
{
	struct qcow2 *q = im->state;
	struct inflate w = {
		.how = q->h.compression, .out = out, .len = out_len, .cluster_size = q->g.cluster_size
	};
	/* From the start of its sector, so that the read is not a misaligned one on top of everything. */
	uint64_t start = td_align_down(at->off, QCOW2_SECTOR);
	size_t len = at->off + at->len - start;
	uint8_t *in = td_buf_alloc(len);
	int r;

	if (!in)
		return -ENOMEM;
	/* Not EXACT: the last sector of the file may be a part of one. */
	r = td_image_pread(q->child, start, in, TD_MIN(len, q->child->size - start), 0);
	w.in = in + (at->off - start);
	w.in_len = TD_MIN(len, q->child->size - start) - (at->off - start);
	if (r == 0)
		r = td_pool_run_paced(q->im->env->pool, inflate_work, &w, pace, out_len);
	td_buf_free(in, len);
	return r;
}

static struct td_packed_at place_of(const struct qcow2_extent *e)
{
	return (struct td_packed_at){ .off = e->host_off, .len = e->packed_len };
}

/* ---- ahead ---- */

static void ahead_run(void *arg)
{
	struct qcow2 *q = arg;
	struct qcow2_packed *p = q->packed;
	struct td_range range;
	uint64_t cluster;

	do { /* again if the readers have gone on meanwhile */
		struct qcow2_extent e = { 0 };
		uint64_t off;

		cluster = p->next;
		off = cluster << q->g.cluster_bits;
		td_range_lock(&q->ranges, &range, off, q->g.cluster_size, TD_RANGE_SHARED);
		if (qcow2_map_packed_hint(q, off, &e)) {
			const struct td_packed_at at = place_of(&e);

			td_packed_ahead(p->kept, &at);
		}
		td_range_unlock(&q->ranges, &range);
	} while (p->next != cluster);
	p->next_busy = false;
	td_waitq_wake_all(&p->quiet);
}

/* A read of this cluster of the guest.  Is it the one after the last?  Without memory nothing is ahead. */
static void read_ahead(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_packed *p = q->packed;
	bool steps = cluster == p->last + 1;

	p->last = cluster;
	if (!steps || (cluster + 1) << q->g.cluster_bits >= q->im->size)
		return;
	p->next = cluster + 1;
	if (p->next_busy)
		return;
	p->next_busy = true;
	if (td_co_start(ahead_run, q) < 0)
		p->next_busy = false;
}

void qcow2_packed_quiet(struct qcow2 *q)
{
	while (q->packed && q->packed->next_busy)
		td_waitq_wait(&q->packed->quiet);
}

/* ---- what the driver asks for ---- */

static struct qcow2_packed *packed_new(struct qcow2 *q)
{
	struct qcow2_packed *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->last = q->im->size; /* no cluster is near */
	p->kept = td_packed_new(q->im, q->g.cluster_size, unpack);
	if (p->kept)
		return p;
	free(p);
	return NULL;
}

int qcow2_packed_read(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
		      const struct td_iov *iov)
{
	const struct td_packed_at at = place_of(e);
	size_t from = qcow2_in_cluster(q, guest_off), enough;

	if (!q->packed)
		q->packed = packed_new(q);
	if (!q->packed)
		return -ENOMEM;
	read_ahead(q, guest_off >> q->g.cluster_bits);
	enough = qcow2_inflate_enough(q->h.compression, q->g.cluster_size, from, from + iov->len);
	return td_packed_read(q->packed->kept, &at, from, enough, iov);
}

void qcow2_packed_forget(struct qcow2 *q, uint64_t host_off, uint64_t len)
{
	if (q->packed)
		td_packed_forget(q->packed->kept, host_off, len);
}

void qcow2_packed_counters(const struct qcow2 *q, struct td_counters *ret)
{
	if (q->packed)
		td_packed_counters(q->packed->kept, ret);
}

void qcow2_packed_done(struct qcow2 *q)
{
	if (!q->packed)
		return;
	td_packed_free(q->packed->kept);
	free(q->packed);
	q->packed = NULL;
}
