// SPDX-License-Identifier: BSD-2-Clause
/*
 * Storing dirty bitmaps.
 *
 * Nothing that the disk names is written over:
 *
 *	1. clusters of bits, tables and a directory, all new, counted in memory and written
 *	2. a commit: their refcounts, and all data that the bits speak of, are on stable storage
 *	3. the header's extension names the new directory: one sector, between barriers (qcow2-extensions.c)
 *	4. what only the old directory named is given back
 *
 * A crash before 3 leaves the old directory, in which what was written to is marked; after it the new one, which is
 * right.  Either way clusters leak at most.
 */
#include "qcow2-bitmap.h"

#define PIECE      (64u << 10)
#define PIECES_MAX 64u /* that are too short, before we give up */

struct storing {
	struct qcow2 *q;
	struct qcow2_frees fresh; /* what was allocated */
	struct qcow2_frees spare; /* what did not fit */
	struct qcow2_frees old;   /* what only the old directory names */
	struct qcow2_set seen;    /* clusters in old */
	uint64_t old_dir, old_len;
	uint8_t *buf; /* a cluster */
};

/* What becomes of one bitmap's entry if all goes well. */
struct next {
	uint64_t table_off;
	uint32_t table_size;
	bool stored;
};

static bool to_store(const struct qcow2_bitmap *b)
{
	return (b->marked || b->changed) && !b->gone;
}

/* ---- space ---- */

static int new_cluster(struct storing *s, struct qcow2_run *ret)
{
	int r = qcow2_frees_reserve(&s->fresh, 1);

	if (r == 0)
		r = qcow2_alloc(s->q, 1, ret);
	if (r == 0)
		qcow2_frees_add(&s->fresh, ret->host_off >> s->q->g.cluster_bits, 1);
	return r;
}

/* A device does not become longer: whatever free piece is long enough. */
static int find_area(struct storing *s, uint64_t nr, struct qcow2_run *ret)
{
	struct qcow2 *q = s->q;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < PIECES_MAX; i++) {
		r = qcow2_frees_reserve(&s->spare, 1);
		if (r == 0)
			r = qcow2_alloc(q, nr, ret);
		if (r < 0 || ret->nr == nr)
			return r;
		qcow2_frees_add(&s->spare, ret->host_off >> q->g.cluster_bits, ret->nr);
	}
	return r == 0 ? -ENOSPC : r;
}

/* One piece of the file for a table or the directory. */
static int new_area(struct storing *s, uint64_t bytes, struct qcow2_run *ret)
{
	struct qcow2 *q = s->q;
	uint64_t nr = td_div_up(bytes, q->g.cluster_size);
	int r;

	if (nr == 1)
		return new_cluster(s, ret);
	r = qcow2_frees_reserve(&s->fresh, 1);
	if (r == 0 && !q->fixed_size) {
		td_mutex_lock(&q->alloc_lock);
		r = qcow2_alloc_area_locked(q, nr, ret);
		td_mutex_unlock(&q->alloc_lock);
	} else if (r == 0) {
		r = find_area(s, nr, ret);
	}
	if (r == 0)
		qcow2_frees_add(&s->fresh, ret->host_off >> q->g.cluster_bits, nr);
	return r;
}

/* To the end of its cluster, so that nobody finds another file's bytes there. */
static int write_area(struct storing *s, const struct qcow2_run *run, const uint8_t *bytes, uint64_t len)
{
	uint64_t size = s->q->g.cluster_size;
	int r = 0;

	for (uint64_t at = 0, n; r == 0 && at < len; at += size) {
		n = TD_MIN(len - at, size);
		memset(s->buf, 0, size);
		memcpy(s->buf, bytes + at, n);
		r = td_image_pwrite(s->q->child, run->host_off + at, s->buf, size, 0);
	}
	return r;
}

/* ---- one bitmap ---- */

static int store_part(struct storing *s, const struct qcow2_bits *bits, uint64_t i,
		      struct qcow2_bitmap_part *ret)
{
	uint64_t size = s->q->g.cluster_size;
	enum qcow2_bits_kind kind = qcow2_bits_store(bits, i << s->q->g.cluster_bits, s->buf, size);
	struct qcow2_run run;
	int r;

	*ret = (struct qcow2_bitmap_part){ .ones = kind == QCOW2_BITS_ONES };
	if (kind != QCOW2_BITS_MIXED)
		return 0;
	r = new_cluster(s, &run);
	if (r == 0)
		r = td_image_pwrite(s->q->child, run.host_off, s->buf, size, 0);
	ret->host_off = run.host_off;
	return r;
}

static int store_one(struct storing *s, const struct qcow2_bitmap *b, struct next *ret)
{
	uint64_t parts = qcow2_bitmap_parts(&s->q->g, s->q->im->size, b->e.granularity_bits);
	struct qcow2_bitmap_part p;
	struct qcow2_run run;
	td_cleanup(free) uint64_t *table = NULL; /* as on disk */
	int r = 0;

	if (parts == 0 || parts > QCOW2_MAX_BITMAP_BYTES >> s->q->g.cluster_bits)
		return -EFBIG;
	table = calloc(parts, sizeof(table[0]));
	if (!table)
		return -ENOMEM;
	for (uint64_t i = 0; r == 0 && i < parts; i++) {
		r = store_part(s, b->bits, i, &p);
		if (r == 0)
			table[i] = htobe64(qcow2_bitmap_part_encode(&p));
	}
	if (r == 0)
		r = new_area(s, parts * sizeof(uint64_t), &run);
	if (r == 0)
		r = write_area(s, &run, (const uint8_t *)table, parts * sizeof(uint64_t));
	if (r == 0)
		*ret = (struct next){ .table_off = run.host_off,
				      .table_size = (uint32_t)parts,
				      .stored = true };
	return r;
}

/* ---- what goes ---- */

/*
 * A cluster that only the old directory named.  Not what metadata or nobody's count says: a directory that lies costs
 * leaks, no more.
 */
static int drop_cluster(struct storing *s, uint64_t host_off)
{
	uint64_t cluster = host_off >> s->q->g.cluster_bits, count = 0;
	int r;

	if (host_off >= s->q->child->size || qcow2_overlap_has(s->q, cluster))
		return 0;
	td_mutex_lock(&s->q->alloc_lock);
	r = qcow2_refs_get(s->q, cluster, &count);
	td_mutex_unlock(&s->q->alloc_lock);
	if (r < 0 || count == 0)
		return r;
	r = qcow2_set_add(&s->seen, cluster);
	if (r <= 0)
		return r;
	r = qcow2_frees_reserve(&s->old, 1);
	if (r == 0)
		qcow2_frees_add(&s->old, cluster, 1);
	return r;
}

static int drop_area(struct storing *s, uint64_t off, uint64_t len)
{
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < len; at += s->q->g.cluster_size)
		r = drop_cluster(s, off + at);
	return r;
}

static int drop_bitmap(struct storing *s, const struct qcow2_bitmap *b)
{
	uint64_t bytes = (uint64_t)b->e.table_size * sizeof(uint64_t);
	uint8_t *buf;
	int r = 0;

	if (b->e.table_off == 0)
		return 0;
	buf = td_buf_alloc(PIECE);
	if (!buf)
		return -ENOMEM;
	for (uint64_t at = 0, n; r == 0 && at < bytes; at += n) {
		n = TD_MIN(bytes - at, (uint64_t)PIECE);
		r = td_image_pread(s->q->child, b->e.table_off + at, buf, n, TD_EXACT);
		for (uint64_t i = 0; r == 0 && i < n; i += sizeof(uint64_t)) {
			struct qcow2_bitmap_part p;

			if (qcow2_bitmap_part_decode(&s->q->g, td_get_be64(buf + i), &p) == 0 && p.host_off)
				r = drop_cluster(s, p.host_off);
		}
	}
	td_buf_free(buf, PIECE);
	return r == 0 ? drop_area(s, b->e.table_off, bytes) : r;
}

/* ---- all of them ---- */

static int store_bitmaps(struct storing *s, struct next *next)
{
	struct qcow2_bitmaps *bm = s->q->bitmaps;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < bm->nr; i++) {
		const struct qcow2_bitmap *b = &bm->at[i];

		if (to_store(b))
			r = store_one(s, b, &next[i]);
		/* One that is too large for the format now stays marked. */
		if (r == -EFBIG && !b->changed)
			r = 0;
		if (r == 0 && (next[i].stored || b->gone))
			r = drop_bitmap(s, b);
	}
	return r;
}

/* What the entries say now becomes what they are to say, or the other way. */
static void swap_entries(struct qcow2_bitmaps *bm, struct next *next)
{
	for (uint32_t i = 0; i < bm->nr; i++) {
		struct qcow2_bitmap_entry *e = &bm->at[i].e;
		struct next was = { .table_off = e->table_off, .table_size = e->table_size, .stored = true };

		if (!next[i].stored)
			continue;
		e->table_off = next[i].table_off;
		e->table_size = next[i].table_size;
		e->flags ^= bm->at[i].marked ? QCOW2_BITMAP_IN_USE : 0;
		next[i] = was;
	}
}

/* The directory, to a place of its own. */
static int store_dir(struct storing *s, struct qcow2_bitmaps_ext *ret)
{
	td_cleanup(free) uint8_t *buf = NULL;
	struct qcow2_run run;
	int r = qcow2_bitmaps_encode(s->q, &buf, ret);

	ret->dir_off = 0;
	if (r < 0 || ret->nr == 0)
		return r;
	r = new_area(s, ret->dir_size, &run);
	if (r == 0)
		r = write_area(s, &run, buf, ret->dir_size);
	if (r == 0)
		r = qcow2_overlap_add(s->q, run.host_off, ret->dir_size);
	if (r == 0)
		ret->dir_off = run.host_off;
	return r;
}

static int switch_dir(struct storing *s)
{
	struct qcow2 *q = s->q;
	struct qcow2_bitmaps *bm = q->bitmaps;
	struct qcow2_bitmaps_ext x = { 0 };
	const struct qcow2_extensions want = { .keep_backing = true, .bitmaps = &x };
	int r = store_dir(s, &x);

	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	if (r == 0) {
		r = qcow2_extensions_change(q, &want);
		if (r < 0) /* the disk may name them already */
			qcow2_frees_done(&s->fresh);
	}
	if (r < 0) {
		if (x.dir_off != 0)
			qcow2_overlap_del(q, x.dir_off, x.dir_size);
		return r;
	}
	bm->ext = x;
	bm->named = x.nr > 0;
	bm->bad = false;
	return 0;
}

static void settle(struct qcow2_bitmaps *bm, const struct next *next)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < bm->nr; i++) {
		if (bm->at[i].gone) {
			qcow2_bitmap_done(&bm->at[i]);
			continue;
		}
		if (next[i].stored)
			bm->at[i].marked = bm->at[i].changed = false;
		bm->at[nr++] = bm->at[i];
	}
	bm->nr = nr;
}

static int store(struct storing *s, struct next *next)
{
	struct qcow2 *q = s->q;
	struct qcow2_bitmaps *bm = q->bitmaps;
	int r = store_bitmaps(s, next);

	if (r == 0 && s->old_len > 0) {
		/* Its own clusters count as metadata until now. */
		qcow2_overlap_del(q, s->old_dir, s->old_len);
		r = drop_area(s, s->old_dir, s->old_len);
		if (r < 0)
			td_ignore(qcow2_overlap_add(q, s->old_dir, s->old_len));
	}
	if (r < 0)
		return r;
	swap_entries(bm, next);
	r = switch_dir(s);
	if (r < 0) {
		swap_entries(bm, next);
		/* No memory: the worst is that a write through a broken table is not refused. */
		if (s->old_len > 0)
			td_ignore(qcow2_overlap_add(q, s->old_dir, s->old_len));
		return r;
	}
	settle(bm, next);
	/* The next write marks them again. */
	q->autoclear_done = false;
	return 0;
}

bool qcow2_bitmaps_to_store(const struct qcow2 *q)
{
	const struct qcow2_bitmaps *bm = q->bitmaps;

	for (uint32_t i = 0; i < bm->nr; i++)
		if (to_store(&bm->at[i]) || bm->at[i].gone)
			return true;
	return false;
}

int qcow2_bitmaps_store(struct qcow2 *q)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	struct storing s = { .q = q };
	struct next *next = calloc((size_t)bm->nr + 1, sizeof(*next));
	int r = next ? 0 : -ENOMEM;

	qcow2_frees_init(&s.fresh);
	qcow2_frees_init(&s.old);
	qcow2_frees_init(&s.spare);
	if (bm->named && !bm->bad) {
		s.old_dir = bm->ext.dir_off;
		s.old_len = bm->ext.dir_size;
	}
	s.buf = td_buf_alloc(q->g.cluster_size);
	if (r == 0)
		r = s.buf ? store(&s, next) : -ENOMEM;
	/* What the disk does not name: its own old bits, or what was to become the new ones. */
	qcow2_frees_join(&q->ready, r == 0 ? &s.old : &s.fresh);
	qcow2_frees_join(&q->ready, &s.spare);
	td_ignore(qcow2_frees_reap(q));
	qcow2_frees_done(&s.fresh);
	qcow2_frees_done(&s.old);
	qcow2_set_done(&s.seen);
	if (s.buf)
		td_buf_free(s.buf, q->g.cluster_size);
	free(next);
	return r;
}
