// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making the disk larger or smaller.
 *
 * Larger: the L1 table moves if it is too short: written anew as a whole at its new place, barrier, then the header
 * names it and the new size, barrier; only then is the old one given back.
 *
 * Smaller: nothing behind the new end can be reached from the start on.  The rest of the last cluster is zeroed, and
 * entries and whole tables behind it are dropped; barrier; then the header has the new size.  So whoever makes the disk
 * larger again, of whatever program, finds zeros.  A crash before that leaves the old size, with holes at its end.
 * What was dropped is given back, and the file cut behind what still counts.  L1 stays as long as it is.
 */
#include "qcow2-data.h"

static uint64_t l1_entries_for(const struct qcow2 *q, uint64_t size)
{
	return td_div_up(size, 1ull << (q->g.cluster_bits + q->g.l2_bits));
}

static int check_size(const struct qcow2 *q, uint64_t size, struct td_err *ret_err)
{
	const char *name = q->im->name;

	if (size > INT64_MAX - q->g.cluster_size ||
	    l1_entries_for(q, size) > QCOW2_MAX_L1_BYTES / sizeof(uint64_t))
		return td_err_set(ret_err, -EFBIG, "%s: too large for clusters of %llu bytes", name,
				  (unsigned long long)q->g.cluster_size);
	/* Version 2 snapshots do not say how large the disk was. */
	if (q->nr_snaps > 0 && q->h.version < 3)
		return td_err_set(ret_err, -ENOTSUP, "%s: a version 2 image with snapshots cannot be resized",
				  name);
	return 0;
}

/* Old entries are durable (the caller has committed and holds alloc_lock): a copy of them is as good as they are. */
static int write_longer(struct qcow2 *q, struct qcow2_table *t, struct qcow2_run *run)
{
	int r = qcow2_alloc_area_locked(q, td_div_up(t->bytes, q->g.cluster_size), run);

	if (r < 0)
		return r;
	t->host_off = run->host_off;
	memcpy(t->raw, q->l1.raw, q->l1.nr * sizeof(uint64_t));
	r = td_image_pwrite(q->child, t->host_off, t->raw, t->bytes, 0);
	if (r == 0)
		/* The refcounts of the new place, before the header names it. */
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	return r;
}

static void use_longer(struct qcow2 *q, struct qcow2_table *t)
{
	uint64_t old_off = q->l1.host_off, old_len = q->l1.nr * sizeof(uint64_t);
	uint64_t old_clusters = td_div_up(old_len, q->g.cluster_size);

	if (old_len > 0) {
		qcow2_overlap_del(q, old_off, old_len);
		if (qcow2_frees_reserve(&q->ready, 1) == 0) /* or it leaks */
			qcow2_frees_add(&q->ready, old_off >> q->g.cluster_bits, old_clusters);
	}
	qcow2_table_done(&q->l1);
	q->l1 = *t;
	qcow2_keep_table(q, &q->l1, QCOW2_KEEP_L1);
	qcow2_commit_soon(q);
}

static void name_l1(struct qcow2_header *h, const void *arg)
{
	const struct qcow2_table *t = arg;

	h->l1_off = t->host_off;
	h->l1_size = (uint32_t)t->nr;
}

static int grow_l1(struct qcow2 *q, uint64_t nr)
{
	struct qcow2_table t;
	struct qcow2_run run = { 0 };
	int r = qcow2_table_new(nr, &t);

	if (r < 0)
		return r;
	td_mutex_lock(&q->alloc_lock);
	r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	if (r == 0)
		r = write_longer(q, &t, &run);
	if (r == 0)
		r = qcow2_overlap_add(q, t.host_off, nr * sizeof(uint64_t));
	if (r == 0)
		r = qcow2_header_switch(q, name_l1, &t);
	if (r == 0)
		use_longer(q, &t);
	else
		qcow2_table_done(&t); /* its clusters stay counted: the disk may already name them */
	td_mutex_unlock(&q->alloc_lock);
	return r;
}

/*
 * What the guest has not written must read as zeros: neither a longer backing image nor old bytes behind the end may
 * show.  Done before the header has the new size.
 */
static int clear_new_part(struct qcow2 *q, uint64_t old)
{
	uint64_t end = td_align_up(old, q->g.cluster_size);

	if (q->im->backing)
		end = TD_MAX(end, q->im->backing->size);
	end = TD_MIN(end, q->im->size);
	return end <= old ? 0 : td_image_zero(q->im, old, end - old, TD_MAY_UNMAP);
}

static void name_size(struct qcow2_header *h, const void *arg)
{
	h->size = *(const uint64_t *)arg;
}

static int set_size(struct qcow2 *q, uint64_t old, uint64_t size)
{
	int r = qcow2_data_enlarge(q, old, size);

	if (r == 0)
		r = clear_new_part(q, old);
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);
	if (r == 0)
		r = qcow2_header_switch(q, name_size, &size);
	return r;
}

/* A machine's state, which a snapshot that QEMU applied has left behind the disk's end: the disk must not show it. */
static int drop_state(struct qcow2 *q, uint64_t old)
{
	bool any = false;

	for (uint64_t i = l1_entries_for(q, old); i < q->l1.nr; i++)
		any |= qcow2_table_get(&q->l1, i) != 0;
	return any ? qcow2_empty_from(q, l1_entries_for(q, old)) : 0;
}

static int enlarge(struct qcow2 *q, uint64_t old, uint64_t size)
{
	int r = drop_state(q, old);

	if (r == 0 && l1_entries_for(q, size) > q->l1.nr)
		r = grow_l1(q, l1_entries_for(q, size));
	if (r < 0)
		return r;
	q->im->size = size; /* the new part can be reached from here on, to be cleared */
	return set_size(q, old, size);
}

/* ---- smaller ---- */

static int drop_extent(struct qcow2 *q, uint64_t at, const struct qcow2_extent *e)
{
	int r = qcow2_l2_own(q, at);

	return r < 0 ? r : qcow2_l2_link(q, at, e->len, QCOW2_HOLE, 0);
}

/* Entries from `at` to the end of their table; the range is held exclusively. */
static int drop_entries(struct qcow2 *q, uint64_t at)
{
	uint64_t end = at + qcow2_to_table_end(q, at);
	int r = 0;

	while (r == 0 && at < end) {
		struct qcow2_extent e;

		r = qcow2_map(q, at, end - at, &e);
		if (r == 0 && (e.kind != QCOW2_HOLE || e.host_off != 0))
			r = drop_extent(q, at, &e);
		at += r == 0 ? e.len : 0;
	}
	return r;
}

static int drop_behind(struct qcow2 *q, uint64_t size)
{
	uint64_t start = td_align_up(size, q->g.cluster_size);
	struct td_range range;
	int r = 0;

	td_range_lock(&q->ranges, &range, start, INT64_MAX - start, TD_RANGE_EXCLUSIVE);
	if (l1_entries_for(q, start) > start >> (q->g.cluster_bits + q->g.l2_bits))
		r = drop_entries(q, start);
	if (r == 0)
		r = qcow2_empty_from(q, l1_entries_for(q, start));
	td_range_unlock(&q->ranges, &range);
	return r;
}

/* No cluster from *ret on is counted.  alloc_lock is held. */
static int find_end(struct qcow2 *q, uint64_t *ret)
{
	uint64_t end = q->end, count = 0;
	int r = 0;

	while (r == 0 && end > 0 && count == 0) {
		r = qcow2_refs_get(q, end - 1, &count);
		end -= r == 0 && count == 0;
	}
	*ret = end;
	return r;
}

/*
 * Cut the file behind what is counted.  What is added to it again is zeros: so the cut has to be durable before
 * anything counts on that; the barrier sees to it.
 */
static int cut_file(struct qcow2 *q)
{
	uint64_t end;
	int r = find_end(q, &end);

	/* On the disk they are not counted either, or somebody would look for them behind the end. */
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	if (r == 0)
		r = td_image_resize(q->child, end << q->g.cluster_bits, TD_RESIZE_SHRINK, NULL);
	if (r < 0)
		return r;
	q->end = end;
	q->scan = TD_MIN(q->scan, end);
	return qcow2_barrier(q);
}

/* The disk is smaller already; if this fails the file is only longer than it need be. */
static void give_back(struct qcow2 *q)
{
	qcow2_data_reduce(q, q->im->size);
	td_ignore(qcow2_reclaim(q));
	td_mutex_lock(&q->alloc_lock);
	if (!q->fixed_size && !q->im->frozen)
		td_ignore(cut_file(q));
	td_mutex_unlock(&q->alloc_lock);
}

static int write_rest(struct qcow2 *q, uint64_t off, uint64_t len)
{
	struct iovec *v;
	struct td_iov iov;
	int r = td_zero_iov(len, &v, &iov);

	if (r < 0)
		return r;
	r = qcow2_pwritev(q->im, off, &iov, 0);
	free(v);
	return r;
}

static int reduce(struct qcow2 *q, uint64_t size)
{
	uint64_t rest = -size & (q->g.cluster_size - 1);
	int r = 0;

	q->im->size = size; /* no request reaches behind it from here on */
	if (rest > 0)
		r = qcow2_zero(q->im, size, rest, 0);
	if (r == -ENOTSUP) /* version 2 over a backing image */
		r = write_rest(q, size, rest);
	if (r == 0)
		r = drop_behind(q, size);
	if (r == 0)
		r = qcow2_header_switch(q, name_size, &size);
	if (r == 0)
		give_back(q);
	return r;
}

/* Bitmaps have a bit for all of the disk at any time. */
static int change_size(struct qcow2 *q, uint64_t old, uint64_t size)
{
	int r = qcow2_bitmaps_resize_begin(q);

	if (r < 0)
		return r;
	if (size > old)
		qcow2_bitmaps_resize(q, old, size);
	r = size > old ? enlarge(q, old, size) : reduce(q, size);
	if (r < 0 && size > old)
		qcow2_bitmaps_resize(q, size, old);
	else if (r == 0 && size < old)
		qcow2_bitmaps_resize(q, old, size);
	return r;
}

int qcow2_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	struct qcow2 *q = im->state;
	uint64_t old;
	int r;

	td_co_guard(&q->shape_lock);
	old = im->size;
	r = check_size(q, size, ret_err);

	if (r < 0 || size == old)
		return r;
	r = qcow2_begin_write(q, 0, 0);
	if (r == 0)
		r = qcow2_begin_alloc(q);
	if (r == 0)
		r = change_size(q, old, size);
	if (r < 0) {
		im->size = old;
		return td_err_set(ret_err, r, "%s: cannot be resized: %s", im->name, strerror(-r));
	}
	return 0;
}
