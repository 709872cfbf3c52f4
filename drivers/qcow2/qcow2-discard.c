// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making ranges read as zeros, and giving their clusters back.  Whole clusters by their L2 entries; what is left at
 * both ends by writing, and only where it does not read as zeros already.
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
	case QCOW2_HOLE:
		if (!(flags & TD_OWN))
			r = qcow2_reads_zero(q, guest_off, e, &zero);
		break;
	}
	if (r == 0)
		*ret = !zero;
	return r;
}

static int zero_clusters(struct qcow2 *q, uint64_t start, uint64_t end, unsigned flags)
{
	uint64_t at = start;
	int r = 0;

	while (r == 0 && at < end) {
		struct qcow2_extent e;
		bool change = false;

		r = qcow2_map(q, at, end - at, &e);
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
			r = qcow2_l2_link(q, at, td_div_up(e.len, q->g.cluster_size), target(q, flags), 0);
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

/* Parts of a cluster before, whole clusters, part of one after.  The disk's end ends its cluster. */
struct split {
	uint64_t head, start, end, tail; /* [head, start) [start, end) [end, tail) */
};

static struct split split_of(const struct qcow2 *q, uint64_t guest_off, uint64_t len)
{
	uint64_t last = guest_off + len;
	struct split s = { .head = guest_off, .tail = last };

	s.start = td_align_up(guest_off, q->g.cluster_size);
	s.end = last == q->im->size ? td_align_up(last, q->g.cluster_size) : qcow2_cluster_start(q, last);
	if (s.start > s.end) /* inside one cluster */
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

static int zero_all(struct td_image *im, const struct split *s, unsigned flags)
{
	int r = zero_ends(im, s, flags);

	return r < 0 ? r : zero_middle(im->state, s->start, s->end, flags);
}

/* ---- the slots ---- */

int qcow2_zero(struct td_image *im, uint64_t guest_off, uint64_t len, unsigned flags)
{
	struct qcow2 *q = im->state;
	struct split s = split_of(q, guest_off, len);
	int r;

	/* No way to say "zero" over a backing image: image.c writes zeros, or tells who wanted it fast. */
	if (q->h.version < 3 && (im->backing || (flags & TD_OWN)))
		return -ENOTSUP;
	r = qcow2_begin_write(q, guest_off, len);
	if (r == 0)
		r = zero_all(im, &s, flags);
	/* All of it again: which part found no space is not known here, and what is zero already costs nothing. */
	if (r == -ENOSPC && qcow2_reclaim(q))
		r = zero_all(im, &s, flags);
	if (r == 0 && (flags & TD_FUA))
		r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);
	return r;
}

int qcow2_trim(struct td_image *im, uint64_t guest_off, uint64_t len)
{
	struct qcow2 *q = im->state;
	struct split s = split_of(q, guest_off, len);
	int r;

	if (q->h.version < 3 && im->backing)
		return 0;
	if (q->data_raw && !q->data->limits.zero_efficient)
		return 0; /* it is no hint any more if all of it is to be written */
	r = qcow2_begin_write(q, guest_off, len);
	if (r == 0)
		r = zero_middle(q, s.start, s.end, TD_MAY_UNMAP);
	return r;
}
