// SPDX-License-Identifier: BSD-2-Clause
/*
 * From guest offsets to host offsets: L1 and L2, read and changed.  Nothing here writes to the disk but the making of
 * an L2 table; changed slices and sectors go with the next commit.
 *
 *	guest offset = | L1 index | L2 index | in cluster |
 *	                            '-- slice index | in slice --'
 */
#include "qcow2-int.h"

#define COPY_BYTES (64u << 10)

static uint64_t l1_index(const struct qcow2 *q, uint64_t guest_off)
{
	return guest_off >> (q->g.cluster_bits + q->g.l2_bits);
}

/* log2 of entries in a slice. */
static unsigned slice_entry_bits(const struct qcow2 *q)
{
	return q->l2.slice_bits - 3;
}

static uint64_t slice_entries(const struct qcow2 *q)
{
	return 1ull << slice_entry_bits(q);
}

/* Number of the entry inside its table. */
static uint64_t l2_index(const struct qcow2 *q, uint64_t guest_off)
{
	return (guest_off >> q->g.cluster_bits) & ((1ull << q->g.l2_bits) - 1);
}

uint64_t qcow2_to_slice_end(const struct qcow2 *q, uint64_t guest_off)
{
	uint64_t span = slice_entries(q) << q->g.cluster_bits;

	return span - (guest_off & (span - 1));
}

uint64_t qcow2_to_table_end(const struct qcow2 *q, uint64_t guest_off)
{
	uint64_t span = 1ull << (q->g.cluster_bits + q->g.l2_bits);

	return span - (guest_off & (span - 1));
}

static int l1_get(const struct qcow2 *q, uint64_t guest_off, struct qcow2_l1e *ret)
{
	uint64_t idx = l1_index(q, guest_off);

	if (idx >= q->l1.nr)
		return -EINVAL;
	return qcow2_l1e_decode(&q->g, qcow2_table_get(&q->l1, idx), ret);
}

static uint64_t slice_off(const struct qcow2 *q, const struct qcow2_l1e *e, uint64_t guest_off)
{
	return e->host_off + (l2_index(q, guest_off) >> slice_entry_bits(q) << q->l2.slice_bits);
}

static uint64_t in_slice(const struct qcow2 *q, uint64_t guest_off)
{
	return l2_index(q, guest_off) & (slice_entries(q) - 1);
}

/*
 * The slice that maps guest_off, and the entry's place in it.  *ret NULL: there is no L2 table.  While a slice is read
 * its table may be replaced by a copy of our own; then the copy is what counts, so L1 is looked at until slice and
 * entry were found in one go.
 */
static int slice_of(struct qcow2 *q, uint64_t guest_off, struct qcow2_l1e *ret_l1e, struct qcow2_slice **ret,
		    uint64_t *ret_idx)
{
	struct qcow2_slice *s;
	struct qcow2_l1e e;
	int r;

	for (;;) {
		s = NULL;
		r = l1_get(q, guest_off, &e);
		if (r < 0 || !e.present)
			break;
		s = qcow2_cache_peek(&q->l2, slice_off(q, &e, guest_off));
		if (s)
			break;
		r = qcow2_cache_get(&q->l2, slice_off(q, &e, guest_off), &s);
		if (r < 0)
			break;
	}
	if (r < 0)
		return r;
	*ret_l1e = e;
	*ret = s;
	*ret_idx = in_slice(q, guest_off);
	return 0;
}

/* One entry as an answer for the rest of its cluster. */
static int extent_of(const struct qcow2 *q, const struct qcow2_l1e *l1e, uint64_t raw, uint64_t guest_off,
		     struct qcow2_extent *ret)
{
	uint64_t in = qcow2_in_cluster(q, guest_off);
	struct qcow2_l2e e;
	int r = qcow2_l2e_decode(&q->g, q->h.version, raw, &e);

	if (r < 0)
		return r;
	*ret = (struct qcow2_extent){
		.kind = e.kind,
		.owned = l1e->copied && e.copied,
		.host_off = e.host_off,
		.packed_len = e.packed_len,
		.len = q->g.cluster_size - in,
	};
	if (e.kind == QCOW2_HOLE || e.kind == QCOW2_ZERO)
		return 0;
	if (!qcow2_overlap_data_ok(q, e.host_off, e.kind == QCOW2_PACKED ? e.packed_len : q->g.cluster_size))
		return -EUCLEAN;
	if (q->g.data_file && e.host_off != guest_off - in)
		return -EUCLEAN;
	if (e.kind != QCOW2_PACKED)
		ret->host_off += in;
	return 0;
}

/* Does b follow a directly, in the guest and on the host? */
static bool continues(const struct qcow2_extent *a, const struct qcow2_extent *b)
{
	if (a->kind != b->kind || a->owned != b->owned || a->kind == QCOW2_PACKED)
		return false;
	return a->kind == QCOW2_HOLE || a->kind == QCOW2_ZERO || a->host_off + a->len == b->host_off;
}

static int map_slice(const struct qcow2 *q, const struct qcow2_l1e *l1e, const struct qcow2_slice *s,
		     uint64_t idx, uint64_t guest_off, uint64_t len, struct qcow2_extent *ret)
{
	struct qcow2_extent e = { 0 }, more = { 0 };
	int r = extent_of(q, l1e, td_get_be64(s->data + idx * 8), guest_off, &e);

	if (r < 0)
		return r;
	while (e.len < len && ++idx < slice_entries(q)) {
		/* A bad entry further on is an error when it is its turn. */
		if (extent_of(q, l1e, td_get_be64(s->data + idx * 8), guest_off + e.len, &more) < 0 ||
		    !continues(&e, &more))
			break;
		e.len += more.len;
	}
	e.len = TD_MIN(e.len, len);
	*ret = e;
	return 0;
}

int qcow2_map(struct qcow2 *q, uint64_t guest_off, uint64_t len, struct qcow2_extent *ret)
{
	struct qcow2_slice *s = NULL;
	struct qcow2_l1e l1e;
	uint64_t idx = 0;
	int r = q->sealed ? -ENOTSUP : slice_of(q, guest_off, &l1e, &s, &idx);

	if (r == 0 && !s) {
		*ret = (struct qcow2_extent){ .kind = QCOW2_HOLE };
		ret->len = TD_MIN(len, qcow2_to_table_end(q, guest_off));
		return 0;
	}
	if (r == 0)
		r = map_slice(q, &l1e, s, idx, guest_off, len, ret);
	return r == -EUCLEAN ? qcow2_corrupt(q) : r;
}

int qcow2_map_far(struct qcow2 *q, uint64_t guest_off, uint64_t len, struct qcow2_extent *ret)
{
	struct qcow2_extent e = { 0 }, more = { 0 };
	int r = qcow2_map(q, guest_off, len, &e);

	while (r == 0 && e.len < len && e.kind != QCOW2_PACKED &&
	       qcow2_in_cluster(q, guest_off + e.len) == 0) {
		/* What goes wrong further on is answered when it is its turn. */
		if (qcow2_map(q, guest_off + e.len, len - e.len, &more) < 0 || !continues(&e, &more))
			break;
		e.len += more.len;
	}
	if (r == 0)
		*ret = e;
	return r;
}

bool qcow2_map_in_place_hint(struct qcow2 *q, uint64_t guest_off)
{
	struct qcow2_slice *s;
	struct qcow2_l1e l1e;
	struct qcow2_l2e e;

	if (l1_get(q, guest_off, &l1e) < 0)
		return true;
	if (!l1e.present || !l1e.copied)
		return false;
	s = qcow2_cache_peek(&q->l2, slice_off(q, &l1e, guest_off));
	if (!s ||
	    qcow2_l2e_decode(&q->g, q->h.version, td_get_be64(s->data + in_slice(q, guest_off) * 8), &e) < 0)
		return true;
	return e.kind == QCOW2_DATA && e.copied;
}

bool qcow2_map_packed_hint(struct qcow2 *q, uint64_t guest_off, struct qcow2_extent *ret)
{
	struct qcow2_slice *s;
	struct qcow2_l1e l1e;

	if (q->sealed || l1_get(q, guest_off, &l1e) < 0 || !l1e.present)
		return false;
	s = qcow2_cache_peek(&q->l2, slice_off(q, &l1e, guest_off));
	return s &&
	       extent_of(q, &l1e, td_get_be64(s->data + in_slice(q, guest_off) * 8), guest_off, ret) == 0 &&
	       ret->kind == QCOW2_PACKED;
}

int qcow2_l2_present(struct qcow2 *q, uint64_t guest_off, bool *ret)
{
	struct qcow2_l1e e;
	int r = l1_get(q, guest_off, &e);

	if (r < 0)
		return r;
	*ret = e.present;
	return 0;
}

/* ---- making an L2 table ours ---- */

/*
 * Copy a shared L2 table.  Whatever its entries say of being ours alone was about the table we copy from: in the copy
 * nothing is ours until it is written anew.  In a data file everything is ours, and at its beginning nothing else says
 * that something is there.
 */
static int copy_table(struct qcow2 *q, uint64_t from, uint64_t to)
{
	size_t len = TD_MIN(q->g.cluster_size, (uint64_t)COPY_BYTES);
	uint8_t *buf = td_buf_alloc(len);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0; r == 0 && at < q->g.cluster_size; at += len) {
		r = td_image_pread(q->child, from + at, buf, len, TD_EXACT);
		if (r < 0)
			break;
		for (size_t i = 0; i < len; i += 8) {
			uint64_t raw = td_get_be64(buf + i);

			if (!(raw & QCOW2_L2_COMPRESSED) && !q->g.data_file)
				td_put_be64(buf + i, raw & ~QCOW2_COPIED);
		}
		r = td_image_pwrite(q->child, to + at, buf, len, 0);
	}
	if (buf)
		td_buf_free(buf, len);
	return r;
}

/*
 * The table is written as a whole before L1 names it in memory, so a commit that has the L1 sector also has a barrier
 * behind that write.
 */
static int replace_table(struct qcow2 *q, uint64_t guest_off, const struct qcow2_l1e *old)
{
	struct qcow2_l1e e = { .present = true, .copied = true };
	struct qcow2_run run;
	int r = qcow2_alloc_locked(q, 1, &run);

	if (r < 0)
		return r;
	qcow2_cache_forget(&q->l2, run.host_off, q->g.cluster_size);
	qcow2_cache_forget(&q->refs, run.host_off, q->g.cluster_size);
	if (old->present)
		r = copy_table(q, old->host_off, run.host_off);
	else /* also if it is fresh: a commit of what the guest was told is written must find its space there */
		r = td_image_zero(q->child, run.host_off, q->g.cluster_size, 0);
	if (r == 0)
		r = qcow2_frees_reserve(&q->pending, 1);
	if (r == 0)
		r = qcow2_overlap_add(q, run.host_off, q->g.cluster_size);
	if (r < 0) {
		qcow2_alloc_undo_locked(q, &run);
		return r;
	}
	e.host_off = run.host_off;
	qcow2_table_set(&q->l1, l1_index(q, guest_off), qcow2_l1e_encode(&e));
	if (old->present) {
		qcow2_overlap_del(q, old->host_off, q->g.cluster_size);
		qcow2_cache_forget(&q->l2, old->host_off, q->g.cluster_size);
		qcow2_frees_add(&q->pending, old->host_off >> q->g.cluster_bits, 1);
	}
	return 0;
}

int qcow2_l2_own(struct qcow2 *q, uint64_t guest_off)
{
	struct qcow2_l1e e;
	int r = l1_get(q, guest_off, &e);

	if (r == 0 && e.present && e.copied)
		return 0;
	if (r < 0)
		return r == -EUCLEAN ? qcow2_corrupt(q) : r;
	r = qcow2_begin_alloc(q);
	if (r < 0)
		return r;
	td_mutex_lock(&q->alloc_lock);
	r = l1_get(q, guest_off, &e); /* somebody may have been faster */
	if (r == 0 && !(e.present && e.copied))
		r = replace_table(q, guest_off, &e);
	td_mutex_unlock(&q->alloc_lock);
	return r == -EUCLEAN ? qcow2_corrupt(q) : r;
}

/* ---- changing entries ---- */

/* What the entry becomes, of `to` for the first of the clusters.  *ret_drop: what it pointed at loses a reference. */
static void new_entry(const struct qcow2_l2e *old, const struct qcow2_l2e *to, uint64_t ahead,
		      struct qcow2_l2e *ret, bool *ret_drop)
{
	bool had = old->kind != QCOW2_HOLE && old->kind != QCOW2_ZERO;

	*ret = (struct qcow2_l2e){ .kind = to->kind };
	*ret_drop = had;
	if (to->kind == QCOW2_PACKED) {
		*ret = *to;
	} else if (to->kind == QCOW2_DATA) {
		ret->host_off = to->host_off + ahead;
		ret->copied = true;
		*ret_drop = had && !(old->kind != QCOW2_PACKED && old->host_off == ret->host_off);
	} else if (to->kind == QCOW2_ZERO_ALLOC) {
		if (had && old->copied) {
			ret->host_off = old->host_off;
			ret->copied = true;
			*ret_drop = false;
		} else {
			ret->kind = QCOW2_ZERO;
		}
	}
}

/*
 * No yield in here: a commit sees all of it, and what it drops, or nothing.  A kill may leave the first of them set,
 * each as a whole: their data is written and counted.
 */
static void link_entries(struct qcow2 *q, struct qcow2_slice *s, uint64_t idx, uint64_t nr,
			 const struct qcow2_l2e *to)
{
	qcow2_cache_mark(&q->l2, s, idx * sizeof(uint64_t), nr * sizeof(uint64_t));
	for (uint64_t i = 0; i < nr; i++) {
		uint8_t *raw = s->data + (idx + i) * 8;
		struct qcow2_l2e old, e;
		bool drop;

		if (qcow2_l2e_decode(&q->g, q->h.version, td_get_be64(raw), &old) < 0)
			continue; /* all were looked at before */
		new_entry(&old, to, i << q->g.cluster_bits, &e, &drop);
		qcow2_put_entry(raw, qcow2_l2e_encode(&q->g, &e));
		if (drop)
			qcow2_frees_add_entry(&q->pending, &q->g, &old);
	}
	if (to->kind == QCOW2_DATA || to->kind == QCOW2_PACKED)
		q->l2_depends = true;
	if (q->pending.nr > QCOW2_FREES_MAX)
		qcow2_commit_soon(q);
}

static int check_entries(const struct qcow2 *q, const struct qcow2_slice *s, uint64_t idx, uint64_t nr)
{
	struct qcow2_l2e e;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < nr; i++)
		r = qcow2_l2e_decode(&q->g, q->h.version, td_get_be64(s->data + (idx + i) * 8), &e);
	return r;
}

static int link_all(struct qcow2 *q, uint64_t guest_off, uint64_t nr, const struct qcow2_l2e *to)
{
	struct qcow2_slice *s = NULL;
	struct qcow2_l1e l1e;
	uint64_t idx = 0;
	int r = qcow2_begin_alloc(q);

	if (r == 0)
		r = slice_of(q, guest_off, &l1e, &s, &idx);
	if (r == 0 && (!s || !l1e.copied || nr > slice_entries(q) - idx))
		r = -EIO; /* the caller made no table of its own: a bug, kept away from the disk */
	if (r == 0)
		r = check_entries(q, s, idx, nr);
	if (r == 0)
		r = qcow2_frees_reserve(&q->pending, nr);
	if (r == 0)
		link_entries(q, s, idx, nr, to);
	return r == -EUCLEAN ? qcow2_corrupt(q) : r;
}

int qcow2_l2_link(struct qcow2 *q, uint64_t guest_off, uint64_t nr, enum qcow2_kind kind, uint64_t host_off)
{
	const struct qcow2_l2e to = { .kind = kind, .host_off = host_off };

	return link_all(q, guest_off, nr, &to);
}

int qcow2_l2_link_packed(struct qcow2 *q, uint64_t guest_off, uint64_t host_off, uint64_t len)
{
	const struct qcow2_l2e to = { .kind = QCOW2_PACKED, .host_off = host_off, .packed_len = len };

	return link_all(q, guest_off, 1, &to);
}
