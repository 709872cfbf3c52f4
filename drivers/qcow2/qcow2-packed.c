// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading compressed clusters.
 *
 * A cluster is inflated as a whole, in the worker pool.  The last few are kept, so that small reads in sequence inflate
 * each cluster once; who comes while one is being inflated waits for it.  A stream does not change while an entry names
 * it; before another is written in its place what is kept of it is forgotten (qcow2_packed_forget).
 *
 * Data that does not inflate fails its own reads (-EUCLEAN) and does not freeze the image: no table is in doubt.
 */
#include <blktap/pool.h>

#include "qcow2-int.h"

#define KEEP_BYTES (1u << 20)
#define KEEP_MAX   16u

struct kept {
	bool busy, valid;
	bool stale; /* forgotten while it was busy */
	int result;
	unsigned users; /* waiting for it or copying from it */
	uint64_t host_off, packed_len;
	uint64_t last_use;
	uint8_t *data;
	struct td_waitq waiters;
};

struct qcow2_packed {
	unsigned nr;
	uint64_t clock;
	uint64_t hits, misses;
	struct kept kept[KEEP_MAX];
};

struct inflate {
	enum qcow2_compression how;
	const void *in;
	size_t in_len;
	void *out;
	size_t out_len;
};

static int inflate_work(void *arg)
{
	const struct inflate *w = arg;
	struct qcow2_codec *k = qcow2_codec_mine();

	return k ? qcow2_inflate_with(k, w->how, w->in, w->in_len, w->out, w->out_len) : -ENOMEM;
}

/* Read the stream and inflate it into out, a whole cluster. */
static int unpack(struct qcow2 *q, const struct qcow2_extent *e, void *out)
{
	struct inflate w = { .how = q->h.compression, .out = out, .out_len = q->g.cluster_size };
	/* From the start of its sector, so that the read is not a misaligned one on top of everything. */
	uint64_t start = td_align_down(e->host_off, QCOW2_SECTOR);
	size_t len = e->host_off + e->packed_len - start;
	uint8_t *in = td_buf_alloc(len);
	int r;

	if (!in)
		return -ENOMEM;
	/* Not EXACT: the last sector of the file may be a part of one. */
	r = td_image_pread(q->child, start, in, TD_MIN(len, q->child->size - start), 0);
	w.in = in + (e->host_off - start);
	w.in_len = TD_MIN(len, q->child->size - start) - (e->host_off - start);
	if (r == 0)
		r = td_pool_run(q->im->env->pool, inflate_work, &w);
	td_buf_free(in, len);
	return r;
}

static struct kept *lookup(struct qcow2_packed *p, const struct qcow2_extent *e)
{
	for (unsigned i = 0; i < p->nr; i++) {
		struct kept *k = &p->kept[i];

		if ((k->busy || k->valid) && k->host_off == e->host_off && k->packed_len == e->packed_len)
			return k;
	}
	return NULL;
}

/* A place for another one: the one that was used longest ago and that nobody looks at.  NULL: all are in use. */
static struct kept *take_place(struct qcow2 *q, struct qcow2_packed *p)
{
	struct kept *best = NULL;

	for (unsigned i = 0; i < p->nr; i++) {
		struct kept *k = &p->kept[i];

		if (!k->busy && k->users == 0 && (!best || k->last_use < best->last_use))
			best = k;
	}
	if (best && !best->data)
		best->data = td_buf_alloc(q->g.cluster_size);
	return best && best->data ? best : NULL;
}

static void copy_out(struct qcow2 *q, uint64_t guest_off, const uint8_t *cluster, const struct td_iov *iov)
{
	td_iov_from_buf(iov, cluster + qcow2_in_cluster(q, guest_off));
}

static int read_kept(struct qcow2 *q, uint64_t guest_off, struct kept *k, const struct td_iov *iov)
{
	int r;

	k->users++;
	if (k->busy)
		td_waitq_wait(&k->waiters);
	r = k->result;
	if (r == 0)
		copy_out(q, guest_off, k->data, iov);
	k->last_use = ++q->packed->clock;
	k->users--;
	return r;
}

static int fill(struct qcow2 *q, struct kept *k, const struct qcow2_extent *e)
{
	k->busy = true;
	k->valid = k->stale = false;
	k->host_off = e->host_off;
	k->packed_len = e->packed_len;
	k->result = unpack(q, e, k->data);
	k->busy = false;
	k->valid = k->result == 0 && !k->stale;
	td_waitq_wake_all(&k->waiters);
	return k->result;
}

static int read_once(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
		     const struct td_iov *iov)
{
	uint8_t *buf = td_buf_alloc(q->g.cluster_size);
	int r;

	if (!buf)
		return -ENOMEM;
	r = unpack(q, e, buf);
	if (r == 0)
		copy_out(q, guest_off, buf, iov);
	td_buf_free(buf, q->g.cluster_size);
	return r;
}

int qcow2_packed_read(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
		      const struct td_iov *iov)
{
	struct kept *k;
	int r;

	if (!q->packed) {
		q->packed = calloc(1, sizeof(*q->packed));
		if (!q->packed)
			return -ENOMEM;
		q->packed->nr = (unsigned)TD_MAX(2u, TD_MIN(KEEP_MAX, KEEP_BYTES >> q->g.cluster_bits));
	}
	k = lookup(q->packed, e);
	if (k) {
		q->packed->hits++;
		return read_kept(q, guest_off, k, iov);
	}
	q->packed->misses++;
	k = take_place(q, q->packed);
	if (!k)
		return read_once(q, guest_off, e, iov);
	k->users++;
	r = fill(q, k, e);
	k->users--;
	return r < 0 ? r : read_kept(q, guest_off, k, iov);
}

void qcow2_packed_forget(struct qcow2 *q, uint64_t host_off, uint64_t len)
{
	for (unsigned i = 0; q->packed && i < q->packed->nr; i++) {
		struct kept *k = &q->packed->kept[i];

		if (!td_overlap(k->host_off, k->packed_len, host_off, len))
			continue;
		k->valid = false;
		k->stale = true;
	}
}

void qcow2_packed_counters(const struct qcow2 *q, struct td_counters *ret)
{
	const struct qcow2_packed *p = q->packed;
	uint64_t bytes = 0;

	if (!p)
		return;
	for (unsigned i = 0; i < p->nr; i++)
		bytes += p->kept[i].data ? q->g.cluster_size : 0;
	td_counter(ret, "inflated_hits", p->hits);
	td_counter(ret, "inflated_misses", p->misses);
	td_counter(ret, "inflated_bytes", bytes);
	td_counter(ret, "inflated_limit", p->nr * q->g.cluster_size);
}

void qcow2_packed_done(struct qcow2 *q)
{
	if (!q->packed)
		return;
	for (unsigned i = 0; i < q->packed->nr; i++)
		if (q->packed->kept[i].data)
			td_buf_free(q->packed->kept[i].data, q->g.cluster_size);
	free(q->packed);
	q->packed = NULL;
}
