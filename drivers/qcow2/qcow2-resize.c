// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making the disk larger.  The L1 table moves if it is too short: written anew as a whole at its new place, barrier,
 * then the header names it and the new size, barrier; only then is the old one given back.
 */
#include "qcow2-int.h"

static uint64_t l1_entries_for(const struct qcow2 *q, uint64_t size)
{
	return td_div_up(size, 1ull << (q->g.cluster_bits + q->g.l2_bits));
}

static int check_size(const struct qcow2 *q, uint64_t size, struct td_err *ret_err)
{
	const char *name = q->im->name;

	if (size < q->im->size)
		return td_err_set(ret_err, -ENOTSUP, "%s: making an image smaller is not supported", name);
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
	int r = clear_new_part(q, old);

	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);
	if (r == 0)
		r = qcow2_header_switch(q, name_size, &size);
	return r;
}

int qcow2_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	struct qcow2 *q = im->state;
	uint64_t old = im->size;
	int r = check_size(q, size, ret_err);

	if (r < 0 || size == old)
		return r;
	r = qcow2_begin_write(q);
	if (r == 0)
		r = qcow2_begin_alloc(q);
	if (r == 0 && l1_entries_for(q, size) > q->l1.nr)
		r = grow_l1(q, l1_entries_for(q, size));
	if (r == 0) {
		im->size = size; /* the new part can be reached from here on, to be cleared */
		r = set_size(q, old, size);
	}
	if (r < 0) {
		im->size = old;
		return td_err_set(ret_err, r, "%s: cannot be resized: %s", im->name, strerror(-r));
	}
	return 0;
}
