// SPDX-License-Identifier: BSD-2-Clause
/*
 * Persistent dirty bitmaps: which of them there are, and how they keep their word while the disk is written.
 *
 * Before the first write after open, of any kind, the entries of all enabled bitmaps get the flag in_use, in place,
 * and a barrier makes it durable.  From then on the bits in memory are the truth, and every write sets its bits there
 * before its data goes anywhere (qcow2_begin_write).  Closing stores them and names a directory without the flag
 * (qcow2-bitmap-store.c).  Whatever comes in between, a bitmap that is not marked on the disk has every bit that it
 * should; one that is marked, and not by us, is inconsistent: it is listed and can be removed, no more.
 *
 * A bitmap that is not enabled stays as it is and needs no mark.  One that is enabled and of a kind that we do not know
 * is marked and stays so: we cannot keep its word.
 *
 *	header: extension ─► directory: entry, entry ...      flags in each entry
 *	                                  └─► table ─► bits, a cluster each
 */
#include <stdio.h>

#include "qcow2-bitmap.h"

#define READ_LIMIT (256u << 10) /* pieces */
#define READ_BYTES (64u << 10)
#define TELL_MAX   8u /* lines of what is lost */

/* ---- one ---- */

int qcow2_bitmap_init(struct qcow2_bitmap *b, const struct qcow2_bitmap_entry *e)
{
	size_t len = td_align_up(QCOW2_BITMAP_HEAD + (uint64_t)e->extra_len + e->name_len, 8);

	*b = (struct qcow2_bitmap){ .e = *e };
	b->raw = malloc(len);
	b->name = strndup(e->name, e->name_len);
	if (!b->raw || !b->name) {
		qcow2_bitmap_done(b);
		return -ENOMEM;
	}
	b->e.entry_len = qcow2_bitmap_entry_encode(e, b->raw, len);
	b->e.extra = b->raw + QCOW2_BITMAP_HEAD;
	b->e.name = (const char *)b->e.extra + e->extra_len;
	return 0;
}

void qcow2_bitmap_done(struct qcow2_bitmap *b)
{
	qcow2_bits_free(b->bits);
	free(b->raw);
	free(b->name);
	*b = (struct qcow2_bitmap){ 0 };
}

struct qcow2_bitmap *qcow2_bitmap_find(const struct qcow2 *q, const char *name)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	for (uint32_t i = 0; bm && i < bm->nr; i++)
		if (!bm->at[i].gone && strcmp(bm->at[i].name, name) == 0)
			return &bm->at[i];
	return NULL;
}

int qcow2_bitmap_bits_new(struct qcow2 *q, const struct qcow2_bitmap *b, struct qcow2_bits **ret)
{
	return qcow2_bits_new(q->im->size, b->e.granularity_bits, &q->bitmaps->held, QCOW2_BITS_LIMIT, ret);
}

/* ---- the directory ---- */

void qcow2_bitmaps_found(struct qcow2 *q, const struct qcow2_ext *e)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	if (!bm || bm->named || !(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return;
	bm->named = true;
	bm->bad = qcow2_bitmaps_ext_decode(&q->g, e, &bm->ext) < 0 || bm->ext.nr > QCOW2_BITMAPS_MAX;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names have to tell them apart. */
static int check_names(const struct qcow2_bitmaps *bm)
{
	td_cleanup(free) const char **names = calloc(bm->nr, sizeof(names[0]));

	if (!names)
		return -ENOMEM;
	for (uint32_t i = 0; i < bm->nr; i++)
		names[i] = bm->at[i].name;
	qsort(names, bm->nr, sizeof(names[0]), by_name);
	for (uint32_t i = 1; i < bm->nr; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			return -EUCLEAN;
	return 0;
}

/* A bitmap that says it is right has bits for the whole disk, and its table lies in the file. */
static bool table_fits(const struct qcow2 *q, const struct qcow2_bitmap_entry *e)
{
	if (!td_in_range(e->table_off, (uint64_t)e->table_size * sizeof(uint64_t), q->child->size))
		return false;
	return !e->usable || (e->flags & QCOW2_BITMAP_IN_USE) ||
	       e->table_size == qcow2_bitmap_parts(&q->g, q->h.size, e->granularity_bits);
}

static int decode_all(struct qcow2 *q, const uint8_t *dir)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	size_t at = 0;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < bm->ext.nr; i++) {
		struct qcow2_bitmap_entry e;

		r = qcow2_bitmap_entry_decode(&q->g, dir + at, bm->ext.dir_size - at, &e);
		if (r == 0 && !table_fits(q, &e))
			r = -EUCLEAN;
		if (r == 0)
			r = qcow2_bitmap_init(&bm->at[i], &e);
		if (r == 0) {
			bm->nr++;
			at += e.entry_len;
		}
	}
	if (r == 0 && at != bm->ext.dir_size)
		r = -EUCLEAN;
	return r == 0 ? check_names(bm) : r;
}

/* Nothing else may lie where we are going to write flags. */
static bool dir_alone(const struct qcow2 *q)
{
	const struct qcow2_bitmaps_ext *x = &q->bitmaps->ext;
	uint64_t last = (x->dir_off + x->dir_size - 1) >> q->g.cluster_bits;

	for (uint64_t c = x->dir_off >> q->g.cluster_bits; c <= last; c++)
		if (qcow2_overlap_has(q, c))
			return false;
	return true;
}

static int read_dir(struct qcow2 *q)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	td_cleanup(free) uint8_t *dir = NULL;
	int r;

	if (!td_in_range(bm->ext.dir_off, bm->ext.dir_size, q->child->size) || !dir_alone(q))
		return -EUCLEAN;
	dir = malloc(bm->ext.dir_size);
	bm->at = calloc(bm->ext.nr, sizeof(bm->at[0]));
	if (!dir || !bm->at)
		return -ENOMEM;
	r = td_image_pread(q->child, bm->ext.dir_off, dir, bm->ext.dir_size, TD_EXACT);
	return r == 0 ? decode_all(q, dir) : r;
}

static void forget_all(struct qcow2_bitmaps *bm)
{
	for (uint32_t i = 0; i < bm->nr; i++)
		qcow2_bitmap_done(&bm->at[i]);
	free(bm->at);
	bm->at = NULL;
	bm->nr = 0;
}

int qcow2_bitmaps_open(struct qcow2 *q, struct td_err *ret_err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	int r = 0;

	if (bm->named && !bm->bad)
		r = read_dir(q);
	if (r == 0 && bm->named && !bm->bad && !q->im->read_only)
		r = qcow2_overlap_add(q, bm->ext.dir_off, bm->ext.dir_size);
	if (r == 0)
		return 0;
	forget_all(bm);
	bm->bad = true;
	/* They are lost, the disk is not. */
	return r == -EUCLEAN
		       ? 0
		       : td_err_set(ret_err, r, "cannot read the directory of its bitmaps: %s", strerror(-r));
}

int qcow2_bitmaps_init(struct qcow2 *q)
{
	q->bitmaps = calloc(1, sizeof(*q->bitmaps));
	return q->bitmaps ? 0 : -ENOMEM;
}

void qcow2_bitmaps_done(struct qcow2 *q)
{
	if (q->bitmaps)
		forget_all(q->bitmaps);
	free(q->bitmaps);
	q->bitmaps = NULL;
}

int qcow2_bitmaps_encode(const struct qcow2 *q, uint8_t **ret, struct qcow2_bitmaps_ext *ret_ext)
{
	const struct qcow2_bitmaps *bm = q->bitmaps;
	struct qcow2_bitmaps_ext x = { .dir_off = bm->ext.dir_off };
	uint64_t len = 0, at = 0;
	uint8_t *buf;

	for (uint32_t i = 0; i < bm->nr; i++) {
		len += bm->at[i].gone ? 0 : bm->at[i].e.entry_len;
		x.nr += !bm->at[i].gone;
	}
	if (x.nr > QCOW2_MAX_BITMAPS || len > QCOW2_MAX_BITMAP_DIR)
		return -EFBIG;
	buf = malloc(len + 1);
	if (!buf)
		return -ENOMEM;
	for (uint32_t i = 0; i < bm->nr; i++)
		if (!bm->at[i].gone)
			at += qcow2_bitmap_entry_encode(&bm->at[i].e, buf + at, len - at);
	x.dir_size = at;
	*ret = buf;
	*ret_ext = x;
	return 0;
}

/* ---- bits from the disk ---- */

/* Parts of a table that are adjacent on disk, and one behind the other in the bitmap. */
struct loading {
	struct qcow2 *q;
	struct qcow2_bits *bits;
	uint8_t *buf;          /* READ_BYTES */
	uint64_t host_off, at; /* where they are, and the bitmap's byte */
	uint64_t len;
};

/* Read what was gathered. */
static int load_gathered(struct loading *l)
{
	int r = 0;

	for (uint64_t done = 0, n; r == 0 && done < l->len; done += n) {
		n = TD_MIN(l->len - done, (uint64_t)READ_BYTES);
		if (++l->q->bitmaps->read > READ_LIMIT)
			return -EFBIG;
		/* The last cluster of a file may be there in part; what is stored in it is. */
		r = td_image_pread(l->q->child, l->host_off + done, l->buf, n, 0);
		if (r == 0)
			r = qcow2_bits_load(l->bits, l->at + done, l->buf, n);
	}
	l->len = 0;
	return r;
}

static int load_part(struct loading *l, uint64_t at, uint64_t raw)
{
	struct qcow2_bitmap_part p;
	uint64_t size = l->q->g.cluster_size;
	int r = qcow2_bitmap_part_decode(&l->q->g, raw, &p);

	if (r < 0)
		return r;
	if (p.host_off == 0) {
		if (p.ones)
			qcow2_bits_load_ones(l->bits, at, size);
		return 0;
	}
	if (p.host_off >= l->q->child->size)
		return -EUCLEAN;
	if (l->len > 0 && (l->host_off + l->len != p.host_off || l->at + l->len != at))
		r = load_gathered(l);
	if (l->len == 0) {
		l->host_off = p.host_off;
		l->at = at;
	}
	l->len += size;
	return r;
}

static int load_table(struct loading *l, const struct qcow2_bitmap_entry *e)
{
	uint64_t bytes = (uint64_t)e->table_size * sizeof(uint64_t);
	uint8_t *buf = td_buf_alloc(READ_BYTES);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t done = 0, n; r == 0 && done < bytes; done += n) {
		n = TD_MIN(bytes - done, (uint64_t)READ_BYTES);
		r = td_image_pread(l->q->child, e->table_off + done, buf, n, TD_EXACT);
		for (uint64_t i = 0; r == 0 && i < n; i += sizeof(uint64_t))
			r = load_part(l, (done + i) / sizeof(uint64_t) << l->q->g.cluster_bits,
				      td_get_be64(buf + i));
	}
	if (buf)
		td_buf_free(buf, READ_BYTES);
	return r == 0 ? load_gathered(l) : r;
}

int qcow2_bitmap_load(struct qcow2 *q, struct qcow2_bitmap *b)
{
	struct loading l = { .q = q };
	int r;

	if (b->bits)
		return 0;
	if (!qcow2_bitmap_valid(b))
		return -EUCLEAN;
	r = qcow2_bitmap_bits_new(q, b, &l.bits);
	if (r < 0)
		return r;
	l.buf = td_buf_alloc(READ_BYTES);
	/* One that was not stored yet has nothing there. */
	if (l.buf && b->e.table_off != 0)
		r = load_table(&l, &b->e);
	else if (!l.buf)
		r = -ENOMEM;
	if (l.buf)
		td_buf_free(l.buf, READ_BYTES);
	if (r < 0)
		qcow2_bits_free(l.bits);
	else
		b->bits = l.bits;
	return r;
}

/* ---- while the disk is written ---- */

void qcow2_bitmap_tell_lost(const struct qcow2 *q, const struct qcow2_bitmap *b, int why)
{
	char line[256];

	if (!q->im->env->notice || q->bitmaps->told++ >= TELL_MAX)
		return;
	snprintf(line, sizeof(line), "%s: bitmap %s records no more and is inconsistent from now on: %s",
		 q->im->name, b->name, why == -EFBIG ? "it is too large" : strerror(-why));
	q->im->env->notice(line);
}

/* Their directory cannot be followed, so the bit that vouches for it goes with the first write. */
static void tell_void(const struct qcow2 *q)
{
	char line[256];

	if (!q->im->env->notice)
		return;
	snprintf(line, sizeof(line),
		 "%s: what it says of its dirty bitmaps cannot be right, or is of more than %u of them: they "
		 "are void",
		 q->im->name, QCOW2_BITMAPS_MAX);
	q->im->env->notice(line);
}

/* Flags alone differ from what is there, so a sector that is torn off leaves some of them set. */
static int write_dir(struct qcow2 *q)
{
	td_cleanup(free) uint8_t *buf = NULL;
	struct qcow2_bitmaps_ext x;
	int r = qcow2_bitmaps_encode(q, &buf, &x);

	if (r == 0)
		r = td_image_pwrite(q->child, x.dir_off, buf, x.dir_size, 0);
	return r == 0 ? qcow2_barrier(q) : r;
}

/* Whose word would be broken by a change that is not recorded? */
static bool must_mark(const struct qcow2_bitmap *b, bool all)
{
	return !(b->e.flags & QCOW2_BITMAP_IN_USE) && (all || (b->e.flags & QCOW2_BITMAP_AUTO));
}

static bool load_to_mark(struct qcow2 *q, bool all)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	bool any = false;

	for (uint32_t i = 0; i < bm->nr; i++) {
		struct qcow2_bitmap *b = &bm->at[i];
		int r;

		b->marking = must_mark(b, all);
		if (!b->marking)
			continue;
		any = true;
		r = b->e.usable ? qcow2_bitmap_load(q, b) : -ENOTSUP;
		if (r < 0)
			qcow2_bitmap_tell_lost(q, b, r);
	}
	return any;
}

int qcow2_bitmaps_mark_locked(struct qcow2 *q, bool all)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	int r;

	if (!load_to_mark(q, all))
		return 0;
	for (uint32_t i = 0; i < bm->nr; i++)
		if (bm->at[i].marking)
			bm->at[i].e.flags |= QCOW2_BITMAP_IN_USE;
	r = write_dir(q);
	for (uint32_t i = 0; i < bm->nr; i++) {
		struct qcow2_bitmap *b = &bm->at[i];

		if (b->marking && r < 0)
			b->e.flags &= ~QCOW2_BITMAP_IN_USE; /* the next one tries again */
		else if (b->marking)
			b->marked = b->bits != NULL;
		b->marking = false;
	}
	return r;
}

int qcow2_bitmaps_begin_locked(struct qcow2 *q, bool *ret_keep)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	*ret_keep = bm->named && !bm->bad;
	if (bm->named && bm->bad)
		tell_void(q);
	return *ret_keep ? qcow2_bitmaps_mark_locked(q, false) : 0;
}

void qcow2_bitmaps_set(struct qcow2 *q, uint64_t guest_off, uint64_t len)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	for (uint32_t i = 0; i < bm->nr; i++)
		if (bm->at[i].marked && (bm->at[i].e.flags & QCOW2_BITMAP_AUTO))
			qcow2_bits_set(bm->at[i].bits, guest_off, len);
}
