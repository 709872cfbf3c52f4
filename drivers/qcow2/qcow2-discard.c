// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making ranges read as zeros, and giving their clusters back.  Whole clusters (or subclusters) by their L2 entries;
 * what is left at both ends by writing, and only where it does not read as zeros already.
 *
 * Without a backing image a cluster that is not there reads as zeros: dropping it is enough.  With one an entry must
 * say ZERO, which version 2 cannot: there zeros are written (zero) or the bytes kept (trim).
 */
#include "qcow2-data.h"

#define SPANS_AT_ONCE 64u

/* ---- whole clusters; the range is held exclusively ---- */

static enum qcow2_kind target(const struct qcow2 *q, unsigned flags)
{
	if (q->h.version < 3)
		return QCOW2_HOLE;
	if (!(flags & TD_MAY_UNMAP))
		return QCOW2_ZERO_ALLOC; /* what is ours stays allocated */
	return q->im->backing || (flags & TD_OWN) ? QCOW2_ZERO : QCOW2_HOLE;
}

/* Is there anything to change? */
static int must_change(struct qcow2 *q, uint64_t guest_off, const struct qcow2_extent *e, unsigned flags,
		       bool *ret)
{
	bool zero = false;
	int r = 0;

	switch (e->kind) {
	case QCOW2_DATA:
	case QCOW2_PACKED:
		*ret = true;
		return 0;
	case QCOW2_ZERO_ALLOC:
		*ret = flags & TD_MAY_UNMAP;
		return 0;
	case QCOW2_ZERO:
		*ret = false;
		return 0;
	case QCOW2_HOLE: /* of a cluster that nobody has written to, too */
		if (!(flags & TD_OWN) && !(e->owned && (flags & TD_MAY_UNMAP)))
			r = qcow2_reads_zero(q, guest_off, e, &zero);
		break;
	}
	if (r == 0)
		*ret = !zero;
	return r;
}

/* A stream has no subclusters: what of its cluster is to be zeros has to be written. */
static bool part_of_stream(const struct qcow2 *q, const struct qcow2_extent *e)
{
	return e->kind == QCOW2_PACKED && e->len < q->g.cluster_size;
}

/* -EAGAIN: not by subclusters. */
static int zero_clusters(struct qcow2 *q, uint64_t start, uint64_t end, unsigned flags)
{
	uint64_t at = start;
	int r = 0;

	while (r == 0 && at < end) {
		struct qcow2_extent e;
		bool change = false;

		r = qcow2_map(q, at, end - at, &e);
		if (r == 0 && part_of_stream(q, &e))
			r = -EAGAIN;
		/*
		 * A missing table spans much; where it is going to be made, or a chain may say different things of
		 * it, a slice at a time.
		 */
		if (r == 0 && (q->im->backing || (flags & TD_OWN)))
			e.len = TD_MIN(e.len, qcow2_to_slice_end(q, at));
		if (r == 0)
			r = must_change(q, at, &e, flags, &change);
		if (r == 0 && change)
			r = qcow2_l2_own(q, at);
		if (r == 0 && change)
			r = qcow2_l2_link(q, at, e.len, target(q, flags), 0);
		if (r == 0 && change && (flags & TD_MAY_UNMAP))
			qcow2_data_dropped(q, at, e.len);
		at += r == 0 ? e.len : 0;
	}
	return r;
}

/* An L2 table's span at a time: others get their turn, and what is dropped does not pile up in memory. */
static int zero_middle(struct qcow2 *q, uint64_t start, uint64_t end, unsigned flags)
{
	unsigned spans = 0;
	int r = 0;

	for (uint64_t at = start, next; r == 0 && at < end; at = next) {
		struct td_range range;

		if (++spans % SPANS_AT_ONCE == 0)
			td_co_pause(); /* holes take no I/O, and a disk can be millions of them */

		next = TD_MIN(end, at + qcow2_to_table_end(q, at));
		td_range_lock(&q->ranges, &range, at, next - at, TD_RANGE_EXCLUSIVE);
		r = qcow2_data_zero(q, at, next - at, flags);
		if (r == 0)
			r = zero_clusters(q, at, next, flags);
		td_range_unlock(&q->ranges, &range);
		if (r == 0 && q->pending.nr > QCOW2_FREES_MAX)
			r = qcow2_commit(q, 0);
	}
	return r;
}

/* ---- the ends ---- */

/* Parts of a cluster before, whole clusters (or subclusters), part of one after.  The disk's end ends its cluster. */
struct split {
	uint64_t head, start, end, tail; /* [head, start) [start, end) [end, tail) */
};

static struct split split_of(const struct qcow2 *q, uint64_t guest_off, uint64_t len, uint64_t grain)
{
	uint64_t last = guest_off + len;
	struct split s = { .head = guest_off, .tail = last };

	s.start = td_align_up(guest_off, grain);
	s.end = last == q->im->size ? td_align_up(last, q->g.cluster_size) : td_align_down(last, grain);
	if (s.start > TD_MIN(s.end, last)) /* inside one of them */
		s.start = s.end = last;
	s.tail = TD_MAX(s.tail, s.end);
	return s;
}

static int part_is_zero(struct qcow2 *q, uint64_t guest_off, uint64_t len, bool *ret)
{
	struct td_range range;
	struct qcow2_extent e;
	int r;

	*ret = true;
	if (len == 0)
		return 0;
	td_range_lock(&q->ranges, &range, guest_off, len, TD_RANGE_SHARED);
	r = qcow2_map(q, guest_off, len, &e);
	if (r == 0)
		r = qcow2_reads_zero(q, guest_off, &e, ret);
	if (r == 0 && e.len < len)
		*ret = false; /* some of it */
	td_range_unlock(&q->ranges, &range);
	return r;
}

static int write_zeros(struct td_image *im, uint64_t guest_off, uint64_t len)
{
	struct iovec *v;
	struct td_iov iov;
	int r = td_zero_iov(len, &v, &iov);

	if (r < 0)
		return r;
	r = qcow2_pwritev(im, guest_off, &iov, 0);
	free(v);
	return r;
}

static int zero_ends(struct td_image *im, const struct split *s, unsigned flags)
{
	struct qcow2 *q = im->state;
	bool head_zero, tail_zero = true;
	int r = part_is_zero(q, s->head, s->start - s->head, &head_zero);

	if (r == 0)
		r = part_is_zero(q, s->end, s->tail - s->end, &tail_zero);
	if (flags & TD_OWN) { /* the cluster becomes ours as a whole */
		head_zero = s->head == s->start;
		tail_zero = s->end == s->tail;
	}
	if (r == 0 && (!head_zero || !tail_zero) && (flags & TD_FAST))
		return -ENOTSUP;
	if (r == 0 && !head_zero)
		r = write_zeros(im, s->head, s->start - s->head);
	if (r == 0 && !tail_zero)
		r = write_zeros(im, s->end, s->tail - s->end);
	return r;
}

static int zero_split(struct td_image *im, uint64_t guest_off, uint64_t len, unsigned flags, uint64_t grain)
{
	const struct split s = split_of(im->state, guest_off, len, grain);
	int r = zero_ends(im, &s, flags);

	return r < 0 ? r : zero_middle(im->state, s.start, s.end, flags);
}

static int is_stream(struct qcow2 *q, uint64_t guest_off, bool *ret)
{
	struct td_range range;
	struct qcow2_extent e;
	int r;

	td_range_lock(&q->ranges, &range, guest_off, 1, TD_RANGE_SHARED);
	r = qcow2_map(q, guest_off, 1, &e);
	*ret = r == 0 && e.kind == QCOW2_PACKED;
	td_range_unlock(&q->ranges, &range);
	return r;
}

/*
 * What zeros begin and end at.  Who wants them fast is to be told before anything is changed, so then a stream that the
 * range covers in part, which only its first and its last cluster can be, is looked for first.
 */
static int grain_of(struct qcow2 *q, uint64_t guest_off, uint64_t len, unsigned flags, uint64_t *ret)
{
	uint64_t end = guest_off + len;
	bool head = false, tail = false;
	int r = 0;

	*ret = qcow2_sub_size(q);
	if (*ret == q->g.cluster_size || !(flags & TD_FAST))
		return 0;
	if (qcow2_in_cluster(q, guest_off))
		r = is_stream(q, guest_off, &head);
	if (r == 0 && qcow2_in_cluster(q, end))
		r = is_stream(q, end - 1, &tail);
	if (head || tail)
		*ret = q->g.cluster_size;
	return r;
}

static int zero_all(struct td_image *im, uint64_t guest_off, uint64_t len, unsigned flags)
{
	struct qcow2 *q = im->state;
	uint64_t grain;
	int r = grain_of(q, guest_off, len, flags, &grain);

	if (r == 0)
		r = zero_split(im, guest_off, len, flags, grain);
	return r == -EAGAIN ? zero_split(im, guest_off, len, flags, q->g.cluster_size) : r;
}

/* ---- the slots ---- */

int qcow2_zero(struct td_image *im, uint64_t guest_off, uint64_t len, unsigned flags)
{
	struct qcow2 *q = im->state;
	int r;

	/* No way to say "zero" over a backing image: image.c writes zeros, or tells who wanted it fast. */
	if (q->h.version < 3 && (im->backing || (flags & TD_OWN)))
		return -ENOTSUP;
	r = qcow2_begin_write(q, guest_off, len);
	if (r == 0)
		r = zero_all(im, guest_off, len, flags);
	/* All of it again: which part found no space is not known here, and what is zero already costs nothing. */
	if (r == -ENOSPC && qcow2_reclaim(q))
		r = zero_all(im, guest_off, len, flags);
	if (r == 0 && (flags & TD_FUA))
		r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);
	return r;
}

static int trim_split(struct qcow2 *q, uint64_t guest_off, uint64_t len, uint64_t grain)
{
	const struct split s = split_of(q, guest_off, len, grain);

	return zero_middle(q, s.start, s.end, TD_MAY_UNMAP);
}

int qcow2_trim(struct td_image *im, uint64_t guest_off, uint64_t len)
{
	struct qcow2 *q = im->state;
	int r;

	if (q->h.version < 3 && im->backing)
		return 0;
	if (q->data_raw && !q->data->limits.zero_efficient)
		return 0; /* it is no hint any more if all of it is to be written */
	r = qcow2_begin_write(q, guest_off, len);
	if (r == 0)
		r = trim_split(q, guest_off, len, qcow2_sub_size(q));
	return r == -EAGAIN ? trim_split(q, guest_off, len, q->g.cluster_size) : r;
}
