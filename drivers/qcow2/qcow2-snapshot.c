// SPDX-License-Identifier: BSD-2-Clause
/*
 * Snapshots inside the image: create, apply, delete.
 *
 * A snapshot is a copy of the L1 table; the L2 tables and the clusters below it are shared and counted once for each
 * table that names them.  All three operations are the same change (qcow2-shadow.h): the references of one or two trees
 * come or go, the disk gets a new L1 table, and those L2 tables whose COPIED flags are not true any more are written
 * anew.
 *
 *		 references		L1 of the disk		   snapshot table
 *	create	 + the disk's		the same		   one more entry, an L1 table of its own
 *	apply	 - the disk's, + its	its, as far as the disk    the same
 *	delete	 - its			the same		   without it
 *
 * Entries of other snapshots are copied byte for byte, with whatever extra data they have.  What an L1 table holds
 * behind the end of its disk is a virtual machine's state: it stays with its snapshot and is not given to the disk.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "qcow2-shadow.h"

#define NAME_MAX_LEN 255u
#define ENTRY_MAX    (QCOW2_SNAPSHOT_HEAD + 24u + 20u + NAME_MAX_LEN + 8u)

struct op {
	struct qcow2 *q;
	struct qcow2_shadow s;
	const char *name;
	size_t name_len;
	struct td_err *err;

	uint8_t *table; /* the snapshot table */
	size_t len, room;
	uint32_t nr;
	uint64_t table_off;
	struct qcow2_snapshot snap; /* the one that it is about; its strings lie in table */
	size_t snap_at;             /* in table */
	struct qcow2_table snap_l1;
	unsigned long last_id;
	unsigned found;

	struct qcow2_table l1; /* the disk's, new */
	uint64_t size;         /* of the disk, afterwards */
	uint8_t *ones;         /* clusters that nobody shares any more, a bit for each */
	uint64_t nr_ones;      /* bits; the disk's entries may name what lies behind them */
	struct qcow2_snap *snaps;
	struct qcow2_area *areas;
};

/* ---- the table ---- */

static int load_table(struct op *op)
{
	struct qcow2 *q = op->q;
	int r = 0;

	op->nr = q->nr_snaps;
	op->len = q->snap_table_len;
	op->room = td_align_up(op->len, 8) + ENTRY_MAX;
	op->table = calloc(1, op->room);
	if (!op->table)
		return -ENOMEM;
	if (op->len > 0)
		r = td_image_pread(q->child, q->h.snapshots_off, op->table, op->len, TD_EXACT);
	return r;
}

typedef bool match_fn(struct op *op, const struct qcow2_snapshot *s);

/* Those that match; op->snap is the first of them. */
static int search(struct op *op, match_fn *match)
{
	struct qcow2_snapshot s = { 0 };
	size_t at = 0;

	for (uint32_t i = 0; i < op->nr; i++, at += s.entry_len) {
		if (at > op->len || qcow2_snapshot_decode(&op->q->g, op->table + at, op->len - at, &s) < 0)
			return -EUCLEAN; /* it was right when the image was opened */
		if (!match(op, &s))
			continue;
		if (op->found++ > 0)
			continue;
		op->snap = s;
		op->snap_at = at;
	}
	return 0;
}

static bool is_called(struct op *op, const struct qcow2_snapshot *s)
{
	return qcow2_snapshot_is(s, false, op->name, op->name_len);
}

static bool has_id(struct op *op, const struct qcow2_snapshot *s)
{
	return qcow2_snapshot_is(s, true, op->name, op->name_len);
}

static int find(struct op *op)
{
	int r = search(op, is_called);

	if (r == 0 && op->found == 0)
		r = search(op, has_id);
	if (r == 0 && op->found != 1)
		r = td_err_prefix(op->err, qcow2_snapshot_missing(op->err, op->name, op->found), "%s",
				  op->q->im->name);
	return r;
}

/* A name or an id like the new one's name; on the way, the largest id. */
static bool is_taken(struct op *op, const struct qcow2_snapshot *s)
{
	unsigned long id = 0;

	for (unsigned i = 0; i < s->id_len && i < 9 && s->id[i] >= '0' && s->id[i] <= '9'; i++)
		id = id * 10 + (unsigned long)(s->id[i] - '0');
	if (s->id_len <= 9)
		op->last_id = TD_MAX(op->last_id, id);
	return is_called(op, s) || has_id(op, s);
}

static int check_new(struct op *op)
{
	struct qcow2 *q = op->q;
	const char *name = q->im->name;
	int r;

	if (op->name_len == 0 || op->name_len > NAME_MAX_LEN)
		return td_err_set(op->err, -EINVAL, "%s: a snapshot's name has 1 to %u bytes", name,
				  NAME_MAX_LEN);
	if (q->g.refcount_bits == 1)
		return td_err_set(
			op->err, -ENOTSUP,
			"%s: refcounts of 1 bit cannot count what snapshots share (tap-img amend -o "
			"refcount_bits=16 makes them wider)",
			name);
	if (op->nr >= QCOW2_MAX_SNAPSHOTS || op->len + ENTRY_MAX > QCOW2_MAX_SNAPSHOT_TABLE)
		return td_err_set(op->err, -EFBIG, "%s: no room for one more snapshot", name);
	r = search(op, is_taken);
	if (r == 0 && op->found > 0)
		r = td_err_set(op->err, -EEXIST, "%s: there is a snapshot with the name or id '%s' already",
			       name, op->name);
	return r;
}

static int add_entry(struct op *op)
{
	char id[24];
	struct timespec now;
	struct qcow2_snapshot s = { .name = op->name, .name_len = (uint16_t)op->name_len, .id = id };

	clock_gettime(CLOCK_REALTIME, &now);
	s.id_len = (uint16_t)snprintf(id, sizeof(id), "%lu", op->last_id + 1);
	s.l1_off = op->snap_l1.host_off;
	s.l1_size = (uint32_t)op->snap_l1.nr;
	s.date_sec = (uint32_t)now.tv_sec;
	s.date_nsec = (uint32_t)now.tv_nsec;
	s.has_disk_size = true;
	s.disk_size = op->size;
	op->len = td_align_up(op->len, 8);
	op->len += qcow2_snapshot_encode(&s, op->table + op->len, op->room - op->len);
	op->nr++;
	return 0;
}

static void drop_entry(struct op *op)
{
	size_t end = TD_MIN(op->snap_at + op->snap.entry_len, op->len);

	memmove(op->table + op->snap_at, op->table + end, op->len - end);
	op->len -= end - op->snap_at;
	op->nr--;
}

static int write_table(struct op *op)
{
	struct qcow2 *q = op->q;
	int r = qcow2_shadow_take(&op->s, td_div_up(op->len, q->g.cluster_size), 1, &op->table_off);

	if (r == 0 && op->len > 0)
		r = td_image_pwrite(q->child, op->table_off, op->table, op->len, 0);
	if (r == 0 && q->snap_table_len > 0)
		r = qcow2_shadow_adjust(&op->s, q->h.snapshots_off >> q->g.cluster_bits,
					td_div_up(q->snap_table_len, q->g.cluster_size), -1);
	return r;
}

/* Where the snapshots' L1 tables are going to be. */
static int note_places(struct op *op)
{
	struct qcow2_snapshot s = { 0 };
	size_t at = 0;

	op->snaps = calloc(op->nr + 1, sizeof(op->snaps[0]));
	op->areas = calloc(op->nr + 1, sizeof(op->areas[0]));
	if (!op->snaps || !op->areas)
		return -ENOMEM;
	for (uint32_t i = 0; i < op->nr; i++, at += s.entry_len) {
		if (at > op->len || qcow2_snapshot_decode(&op->q->g, op->table + at, op->len - at, &s) < 0)
			return -EUCLEAN;
		op->snaps[i] = (struct qcow2_snap){ .l1_off = s.l1_off, .l1_size = s.l1_size };
	}
	return 0;
}

/* ---- L1 tables ---- */

static uint64_t l1_clusters(const struct qcow2 *q, uint64_t nr)
{
	return td_div_up(nr * sizeof(uint64_t), q->g.cluster_size);
}

static int drop_l1(struct op *op, uint64_t host_off, uint64_t nr)
{
	const struct qcow2 *q = op->q;

	return nr > 0 ? qcow2_shadow_adjust(&op->s, host_off >> q->g.cluster_bits, l1_clusters(q, nr), -1)
		      : 0;
}

static int write_l1(struct op *op, struct qcow2_table *t)
{
	int r = qcow2_shadow_take(&op->s, l1_clusters(op->q, t->nr), 1, &t->host_off);

	return r == 0 && t->bytes > 0 ? td_image_pwrite(op->q->child, t->host_off, t->raw, t->bytes, 0) : r;
}

static int load_snap_l1(struct op *op)
{
	return qcow2_table_load(op->q, op->snap.l1_off, op->snap.l1_size, &op->snap_l1);
}

/* ---- COPIED flags ---- */

static bool is_one(const struct op *op, uint64_t raw)
{
	uint64_t c = (raw & QCOW2_OFF_MASK) >> op->q->g.cluster_bits;

	return c < op->nr_ones && (op->ones[c / 8] >> c % 8 & 1);
}

/* As it has to be.  Without a list of those that are one, all are shared. */
static uint64_t with_flag(const struct op *op, uint64_t raw)
{
	if ((raw & QCOW2_OFF_MASK) == 0)
		return raw;
	if (!op->ones)
		return raw & ~QCOW2_COPIED;
	return is_one(op, raw) ? raw | QCOW2_COPIED : raw;
}

/* true: something had to be changed in it. */
static bool set_flags(const struct op *op, uint8_t *table)
{
	bool changed = false;

	for (uint64_t i = 0; i < op->q->g.cluster_size; i += 1u << op->q->g.l2_entry_bits) {
		uint64_t raw = td_get_be64(table + i), now;

		if (raw == 0 || (raw & QCOW2_L2_COMPRESSED))
			continue;
		now = with_flag(op, raw);
		if (now == raw)
			continue;
		td_put_be64(table + i, now);
		changed = true;
	}
	return changed;
}

/*
 * The disk's entry for an L2 table: the table itself, or a copy with other flags.  The copy takes over `names`
 * references, the disk's and a new snapshot's.
 */
static int new_entry(struct op *op, uint64_t *raw, int names)
{
	struct qcow2 *q = op->q;
	uint64_t from = *raw & QCOW2_OFF_MASK, to = 0;
	uint8_t *table;
	int r = qcow2_walker_table(&op->s.walker, from, &table);

	if (r < 0)
		return r;
	if (!table || !set_flags(op, table)) {
		*raw = with_flag(op, *raw);
		return 0;
	}
	r = qcow2_shadow_take(&op->s, 1, names, &to);
	if (r == 0)
		r = qcow2_shadow_adjust(&op->s, from >> q->g.cluster_bits, 1, -names);
	if (r == 0)
		r = td_image_pwrite(q->child, to, table, q->g.cluster_size, 0);
	*raw = to | (names == 1 ? QCOW2_COPIED : 0);
	return r;
}

/* The disk's L1 table of nr entries, the first of which are those of `from`. */
static int make_l1(struct op *op, const uint8_t *from, uint64_t nr_from, uint64_t nr, int names)
{
	int r = qcow2_table_new(nr, &op->l1);

	for (uint64_t i = 0; r == 0 && i < TD_MIN(nr_from, nr); i++) {
		uint64_t raw = td_get_be64(from + i * sizeof(uint64_t));

		if (raw == 0)
			continue;
		r = new_entry(op, &raw, names);
		td_put_be64(op->l1.raw + i * sizeof(uint64_t), raw);
	}
	if (r == 0)
		r = write_l1(op, &op->l1);
	return r == 0 ? drop_l1(op, op->q->l1.host_off, op->q->l1.nr) : r;
}

static int add_tree(struct op *op, const uint8_t *raw, uint64_t nr, int by)
{
	struct qcow2_tree *t = &op->s.tree[op->s.nr_trees++];

	*t = (struct qcow2_tree){ .raw = raw, .nr = nr, .by = by };
	/* Walked to check it, to count, and the disk's for its flags. */
	op->s.walker.total += 2 * qcow2_tree_tables(t) << op->q->g.cluster_bits;
	return qcow2_tree_check(t);
}

/* ---- the three ---- */

/* The snapshot has the tables of the disk, flags and all. */
static int copy_l1(struct op *op)
{
	int r = qcow2_table_new(op->l1.nr, &op->snap_l1);

	for (size_t i = 0; r == 0 && i < op->l1.nr; i++)
		td_put_be64(op->snap_l1.raw + i * sizeof(uint64_t),
			    qcow2_table_get(&op->l1, i) & ~QCOW2_COPIED);
	return r == 0 ? write_l1(op, &op->snap_l1) : r;
}

static int create(struct op *op)
{
	const struct qcow2_table *l1 = &op->q->l1;
	int r = add_tree(op, l1->raw, l1->nr, 1);

	if (r == 0)
		r = make_l1(op, l1->raw, l1->nr, l1->nr, 2);
	if (r == 0)
		r = copy_l1(op);
	if (r == 0)
		r = add_entry(op);
	return r == 0 ? write_table(op) : r;
}

static uint64_t l1_entries_for(const struct qcow2 *q, uint64_t size)
{
	return td_div_up(size, 1ull << (q->g.cluster_bits + q->g.l2_bits));
}

/* All of the disk is going to be another. */
static int mark_bitmaps(struct op *op)
{
	int r = qcow2_begin_write(op->q, 0, INT64_MAX);

	return r == 0 && op->size != op->q->im->size ? qcow2_bitmaps_resize_begin(op->q) : r;
}

static int apply(struct op *op)
{
	struct qcow2 *q = op->q;
	uint64_t nr;
	int r;

	if (op->snap.has_disk_size)
		op->size = op->snap.disk_size;
	if (op->size == 0 || op->size > INT64_MAX || l1_entries_for(q, op->size) > op->snap.l1_size)
		return -EUCLEAN;
	nr = l1_entries_for(q, op->size);
	r = load_snap_l1(op);
	if (r == 0)
		r = add_tree(op, q->l1.raw, q->l1.nr, -1);
	if (r == 0)
		r = add_tree(op, op->snap_l1.raw, nr, 1);
	if (r == 0)
		r = make_l1(op, op->snap_l1.raw, nr, TD_MAX(nr, q->l1.nr), 1);
	op->table_off = q->h.snapshots_off;
	return r == 0 ? mark_bitmaps(op) : r;
}

static int delete (struct op *op)
{
	const struct qcow2_table *l1 = &op->q->l1;
	int r = load_snap_l1(op);

	if (r == 0)
		r = add_tree(op, op->snap_l1.raw, op->snap_l1.nr, -1);
	if (r == 0)
		r = qcow2_shadow_ones(&op->s, &op->ones, &op->nr_ones);
	if (r == 0)
		r = make_l1(op, l1->raw, l1->nr, l1->nr, 1);
	if (r == 0)
		r = drop_l1(op, op->snap.l1_off, op->snap.l1_size);
	if (r < 0)
		return r;
	drop_entry(op);
	return write_table(op);
}

/* ---- from the old to the new ---- */

static void name_all(struct qcow2_header *h, const void *arg)
{
	const struct op *op = arg;

	if (op->l1.nr > 0) {
		h->l1_off = op->l1.host_off;
		h->l1_size = (uint32_t)op->l1.nr;
	}
	h->size = op->size;
	h->nr_snapshots = op->nr;
	h->snapshots_off = op->nr > 0 ? op->table_off : 0;
}

/* Slices of L2 tables that are not the disk's any more: what takes their place is another matter. */
static void forget_tables(struct qcow2 *q, const struct qcow2_table *now)
{
	for (size_t i = 0; i < q->l1.nr; i++) {
		uint64_t was = qcow2_table_get(&q->l1, i) & QCOW2_OFF_MASK;

		if (was != 0 && (i >= now->nr || (qcow2_table_get(now, i) & QCOW2_OFF_MASK) != was))
			qcow2_cache_forget(&q->l2, was, q->g.cluster_size);
	}
}

static void use_l1(struct op *op)
{
	struct qcow2 *q = op->q;

	forget_tables(q, &op->l1);
	qcow2_table_done(&q->l1);
	q->l1 = op->l1;
	op->l1 = (struct qcow2_table){ 0 };
	qcow2_keep_table(q, &q->l1, QCOW2_KEEP_L1);
}

static int use(struct op *op)
{
	struct qcow2 *q = op->q;

	if (op->l1.nr > 0)
		use_l1(op);
	free(q->snaps);
	free(q->snap_areas);
	q->snaps = op->snaps;
	q->snap_areas = op->areas;
	op->snaps = NULL;
	op->areas = NULL;
	q->nr_snaps = op->nr;
	q->snap_table_len = op->len;
	if (op->size != q->im->size)
		qcow2_bitmaps_resize(q, q->im->size, op->size);
	q->im->size = op->size;
	return qcow2_shadow_use(&op->s);
}

typedef int change_fn(struct op *op);

static int change(struct op *op, change_fn *fn, const struct td_progress *progress)
{
	int r = qcow2_shadow_begin(&op->s, op->q, progress);

	op->size = op->q->im->size;
	if (r == 0)
		r = fn(op);
	if (r == 0)
		r = note_places(op);
	if (r == 0)
		r = qcow2_shadow_count(&op->s);
	if (r == 0)
		r = qcow2_shadow_switch(&op->s, name_all, op);
	if (r == 0)
		r = use(op);
	qcow2_shadow_end(&op->s);
	return r;
}

static int op_error(const struct op *op, int r)
{
	const char *name = op->q->im->name;

	if (r == -EUCLEAN)
		return td_err_set(
			op->err, r,
			"%s: the snapshot '%s' is not touched, because tables or refcounts are damaged: "
			"look with tap-img check",
			name, op->name);
	if (r == -ERANGE)
		return td_err_set(op->err, r,
				  "%s: clusters would have more references than refcounts of %u bits can say "
				  "(tap-img amend -o refcount_bits= makes them wider)",
				  name, op->q->g.refcount_bits);
	return td_err_set(op->err, r, "%s: snapshot '%s': %s", name, op->name, strerror(-r));
}

static void op_done(struct op *op)
{
	qcow2_table_done(&op->l1);
	qcow2_table_done(&op->snap_l1);
	free(op->table);
	free(op->ones);
	free(op->snaps);
	free(op->areas);
}

static int run(struct op *op, enum td_snap_op what, const struct td_progress *progress)
{
	static change_fn *const fn[] = {
		[TD_SNAP_CREATE] = create, [TD_SNAP_APPLY] = apply, [TD_SNAP_DELETE] = delete
	};
	int r = load_table(op);

	if (r < 0)
		return op_error(op, r);
	r = what == TD_SNAP_CREATE ? check_new(op) : find(op);
	if (r < 0)
		return r == -EUCLEAN ? op_error(op, r) : r;
	r = change(op, fn[what], progress);
	return r < 0 ? op_error(op, r) : 0;
}

/* ---- entries that version 2 wrote ---- */

#define EXTRA_LEAST 16u /* the size of the state, and of the disk */
#define EXTRA_AT    36u

/* With as much extra data as version 3 asks for; the fields are those of the entry without it. */
static size_t put_complete(const struct op *op, const struct qcow2_snapshot *s, const uint8_t *from,
			   uint8_t *to)
{
	uint32_t extra = TD_MAX(s->extra_len, EXTRA_LEAST);
	size_t head = QCOW2_SNAPSHOT_HEAD + s->extra_len, names = (size_t)s->id_len + s->name_len;

	memcpy(to, from, head);
	td_put_be32(to + EXTRA_AT, extra);
	if (s->extra_len < EXTRA_LEAST) {
		td_put_be64(to + QCOW2_SNAPSHOT_HEAD, s->vm_state_size);
		td_put_be64(to + QCOW2_SNAPSHOT_HEAD + 8, op->size);
	}
	memcpy(to + QCOW2_SNAPSHOT_HEAD + extra, from + head, names);
	return td_align_up(QCOW2_SNAPSHOT_HEAD + extra + names, 8);
}

static int complete(struct op *op)
{
	uint8_t *table = calloc(1, op->room + (size_t)op->nr * (EXTRA_LEAST + 8));
	struct qcow2_snapshot s = { 0 };
	size_t at = 0, len = 0;
	int r = table ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < op->nr; i++, at += s.entry_len) {
		r = at <= op->len ? qcow2_snapshot_decode(&op->q->g, op->table + at, op->len - at, &s)
				  : -EUCLEAN;
		if (r == 0)
			len += put_complete(op, &s, op->table + at, table + len);
	}
	if (r < 0) {
		free(table);
		return r;
	}
	free(op->table);
	op->table = table;
	op->len = len;
	return write_table(op);
}

static bool is_short(struct op *op, const struct qcow2_snapshot *s)
{
	(void)op;
	return s->extra_len < EXTRA_LEAST;
}

int qcow2_snapshots_complete(struct qcow2 *q, struct td_err *ret_err)
{
	struct op op = { .q = q, .name = "", .err = ret_err };
	int r = load_table(&op);

	if (r == 0)
		r = search(&op, is_short);
	if (r == 0 && op.found > 0)
		r = change(&op, complete, NULL);
	op_done(&op);
	return r < 0 ? td_err_set(ret_err, r, "%s: the snapshot table cannot be written anew: %s",
				  q->im->name, strerror(-r))
		     : 0;
}

int qcow2_snapshot(struct td_image *im, enum td_snap_op what, const char *name,
		   const struct td_progress *progress, struct td_err *ret_err)
{
	struct op op = { .q = im->state, .name = name, .name_len = strlen(name), .err = ret_err };
	int r;

	if (im->flags & TD_OPEN_CHECK)
		return td_err_set(ret_err, -EINVAL, "%s: it is open to be checked", im->name);
	if (op.q->g.data_file)
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: its data is in another file: then there are no snapshots", im->name);
	td_co_guard(&op.q->shape_lock);
	r = run(&op, what, progress);
	op_done(&op);
	return r;
}
