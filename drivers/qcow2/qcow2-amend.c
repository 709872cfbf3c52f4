// SPDX-License-Identifier: BSD-2-Clause
/*
 * Changing what create was told: the version, lazy refcounts, the width of refcounts.
 *
 * First it is looked whether all of it can be done, and only then anything is changed, in an order in which each step
 * leaves an image that is right: to version 3 before what only that one has, back to version 2 last.  Each step is one
 * write of the header's sector; what has to be so before it is brought about by the same means as any write of a guest.
 *
 *	to version 3	entries of the snapshot table get what version 3 asks for
 *	lazy or not	all refcounts are on the disk
 *	refcount width	new blocks and a new table beside the old ones (qcow2-shadow.h)
 *	to version 2	clusters that say zeros become holes, or zeros written over a backing file
 */
#include "qcow2-bitmap.h"
#include "qcow2-crypt.h"
#include "qcow2-shadow.h"

#define V2_ORDER 4u /* refcounts of 16 bits */

struct amend {
	struct qcow2 *q;
	uint32_t version, order;
	bool lazy;
	struct qcow2_crypt_change crypt;
	const struct td_progress *progress;
	struct td_err *err;
};

/* ---- can it be? ---- */

static int refuse_v2(const struct amend *a, const char *what)
{
	return td_err_set(a->err, -ENOTSUP, "%s: compat=0.10 has no %s", a->q->im->name, what);
}

static bool any_zero(const struct qcow2 *q, const uint8_t *table)
{
	for (uint64_t i = 0; i < q->g.cluster_size; i += sizeof(uint64_t)) {
		uint64_t raw = td_get_be64(table + i);

		if (!(raw & QCOW2_L2_COMPRESSED) && (raw & QCOW2_L2_ZERO))
			return true;
	}
	return false;
}

static int check_snap_tables(const struct amend *a, struct qcow2_walker *w, const struct qcow2_table *l1)
{
	uint8_t *table;
	int r = 0;

	for (size_t i = 0; r == 0 && i < l1->nr; i++) {
		uint64_t off = qcow2_table_get(l1, i) & QCOW2_OFF_MASK;

		if (off == 0)
			continue;
		r = qcow2_walker_table(w, off, &table);
		if (r == 0 && table && any_zero(a->q, table))
			r = refuse_v2(a, "clusters that say zeros, which a snapshot has (delete it first)");
	}
	return r;
}

static int check_snap(const struct amend *a, struct qcow2_walker *w, const struct qcow2_snap *s)
{
	struct qcow2_table l1;
	int r = qcow2_table_load(a->q, s->l1_off, s->l1_size, &l1);

	if (r < 0)
		return r;
	r = check_snap_tables(a, w, &l1);
	qcow2_table_done(&l1);
	return r;
}

static int check_snap_sizes(const struct amend *a)
{
	struct td_snaps list = { 0 };
	int r = qcow2_snapshots(a->q->im, &list, a->err);

	for (size_t i = 0; r == 0 && i < list.nr; i++) {
		if (list.at[i].disk_size != a->q->im->size)
			r = refuse_v2(a, "snapshots of a disk of another size");
		else if (list.at[i].vm_state_size > UINT32_MAX)
			r = refuse_v2(a, "snapshots with a machine's state of 4 GiB or more");
	}
	td_snaps_done(&list);
	return r;
}

static int check_snaps(const struct amend *a)
{
	struct qcow2_walker w = { 0 };
	int r = check_snap_sizes(a);

	if (r < 0 || a->q->nr_snaps == 0)
		return r;
	r = qcow2_walker_init(&w, a->q, a->progress);
	for (uint32_t i = 0; r == 0 && i < a->q->nr_snaps; i++)
		r = check_snap(a, &w, &a->q->snaps[i]);
	qcow2_walker_done(&w);
	return r;
}

static int check_v2(const struct amend *a)
{
	const struct qcow2_header *h = &a->q->h;

	if (a->order != V2_ORDER)
		return refuse_v2(a, "refcounts of another width than 16 bits (say refcount_bits=16, too)");
	if (a->lazy)
		return refuse_v2(a, "lazy refcounts (say lazy_refcounts=off, too)");
	if (h->compression != QCOW2_DEFLATE)
		return refuse_v2(a, "compression but zlib");
	if (a->q->g.data_file)
		return refuse_v2(a, "external data files");
	if (h->incompatible & ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_COMPRESSION))
		return refuse_v2(a, "such features");
	if (h->crypt == QCOW2_CRYPT_LUKS)
		return refuse_v2(a, "LUKS encryption");
	if (a->q->bitmaps && a->q->bitmaps->nr > 0)
		return refuse_v2(a, "dirty bitmaps (tap-img bitmap --remove)");
	if (h->header_len > QCOW2_HEADER_KNOWN)
		return refuse_v2(a, "header fields that are not known here");
	return h->version == 3 ? check_snaps(a) : 0;
}

static int check_width(const struct amend *a)
{
	struct qcow2_header h = a->q->h;
	struct qcow2_geom g;

	h.refcount_order = a->order;
	qcow2_geom_of(&h, &g);
	if (a->q->end > g.max_host >> g.cluster_bits)
		return td_err_set(a->err, -EFBIG, "%s: too large for refcounts of %u bits", a->q->im->name,
				  g.refcount_bits);
	if (g.refcount_bits == 1 && a->q->nr_snaps > 0)
		return td_err_set(a->err, -ERANGE,
				  "%s: refcounts of 1 bit cannot count what its snapshots share",
				  a->q->im->name);
	return 0;
}

static int check(const struct amend *a)
{
	int r = a->version < 3 ? check_v2(a) : 0;

	return r == 0 ? check_width(a) : r;
}

/* ---- lazy refcounts ---- */

static void set_lazy(struct qcow2_header *h, const void *arg)
{
	const struct amend *a = arg;

	if (a->lazy) {
		h->compatible |= QCOW2_COMPAT_LAZY;
	} else {
		h->compatible &= ~QCOW2_COMPAT_LAZY;
		h->incompatible &= ~QCOW2_INCOMPAT_DIRTY;
	}
}

static int switch_lazy(const struct amend *a)
{
	struct qcow2 *q = a->q;
	int r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);

	if (r == 0)
		r = qcow2_header_switch(q, set_lazy, a);
	if (r == 0) {
		q->lazy = a->lazy;
		q->dirty_marked = a->lazy && q->dirty_marked;
	}
	return r;
}

/* Whoever allocates looks first whether counts are lazy: nobody may be between that and the entry that counts on it. */
static int change_lazy(const struct amend *a)
{
	struct td_range range;
	int r;

	if (a->lazy == a->q->lazy)
		return 0;
	td_range_lock(&a->q->ranges, &range, 0, INT64_MAX, TD_RANGE_EXCLUSIVE);
	r = switch_lazy(a);
	td_range_unlock(&a->q->ranges, &range);
	return r;
}

/* ---- the width of refcounts ---- */

static int write_counts(const struct amend *a, struct qcow2_shadow *s)
{
	struct qcow2_header h = a->q->h;
	int r;

	h.refcount_order = s->refcount_order = a->order;
	qcow2_geom_of(&h, &s->g);
	r = qcow2_shadow_count(s);
	if (r == 0)
		r = qcow2_shadow_switch(s, NULL, NULL);
	return r == 0 ? qcow2_shadow_use(s) : r;
}

static int change_width(const struct amend *a)
{
	struct qcow2_shadow s;
	int r;

	if (a->order == a->q->h.refcount_order)
		return 0;
	r = qcow2_shadow_begin(&s, a->q, a->progress);
	/* What is kept says which width it is of; all is on the disk now. */
	td_keep_give_up(a->q->keep, 0);
	if (r == 0)
		r = write_counts(a, &s);
	qcow2_shadow_end(&s);
	if (r == -ERANGE)
		return td_err_set(a->err, r, "%s: a cluster has more references than %u bits can say",
				  a->q->im->name, 1u << a->order);
	return r;
}

/* ---- the version ---- */

static int write_zeros(struct qcow2 *q, uint64_t off, uint64_t len)
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

#define PIECE (1u << 20)

/* A cluster that says zeros: without a backing file a hole says the same. */
static int without_zeros(struct qcow2 *q, uint64_t off, uint64_t len)
{
	struct td_range range;
	int r;

	if (q->h.backing_len > 0)
		return write_zeros(q, off, TD_MIN(len, q->im->size - off));
	td_range_lock(&q->ranges, &range, off, len, TD_RANGE_EXCLUSIVE);
	r = qcow2_l2_own(q, off);
	if (r == 0)
		r = qcow2_l2_link(q, off, len, QCOW2_HOLE, 0);
	td_range_unlock(&q->ranges, &range);
	if (r == 0 && q->pending.nr > QCOW2_FREES_MAX)
		r = qcow2_commit(q, 0);
	return r;
}

static int drop_zeros(const struct amend *a)
{
	struct qcow2 *q = a->q;
	int r = 0;

	for (uint64_t at = 0, len; r == 0 && at < q->im->size; at += len) {
		struct qcow2_extent e = { 0 };

		r = qcow2_map(q, at, q->im->size - at, &e);
		len = TD_MIN(e.len, qcow2_to_slice_end(q, at));
		if (r == 0 && (e.kind == QCOW2_ZERO || e.kind == QCOW2_ZERO_ALLOC)) {
			len = TD_MIN(len, TD_MAX((uint64_t)PIECE, q->g.cluster_size));
			r = without_zeros(q, at, len);
		}
		if (a->progress)
			a->progress->fn(a->progress, at, q->im->size);
	}
	return r == 0 ? qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER) : r;
}

static int change_version(const struct amend *a)
{
	struct qcow2 *q = a->q;
	const struct qcow2_extensions same = { .keep_backing = true, .version = a->version };
	int r = a->version < 3 ? drop_zeros(a) : qcow2_snapshots_complete(q, a->err);

	/* What is kept says which version it is of: a kill behind the header must not leave it. */
	if (r == 0) {
		td_keep_give_up(q->keep, 0);
		r = qcow2_extensions_change(q, &same);
	}
	if (r == -ENOSPC)
		return td_err_set(a->err, r, "%s: a longer header does not fit before what stands behind it",
				  q->im->name);
	if (r < 0)
		return r;
	q->im->limits.zero_efficient = q->h.version >= 3 || q->h.backing_len == 0;
	return 0;
}

/* ---- all of it ---- */

static int change(const struct amend *a)
{
	int r = qcow2_begin_write(a->q, 0, 0);

	if (r == 0 && a->version > a->q->h.version)
		r = change_version(a);
	if (r == 0)
		r = change_lazy(a);
	if (r == 0)
		r = change_width(a);
	if (r == 0 && a->version < a->q->h.version)
		r = change_version(a);
	if (r == 0 && a->crypt.asked)
		r = qcow2_crypt_change(a->q, &a->crypt, a->err);
	return r;
}

static int read_wish(struct amend *a, struct td_opts *opts)
{
	struct qcow2 *q = a->q;
	int r = qcow2_read_compat(opts, &a->version, a->err);

	if (r == 0)
		r = td_opts_bool(opts, "lazy_refcounts", &a->lazy, a->err);
	if (r == 0)
		r = qcow2_read_pow2(opts, "refcount_bits", q->g.refcount_bits, &a->order, a->err);
	if (r == 0 && a->order > QCOW2_MAX_REFCOUNT_ORDER)
		r = td_err_set(a->err, -EINVAL, "refcount_bits: 1, 2, 4, 8, 16, 32 or 64");
	if (r == 0)
		r = qcow2_crypt_wished(q, opts, &a->crypt, a->err);
	return r == 0 ? td_opts_none_unused(opts, "tap-img amend of qcow2", a->err) : r;
}

static int amend(const struct amend *a)
{
	struct td_err *err = a->err;
	int r;

	td_co_guard(&a->q->shape_lock);
	if (err)
		err->msg[0] = '\0';
	r = check(a);
	if (r == 0)
		r = change(a);
	if (r < 0 && err && err->msg[0] == '\0')
		td_err_set(err, r, "%s: cannot be amended: %s", a->q->im->name, strerror(-r));
	return r;
}

int qcow2_amend(struct td_image *im, struct td_opts *opts, const struct td_progress *progress,
		struct td_err *ret_err)
{
	struct qcow2 *q = im->state;
	struct amend a = { .q = q,
			   .version = q->h.version,
			   .order = q->h.refcount_order,
			   .lazy = q->lazy,
			   .progress = progress,
			   .err = ret_err };
	int r = read_wish(&a, opts);

	if (r == 0)
		r = amend(&a);
	qcow2_crypt_change_done(&a.crypt);
	return r;
}
