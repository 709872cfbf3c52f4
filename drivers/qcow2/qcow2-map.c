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
	return q->l2.slice_bits - q->g.l2_entry_bits;
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

static uint8_t *entry_at(const struct qcow2 *q, const struct qcow2_slice *s, uint64_t idx)
{
	return s->data + (idx << q->g.l2_entry_bits);
}

/* Does b follow a directly, in the guest and on the host? */
static bool continues(const struct qcow2_extent *a, const struct qcow2_extent *b)
{
	if (a->kind != b->kind || a->owned != b->owned || a->kind == QCOW2_PACKED)
		return false;
	if ((a->kind == QCOW2_HOLE || a->kind == QCOW2_ZERO) && !a->owned)
		return true;
	return a->host_off + a->len == b->host_off;
}

static int map_slice(const struct qcow2 *q, const struct qcow2_l1e *l1e, const struct qcow2_slice *s,
		     uint64_t idx, uint64_t guest_off, uint64_t len, struct qcow2_extent *ret)
{
	uint64_t in = qcow2_in_cluster(q, guest_off), next;
	struct qcow2_extent e = { 0 }, more = { 0 };
	int r = qcow2_entry_extent(q, l1e->copied, entry_at(q, s, idx), guest_off, &e);

	if (r < 0)
		return r;
	while (e.len < len && (next = idx + ((in + e.len) >> q->g.cluster_bits)) < slice_entries(q)) {
		/* A bad entry further on is an error when it is its turn. */
		if (qcow2_entry_extent(q, l1e->copied, entry_at(q, s, next), guest_off + e.len, &more) < 0 ||
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

	if (l1_get(q, guest_off, &l1e) < 0)
		return true;
	if (!l1e.present || !l1e.copied)
		return false;
	s = qcow2_cache_peek(&q->l2, slice_off(q, &l1e, guest_off));
	return !s || qcow2_entry_in_place(q, entry_at(q, s, in_slice(q, guest_off)), guest_off);
}

bool qcow2_map_packed_hint(struct qcow2 *q, uint64_t guest_off, struct qcow2_extent *ret)
{
	struct qcow2_slice *s;
	struct qcow2_l1e l1e;

	if (q->sealed || l1_get(q, guest_off, &l1e) < 0 || !l1e.present)
		return false;
	s = qcow2_cache_peek(&q->l2, slice_off(q, &l1e, guest_off));
	return s &&
	       qcow2_entry_extent(q, l1e.copied, entry_at(q, s, in_slice(q, guest_off)), guest_off, ret) ==
		       0 &&
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
		for (size_t i = 0; i < len; i += 1u << q->g.l2_entry_bits) {
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

/* What changes: bytes from the first cluster's start on, in its entry and those after it. */
struct change {
	uint64_t idx, nr;    /* entries of the slice */
	uint64_t start, end; /* bytes */
	struct qcow2_l2e to; /* of the first cluster */
};

/* A bit for each subcluster of the nth entry that changes. */
static uint32_t subs_of(const struct qcow2 *q, const struct change *c, uint64_t n)
{
	uint64_t at = n << q->g.cluster_bits, from, to;

	from = (TD_MAX(c->start, at) - at) >> q->g.sub_bits;
	to = TD_MIN(td_div_up(c->end - at, 1ull << q->g.sub_bits), q->g.cluster_size >> q->g.sub_bits);
	return (uint32_t)(((1ull << to) - 1) & ~((1ull << from) - 1));
}

static struct qcow2_l2e nth(const struct qcow2 *q, const struct change *c, uint64_t n)
{
	struct qcow2_l2e to = c->to;

	if (to.kind == QCOW2_DATA)
		to.host_off += n << q->g.cluster_bits;
	return to;
}

/*
 * No yield in here: a commit sees all of it, and what it drops, or nothing.  A kill may leave the first of them set,
 * each as a whole: their data is written and counted.
 */
static void link_entries(struct qcow2 *q, struct qcow2_slice *s, const struct change *c)
{
	size_t size = 1u << q->g.l2_entry_bits;

	qcow2_cache_mark(&q->l2, s, c->idx * size, c->nr * size);
	for (uint64_t i = 0; i < c->nr; i++) {
		struct qcow2_l2e old, to = nth(q, c, i);

		if (qcow2_entry_put(q, entry_at(q, s, c->idx + i), &to, subs_of(q, c, i), &old))
			qcow2_frees_add_entry(&q->pending, &q->g, &old);
	}
	if (c->to.kind == QCOW2_DATA || c->to.kind == QCOW2_PACKED)
		q->l2_depends = true;
	if (q->pending.nr > QCOW2_FREES_MAX)
		qcow2_commit_soon(q);
}

static int check_entries(const struct qcow2 *q, const struct qcow2_slice *s, const struct change *c)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < c->nr; i++) {
		struct qcow2_l2e to = nth(q, c, i);

		r = qcow2_entry_check(q, entry_at(q, s, c->idx + i), &to, subs_of(q, c, i));
	}
	return r;
}

static int link_all(struct qcow2 *q, uint64_t guest_off, uint64_t len, const struct qcow2_l2e *to)
{
	struct change c = { .start = qcow2_in_cluster(q, guest_off), .to = *to };
	struct qcow2_slice *s = NULL;
	struct qcow2_l1e l1e;
	int r = qcow2_begin_alloc(q);

	c.end = c.start + len;
	c.nr = td_div_up(c.end, q->g.cluster_size);
	if (r == 0)
		r = slice_of(q, guest_off, &l1e, &s, &c.idx);
	if (r == 0 && (!s || !l1e.copied || c.nr > slice_entries(q) - c.idx))
		r = -EIO; /* the caller made no table of its own: a bug, kept away from the disk */
	if (r == 0)
		r = check_entries(q, s, &c);
	if (r == 0)
		r = qcow2_frees_reserve(&q->pending, c.nr);
	if (r == 0)
		link_entries(q, s, &c);
	return r == -EUCLEAN ? qcow2_corrupt(q) : r;
}

int qcow2_l2_link(struct qcow2 *q, uint64_t guest_off, uint64_t len, enum qcow2_kind kind, uint64_t host_off)
{
	const struct qcow2_l2e to = { .kind = kind, .host_off = qcow2_cluster_start(q, host_off) };

	return link_all(q, guest_off, len, &to);
}

int qcow2_l2_link_packed(struct qcow2 *q, uint64_t guest_off, uint64_t host_off, uint64_t len)
{
	const struct qcow2_l2e to = { .kind = QCOW2_PACKED, .host_off = host_off, .packed_len = len };

	return link_all(q, guest_off, q->g.cluster_size, &to);
}
