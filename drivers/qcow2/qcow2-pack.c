// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writing compressed clusters.
 *
 * Each cluster is deflated by itself, in the worker pool, before any lock is taken.  Then, with its range held
 * exclusively:
 *
 *	1. an L2 table of our own			(qcow2_l2_own)
 *	2. a place for the stream, counted in memory	(find_places)
 *	3. the stream
 *	4. the L2 entry, in memory			(qcow2_l2_link_packed)
 *
 * as for every other write; the commit brings the rest to the disk in its order.
 *
 * Streams lie one behind another, from byte to byte, over the ends of clusters where those are adjacent.  A cluster's
 * refcount is the number of streams that it holds a part of: a cluster that cannot count any more takes none.  One
 * coroutine writes at a time, for all whose streams are ready then, in one write of whole blocks: nothing else is in
 * flight to the block that the last stream shares with the next, and what is before the next in it is still in memory.
 *
 *	| cluster: stream | stream | str|eam | stream | free ... |
 *	                                              ^ q->pack_at
 *
 * Whatever frees that cluster moves pack_at away (qcow2_pack_elsewhere).  It is forgotten when the image is closed: the
 * rest of the cluster is used again once all its streams are gone.
 *
 * Zeros are no streams but holes or entries that say so.  What does not become smaller is written as it is.
 */
#include <blktap/codec.h>
#include <blktap/pool.h>

#include "qcow2-int.h"

#define WRITE_BYTES (1u << 20) /* that much at least goes in one write, if it is ready */
#define BLOCK_MAX   4096u

struct stream {
	struct td_co *co;
	const uint8_t *bytes;
	size_t len;
	uint64_t host_off;
	int result;
	bool lead; /* woken to write for all rather than with a result */
	STAILQ_ENTRY(stream) link;
};

STAILQ_HEAD(streams, stream);

struct qcow2_packer {
	struct streams waiting;
	bool writing;
	uint32_t block;          /* what a write is a multiple of; not more than a cluster */
	uint8_t tail[BLOCK_MAX]; /* what is in pack_at's block before it */
};

/* Streams with their places, to be written in one go. */
struct batch {
	struct streams streams;
	uint64_t start, end; /* host bytes */
};

/* One cluster of a request. */
struct part {
	struct td_image *im;
	uint64_t guest_off;
	struct td_iov iov;
	const uint8_t *bytes; /* a whole cluster */
	uint8_t *copy;        /* if it had to be made */
};

struct deflate {
	enum qcow2_compression how;
	const void *in;
	size_t in_len;
	void *out;
	size_t out_len;
};

/* ---- a place for each stream; alloc_lock is held ---- */

static uint64_t cluster_of(const struct qcow2 *q, uint64_t host_off)
{
	return host_off >> q->g.cluster_bits;
}

/* It has begun in a cluster that others are in.  1: the cluster cannot count it. */
static int count_shared(struct qcow2 *q, uint64_t cluster)
{
	uint64_t most = UINT64_MAX >> (64 - q->g.refcount_bits), count = 0;
	int r = qcow2_refs_get(q, cluster, &count);

	if (r == 0 && count == 0)
		r = -EIO; /* it was freed and pack_at not moved: a bug, kept away from the disk */
	if (r == 0 && count >= most)
		return 1;
	return r == 0 ? qcow2_refs_set(q, cluster, count + 1) : r;
}

/* At *at, or at the next cluster; *at is its end then.  1: not below limit. */
static int place_one(struct qcow2 *q, struct stream *s, uint64_t *at, uint64_t limit)
{
	uint64_t here = *at;
	int r = 1;

	if (qcow2_in_cluster(q, here) != 0) {
		if (s->len > limit - here)
			return 1;
		r = count_shared(q, cluster_of(q, here));
		if (r < 0)
			return r;
		if (r == 1)
			here = td_align_up(here, q->g.cluster_size);
	}
	if (here > limit || s->len > limit - here)
		return 1;
	/* A descriptor has fewer bits for an offset than a plain entry. */
	if (here + s->len > 1ull << q->g.compressed_off_bits) {
		if (r == 0)
			r = qcow2_refs_drop(q, cluster_of(q, here));
		return r < 0 ? r : -EFBIG;
	}
	s->host_off = here;
	*at = here + s->len;
	return 0;
}

/* Bytes that are waiting, as much as one write takes. */
static uint64_t bytes_waiting(const struct qcow2_packer *p)
{
	const struct stream *s;
	uint64_t n = 0;

	STAILQ_FOREACH(s, &p->waiting, link) {
		n += s->len;
		if (n >= WRITE_BYTES)
			break;
	}
	return n;
}

/* Space from *ret_at to *ret_limit: what is left of the cluster in use, and new ones, behind it or elsewhere. */
static int find_space(struct qcow2 *q, uint64_t *ret_at, uint64_t *ret_limit, struct qcow2_run *ret_run)
{
	uint64_t at = q->pack_at, limit = td_align_up(at, q->g.cluster_size);
	uint64_t want = bytes_waiting(q->packer), room = limit - at;
	struct qcow2_run run = { 0 };
	int r = 0;

	if (want > room) {
		r = qcow2_alloc_locked(q, td_div_up(want - room, q->g.cluster_size), &run);
		if (r < 0 && !(r == -ENOSPC && room > 0))
			return r;
		/* A commit may have run, but nothing is given back while we hold the lock: at is as it was. */
		if (r == 0 && run.host_off != limit)
			at = run.host_off;
		if (r == 0)
			limit = run.host_off + (run.nr << q->g.cluster_bits);
	}
	*ret_at = at;
	*ret_limit = limit;
	*ret_run = run;
	return 0;
}

/* The clusters of the run from `end` on. */
static void undo_rest(struct qcow2 *q, const struct qcow2_run *run, uint64_t end)
{
	uint64_t used = end > run->host_off ? td_div_up(end - run->host_off, q->g.cluster_size) : 0;
	struct qcow2_run rest = { .host_off = run->host_off + (used << q->g.cluster_bits),
				  .nr = run->nr - TD_MIN(used, run->nr) };

	qcow2_alloc_undo_locked(q, &rest);
}

/* As many of those that wait as lie together.  1: none. */
static int place_some(struct qcow2 *q, struct batch *b)
{
	struct qcow2_packer *p = q->packer;
	struct qcow2_run run;
	struct stream *s;
	uint64_t at, limit;
	int r = find_space(q, &at, &limit, &run);

	if (r < 0)
		return r;
	b->end = 0;
	while ((s = STAILQ_FIRST(&p->waiting)) != NULL && r == 0) {
		if (b->end != 0 && at - b->start >= WRITE_BYTES)
			break;
		r = place_one(q, s, &at, limit);
		if (r != 0)
			break;
		if (b->end == 0)
			b->start = s->host_off;
		b->end = at;
		STAILQ_REMOVE_HEAD(&p->waiting, link);
		STAILQ_INSERT_TAIL(&b->streams, s, link);
	}
	undo_rest(q, &run, b->end);
	q->pack_at = b->end && qcow2_in_cluster(q, b->end) ? b->end : 0;
	return b->end ? 0 : r;
}

/* At least the first that waits; if that fails its result says so. */
static int find_places(struct qcow2 *q, struct batch *b)
{
	struct stream *first = STAILQ_FIRST(&q->packer->waiting);
	int r;

	td_mutex_lock(&q->alloc_lock);
	r = place_some(q, b);
	if (r == 1) /* not into what is left of the cluster; a whole one takes any stream */
		r = place_some(q, b);
	td_mutex_unlock(&q->alloc_lock);
	if (r == 0)
		return 0;
	STAILQ_REMOVE_HEAD(&q->packer->waiting, link);
	STAILQ_INSERT_TAIL(&b->streams, first, link);
	return r < 0 ? r : -EIO;
}

/* Nothing points at them: back at once.  Failing: a leak. */
static void give_back(struct qcow2 *q, const struct stream *s)
{
	struct qcow2_run run = { .host_off = qcow2_cluster_start(q, s->host_off) };

	run.nr = cluster_of(q, s->host_off + s->len - 1) - cluster_of(q, s->host_off) + 1;
	qcow2_alloc_undo(q, &run);
}

/* ---- writing them ---- */

static void fill(const struct qcow2_packer *p, const struct batch *b, uint64_t from, uint8_t *buf, size_t len)
{
	const struct stream *s;
	uint64_t at = from;

	if (b->start > from)
		memcpy(buf, p->tail, b->start - from);
	at = b->start;
	STAILQ_FOREACH(s, &b->streams, link) {
		memset(buf + (at - from), 0, s->host_off - at);
		memcpy(buf + (s->host_off - from), s->bytes, s->len);
		at = s->host_off + s->len;
	}
	memset(buf + (at - from), 0, len - (at - from));
}

static int write_batch(struct qcow2 *q, const struct batch *b)
{
	struct qcow2_packer *p = q->packer;
	uint64_t from = td_align_down(b->start, p->block);
	size_t len = td_align_up(b->end, p->block) - from;
	uint8_t *buf = td_buf_alloc(len);
	int r;

	if (!buf)
		return -ENOMEM;
	fill(p, b, from, buf, len);
	qcow2_packed_forget(q, b->start, b->end - b->start);
	r = td_image_pwrite(q->child, from, buf, len, 0);
	if (b->end % p->block)
		memcpy(p->tail, buf + len - p->block, p->block);
	td_buf_free(buf, len);
	return r;
}

static void wake_all(struct batch *b, const struct stream *me, int result)
{
	struct stream *s;

	while ((s = STAILQ_FIRST(&b->streams)) != NULL) {
		STAILQ_REMOVE_HEAD(&b->streams, link);
		s->result = result;
		if (s != me)
			td_co_wake(s->co);
	}
}

static void hand_over(struct qcow2_packer *p)
{
	struct stream *next = STAILQ_FIRST(&p->waiting);

	p->writing = next != NULL;
	if (!next)
		return;
	next->lead = true;
	td_co_wake(next->co);
}

/* me is the first that waits. */
static int write_waiting(struct qcow2 *q, struct stream *me)
{
	struct batch b = { .streams = STAILQ_HEAD_INITIALIZER(b.streams) };
	int r = find_places(q, &b);
	struct stream *s;

	if (r == 0) {
		r = write_batch(q, &b);
		if (r < 0) {
			/* What its last block holds is not known. */
			q->pack_at = 0;
			STAILQ_FOREACH(s, &b.streams, link)
				give_back(q, s);
		}
	}
	wake_all(&b, me, r);
	hand_over(q->packer);
	return r;
}

static int write_stream(struct qcow2 *q, struct stream *me)
{
	struct qcow2_packer *p = q->packer;

	me->co = td_co_self();
	STAILQ_INSERT_TAIL(&p->waiting, me, link);
	if (p->writing) {
		td_co_yield();
		if (!me->lead)
			return me->result;
	}
	p->writing = true;
	return write_waiting(q, me);
}

/* ---- one cluster ---- */

static int link_stream(struct qcow2 *q, uint64_t guest_off, struct stream *s)
{
	struct td_range range;
	int r;

	td_range_lock(&q->ranges, &range, guest_off, q->g.cluster_size, TD_RANGE_EXCLUSIVE);
	r = qcow2_l2_own(q, guest_off);
	if (r == 0)
		r = write_stream(q, s);
	if (r == 0) {
		r = qcow2_l2_link_packed(q, guest_off, s->host_off, s->len);
		if (r < 0)
			give_back(q, s);
	}
	td_range_unlock(&q->ranges, &range);
	return r;
}

static int deflate_work(void *arg)
{
	struct deflate *w = arg;
	struct qcow2_codec *k = td_codec_mine();
	int64_t n = k ? qcow2_deflate_with(k, w->how, w->in, w->in_len, w->out, w->out_len) : -ENOMEM;

	if (n < 0)
		return (int)n;
	w->out_len = (size_t)n;
	return 0;
}

static int pack_cluster(struct qcow2 *q, const struct part *p)
{
	struct deflate w = { .how = q->h.compression, .in = p->bytes };
	struct stream s = { 0 };
	uint8_t *out = td_buf_alloc(q->g.cluster_size);
	int r;

	if (!out)
		return -ENOMEM;
	w.in_len = w.out_len = q->g.cluster_size;
	w.out = out;
	r = td_pool_run(q->im->env->pool, deflate_work, &w);
	if (r == -ENOSPC) {
		r = qcow2_pwritev(p->im, p->guest_off, &p->iov, 0);
	} else if (r == 0) {
		s.bytes = out;
		s.len = w.out_len;
		r = link_stream(q, p->guest_off, &s);
	}
	td_buf_free(out, q->g.cluster_size);
	return r;
}

static int write_part(void *arg)
{
	const struct part *p = arg;
	struct qcow2 *q = p->im->state;
	int r = -ENOTSUP;

	if (td_is_zero(p->bytes, q->g.cluster_size))
		r = qcow2_zero(p->im, p->guest_off, p->iov.len, TD_MAY_UNMAP);
	/* Version 2 over a backing image has no word for zeros. */
	return r == -ENOTSUP ? pack_cluster(q, p) : r;
}

/* ---- requests ---- */

/* The bytes in one piece, filled up with zeros behind the end of the disk. */
static int load_part(struct qcow2 *q, struct part *p)
{
	const struct iovec *v = p->iov.vec;

	if (v && p->iov.len == q->g.cluster_size && v->iov_len - p->iov.skip >= p->iov.len) {
		p->bytes = (const uint8_t *)v->iov_base + p->iov.skip;
		return 0;
	}
	p->copy = td_buf_alloc(q->g.cluster_size);
	if (!p->copy)
		return -ENOMEM;
	td_iov_to_buf(&p->iov, p->copy);
	memset(p->copy + p->iov.len, 0, q->g.cluster_size - p->iov.len);
	p->bytes = p->copy;
	return 0;
}

static int write_parts(struct td_image *im, uint64_t guest_off, const struct td_iov *iov)
{
	struct qcow2 *q = im->state;
	struct part part[QCOW2_PARALLEL];
	uint64_t done = 0;
	int r = 0, r2;

	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };
		unsigned n = 0;

		for (; n < QCOW2_PARALLEL && r == 0 && done < iov->len; n++) {
			uint64_t len = TD_MIN(iov->len - done, q->g.cluster_size);

			part[n] = (struct part){ .im = im, .guest_off = guest_off + done };
			part[n].iov = td_iov_slice(iov, done, len);
			r = load_part(q, &part[n]);
			if (r == 0)
				td_join_start(&j, write_part, &part[n]);
			done += len;
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
		while (n-- > 0)
			if (part[n].copy)
				td_buf_free(part[n].copy, q->g.cluster_size);
	}
	return r;
}

static int start(struct qcow2 *q)
{
	struct qcow2_packer *p;

	if (q->packer)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	STAILQ_INIT(&p->waiting);
	p->block =
		(uint32_t)TD_MIN(q->g.cluster_size, (uint64_t)TD_MIN(q->child->limits.block_size, BLOCK_MAX));
	p->block = TD_MAX(p->block, QCOW2_SECTOR);
	q->packer = p;
	return 0;
}

int qcow2_pack_pwritev(struct td_image *im, uint64_t guest_off, const struct td_iov *iov, unsigned flags)
{
	struct qcow2 *q = im->state;
	uint64_t end = guest_off + iov->len;
	int r;

	if (qcow2_in_cluster(q, guest_off) || (qcow2_in_cluster(q, end) && end != im->size))
		return -EINVAL;
	r = start(q);
	if (r == 0)
		r = qcow2_begin_write(q, guest_off, iov->len);
	if (r == 0)
		r = write_parts(im, guest_off, iov);
	if (r == -ENOSPC && qcow2_reclaim(q))
		r = write_parts(im, guest_off, iov);
	if (r == 0 && (flags & TD_FUA))
		r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);
	return r;
}

void qcow2_pack_done(struct qcow2 *q)
{
	free(q->packer);
	q->packer = NULL;
}
