// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading compressed clusters.
 *
 * A cluster is inflated in the worker pool: as a whole, or as far as a read somewhere in it needs, if that is sooner
 * done (qcow2_inflate_enough).  The last few are kept, so that small reads in sequence inflate each cluster once; who
 * comes while one is being inflated waits for it.  A stream does not change while an entry names it; before another is
 * written in its place what is kept of it is forgotten (qcow2_packed_forget).
 *
 * When reads have come from one cluster to the next the one after that is inflated meanwhile, so that two cores have
 * work.  Only one is under way at a time, and it is kept like the others: nobody reads it, and it goes with time.
 *
 * Data that does not inflate fails its own reads (-EUCLEAN) and does not freeze the image: no table is in doubt.
 */
#include <blktap/codec.h>
#include <blktap/pool.h>

#include "qcow2-int.h"

#define KEEP_BYTES (1u << 20)
#define KEEP_MAX   16u

struct kept {
	bool busy;
	bool stale;  /* forgotten while it was busy */
	size_t want; /* bytes from the cluster's start that are to be here */
	size_t have; /* ... that are; 0: none */
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
	uint64_t hits, misses, ahead;
	uint64_t last; /* cluster of the guest that was read last */
	uint64_t next; /* ... that is to be inflated ahead, or being so */
	bool next_busy;
	struct td_waitq quiet;
	struct kept kept[KEEP_MAX];
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

/* Read the stream and inflate the first out_len bytes of the cluster into out. */
static int unpack(struct qcow2 *q, const struct qcow2_extent *e, void *out, size_t out_len)
{
	struct inflate w = {
		.how = q->h.compression, .out = out, .len = out_len, .cluster_size = q->g.cluster_size
	};
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

static bool is_of(const struct kept *k, const struct qcow2_extent *e)
{
	return (k->busy ? !k->stale : k->have > 0) && k->host_off == e->host_off &&
	       k->packed_len == e->packed_len;
}

/* Where the first len bytes of it are, or will be. */
static struct kept *lookup(struct qcow2_packed *p, const struct qcow2_extent *e, size_t len)
{
	for (unsigned i = 0; i < p->nr; i++) {
		struct kept *k = &p->kept[i];

		if (is_of(k, e) && (k->busy ? k->want : k->have) >= len)
			return k;
	}
	return NULL;
}

/* Was it read, but not as far? */
static bool has_some(const struct qcow2_packed *p, const struct qcow2_extent *e)
{
	for (unsigned i = 0; i < p->nr; i++)
		if (is_of(&p->kept[i], e))
			return true;
	return false;
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

static int fill(struct qcow2 *q, struct kept *k, const struct qcow2_extent *e, size_t len)
{
	k->busy = true;
	k->have = 0;
	k->want = len;
	k->stale = false;
	k->host_off = e->host_off;
	k->packed_len = e->packed_len;
	k->result = unpack(q, e, k->data, len);
	k->busy = false;
	k->have = k->result == 0 && !k->stale ? len : 0;
	td_waitq_wake_all(&k->waiters);
	return k->result;
}

static int read_once(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e, size_t len,
		     const struct td_iov *iov)
{
	uint8_t *buf = td_buf_alloc(q->g.cluster_size);
	int r;

	if (!buf)
		return -ENOMEM;
	r = unpack(q, e, buf, len);
	if (r == 0)
		copy_out(q, guest_off, buf, iov);
	td_buf_free(buf, q->g.cluster_size);
	return r;
}

/* ---- ahead ---- */

static void inflate_next(struct qcow2 *q, uint64_t guest_off)
{
	struct qcow2_packed *p = q->packed;
	struct qcow2_extent e = { 0 };
	struct kept *k = NULL;

	if (qcow2_map_packed_hint(q, guest_off, &e) && !lookup(p, &e, q->g.cluster_size))
		k = take_place(q, p);
	if (!k)
		return;
	p->ahead++;
	k->last_use = ++p->clock;
	td_ignore(fill(q, k, &e, q->g.cluster_size)); /* who reads it tries again, and hears what is wrong */
}

static void ahead_run(void *arg)
{
	struct qcow2 *q = arg;
	struct qcow2_packed *p = q->packed;
	struct td_range range;
	uint64_t cluster;

	do { /* again if the readers have gone on meanwhile */
		cluster = p->next;
		td_range_lock(&q->ranges, &range, cluster << q->g.cluster_bits, q->g.cluster_size,
			      TD_RANGE_SHARED);
		inflate_next(q, cluster << q->g.cluster_bits);
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

static struct qcow2_packed *packed_new(const struct qcow2 *q)
{
	struct qcow2_packed *p = calloc(1, sizeof(*p));

	if (p) {
		p->nr = (unsigned)TD_MAX(2u, TD_MIN(KEEP_MAX, KEEP_BYTES >> q->g.cluster_bits));
		p->last = q->im->size; /* no cluster is near */
	}
	return p;
}

int qcow2_packed_read(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e,
		      const struct td_iov *iov)
{
	size_t from = qcow2_in_cluster(q, guest_off), len = q->g.cluster_size;
	struct kept *k;
	int r;

	if (!q->packed)
		q->packed = packed_new(q);
	if (!q->packed)
		return -ENOMEM;
	read_ahead(q, guest_off >> q->g.cluster_bits);
	k = lookup(q->packed, e, from + iov->len);
	if (k) {
		q->packed->hits++;
		return read_kept(q, guest_off, k, iov);
	}
	q->packed->misses++;
	if (!has_some(q->packed, e))
		len = qcow2_inflate_enough(q->h.compression, len, from, from + iov->len);
	k = take_place(q, q->packed);
	if (!k)
		return read_once(q, guest_off, e, len, iov);
	k->users++;
	r = fill(q, k, e, len);
	k->users--;
	return r < 0 ? r : read_kept(q, guest_off, k, iov);
}

void qcow2_packed_forget(struct qcow2 *q, uint64_t host_off, uint64_t len)
{
	for (unsigned i = 0; q->packed && i < q->packed->nr; i++) {
		struct kept *k = &q->packed->kept[i];

		if (!td_overlap(k->host_off, k->packed_len, host_off, len))
			continue;
		k->have = 0;
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
	td_counter(ret, "inflated_ahead", p->ahead);
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
