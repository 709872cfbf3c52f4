// SPDX-License-Identifier: BSD-2-Clause
/*
 * What else takes clusters: the snapshot table, and what header extensions name (bitmaps, the header of an encryption).
 *
 * A snapshot whose entry cannot be right is given up by repair, and one whose L1 table lies on another table gets its
 * own: the new snapshot table is written whole, and the header is switched to it.  Where the table itself cannot be
 * read nothing is repaired: one wrong number in the header must not cost all snapshots.
 *
 * Bitmaps that cannot be right are declared so: the format has a bit for that, and whoever used them makes a full
 * backup.
 */
#include "qcow2-check.h"

/* An entry of the snapshot table. */
enum {
	SNAP_L1_OFF = 0,
	SNAP_L1_SIZE = 8,
	SNAP_ID_LEN = 12,
	SNAP_NAME_LEN = 14,
	SNAP_EXTRA_LEN = 36,
	SNAP_DISK_SIZE = 48,
	SNAP_EXTRA_MIN = 16, /* of version 3: the size of the state, and of the disk */
};

#define BITMAP_ENTRIES (16ull << 20) /* of all tables together: ours */

/* ---- snapshots ---- */

struct snap_head {
	uint64_t at; /* of the entry */
	uint64_t l1_off;
	uint32_t l1_size, extra_len, rest_len; /* rest: id and name */
	uint64_t len;                          /* padded */
	uint8_t raw[QCOW2_SNAPSHOT_HEAD];
};

/* -EUCLEAN: it cannot be read. */
static int snap_read(struct qcow2_walk *w, uint64_t at, struct snap_head *ret)
{
	uint64_t size = w->size;
	struct snap_head s = { .at = at };
	int r;

	if (!td_in_range(at, sizeof(s.raw), size))
		return -EUCLEAN;
	r = td_image_pread(w->q->child, at, s.raw, sizeof(s.raw), 0);
	if (r < 0)
		return r;
	s.l1_off = td_get_be64(s.raw + SNAP_L1_OFF);
	s.l1_size = td_get_be32(s.raw + SNAP_L1_SIZE);
	s.extra_len = td_get_be32(s.raw + SNAP_EXTRA_LEN);
	s.rest_len = (uint32_t)td_get_be16(s.raw + SNAP_ID_LEN) + td_get_be16(s.raw + SNAP_NAME_LEN);
	s.len = td_align_up((uint64_t)QCOW2_SNAPSHOT_HEAD + s.extra_len + s.rest_len, 8);
	if (s.extra_len > QCOW2_MAX_SNAPSHOT_EXTRA ||
	    !td_in_range(at, (uint64_t)QCOW2_SNAPSHOT_HEAD + s.extra_len + s.rest_len, size))
		return -EUCLEAN;
	*ret = s;
	return 0;
}

/* Can its L1 table be there? */
static bool snap_l1_ok(const struct qcow2_walk *w, const struct snap_head *s)
{
	const struct qcow2 *q = w->q;
	uint64_t bytes = (uint64_t)s->l1_size * sizeof(uint64_t);

	return s->l1_off % q->g.cluster_size == 0 && bytes <= QCOW2_MAX_L1_BYTES &&
	       (bytes == 0 || (s->l1_off >= q->g.cluster_size && td_in_range(s->l1_off, bytes, w->size)));
}

static int count_snapshot(struct qcow2_walk *w, uint32_t i, const struct snap_head *s)
{
	struct qcow2_named n = { .off = s->l1_off, .nr = s->l1_size, .inactive = 1 };

	if (w->q->h.version >= 3 && s->extra_len < SNAP_EXTRA_MIN) {
		qcow2_found(w, 1, "snapshot table, entry %u: is not complete", i);
		w->snaps_bad = true;
	}
	if (!snap_l1_ok(w, s)) {
		qcow2_found(w, 1, "snapshot table, entry %u: no L1 table of %u entries can be at %#llx", i,
			    s->l1_size, (unsigned long long)s->l1_off);
		w->snaps_bad = true;
		w->missing++;
		return 0;
	}
	return s->l1_size > 0 ? qcow2_named_add(&w->l1, &n, SIZE_MAX) : 0;
}

static int snaps_unreadable(struct qcow2_walk *w, uint64_t at)
{
	qcow2_found(w, 1, "the snapshot table cannot be read at %#llx: what looks leaked may be of snapshots",
		    (unsigned long long)at);
	w->snaps_lost = true;
	w->missing++;
	return 0;
}

int qcow2_walk_snapshots(struct qcow2_walk *w)
{
	const struct qcow2_header *h = &w->q->h;
	uint64_t at = h->snapshots_off, end = at;
	struct snap_head s = { 0 };
	int r = 0;

	if (h->nr_snapshots == 0)
		return 0;
	if (h->nr_snapshots > QCOW2_MAX_SNAPSHOTS || at % w->q->g.cluster_size || at == 0)
		return snaps_unreadable(w, at);
	if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		qcow2_found(w, 1, "an image with an external data file has no snapshots");
	for (uint32_t i = 0; r == 0 && i < h->nr_snapshots; i++) {
		r = snap_read(w, at, &s);
		if (r == -EUCLEAN || at - h->snapshots_off > QCOW2_MAX_SNAPSHOT_TABLE)
			return snaps_unreadable(w, at);
		if (r == 0)
			r = count_snapshot(w, i, &s);
		/* The last one may end without its padding. */
		end = at + QCOW2_SNAPSHOT_HEAD + s.extra_len + s.rest_len;
		at += s.len;
	}
	w->snap_table_len = end - h->snapshots_off;
	return r < 0 ? r : qcow2_walk_area(w, "the snapshot table", h->snapshots_off, w->snap_table_len, 1);
}

/* ---- a new snapshot table ---- */

struct snap_table {
	uint8_t *buf;
	size_t len;
	uint32_t nr;
	uint64_t host_off;
};

static void name_snapshots(struct qcow2_header *h, const void *arg)
{
	const struct snap_table *t = arg;

	h->nr_snapshots = t->nr;
	h->snapshots_off = t->nr > 0 ? t->host_off : 0;
}

static int new_area(struct qcow2 *q, uint64_t bytes, struct qcow2_run *ret)
{
	int r;

	td_mutex_lock(&q->alloc_lock);
	r = qcow2_alloc_area_locked(q, td_div_up(bytes, q->g.cluster_size), ret);
	td_mutex_unlock(&q->alloc_lock);
	return r;
}

/* Its L1 table lies on something else: it gets one of its own, with the same entries. */
static int copy_l1(struct qcow2_walk *w, struct snap_head *s)
{
	uint64_t bytes = (uint64_t)s->l1_size * sizeof(uint64_t);
	uint8_t *buf = td_buf_alloc(QCOW2_WALK_BYTES);
	struct qcow2_run run;
	int r = buf ? new_area(w->q, bytes, &run) : -ENOMEM;

	for (uint64_t at = 0, len; r == 0 && at < bytes; at += len) {
		len = TD_MIN(bytes - at, (uint64_t)QCOW2_WALK_BYTES);
		r = td_image_pread(w->q->child, s->l1_off + at, buf, len, TD_EXACT);
		if (r == 0)
			r = td_image_pwrite(w->q->child, run.host_off + at, buf, len, 0);
	}
	if (buf)
		td_buf_free(buf, QCOW2_WALK_BYTES);
	if (r == 0)
		td_put_be64(s->raw + SNAP_L1_OFF, run.host_off);
	return r;
}

static bool clashes(const struct qcow2_walk *w, const struct snap_head *s)
{
	uint64_t last = (s->l1_off + s->l1_size * sizeof(uint64_t) - 1) >> w->q->g.cluster_bits;

	for (uint64_t c = s->l1_off >> w->q->g.cluster_bits; s->l1_size > 0 && c <= last; c++)
		if (qcow2_uses_get(&w->uses, c) & QCOW2_USE_CLASH)
			return true;
	return false;
}

int qcow2_mend_snapshots_far(struct qcow2_walk *w)
{
	struct qcow2 *q = w->q;
	uint64_t at = q->h.snapshots_off;
	uint8_t far[sizeof(uint64_t)];
	struct snap_head s = { 0 };
	int r = 0;

	td_put_be64(far, qcow2_far(q));
	for (uint32_t i = 0; r == 0 && i < q->h.nr_snapshots; i++, at += s.len) {
		r = snap_read(w, at, &s);
		if (r == 0 && s.l1_off + (uint64_t)s.l1_size * sizeof(uint64_t) > w->size)
			r = td_image_pwrite(q->child, at + SNAP_L1_OFF, far, sizeof(far), 0);
	}
	return r;
}

static int copy_entry(struct qcow2_walk *w, struct snap_head *s, struct snap_table *t)
{
	uint32_t extra = s->extra_len;
	uint8_t *to;
	int r = 0;

	if (!snap_l1_ok(w, s)) {
		qcow2_found(w, 0, "a snapshot whose L1 table cannot be found is given up");
		return 0;
	}
	if (clashes(w, s))
		r = copy_l1(w, s);
	if (w->q->h.version >= 3)
		extra = TD_MAX(extra, (uint32_t)SNAP_EXTRA_MIN);
	to = r == 0 ? realloc(t->buf, t->len + s->len + SNAP_EXTRA_MIN + 8) : NULL;
	if (!to)
		return r < 0 ? r : -ENOMEM;
	t->buf = to;
	to += t->len;
	memset(to, 0, s->len + SNAP_EXTRA_MIN + 8);
	memcpy(to, s->raw, sizeof(s->raw));
	td_put_be32(to + SNAP_EXTRA_LEN, extra);
	if (s->extra_len < SNAP_EXTRA_MIN && extra >= SNAP_EXTRA_MIN) {
		td_put_be64(to + QCOW2_SNAPSHOT_HEAD, td_get_be32(s->raw + 32));
		td_put_be64(to + SNAP_DISK_SIZE, w->q->h.size);
	}
	r = td_image_pread(w->q->child, s->at + QCOW2_SNAPSHOT_HEAD, to + QCOW2_SNAPSHOT_HEAD, s->extra_len,
			   0);
	if (r == 0)
		r = td_image_pread(w->q->child, s->at + QCOW2_SNAPSHOT_HEAD + s->extra_len,
				   to + QCOW2_SNAPSHOT_HEAD + extra, s->rest_len, 0);
	t->len += td_align_up((uint64_t)QCOW2_SNAPSHOT_HEAD + extra + s->rest_len, 8);
	t->nr++;
	return r;
}

static int write_table(struct qcow2 *q, struct snap_table *t)
{
	struct qcow2_run run = { 0 };
	int r = 0;

	if (t->nr > 0)
		r = new_area(q, t->len, &run);
	t->host_off = run.host_off;
	if (r == 0 && t->nr > 0)
		r = td_image_pwrite(q->child, run.host_off, t->buf, t->len, 0);
	/* Counted before it is named. */
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	return r < 0 ? r : qcow2_header_switch(q, name_snapshots, t);
}

int qcow2_mend_snapshots(struct qcow2_walk *w)
{
	struct qcow2 *q = w->q;
	struct snap_table t = { 0 };
	uint64_t at = q->h.snapshots_off;
	struct snap_head s = { 0 };
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < q->h.nr_snapshots; i++) {
		r = snap_read(w, at, &s);
		if (r == 0)
			r = copy_entry(w, &s, &t);
		at += s.len;
	}
	if (r == 0)
		r = write_table(q, &t);
	free(t.buf);
	return r;
}

/* ---- bitmaps ---- */

static int bitmaps_wrong(struct qcow2_walk *w, const char *what, uint64_t at)
{
	qcow2_found(w, 1, "bitmaps: %s: %#llx", what, (unsigned long long)at);
	w->bitmaps_bad = true;
	return 0;
}

static int count_bitmap_part(struct qcow2_walk *w, uint64_t raw)
{
	struct qcow2_bitmap_part p;

	if (qcow2_bitmap_part_decode(&w->q->g, raw, &p) < 0)
		return bitmaps_wrong(w, "a table has an entry that cannot be one", raw);
	if (p.host_off == 0)
		return 0;
	if (qcow2_walk_exceeds(w, p.host_off, w->q->g.cluster_size))
		return bitmaps_wrong(w, "data behind the end of the file", p.host_off);
	return qcow2_walk_use(w, p.host_off, 1, 1, QCOW2_USE_DATA);
}

/* entries: of all tables so far. */
static int count_bitmap(struct qcow2_walk *w, const struct qcow2_bitmap_entry *e, uint64_t *entries)
{
	uint64_t bytes = (uint64_t)e->table_size * sizeof(uint64_t);
	const uint8_t *buf;
	int r;

	if (!td_in_range(e->table_off, bytes, w->q->child->size))
		return bitmaps_wrong(w, "the directory names a table that cannot be one", e->table_off);
	*entries += e->table_size;
	if (*entries > BITMAP_ENTRIES)
		return -EFBIG;
	r = qcow2_walk_area(w, "a bitmap's table", e->table_off, bytes, 1);
	for (uint64_t at = 0, len; r == 0 && at < bytes; at += len) {
		len = TD_MIN(bytes - at, (uint64_t)QCOW2_WALK_BYTES);
		r = qcow2_walk_read(w, e->table_off + at, len, &buf);
		for (uint64_t i = 0; r == 0 && buf && i < len; i += sizeof(uint64_t))
			if (td_get_be64(buf + i) != 0)
				r = count_bitmap_part(w, td_get_be64(buf + i));
	}
	return r;
}

static int count_directory(struct qcow2_walk *w, const struct qcow2_bitmaps_ext *x, const uint8_t *dir)
{
	struct qcow2_bitmap_entry e = { 0 };
	uint64_t at = 0, entries = 0;
	uint32_t nr = 0;
	int r = 0;

	for (; r == 0 && at < x->dir_size; at += e.entry_len, nr++) {
		if (nr == x->nr || qcow2_bitmap_entry_decode(&w->q->g, dir + at, x->dir_size - at, &e) < 0)
			return bitmaps_wrong(w, "the directory has an entry too many, or one that cannot be",
					     at);
		r = count_bitmap(w, &e, &entries);
	}
	return r == 0 && nr != x->nr ? bitmaps_wrong(w, "the directory has too few entries", nr) : r;
}

static int count_bitmaps(struct qcow2_walk *w, const struct qcow2_ext *e)
{
	struct qcow2_bitmaps_ext x;
	uint8_t *dir;
	int r;

	/* The bit says that another program, or a repair, made them void: then they are leaks. */
	if (!(w->q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	if (qcow2_bitmaps_ext_decode(&w->q->g, e, &x) < 0)
		return bitmaps_wrong(w, "no directory can be what the header extension says; bytes of it",
				     e->len);
	if (!td_in_range(x.dir_off, x.dir_size, w->q->child->size))
		return bitmaps_wrong(w, "no directory can be at", x.dir_off);
	dir = malloc(x.dir_size);
	r = dir ? qcow2_walk_area(w, "the bitmap directory", x.dir_off, x.dir_size, 1) : -ENOMEM;
	if (r == 0)
		r = td_image_pread(w->q->child, x.dir_off, dir, x.dir_size, TD_EXACT);
	if (r == 0)
		r = count_directory(w, &x, dir);
	free(dir);
	return r;
}

/* ---- all extensions ---- */

static int count_crypt(struct qcow2_walk *w, const struct qcow2_ext *e)
{
	uint64_t off, len;

	if (e->len != 2 * sizeof(uint64_t)) {
		qcow2_found(w, 1, "the encryption header's extension has %u bytes", e->len);
		return 0;
	}
	off = td_get_be64(e->data);
	len = td_get_be64(e->data + sizeof(uint64_t));
	if (off % w->q->g.cluster_size || off == 0 || !td_in_range(off, len, w->q->child->size)) {
		qcow2_found(w, 1, "no encryption header can be at %#llx", (unsigned long long)off);
		return 0;
	}
	return qcow2_walk_area(w, "the encryption header", off, len, 1);
}

int qcow2_walk_extensions(struct qcow2_walk *w)
{
	struct qcow2 *q = w->q;
	size_t len = TD_MIN(q->child->size, q->g.cluster_size);
	size_t pos = q->h.version == 2 ? QCOW2_HEADER_V2 : q->h.header_len;
	uint8_t *buf = td_buf_alloc(len);
	struct qcow2_ext e;
	int r = buf ? td_image_pread(q->child, 0, buf, len, TD_EXACT) : -ENOMEM;

	/* That they fit was checked when the header was read. */
	while (r == 0 && qcow2_ext_next(&q->h, buf, len, &pos, &e, NULL) > 0) {
		if (e.type == QCOW2_EXT_BITMAPS)
			r = count_bitmaps(w, &e);
		else if (e.type == QCOW2_EXT_CRYPT && q->h.crypt != 0)
			r = count_crypt(w, &e);
	}
	if (buf)
		td_buf_free(buf, len);
	return r;
}
