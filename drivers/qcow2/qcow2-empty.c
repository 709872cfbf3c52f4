// SPDX-License-Identifier: BSD-2-Clause
/*
 * Holding nothing any more: for each L1 entry the clusters that its table names, and the table, lose a reference, and
 * the entry goes.  Tables are not touched otherwise, since a snapshot may have them too.
 *
 * The order on disk is that of any commit: the L1 sector, barrier, and only then is what it named given back.  All that
 * a table names is gathered first and becomes pending in the same instant as its L1 entry goes: a commit between the
 * two would give back what the disk still names.
 */
#include "qcow2-data.h"

static int gather_slice(struct qcow2 *q, uint64_t host_off, struct qcow2_frees *f)
{
	struct qcow2_slice *s;
	struct qcow2_l2e e;
	int r = qcow2_frees_reserve(f, q->l2.slice_size >> q->g.l2_entry_bits);

	if (r == 0)
		r = qcow2_cache_get(&q->l2, host_off, &s);
	for (size_t i = 0; r == 0 && i < q->l2.slice_size; i += 1u << q->g.l2_entry_bits) {
		r = qcow2_l2e_read(&q->g, q->h.version, s->data + i, &e);
		if (r < 0 || e.kind == QCOW2_HOLE || e.kind == QCOW2_ZERO)
			continue;
		if (qcow2_overlap_data_ok(q, e.host_off,
					  e.kind == QCOW2_PACKED ? e.packed_len : q->g.cluster_size))
			qcow2_frees_add_entry(f, &q->g, &e);
		else
			r = -EUCLEAN;
	}
	return r;
}

static int gather_table(struct qcow2 *q, uint64_t host_off, struct qcow2_frees *f)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < q->g.cluster_size; at += q->l2.slice_size)
		r = gather_slice(q, host_off + at, f);
	return r == 0 ? qcow2_frees_reserve(f, 1) : r;
}

/* No yield in here. */
static void drop_table(struct qcow2 *q, uint64_t idx, uint64_t host_off, struct qcow2_frees *f)
{
	qcow2_table_set(&q->l1, idx, 0);
	qcow2_frees_add(f, host_off >> q->g.cluster_bits, 1);
	qcow2_frees_join(&q->pending, f);
	qcow2_overlap_del(q, host_off, q->g.cluster_size);
	qcow2_cache_forget(&q->l2, host_off, q->g.cluster_size);
}

static int empty_entry(struct qcow2 *q, uint64_t idx)
{
	struct qcow2_frees f;
	struct qcow2_l1e e;
	int r = qcow2_l1e_decode(&q->g, qcow2_table_get(&q->l1, idx), &e);

	if (r < 0 || !e.present)
		return r;
	qcow2_frees_init(&f);
	r = gather_table(q, e.host_off, &f);
	if (r == 0)
		drop_table(q, idx, e.host_off, &f);
	qcow2_frees_done(&f);
	/* What is dropped does not pile up in memory. */
	if (r == 0 && q->pending.nr > QCOW2_FREES_MAX)
		r = qcow2_commit(q, 0);
	return r;
}

int qcow2_empty_from(struct qcow2 *q, uint64_t first)
{
	/* From here on no table has changes in memory that a dropped one would take with it. */
	int r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);

	for (uint64_t i = first; r == 0 && i < q->l1.nr; i++)
		r = empty_entry(q, i);
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_BARRIER);
	return r == -EUCLEAN ? qcow2_corrupt(q) : r;
}

static int empty_all(struct qcow2 *q)
{
	int r = qcow2_begin_write(q, 0, 0); /* it is in the backing image: no byte changes */

	if (r == 0)
		r = qcow2_begin_alloc(q);
	if (r == 0)
		r = qcow2_empty_from(q, 0);
	if (r == 0)
		qcow2_data_dropped(q, 0, q->im->size);
	return r;
}

int qcow2_empty(struct td_image *im, struct td_err *ret_err)
{
	int r = empty_all(im->state);

	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be emptied: %s", im->name, strerror(-r)) : 0;
}
