// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writing.
 *
 * What lies in clusters that are ours alone is written in place, under a shared lock of the range.  From the first byte
 * on that does not, the rest takes whole clusters exclusively and goes run by run:
 *
 *	1. an L2 table of our own			(qcow2_l2_own)
 *	2. adjacent clusters, counted in memory		(qcow2_alloc)
 *	3. data, in one write with what has to be copied around it
 *	4. the L2 entries, in memory			(qcow2_l2_link)
 *
 * The commit brings 1, 2 and 4 to the disk, in its order.  If 3 fails the clusters go back at once: nothing ever
 * pointed at them.
 *
 *	     |<-- first cluster -->|  ...  |<-- last cluster -->|
 *	     | head |     guest data, any length     |   tail   |
 *
 * Where entries are extended it is the first and the last subcluster that are filled up.  What else a new cluster's
 * predecessor holds has to be copied too, so then head and tail reach as far as there is data; the subclusters beyond
 * stay what they are, zeros or the backing image's.
 */
#include <blktap/edge.h>

#include "qcow2-int.h"

enum how {
	IN_PLACE, /* ours, with data */
	FILL,     /* ours, reads as zeros: the rest of the clusters has to become zeros */
	FRESH,    /* new */
};

struct part {
	struct qcow2 *q;
	enum how how;
	uint64_t guest_off;
	uint64_t host_off;    /* of the byte at guest_off */
	struct qcow2_run run; /* FRESH */
	struct td_iov iov;
};

/* ---- the clusters' bytes that the guest does not write ---- */

/* From *old on, which maps its beginning. */
static int edge_read(struct qcow2 *q, const struct td_edge *e, struct qcow2_extent *old)
{
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < e->len; done += old->len) {
		struct iovec v;
		struct td_iov iov;

		if (done > 0)
			r = qcow2_map(q, e->off + done, e->len - done, old);
		if (r < 0)
			break;
		iov = td_iov_buf(&v, e->buf + done, old->len);
		r = qcow2_read_extent(q, e->off + done, old, &iov);
	}
	return r;
}

static int edge_load(struct qcow2 *q, struct td_edge *e)
{
	struct qcow2_extent old;
	int r;

	if (e->len == 0)
		return 0;
	r = qcow2_map(q, e->off, e->len, &old);
	if (r == 0 && old.len == e->len)
		r = qcow2_reads_zero(q, e->off, &old, &e->zero);
	if (r < 0 || e->zero)
		return r;
	e->buf = td_buf_alloc(e->len);
	return e->buf ? edge_read(q, e, &old) : -ENOMEM;
}

/* [head | guest | tail] in one write. */
static int write_with_edges(const struct part *p, const struct td_edge *head, const struct td_edge *tail)
{
	td_cleanup(free) struct iovec *v = NULL;
	struct td_iov all;
	int r = td_edges_join(head, &p->iov, tail, &v, &all);

	if (r < 0)
		return r;
	return qcow2_data_write(p->q, p->guest_off - head->len, p->host_off - head->len, &all);
}

static bool holds_bytes(const struct qcow2_extent *e)
{
	return e->kind == QCOW2_DATA || e->kind == QCOW2_PACKED;
}

/* Where in [from, to), inside one cluster, the bytes begin that its old cluster holds, and where they end. */
static int find_bytes(struct qcow2 *q, uint64_t from, uint64_t to, uint64_t *ret_first, uint64_t *ret_end)
{
	int r = 0;

	*ret_first = to;
	*ret_end = from;
	for (uint64_t at = from; r == 0 && at < to;) {
		struct qcow2_extent e;

		r = qcow2_map(q, at, to - at, &e);
		if (r == 0 && holds_bytes(&e)) {
			*ret_first = TD_MIN(*ret_first, at);
			*ret_end = at + e.len;
		}
		at += r == 0 ? e.len : 0;
	}
	return r;
}

/* What has to be written with the guest's bytes, and is an entry's to say: from *ret_start to *ret_end. */
static int reach(const struct part *p, uint64_t *ret_start, uint64_t *ret_end)
{
	struct qcow2 *q = p->q;
	uint64_t end = p->guest_off + p->iov.len, first = qcow2_cluster_start(q, p->guest_off);
	uint64_t last = td_align_up(end, q->g.cluster_size), ignored;
	int r = 0;

	*ret_start = td_align_down(p->guest_off, qcow2_sub_size(q));
	*ret_end = td_align_up(end, qcow2_sub_size(q));
	if (p->how != FRESH)
		return 0;
	if (first < *ret_start)
		r = find_bytes(q, first, *ret_start, ret_start, &ignored);
	if (r == 0 && *ret_end < last)
		r = find_bytes(q, *ret_end, last, &ignored, ret_end);
	return r;
}

/* *ret_start, *ret_end: what is in the cluster afterwards. */
static int write_around(const struct part *p, uint64_t *ret_start, uint64_t *ret_end)
{
	struct qcow2 *q = p->q;
	struct td_edge head = { 0 }, tail = { .off = p->guest_off + p->iov.len };
	int r = reach(p, ret_start, ret_end);

	if (r < 0)
		return r;
	head.off = *ret_start;
	head.len = p->guest_off - *ret_start;
	tail.len = *ret_end - tail.off;
	if (q->g.data_file) /* it is as long as the disk */
		tail.len = TD_MIN(tail.len, tail.off < q->im->size ? q->im->size - tail.off : 0);
	r = edge_load(q, &head);
	if (r == 0)
		r = edge_load(q, &tail);
	/* A fresh cluster is zeros already; of an encrypted image they would be read as noise. */
	if (p->how == FRESH && p->run.fresh && head.zero && q->h.crypt == 0)
		head.len = 0;
	if (p->how == FRESH && p->run.fresh && tail.zero && q->h.crypt == 0)
		tail.len = 0;
	if (r == 0 && head.len + tail.len == 0)
		r = qcow2_data_write(q, p->guest_off, p->host_off, &p->iov);
	else if (r == 0)
		r = write_with_edges(p, &head, &tail);
	td_edge_done(&head);
	td_edge_done(&tail);
	return r;
}

static int write_part(void *arg)
{
	const struct part *p = arg;
	struct qcow2 *q = p->q;
	uint64_t start = 0, end = 0;
	int r;

	if (p->how == IN_PLACE)
		return qcow2_data_write(q, p->guest_off, p->host_off, &p->iov);
	r = write_around(p, &start, &end);
	if (r == 0)
		r = qcow2_l2_link(q, start, end - start, QCOW2_DATA, p->host_off - (p->guest_off - start));
	if (r < 0 && p->how == FRESH && !q->g.data_file)
		qcow2_alloc_undo(q, &p->run);
	return r;
}

/* ---- in place ---- */

static bool in_place(const struct qcow2_extent *e)
{
	return e->kind == QCOW2_DATA && e->owned;
}

static int plan_in_place(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov, uint64_t done,
			 struct part *ret, bool *ret_ours)
{
	struct qcow2_extent e;
	int r = qcow2_map_far(q, guest_off + done, iov->len - done, &e);

	if (r < 0)
		return r;
	*ret_ours = in_place(&e);
	*ret = (struct part){
		.q = q, .how = IN_PLACE, .guest_off = guest_off + done, .host_off = e.host_off
	};
	ret->iov = td_iov_slice(iov, done, e.len);
	return 0;
}

/* As much as is ours from the start on; *done moves past it.  The range is held. */
static int write_ours(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov, uint64_t *done)
{
	struct part part[QCOW2_PARALLEL];
	bool ours = true;
	int r = 0, r2;

	while (r == 0 && ours && *done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < QCOW2_PARALLEL && *done < iov->len; n++) {
			r = plan_in_place(q, guest_off, iov, *done, &part[n], &ours);
			if (r < 0 || !ours)
				break;
			*done += part[n].iov.len;
			if (n == 0 && *done == iov->len)
				return write_part(&part[0]);
			td_join_start(&j, write_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

static int write_shared(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov, uint64_t *done)
{
	struct td_range range;
	int r;

	td_range_lock(&q->ranges, &range, guest_off + *done, iov->len - *done, TD_RANGE_SHARED);
	r = write_ours(q, guest_off, iov, done);
	td_range_unlock(&q->ranges, &range);
	return r;
}

/* ---- into new clusters ---- */

/* How many bytes from guest_off on, inside one L2 slice, need new clusters?  The first is known to. */
static int length_of_new(struct qcow2 *q, uint64_t guest_off, uint64_t len, uint64_t first, uint64_t *ret)
{
	uint64_t n = first, most = TD_MIN(len, qcow2_to_slice_end(q, guest_off));

	while (n < most) {
		struct qcow2_extent e;
		int r = qcow2_map(q, guest_off + n, most - n, &e);

		if (r < 0)
			return r;
		if (e.owned)
			break;
		n += e.len;
	}
	*ret = TD_MIN(n, most);
	return 0;
}

/* In a data file the place is given, and who knows what is there. */
static int place_new(struct qcow2 *q, uint64_t guest_off, uint64_t nr, struct qcow2_run *ret)
{
	if (!q->g.data_file)
		return qcow2_alloc(q, nr, ret);
	*ret = (struct qcow2_run){ .host_off = qcow2_cluster_start(q, guest_off), .nr = nr };
	return 0;
}

static int plan_new(struct qcow2 *q, uint64_t guest_off, uint64_t len, const struct qcow2_extent *e,
		    struct part *ret, uint64_t *ret_len)
{
	uint64_t in = qcow2_in_cluster(q, guest_off), n;
	int r = length_of_new(q, guest_off, len, TD_MIN(e->len, len), &n);

	if (r == 0)
		r = place_new(q, guest_off, td_div_up(in + n, q->g.cluster_size), &ret->run);
	if (r < 0)
		return r;
	ret->how = FRESH;
	ret->host_off = ret->run.host_off + in;
	*ret_len = TD_MIN(n, (ret->run.nr << q->g.cluster_bits) - in);
	return 0;
}

/* The next run.  The range is held exclusively. */
static int plan(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov, uint64_t done,
		struct part *ret)
{
	uint64_t at = guest_off + done, len = iov->len - done, n;
	struct part p = { .q = q, .guest_off = at };
	struct qcow2_extent e = { 0 };
	int r = qcow2_l2_own(q, at);

	if (r == 0)
		r = qcow2_map(q, at, len, &e);
	if (r < 0)
		return r;
	n = e.len;
	if (e.owned) {
		p.how = e.kind == QCOW2_DATA ? IN_PLACE : FILL;
		p.host_off = e.host_off;
	} else {
		r = plan_new(q, at, len, &e, &p, &n);
	}
	if (r < 0)
		return r;
	p.iov = td_iov_slice(iov, done, n);
	*ret = p;
	return 0;
}

static int write_runs(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov, uint64_t *done)
{
	struct part part[QCOW2_PARALLEL];
	int r = 0, r2;

	while (r == 0 && *done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < QCOW2_PARALLEL && *done < iov->len; n++) {
			r = plan(q, guest_off, iov, *done, &part[n]);
			if (r < 0)
				break;
			*done += part[n].iov.len;
			if (n == 0 && *done == iov->len)
				return write_part(&part[0]);
			td_join_start(&j, write_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

/* An encrypted sector is written as a whole: a part of one is read before, with nobody else at it. */
static bool may_share(const struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov)
{
	return q->h.crypt == 0 || (guest_off | iov->len) % TD_CRYPT_SECTOR == 0;
}

static int write_exclusive(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov, uint64_t *done)
{
	uint64_t start = qcow2_cluster_start(q, guest_off + *done);
	uint64_t end = td_align_up(guest_off + iov->len, q->g.cluster_size);
	struct td_range range;
	struct qcow2_extent e;
	int r;

	td_range_lock(&q->ranges, &range, start, end - start, TD_RANGE_EXCLUSIVE);
	r = qcow2_map(q, guest_off + *done, iov->len - *done, &e);
	/* Somebody made it ours while we waited: then all who wait for this cluster can write at the same time. */
	if (r == 0 && !(in_place(&e) && may_share(q, guest_off, iov)))
		r = write_runs(q, guest_off, iov, done);
	td_range_unlock(&q->ranges, &range);
	return r;
}

static int write_all(struct qcow2 *q, uint64_t guest_off, const struct td_iov *iov)
{
	uint64_t done = 0;
	int r = 0;

	while (r == 0 && done < iov->len) {
		if (may_share(q, guest_off, iov) && qcow2_map_in_place_hint(q, guest_off + done))
			r = write_shared(q, guest_off, iov, &done);
		if (r == 0 && done < iov->len)
			r = write_exclusive(q, guest_off, iov, &done);
	}
	return r;
}

int qcow2_pwritev(struct td_image *im, uint64_t guest_off, const struct td_iov *iov, unsigned flags)
{
	struct qcow2 *q = im->state;
	int r = qcow2_begin_write(q, guest_off, iov->len);

	if (r == 0)
		r = write_all(q, guest_off, iov);
	/* A guest that has just trimmed may count on it.  What is written already is written again, in place. */
	if (r == -ENOSPC && qcow2_reclaim(q))
		r = write_all(q, guest_off, iov);
	if (r == 0 && (flags & TD_FUA))
		r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);
	return r;
}
