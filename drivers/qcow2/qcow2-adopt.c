// SPDX-License-Identifier: BSD-2-Clause
/*
 * Adopting what a killed process left (blktap/keep.h): metadata of writes that it had answered, not yet in the image.
 *
 * Everything dirty is compared with the image before anything is written.  A sector of the image has to be what the
 * other process last read or wrote there, what it was just writing, or what it is to become; anything else was written
 * by somebody else since, whose tables and ours cannot both be right.  Then the image is refused: to go on without the
 * file would lose what a guest was told is written, and that is for a person to decide (adopt=off).
 *
 * Then it is written in the order of a commit, so that a crash meanwhile is one in a commit, and a kill finds the file
 * still there.  What the other process had dropped and not given back yet leaks.
 *
 * Refcounts say that a cluster is taken, and not by whom: another program that allocates since finds the same clusters
 * free that the killed process had taken, and leaves the same refcounts.  So where these are not what they were, all
 * that the image names is counted, and nothing is named that something else has.
 *
 * A slice that no table names is left out: it was made for a table that had not got its entry when the kill came.
 */
#include "qcow2-check.h"

struct adopt {
	struct qcow2 *q;
	const struct td_keep_old *old;
	uint8_t *want, *have;         /* a unit each */
	struct qcow2_set blocks, l2s; /* clusters: refcount blocks, L2 tables of ours */
	bool moved;                   /* the image's refcounts are not all what they were */
	struct qcow2_walk walk;       /* then: what it uses */
};

typedef int unit_fn(struct adopt *a, unsigned kind, uint64_t i, const struct td_keep_unit *u);

/* For each dirty unit of a kind. */
static int each_dirty(struct adopt *a, unsigned kind, unit_fn *fn)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < td_keep_old_nr(a->old, kind); i++) {
		const struct td_keep_unit *u = td_keep_old_unit(a->old, kind, i);

		if (u->state & TD_KEEP_DIRTY)
			r = fn(a, kind, i, u);
	}
	return r;
}

/* The others are slices of a cache. */
static bool is_table(unsigned kind)
{
	return kind == QCOW2_KEEP_L1 || kind == QCOW2_KEEP_REFTABLE;
}

static struct qcow2_table *table_of(struct qcow2 *q, unsigned kind)
{
	return kind == QCOW2_KEEP_L1 ? &q->l1 : &q->reftable;
}

static size_t unit_size(const struct qcow2 *q, unsigned kind)
{
	return is_table(kind) ? QCOW2_SECTOR : q->l2.slice_size;
}

/* ---- is the image as it was left? ---- */

/* What the image holds there, as the other process saw it: a table's last sector is filled up with zeros. */
static int load_have(struct adopt *a, unsigned kind, uint64_t off)
{
	const struct qcow2_table *t;
	int r;

	if (off % unit_size(a->q, kind))
		return -ESTALE;
	if (!is_table(kind)) {
		r = td_image_pread(a->q->child, off, a->have, a->q->l2.slice_size, TD_EXACT);
		return r == -EUCLEAN || r == -EINVAL ? -ESTALE : r;
	}
	t = table_of(a->q, kind);
	if (off < t->host_off || !td_in_range(off - t->host_off, QCOW2_SECTOR, t->bytes))
		return -ESTALE;
	memcpy(a->have, t->raw + (off - t->host_off), QCOW2_SECTOR);
	return 0;
}

static int verify(struct adopt *a, unsigned kind, uint64_t nr, const struct td_keep_unit *u)
{
	unsigned sectors = (unsigned)(unit_size(a->q, kind) / QCOW2_SECTOR);
	int r = td_keep_old_bytes(a->old, kind, nr, a->want);

	if (r == 0)
		r = load_have(a, kind, u->off);
	return r == 0 && !td_keep_old_fits(u, sectors, a->have, a->want) ? -ESTALE : r;
}

static int count_one(struct adopt *a, unsigned kind, uint64_t i, const struct td_keep_unit *u)
{
	(void)a;
	(void)kind;
	(void)i;
	(void)u;
	return 1;
}

static bool anything_dirty(struct adopt *a)
{
	for (unsigned kind = 0; kind < TD_KEEP_KINDS; kind++)
		if (each_dirty(a, kind, count_one) > 0)
			return true;
	return false;
}

static int overlay(struct adopt *a, unsigned kind, uint64_t i, const struct td_keep_unit *u)
{
	struct qcow2_table *t = table_of(a->q, kind);

	return td_keep_old_bytes(a->old, kind, i, t->raw + (u->off - t->host_off));
}

static int verify_all(struct adopt *a)
{
	int r = 0;

	for (unsigned kind = 0; r == 0 && kind < TD_KEEP_KINDS; kind++) {
		if (td_keep_old_nr(a->old, kind) > 0 &&
		    td_keep_old_unit_size(a->old, kind) != unit_size(a->q, kind))
			return -EUCLEAN;
		r = each_dirty(a, kind, verify);
	}
	if (r == 0)
		r = each_dirty(a, QCOW2_KEEP_REFTABLE, overlay);
	if (r == 0)
		r = each_dirty(a, QCOW2_KEEP_L1, overlay);
	return r;
}

static int with_buffers(struct qcow2 *q, struct adopt *ret)
{
	*ret = (struct adopt){ .q = q, .old = q->old };
	ret->want = td_buf_alloc(QCOW2_SLICE_MAX);
	ret->have = td_buf_alloc(QCOW2_SLICE_MAX);
	return ret->want && ret->have ? 0 : -ENOMEM;
}

static void adopt_done(struct adopt *a)
{
	if (a->want)
		td_buf_free(a->want, QCOW2_SLICE_MAX);
	if (a->have)
		td_buf_free(a->have, QCOW2_SLICE_MAX);
	qcow2_set_done(&a->blocks);
	qcow2_set_done(&a->l2s);
	if (a->moved)
		qcow2_walk_done(&a->walk);
}

static int look(struct qcow2 *q, struct td_err *ret_err)
{
	struct adopt a;
	int r = with_buffers(q, &a);

	if (r == 0 && !anything_dirty(&a)) {
		td_keep_old_free(q->old, !q->im->read_only);
		q->old = NULL;
	} else if (r == 0 && q->im->read_only) {
		r = td_keep_old_error(q->old, -EBUSY, ret_err);
	} else if (r == 0) {
		r = verify_all(&a);
		if (r < 0)
			td_keep_old_error(q->old, r, ret_err);
	} else {
		td_err_set(ret_err, r, "no memory");
	}
	adopt_done(&a);
	return r;
}

int qcow2_adopt_look(struct qcow2 *q, struct td_opts *opts, struct td_err *ret_err)
{
	struct td_keep_tag tag = qcow2_keep_tag(q);
	bool adopt = true;
	int r = td_opts_bool(opts, "adopt", &adopt, ret_err);

	/* Whoever looks at a disk in use sees what is in the image. */
	if (r < 0 || (q->im->flags & TD_OPEN_NO_LOCK))
		return r;
	if (!adopt)
		return q->im->read_only ? 0 : td_keep_forget(q->im, ret_err);
	r = td_keep_find(q->im, &tag, &q->old, ret_err);
	return r == 0 && q->old ? look(q, ret_err) : r;
}

/* ---- writing it ---- */

static int note_tables(struct adopt *a)
{
	struct qcow2 *q = a->q;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < q->reftable.nr; i++) {
		struct qcow2_reftable_entry e;

		if (qcow2_reftable_decode(&q->g, qcow2_table_get(&q->reftable, i), &e) == 0 && e.present)
			r = qcow2_set_add(&a->blocks, e.host_off >> q->g.cluster_bits);
	}
	for (size_t i = 0; r >= 0 && i < q->l1.nr; i++) {
		struct qcow2_l1e e;

		if (qcow2_l1e_decode(&q->g, qcow2_table_get(&q->l1, i), &e) == 0 && e.present && e.copied)
			r = qcow2_set_add(&a->l2s, e.host_off >> q->g.cluster_bits);
	}
	return TD_MIN(r, 0);
}

static bool has_place(const struct adopt *a, unsigned kind, uint64_t off)
{
	uint64_t cluster = off >> a->q->g.cluster_bits;

	if (kind == QCOW2_KEEP_REFS)
		return qcow2_set_has(&a->blocks, cluster);
	return kind != QCOW2_KEEP_L2 || qcow2_set_has(&a->l2s, cluster);
}

static int write_unit(struct adopt *a, unsigned kind, uint64_t i, const struct td_keep_unit *u)
{
	int r;

	if (!has_place(a, kind, u->off))
		return 0;
	r = td_keep_old_bytes(a->old, kind, i, a->want);
	return r < 0 ? r : td_image_pwrite(a->q->child, u->off, a->want, unit_size(a->q, kind), 0);
}

/* The clusters that a new entry names, first to last; 0: none. */
static int named_by(const struct qcow2 *q, unsigned kind, const uint8_t *entry, struct qcow2_area *ret)
{
	struct qcow2_l1e l1e = { 0 };
	struct qcow2_l2e l2e = { 0 };
	uint64_t len = q->g.cluster_size;
	int r;

	*ret = (struct qcow2_area){ 0 };
	if (kind == QCOW2_KEEP_L1) {
		r = qcow2_l1e_decode(&q->g, td_get_be64(entry), &l1e);
		ret->first = ret->last = l1e.host_off >> q->g.cluster_bits;
		return r;
	}
	r = qcow2_l2e_read(&q->g, q->h.version, entry, &l2e);
	if (r < 0 || l2e.kind == QCOW2_HOLE || l2e.kind == QCOW2_ZERO || q->g.data_file)
		return r;
	if (l2e.kind == QCOW2_PACKED)
		len = l2e.packed_len;
	ret->first = l2e.host_off >> q->g.cluster_bits;
	ret->last = (l2e.host_off + len - 1) >> q->g.cluster_bits;
	return qcow2_overlap_data_ok(q, l2e.host_off, len) ? 0 : -ESTALE;
}

/* One more reference to each, at least, has to be counted. */
static int check_area(struct adopt *a, const struct qcow2_area *named)
{
	uint64_t count = 0;
	int r = 0;

	for (uint64_t c = named->first; r == 0 && c != 0 && c <= named->last; c++) {
		r = qcow2_refs_get(a->q, c, &count);
		if (r == 0 && count <= (a->moved ? qcow2_uses_count(&a->walk.uses, c) : 0))
			r = -ESTALE;
	}
	return r;
}

/* Both words of an extended entry, or flags alone, may change and the cluster stay. */
static int check_entry(struct adopt *a, unsigned kind, const uint8_t *have, const uint8_t *want)
{
	struct qcow2_area was, named;
	int r = named_by(a->q, kind, want, &named);

	if (r < 0 || (named_by(a->q, kind, have, &was) == 0 && memcmp(&was, &named, sizeof(was)) == 0))
		return r;
	return check_area(a, &named);
}

/*
 * Does what is going to be named count?  Not if another program took it for a leak and gave it back, or for its own.
 * The refcounts are on the disk by now.
 */
static int check_unit(struct adopt *a, unsigned kind, uint64_t nr, const struct td_keep_unit *u)
{
	struct qcow2 *q = a->q;
	size_t len = unit_size(q, kind), size = kind == QCOW2_KEEP_L2 ? 1u << q->g.l2_entry_bits : 8;
	int r;

	if (!has_place(a, kind, u->off))
		return 0;
	r = td_keep_old_bytes(a->old, kind, nr, a->want);
	if (r == 0)
		r = td_image_pread(q->child, u->off, a->have, len, 0);
	for (size_t i = 0; r == 0 && i < len; i += size) {
		if (memcmp(a->have + i, a->want + i, size) != 0)
			r = check_entry(a, kind, a->have + i, a->want + i);
	}
	return r;
}

static int see_moved(struct adopt *a, unsigned kind, uint64_t i, const struct td_keep_unit *u)
{
	int r = load_have(a, kind, u->off);

	(void)i;
	if (r == 0 && !td_keep_old_untouched(u, (unsigned)(unit_size(a->q, kind) / QCOW2_SECTOR), a->have))
		a->moved = true;
	return r;
}

static int count_uses(struct adopt *a)
{
	struct td_check res = { 0 };

	return a->moved ? qcow2_walk(&a->walk, a->q, &res) : 0;
}

static int check_counts(struct adopt *a)
{
	int r = count_uses(a);

	td_mutex_lock(&a->q->alloc_lock);
	if (r == 0)
		r = each_dirty(a, QCOW2_KEEP_L2, check_unit);
	if (r == 0)
		r = each_dirty(a, QCOW2_KEEP_L1, check_unit);
	td_mutex_unlock(&a->q->alloc_lock);
	/* Slices from now on have their memory where it is kept. */
	qcow2_cache_empty(&a->q->refs);
	return r;
}

static int write_all(struct adopt *a)
{
	static const unsigned order[] = { QCOW2_KEEP_REFS, QCOW2_KEEP_REFTABLE, QCOW2_KEEP_L2,
					  QCOW2_KEEP_L1 };
	int r = note_tables(a);

	if (r == 0)
		r = each_dirty(a, QCOW2_KEEP_REFS, see_moved);
	/* The first barrier is for the data, which nobody may have flushed. */
	for (unsigned i = 0; r == 0 && i < TD_NELEMS(order); i++) {
		r = qcow2_barrier(a->q);
		if (r == 0 && order[i] == QCOW2_KEEP_L2)
			r = check_counts(a);
		if (r == 0)
			r = each_dirty(a, order[i], write_unit);
	}
	return r < 0 ? r : qcow2_barrier(a->q);
}

int qcow2_adopt_write(struct qcow2 *q, struct td_err *ret_err)
{
	struct adopt a;
	int r;

	if (!q->old)
		return 0;
	if (q->sealed) /* what these tables name has to be on the disk first */
		return td_err_set(ret_err, -ENOENT,
				  "a killed tapdisk left tables of it, and its data file %s cannot be opened",
				  q->data_name ? q->data_name : "");
	r = with_buffers(q, &a);
	if (r == 0)
		r = write_all(&a);
	if (r < 0 && q->im->frozen) /* a barrier failed: the next would succeed and prove nothing */
		td_keep_old_spoil(q->old);
	if (r == -ESTALE)
		td_keep_old_error(q->old, r, ret_err);
	else if (r < 0)
		td_err_set(ret_err, r, "cannot put what a killed tapdisk left in %s into the image: %s",
			   td_keep_old_path(q->old), strerror(-r));
	adopt_done(&a);
	if (r == 0) {
		td_keep_old_free(q->old, true);
		q->old = NULL;
	}
	return r;
}

void qcow2_adopt_done(struct qcow2 *q)
{
	td_keep_old_free(q->old, false);
	q->old = NULL;
}
