// SPDX-License-Identifier: BSD-2-Clause
/*
 * The qcow2 driver, versions 2 and 3: opening, closing, facts, and the table.  README.md beside this file says how the
 * other files work together.
 */
#include <inttypes.h>
#include <stdio.h>

#include "qcow2-data.h"

static int qcow2_probe(const void *head, size_t len)
{
	const uint8_t *p = head;
	uint32_t version;

	if (len < 8 || td_get_be32(p) != QCOW2_MAGIC)
		return 0;
	version = td_get_be32(p + 4);
	return version == 2 || version == 3 ? 100 : 0;
}

/* ---- open ---- */

static int caches_init(struct qcow2 *q, struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t l2 = QCOW2_L2_CACHE_DEFAULT, refs = QCOW2_REFCOUNT_CACHE_DEFAULT;
	int r = td_opts_size(opts, "l2-cache", &l2, ret_err);

	if (r == 0)
		r = td_opts_size(opts, "refcount-cache", &refs, ret_err);
	if (r < 0)
		return r;
	r = qcow2_cache_init(&q->l2, q, l2, qcow2_commit, 0);
	if (r == 0)
		r = qcow2_cache_init(&q->refs, q, refs, qcow2_commit, QCOW2_COMMIT_REFS);
	return r < 0 ? td_err_set(ret_err, r, "no memory for the metadata caches") : 0;
}

static int load_error(int r, const char *what, struct td_err *ret_err)
{
	if (r == -EUCLEAN)
		return td_err_set(ret_err, r, "the %s does not lie inside the file, or is damaged", what);
	return td_err_set(ret_err, r, "cannot read the %s: %s", what, strerror(-r));
}

/* What there is of them; check says what is wrong.  A refcount table that cannot be read is an empty one. */
static int tables_load_damaged(struct qcow2 *q, struct td_err *ret_err)
{
	uint64_t len = (uint64_t)q->h.reftable_clusters << q->g.cluster_bits;
	int r = qcow2_table_load_some(q, q->h.l1_off, q->h.l1_size, &q->l1, &q->l1_cut);

	if (r < 0)
		return load_error(r, "L1 table", ret_err);
	if (q->im->read_only || len > QCOW2_MAX_REFTABLE_BYTES)
		return 0;
	r = qcow2_table_load(q, q->h.reftable_off, len / sizeof(uint64_t), &q->reftable);
	return r < 0 && r != -EUCLEAN ? load_error(r, "refcount table", ret_err) : 0;
}

/* Who only reads needs L1 alone. */
static int tables_load(struct qcow2 *q, struct td_err *ret_err)
{
	uint64_t entries = (uint64_t)q->h.reftable_clusters * (q->g.cluster_size / sizeof(uint64_t));
	int r;

	if (q->im->flags & TD_OPEN_CHECK)
		return tables_load_damaged(q, ret_err);
	r = qcow2_table_load(q, q->h.l1_off, q->h.l1_size, &q->l1);
	if (r < 0)
		return load_error(r, "L1 table", ret_err);
	if (q->im->read_only)
		return 0;
	r = qcow2_table_load(q, q->h.reftable_off, entries, &q->reftable);
	return r < 0 ? load_error(r, "refcount table", ret_err) : 0;
}

/*
 * Where metadata is, for who writes.  Check and repair count it anew, and bear what is wrong with it; but not before
 * what a killed process left is in an image that is right.
 */
static int find_metadata(struct qcow2 *q, struct td_err *ret_err)
{
	int r = 0;

	if ((q->im->flags & TD_OPEN_CHECK) && !q->old)
		return 0;
	if (!q->im->read_only)
		r = qcow2_snaps_load(q);
	return r < 0 ? load_error(r, "snapshot table", ret_err) : qcow2_overlap_open(q, ret_err);
}

/* Whoever checks looks at all that names a cluster anyway; nobody asks a backing image. */
static bool wants_bitmaps(const struct qcow2 *q)
{
	if ((q->im->flags & TD_OPEN_BACKING) || q->past)
		return false;
	return q->im->read_only || !(q->im->flags & TD_OPEN_CHECK);
}

static void set_limits(struct qcow2 *q)
{
	struct td_image *im = q->im;

	im->size = q->h.size;
	im->limits = q->data->limits;
	im->limits.block_size = TD_MAX(im->limits.block_size, q->child->limits.block_size);
	im->limits.mem_align = TD_MAX(im->limits.mem_align, q->child->limits.mem_align);
	im->limits.max_transfer = 0;
	im->limits.cluster_size = (uint32_t)q->g.cluster_size;
	im->limits.trim_granularity = (uint32_t)qcow2_sub_size(q);
	im->limits.zero_efficient = (q->h.version >= 3 || q->h.backing_len == 0) &&
				    (!q->data_raw || q->data->limits.zero_efficient);
	im->limits.compresses = !q->h.crypt && !q->g.data_file;
}

static void state_init(struct qcow2 *q, struct td_image *im)
{
	q->im = im;
	q->child = q->data = im->child;
	td_ranges_init(&q->ranges);
	qcow2_frees_init(&q->pending);
	qcow2_frees_init(&q->ready);
	STAILQ_INIT(&q->committers);
	im->read_only = im->child->read_only || (im->flags & (TD_OPEN_RDONLY | TD_OPEN_BACKING));
}

static void state_done(struct qcow2 *q)
{
	qcow2_crypt_done(q);
	qcow2_packed_done(q);
	qcow2_pack_done(q);
	qcow2_cache_done(&q->l2);
	qcow2_cache_done(&q->refs);
	qcow2_table_done(&q->l1);
	qcow2_table_done(&q->reftable);
	qcow2_set_done(&q->meta);
	qcow2_frees_done(&q->pending);
	qcow2_frees_done(&q->ready);
	qcow2_adopt_done(q);
	qcow2_bitmaps_done(q);
	free(q->snaps);
	free(q->snap_areas);
	q->snaps = NULL;
	q->snap_areas = NULL;
}

/* A disk as it was is only looked at. */
static int open_tables(struct qcow2 *q, struct td_opts *opts, struct td_err *ret_err)
{
	const char *snapshot = td_opts_get(opts, "snapshot");
	int r;

	if (snapshot)
		q->im->read_only = true;
	r = tables_load(q, ret_err);
	if (r == 0)
		r = qcow2_adopt_look(q, opts, ret_err);
	return r == 0 && snapshot ? qcow2_snapshot_open(q, snapshot, ret_err) : r;
}

/*
 * Each step needs those before it: the header, the data file that it names, the key, the tables.  What a killed process
 * left goes into the image before anything else is written, a repair included.
 */
static int open_state(struct qcow2 *q, struct td_opts *opts, struct td_err *ret_err)
{
	int r = qcow2_bitmaps_init(q);

	if (r < 0)
		return td_err_set(ret_err, r, "no memory");
	r = qcow2_header_load(q, ret_err);
	if (r == 0)
		r = qcow2_data_open(q, ret_err);
	if (r == 0)
		r = qcow2_crypt_open(q, opts, ret_err);
	if (r == 0)
		r = caches_init(q, opts, ret_err);
	if (r == 0)
		r = open_tables(q, opts, ret_err);
	if (r == 0 && !q->im->read_only && qcow2_keeper_start(q) < 0)
		r = td_err_set(ret_err, -ENOMEM, "no memory for a coroutine");
	if (r == 0)
		r = find_metadata(q, ret_err);
	if (r == 0 && wants_bitmaps(q))
		r = qcow2_bitmaps_open(q, ret_err);
	if (r == 0)
		r = qcow2_adopt_write(q, ret_err);
	if (r < 0)
		return r;
	set_limits(q);
	q->end = td_div_up(q->child->size, q->g.cluster_size);
	q->lazy = q->h.version >= 3 && (q->h.compatible & QCOW2_COMPAT_LAZY);
	q->dirty_marked = q->h.incompatible & QCOW2_INCOMPAT_DIRTY;
	if (!q->im->read_only && !(q->im->flags & TD_OPEN_CHECK))
		qcow2_keep_start(q);
	if (q->dirty_marked && !q->im->read_only && !(q->im->flags & TD_OPEN_CHECK))
		r = qcow2_repair(q, ret_err);
	return r;
}

static int qcow2_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct qcow2 *q = im->state;
	int r;

	state_init(q, im);
	r = open_state(q, opts, ret_err);
	if (r < 0) {
		qcow2_keeper_end(q);
		state_done(q);
		td_ignore(qcow2_data_close(q)); /* the first error is the one to tell */
		td_keep_free(q->keep, true);    /* nothing was answered yet */
		free(im->backing_path);
		free(im->backing_format);
		im->backing_path = im->backing_format = NULL;
		return td_err_prefix(ret_err, r, "%s", im->name);
	}
	return 0;
}

/* ---- close ---- */

/* What was dropped comes back with a commit and changes refcounts again: two rounds at most. */
static int write_all_back(struct qcow2 *q)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 2; i++) {
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
		qcow2_keeper_wait(q);
		if (r == 0)
			r = qcow2_frees_reap(q);
	}
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	return r;
}

/* The disk is whole without them: whoever uses them finds them inconsistent and reads it all. */
static void store_bitmaps(struct qcow2 *q)
{
	char line[256];
	int r = qcow2_bitmaps_store(q);

	if (r == 0 || !q->im->env->notice)
		return;
	snprintf(line, sizeof(line), "%s: its dirty bitmaps cannot be stored and are inconsistent now: %s",
		 q->im->name, strerror(-r));
	q->im->env->notice(line);
}

/* The bitmaps after the disk: what they say has to cover all that is on it.  The dirty bit goes last of all. */
static int close_written(struct qcow2 *q)
{
	int r = write_all_back(q);

	if (r == 0 && qcow2_bitmaps_to_store(q)) {
		store_bitmaps(q);
		r = write_all_back(q);
	}
	if (r < 0)
		return r;
	if (q->grown && q->child->size > q->end << q->g.cluster_bits)
		/* Longer than needed is no harm. */
		td_ignore(td_image_resize(q->child, q->end << q->g.cluster_bits, TD_RESIZE_SHRINK, NULL));
	if (q->h.incompatible & QCOW2_INCOMPAT_DIRTY)
		r = qcow2_header_switch(q, qcow2_header_clean, NULL);
	return r;
}

static int qcow2_close(struct td_image *im)
{
	struct qcow2 *q = im->state;
	int r = 0, r2;

	qcow2_packed_quiet(q);
	qcow2_keeper_wait(q);
	if (!im->read_only && !im->frozen && !(im->flags & TD_OPEN_CHECK))
		r = close_written(q);
	qcow2_keeper_end(q);
	state_done(q);
	r2 = qcow2_data_close(q);
	r = r < 0 ? r : r2;
	/* What could not be written now may be written by who opens it next. */
	td_keep_free(q->keep, r == 0);
	return r;
}

/* Of an image that is made with these; of one that is there limits say it. */
static bool qcow2_compresses(struct td_opts *opts)
{
	bool sealed = td_opts_get(opts, "encrypt.format") != NULL;
	bool data_file = td_opts_get(opts, "data_file") != NULL;

	return !sealed && !data_file;
}

static int qcow2_write(struct td_image *im, uint64_t guest_off, const struct td_iov *iov, unsigned flags)
{
	return flags & TD_COMPRESS ? qcow2_pack_pwritev(im, guest_off, iov, flags)
				   : qcow2_pwritev(im, guest_off, iov, flags);
}

static int qcow2_flush(struct td_image *im)
{
	return qcow2_commit(im->state, QCOW2_COMMIT_BARRIER);
}

/* ---- facts ---- */

struct fact {
	const char *name;
	const char *value;
};

static int qcow2_info(struct td_image *im, struct td_opts *ret)
{
	const struct qcow2 *q = im->state;
	const struct qcow2_header *h = &q->h;
	char cluster[24], bits[24], snaps[24];
	/* Those that only version 3 has come last. */
	const struct fact facts[] = {
		{ "compat", h->version >= 3 ? "1.1" : "0.10" },
		{ "cluster-size", cluster },
		{ "refcount-bits", bits },
		{ "compression-type", h->compression == QCOW2_ZSTD ? "zstd" : "zlib" },
		{ "snapshots", snaps },
		{ "dirty", h->incompatible & QCOW2_INCOMPAT_DIRTY ? "true" : "false" },
		{ "lazy-refcounts", h->compatible & QCOW2_COMPAT_LAZY ? "true" : "false" },
		{ "corrupt", h->incompatible & QCOW2_INCOMPAT_CORRUPT ? "true" : "false" },
		{ "extended-l2", qcow2_is_extended(&q->g) ? "true" : "false" },
	};
	unsigned nr = h->version >= 3 ? TD_NELEMS(facts) : TD_NELEMS(facts) - 3;
	int r = 0;

	snprintf(cluster, sizeof(cluster), "%" PRIu64, q->g.cluster_size);
	snprintf(bits, sizeof(bits), "%" PRIu32, q->g.refcount_bits);
	snprintf(snaps, sizeof(snaps), "%" PRIu32, h->nr_snapshots);
	for (unsigned i = 0; r == 0 && i < nr; i++)
		r = td_opts_add(ret, facts[i].name, facts[i].value, NULL);
	if (r == 0 && q->data_name)
		r = td_opts_add(ret, "data-file", q->data_name, NULL);
	if (r == 0 && q->g.data_file)
		r = td_opts_add(ret, "data-file-raw", q->data_raw ? "true" : "false", NULL);
	return r < 0 ? r : qcow2_crypt_facts(q, ret);
}

struct cache_names {
	const char *hits, *misses, *evictions, *bytes, *dirty, *limit;
};

static void cache_counters(const struct qcow2_cache *c, const struct cache_names *n, struct td_counters *ret)
{
	td_counter(ret, n->hits, c->hits);
	td_counter(ret, n->misses, c->misses);
	td_counter(ret, n->evictions, c->evictions);
	td_counter(ret, n->bytes, (uint64_t)c->nr * c->slice_size);
	td_counter(ret, n->dirty, (uint64_t)c->nr_dirty * c->slice_size);
	td_counter(ret, n->limit, (uint64_t)c->limit * c->slice_size);
}

static void qcow2_counters(const struct td_image *im, struct td_counters *ret)
{
	static const struct cache_names l2 = { "l2_hits",  "l2_misses", "l2_evictions",
					       "l2_bytes", "l2_dirty",  "l2_limit" };
	static const struct cache_names refs = { "refcount_hits",  "refcount_misses", "refcount_evictions",
						 "refcount_bytes", "refcount_dirty",  "refcount_limit" };
	const struct qcow2 *q = im->state;

	cache_counters(&q->l2, &l2, ret);
	cache_counters(&q->refs, &refs, ret);
	qcow2_packed_counters(q, ret);
	td_counter(ret, "tables_bytes", q->l1.bytes + q->reftable.bytes);
	td_counter(ret, "kept", td_keep_holds(q->keep));
}

const struct td_driver td_qcow2 = {
	.name = "qcow2",
	.flags = TD_FORMAT | TD_KNOWS_FUA | TD_COMPRESSES,
	.state_size = sizeof(struct qcow2),
	.probe = qcow2_probe,
	.create = qcow2_create,
	.measure = qcow2_measure,
	.compresses = qcow2_compresses,
	.open = qcow2_open,
	.close = qcow2_close,
	.preadv = qcow2_preadv,
	.pwritev = qcow2_write,
	.zero = qcow2_zero,
	.trim = qcow2_trim,
	.flush = qcow2_flush,
	.extent = qcow2_extent_at,
	.resize = qcow2_resize,
	.check = qcow2_check,
	.snapshots = qcow2_snapshots,
	.snapshot = qcow2_snapshot,
	.amend = qcow2_amend,
	.set_backing = qcow2_set_backing,
	.empty = qcow2_empty,
	.bitmap = qcow2_bitmap_op,
	.bitmaps = qcow2_bitmap_list,
	.bitmap_extent = qcow2_bitmap_extent,
	.info = qcow2_info,
	.counters = qcow2_counters,
};
