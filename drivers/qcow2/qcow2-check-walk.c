// SPDX-License-Identifier: BSD-2-Clause
/*
 * Counting everything that names a cluster: header, L1 tables, snapshots, bitmaps, L2 tables, refcount table and
 * blocks.
 *
 * Tables are read once each and in the order of the file, however often they are named: first all L1 tables are read
 * and the L2 tables that they name are sorted, then these are read.  What is counted so far says of each cluster
 * whether it can be what the next entry takes it for.
 *
 * An entry that is not aligned might mean either of two clusters: both are counted, so that neither is called a leak.
 */
#include "qcow2-check.h"

#define TABLES_MAX (4u << 20)     /* as many as one L1 table can name */
#define L1_BYTES   (256ull << 20) /* of all snapshots' L1 tables */

#define L1_RESERVED       0x7f000000000001ffull
#define L2_RESERVED       0x3f000000000001feull
#define REFTABLE_RESERVED 0x00000000000001ffull
#define REFTABLE_MASK     0xfffffffffffffe00ull

static uint64_t weight_of(const struct qcow2_named *n)
{
	return (uint64_t)n->active + n->inactive;
}

/* ---- L1 tables ---- */

static int count_l1_entry(struct qcow2_walk *w, const struct qcow2_named *l1, uint64_t idx, uint64_t raw)
{
	const struct qcow2 *q = w->q;
	uint64_t off = raw & QCOW2_OFF_MASK, weight = weight_of(l1);
	struct qcow2_named t = { .off = off, .active = l1->active, .inactive = l1->inactive };
	bool aligned = off % q->g.cluster_size == 0, lost;
	uint32_t kind = QCOW2_USE_TABLE;

	if (raw & L1_RESERVED) {
		qcow2_found(w, weight, "L1 table at %#llx, entry %llu: reserved bits are set: %#llx",
			    (unsigned long long)l1->off, (unsigned long long)idx, (unsigned long long)raw);
		w->stray++;
	}
	if (off == 0)
		return 0;
	lost = !aligned || qcow2_walk_exceeds(w, off, q->g.cluster_size);
	if (lost)
		qcow2_found(w, weight, "L1 table at %#llx, entry %llu: no L2 table can be at %#llx",
			    (unsigned long long)l1->off, (unsigned long long)idx, (unsigned long long)off);
	if (!lost && qcow2_walk_touches(w, off, 1, QCOW2_USE_FIXED)) {
		qcow2_found(w, 0, "L1 table at %#llx, entry %llu: other metadata is at %#llx",
			    (unsigned long long)l1->off, (unsigned long long)idx, (unsigned long long)off);
		kind = QCOW2_USE_CLASH;
		lost = true;
	}
	if (lost) {
		w->bad++;
		w->missing++;
		w->to_mark += weight << q->g.l2_bits;
		return qcow2_walk_exceeds(w, off, q->g.cluster_size)
			       ? 0
			       : qcow2_walk_use(w, off, q->g.cluster_size, weight, aligned ? kind : 0);
	}
	if (l1->active && (raw & QCOW2_COPIED))
		kind |= QCOW2_USE_OWNED;
	if (qcow2_walk_use(w, off, 1, weight, kind) < 0)
		return -ENOMEM;
	return qcow2_named_add(&w->l2, &t, TABLES_MAX);
}

static int count_l1(struct qcow2_walk *w, const struct qcow2_named *l1)
{
	uint64_t bytes = (uint64_t)l1->nr * sizeof(uint64_t);
	const uint8_t *buf;
	int r = 0;

	for (uint64_t at = 0, len; r == 0 && at < bytes; at += len) {
		len = TD_MIN(bytes - at, (uint64_t)QCOW2_WALK_BYTES);
		r = qcow2_walk_read(w, l1->off + at, len, &buf);
		for (uint64_t i = 0; r == 0 && buf && i < len; i += sizeof(uint64_t))
			if (td_get_be64(buf + i) != 0)
				r = count_l1_entry(w, l1, (at + i) / sizeof(uint64_t), td_get_be64(buf + i));
	}
	return r;
}

static int count_l1s(struct qcow2_walk *w)
{
	struct qcow2_named active = { .off = w->q->l1.host_off, .nr = (uint32_t)w->q->l1.nr, .active = 1 };
	uint64_t bytes = 0;
	int r = active.nr > 0 ? qcow2_named_add(&w->l1, &active, SIZE_MAX) : 0;

	qcow2_named_merge(&w->l1);
	for (size_t i = 0; r == 0 && i < w->l1.nr; i++) {
		const struct qcow2_named *l = &w->l1.at[i];

		bytes += (uint64_t)l->nr * sizeof(uint64_t);
		r = qcow2_walk_area(w, l->active ? "L1 table" : "a snapshot's L1 table", l->off,
				    (uint64_t)l->nr * sizeof(uint64_t), weight_of(l));
	}
	if (bytes > L1_BYTES + QCOW2_MAX_L1_BYTES)
		return -EFBIG;
	for (size_t i = 0; r == 0 && i < w->l1.nr; i++)
		w->snaps_bad |= w->l1.at[i].inactive > 0 &&
				qcow2_walk_touches(w, w->l1.at[i].off, 1, QCOW2_USE_CLASH);
	if (w->l1_cut && !qcow2_walk_exceeds(w, active.off, active.nr * sizeof(uint64_t)))
		qcow2_found(w, 1, "the file ends inside the L1 table");
	w->total += bytes;
	for (size_t i = 0; r == 0 && i < w->l1.nr; i++)
		r = count_l1(w, &w->l1.at[i]);
	qcow2_named_merge(&w->l2);
	return r;
}

/* ---- L2 tables ---- */

struct l2_state {
	const struct qcow2_named *t;
	uint64_t idx;
	uint64_t next; /* where the last entry's cluster ends */
	bool suspect;
};

static void l2_found(struct qcow2_walk *w, const struct l2_state *s, uint64_t weight, const char *what,
		     uint64_t raw)
{
	qcow2_found(w, weight, "L2 table at %#llx, entry %llu: %s: %#llx", (unsigned long long)s->t->off,
		    (unsigned long long)s->idx, what, (unsigned long long)raw);
}

/* What it names cannot be.  counts: that alone is a finding; otherwise its cluster's count will be one. */
static void l2_lost(struct qcow2_walk *w, struct l2_state *s, bool counts, const char *what, uint64_t raw)
{
	l2_found(w, s, counts ? weight_of(s->t) : 0, what, raw);
	w->bad++;
	w->to_mark += weight_of(s->t);
	s->suspect |= counts;
}

/* Data in a cluster that holds metadata. */
static bool in_metadata(struct qcow2_walk *w, uint64_t off, uint64_t len)
{
	return qcow2_walk_touches(w, off, len, QCOW2_USE_FIXED | QCOW2_USE_TABLE);
}

static int count_packed(struct qcow2_walk *w, struct l2_state *s, uint64_t raw, uint64_t bitmap)
{
	const struct qcow2 *q = w->q;
	uint32_t kind = QCOW2_USE_DATA;
	struct qcow2_l2e e;

	w->res->allocated += s->t->active;
	w->res->compressed += s->t->active;
	w->res->fragmented += s->t->active; /* by their nature: neighbours share sectors */
	if (raw & QCOW2_COPIED) {
		l2_found(w, s, weight_of(s->t), "a compressed cluster is never the only one", raw);
		w->stray++;
	}
	if (bitmap) {
		l2_found(w, s, weight_of(s->t), "a compressed cluster has no subclusters", bitmap);
		w->stray++;
	}
	if (qcow2_l2e_decode(&q->g, q->h.version, raw & ~QCOW2_COPIED, &e) < 0 ||
	    (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE) ||
	    qcow2_walk_exceeds(w, e.host_off, e.packed_len)) {
		l2_lost(w, s, true, "there can be no compressed data", raw);
		return 0;
	}
	if (in_metadata(w, e.host_off, e.packed_len)) {
		l2_lost(w, s, false, "compressed data in metadata", raw);
		kind |= QCOW2_USE_CLASH;
	}
	return qcow2_walk_use(w, e.host_off, e.packed_len, weight_of(s->t), kind);
}

static int count_data(struct qcow2_walk *w, struct l2_state *s, uint64_t raw, uint64_t bitmap)
{
	const struct qcow2 *q = w->q;
	uint64_t off = raw & QCOW2_OFF_MASK, size = q->g.cluster_size;
	bool aligned = off % size == 0;
	uint32_t kind = QCOW2_USE_DATA;

	w->res->allocated += s->t->active;
	if (s->next && off != s->next)
		w->res->fragmented += s->t->active;
	s->next = off + size;
	if (bitmap >> 32 & bitmap)
		l2_lost(w, s, true, "subclusters are data and zeros at once", bitmap);
	if (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return 0; /* it is in another file */
	if (!aligned)
		l2_found(w, s, weight_of(s->t), "is not aligned to clusters", raw);
	if (qcow2_walk_exceeds(w, off, size)) {
		l2_lost(w, s, true, "points behind the end of the file", raw);
		return 0;
	}
	if (!aligned) {
		w->bad++;
		w->to_mark += weight_of(s->t);
		s->suspect = true;
		return qcow2_walk_use(w, off, size, weight_of(s->t), 0);
	}
	if ((raw & QCOW2_L2_ZERO) && q->h.version < 3)
		l2_lost(w, s, true, "version 2 has no clusters of zeros", raw);
	if (in_metadata(w, off, 1)) {
		l2_lost(w, s, false, "data in metadata", raw);
		kind |= QCOW2_USE_CLASH;
	}
	if (s->t->active && (raw & QCOW2_COPIED))
		kind |= QCOW2_USE_OWNED;
	return qcow2_walk_use(w, off, 1, weight_of(s->t), kind);
}

/* Which bits of a descriptor, but a stream's, mean nothing. */
static uint64_t reserved_bits(const struct qcow2 *q)
{
	return L2_RESERVED | (qcow2_is_extended(&q->g) ? QCOW2_L2_ZERO : 0);
}

static int count_l2_entry(struct qcow2_walk *w, struct l2_state *s, uint64_t raw, uint64_t bitmap)
{
	if (raw & QCOW2_L2_COMPRESSED)
		return count_packed(w, s, raw, bitmap);
	if (raw & L2_RESERVED) {
		l2_found(w, s, weight_of(s->t), "reserved bits are set", raw);
		w->stray++;
		s->suspect = true;
	} else if (raw & reserved_bits(w->q)) {
		l2_found(w, s, 0, "the bit for zeros means nothing here", raw);
		w->stray++;
	}
	if (qcow2_names_cluster(w->q, raw))
		return count_data(w, s, raw, bitmap);
	if ((uint32_t)bitmap)
		l2_lost(w, s, true, "there are subclusters, and no cluster", bitmap);
	if ((raw & QCOW2_L2_ZERO) && w->q->h.version < 3)
		l2_lost(w, s, true, "version 2 has no clusters of zeros", raw);
	else if ((raw & QCOW2_COPIED) && !w->q->g.data_file) {
		l2_found(w, s, 0, "nothing is there, and is said to be there once", raw);
		w->stray++;
	}
	return 0;
}

static int count_l2_table(struct qcow2_walk *w, const struct qcow2_named *t)
{
	struct l2_state s = { .t = t };
	uint64_t size = w->q->g.cluster_size, bitmap = 0;
	unsigned bits = w->q->g.l2_entry_bits;
	const uint8_t *buf;
	uint32_t *use;
	int r = 0;

	for (uint64_t at = 0, len; r == 0 && at < size; at += len) {
		len = TD_MIN(size, (uint64_t)QCOW2_WALK_BYTES);
		r = qcow2_walk_read(w, t->off + at, len, &buf);
		for (uint64_t i = 0; r == 0 && buf && i < len; i += 1u << bits) {
			s.idx = (at + i) >> bits;
			if (qcow2_is_extended(&w->q->g))
				bitmap = td_get_be64(buf + i + 8);
			if (td_get_be64(buf + i) != 0 || bitmap != 0)
				r = count_l2_entry(w, &s, td_get_be64(buf + i), bitmap);
		}
	}
	if (r < 0 || !s.suspect)
		return r;
	use = qcow2_uses_at(&w->uses, t->off >> w->q->g.cluster_bits);
	if (!use)
		return -ENOMEM;
	*use |= QCOW2_USE_SUSPECT;
	return 0;
}

/* ---- refcount table and blocks ---- */

/* Nothing else may lie in them; they are counted last. */
static int alone(struct qcow2_walk *w, const char *what, uint64_t off, uint64_t len, bool counts)
{
	bool twice = false;
	int r = qcow2_walk_use(w, off, len, 1, 0);

	for (uint64_t c = off >> w->q->g.cluster_bits; c <= (off + len - 1) >> w->q->g.cluster_bits; c++)
		twice |= qcow2_uses_count(&w->uses, c) != 1;
	if (!twice)
		return r;
	/* Where a refcount cannot say 2, that was a finding when it was counted. */
	qcow2_found(w, counts && w->max_count > 1, "%s at %#llx: something else lies there too", what,
		    (unsigned long long)off);
	w->refs_bad = true;
	return r;
}

static int count_block(struct qcow2_walk *w, uint64_t idx)
{
	uint64_t raw = qcow2_table_get(&w->reftable, idx), off = raw & REFTABLE_MASK;
	const char *what = NULL;

	if (raw & REFTABLE_RESERVED)
		what = "reserved bits are set";
	else if (off % w->q->g.cluster_size)
		what = "the refcount block is not aligned to clusters";
	else if (off != 0 && (off >= w->q->child->size || off >= w->q->g.max_host))
		what = "the refcount block lies behind the end of the file";
	if (what) {
		qcow2_found(w, 1, "refcount table, entry %llu: %s: %#llx", (unsigned long long)idx, what,
			    (unsigned long long)raw);
		w->refs_bad = true;
		return 0;
	}
	return off ? alone(w, "a refcount block", off, 1, true) : 0;
}

/* The table may be anywhere and of any length: whatever the header says was not checked. */
static int load_reftable(struct qcow2_walk *w)
{
	struct qcow2 *q = w->q;
	uint64_t len = (uint64_t)q->h.reftable_clusters << q->g.cluster_bits;

	if (len == 0 || len > QCOW2_MAX_REFTABLE_BYTES || q->h.reftable_off % q->g.cluster_size ||
	    q->h.reftable_off == 0 || !td_in_range(q->h.reftable_off, len, q->child->size)) {
		qcow2_found(w, len > 0, "no refcount table can be at %#llx",
			    (unsigned long long)q->h.reftable_off);
		w->refs_bad = true;
		return 0;
	}
	return qcow2_table_load(q, q->h.reftable_off, len / sizeof(uint64_t), &w->reftable);
}

static int count_reftable(struct qcow2_walk *w)
{
	int r = load_reftable(w);

	if (r == 0 && w->reftable.nr > 0)
		r = alone(w, "the refcount table", w->reftable.host_off, w->reftable.nr * sizeof(uint64_t),
			  false);
	for (size_t i = 0; r == 0 && i < w->reftable.nr; i++)
		if (qcow2_table_get(&w->reftable, i) != 0)
			r = count_block(w, i);
	return r;
}

/* ---- all of it ---- */

int qcow2_walk(struct qcow2_walk *w, struct qcow2 *q, struct td_check *res)
{
	int r = qcow2_walk_init(w, q, res);

	if (r == 0)
		r = qcow2_walk_area(w, "the header", 0, q->g.cluster_size, 1);
	if (r == 0)
		r = qcow2_walk_snapshots(w);
	if (r == 0)
		r = qcow2_walk_extensions(w);
	if (r == 0)
		r = count_l1s(w);
	w->total += (uint64_t)w->l2.nr << q->g.cluster_bits;
	for (size_t i = 0; r == 0 && i < w->l2.nr; i++)
		r = count_l2_table(w, &w->l2.at[i]);
	if (r == 0)
		r = count_reftable(w);
	for (uint64_t c = 0; r == 0 && (c = qcow2_uses_next(&w->uses, c, w->uses.nr)) < w->uses.nr; c++)
		w->crowded += qcow2_uses_count(&w->uses, c) > w->max_count;
	return r;
}

/* ---- what becomes of an entry ---- */

/* Without the bits that mean nothing, as far as that is known without decoding it. */
static void clean_l2e(const struct qcow2 *q, const uint64_t raw[2], uint64_t ret[2])
{
	bool packed = raw[0] & QCOW2_L2_COMPRESSED;

	ret[0] = raw[0] & ~(packed ? QCOW2_COPIED : reserved_bits(q));
	ret[1] = qcow2_is_extended(&q->g) && !packed ? raw[1] : 0;
}

enum qcow2_verdict qcow2_judge_l2e(const struct qcow2_walk *w, const uint64_t raw[2])
{
	const struct qcow2 *q = w->q;
	bool extended = qcow2_is_extended(&q->g), same;
	uint64_t clean[2], last;
	struct qcow2_l2e e;
	int r;

	clean_l2e(q, raw, clean);
	r = extended ? qcow2_l2e_decode_extended(&q->g, clean[0], clean[1], &e)
		     : qcow2_l2e_decode(&q->g, q->h.version, clean[0], &e);
	if (r < 0)
		return QCOW2_LOST;
	if (e.kind == QCOW2_HOLE && (clean[0] & QCOW2_COPIED))
		clean[0] = 0;
	same = clean[0] == raw[0] && (!extended || clean[1] == raw[1]);
	if (e.kind == QCOW2_HOLE || e.kind == QCOW2_ZERO || q->g.data_file)
		return same ? QCOW2_FINE : QCOW2_STRAY;
	if (e.kind != QCOW2_PACKED)
		e.packed_len = q->g.cluster_size;
	if (qcow2_walk_exceeds(w, e.host_off, e.packed_len))
		return QCOW2_LOST;
	last = (e.host_off + e.packed_len - 1) >> q->g.cluster_bits;
	for (uint64_t c = e.host_off >> q->g.cluster_bits; c <= last; c++) {
		uint32_t use = qcow2_uses_get(&w->uses, c);

		/* A table with entries that cannot be ones is no table: it is this data. */
		if ((use & QCOW2_USE_FIXED) || ((use & QCOW2_USE_TABLE) && !(use & QCOW2_USE_SUSPECT)))
			return QCOW2_LOST;
	}
	return same ? QCOW2_FINE : QCOW2_STRAY;
}

enum qcow2_verdict qcow2_judge_l1e(const struct qcow2_walk *w, uint64_t raw)
{
	const uint32_t not_table = QCOW2_USE_DATA | QCOW2_USE_SUSPECT;
	uint64_t clean = raw & ~L1_RESERVED, off = raw & QCOW2_OFF_MASK;
	struct qcow2_l1e e;
	uint32_t use;

	if (qcow2_l1e_decode(&w->q->g, clean, &e) < 0)
		return QCOW2_LOST;
	if (!e.present)
		return raw == 0 ? QCOW2_FINE : QCOW2_STRAY;
	if (qcow2_walk_exceeds(w, off, w->q->g.cluster_size))
		return QCOW2_LOST;
	use = qcow2_uses_get(&w->uses, off >> w->q->g.cluster_bits);
	if ((use & QCOW2_USE_FIXED) || (use & not_table) == not_table)
		return QCOW2_LOST;
	return clean == raw ? QCOW2_FINE : QCOW2_STRAY;
}
