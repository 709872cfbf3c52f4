// SPDX-License-Identifier: BSD-2-Clause
/*
 * The snapshot table, read: where the snapshots' L1 tables are, for who writes the image; a list of them, for people;
 * and one of them, to open the disk as it was.
 *
 * The table's length is not recorded anywhere: it is read entry by entry.
 */
#include <stdio.h>

#include "qcow2-int.h"

#define WINDOW (2u * QCOW2_MAX_SNAPSHOT_ENTRY)

/* Of what is listed: what QEMU shows of them. */
#define LISTED_ID   127u
#define LISTED_NAME 255u

/* ---- one after the other ---- */

struct reader {
	struct qcow2 *q;
	uint8_t *buf;
	uint64_t host_off; /* of buf */
	size_t have, pos;
};

/* What becomes of an entry; `end`: bytes of the table up to its end.  1: enough. */
typedef int each_fn(void *arg, uint32_t i, const struct qcow2_snapshot *s, uint64_t end);

/* Have the next entry in the buffer as a whole, or what the file has of it. */
static int fill(struct reader *sr)
{
	uint64_t at = sr->host_off + sr->pos, left;

	if (sr->have > 0 && sr->have - sr->pos >= QCOW2_MAX_SNAPSHOT_ENTRY)
		return 0;
	if (at >= sr->q->child->size)
		return -EUCLEAN;
	left = sr->q->child->size - at;
	sr->host_off = at;
	sr->pos = 0;
	sr->have = TD_MIN(left, (uint64_t)WINDOW);
	return td_image_pread(sr->q->child, at, sr->buf, sr->have, TD_EXACT);
}

static int read_one(struct reader *sr, struct qcow2_snapshot *ret)
{
	struct qcow2 *q = sr->q;
	int r = fill(sr);

	if (r == 0)
		r = qcow2_snapshot_decode(&q->g, sr->buf + sr->pos, sr->have - sr->pos, ret);
	/* Behind the end of the file nothing was ever written; and it could be terabytes of it. */
	if (r == 0 && !td_in_range(ret->l1_off, (uint64_t)ret->l1_size * sizeof(uint64_t), q->child->size))
		r = -EUCLEAN;
	/* The last entry may end without its padding. */
	if (r == 0)
		sr->pos = TD_MIN(sr->pos + ret->entry_len, sr->have);
	return r;
}

static int each(struct qcow2 *q, each_fn *fn, void *arg)
{
	struct reader sr = { .q = q, .host_off = q->h.snapshots_off, .buf = td_buf_alloc(WINDOW) };
	struct qcow2_snapshot s = { 0 };
	int r = sr.buf ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < q->h.nr_snapshots; i++) {
		uint64_t end;

		r = read_one(&sr, &s);
		end = sr.host_off + sr.pos - q->h.snapshots_off;
		if (r == 0 && end > QCOW2_MAX_SNAPSHOT_TABLE)
			r = -EUCLEAN;
		if (r == 0)
			r = fn(arg, i, &s, end);
	}
	if (sr.buf)
		td_buf_free(sr.buf, WINDOW);
	return TD_MIN(r, 0);
}

/* ---- where they are ---- */

static int note_place(void *arg, uint32_t i, const struct qcow2_snapshot *s, uint64_t end)
{
	struct qcow2 *q = arg;

	q->snaps[i] = (struct qcow2_snap){ .l1_off = s->l1_off, .l1_size = s->l1_size };
	q->nr_snaps = i + 1;
	q->snap_table_len = end;
	return 0;
}

int qcow2_snaps_load(struct qcow2 *q)
{
	if (q->h.nr_snapshots == 0)
		return 0;
	q->snaps = calloc(q->h.nr_snapshots, sizeof(q->snaps[0]));
	q->snap_areas = calloc(q->h.nr_snapshots, sizeof(q->snap_areas[0]));
	return q->snaps && q->snap_areas ? each(q, note_place, q) : -ENOMEM;
}

/* ---- a list ---- */

struct listing {
	struct qcow2 *q;
	struct td_snaps *ret;
};

static int list_one(void *arg, uint32_t i, const struct qcow2_snapshot *s, uint64_t end)
{
	const struct listing *l = arg;
	struct td_snap *to = &l->ret->at[i];

	(void)end;
	l->ret->nr = i + 1;
	*to = (struct td_snap){
		.id = strndup(s->id, TD_MIN(s->id_len, LISTED_ID)),
		.name = strndup(s->name, TD_MIN(s->name_len, LISTED_NAME)),
		.disk_size = s->has_disk_size ? s->disk_size : l->q->h.size,
		.vm_state_size = s->vm_state_size,
		.date_sec = s->date_sec,
		.date_nsec = s->date_nsec,
		.vm_clock_nsec = s->vm_clock_nsec,
		.has_icount = s->has_icount,
		.icount = s->icount,
	};
	return to->id && to->name ? 0 : -ENOMEM;
}

int qcow2_snapshots(struct td_image *im, struct td_snaps *ret, struct td_err *ret_err)
{
	struct listing l = { .q = im->state, .ret = ret };
	uint32_t nr = l.q->h.nr_snapshots;
	int r = 0;

	/* For check the header's word was not looked at yet. */
	if (nr > QCOW2_MAX_SNAPSHOTS || l.q->h.snapshots_off % l.q->g.cluster_size)
		r = -EUCLEAN;
	if (nr == 0 || r < 0)
		return r;
	ret->at = calloc(nr, sizeof(ret->at[0]));
	r = ret->at ? each(l.q, list_one, &l) : -ENOMEM;
	if (r == -EUCLEAN)
		return td_err_set(ret_err, r,
				  "%s: the snapshot table does not lie inside the file, or is damaged",
				  im->name);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot read the snapshot table: %s", im->name,
				  strerror(-r))
		     : 0;
}

/* ---- one of them ---- */

struct search {
	const char *name;
	size_t len;
	bool by_id;
	unsigned found;
	struct qcow2_snap snap;
	bool has_size;
	uint64_t size;
};

static int look_at(void *arg, uint32_t i, const struct qcow2_snapshot *s, uint64_t end)
{
	struct search *f = arg;

	(void)i;
	(void)end;
	if (!qcow2_snapshot_is(s, f->by_id, f->name, f->len))
		return 0;
	if (f->found++ > 0)
		return 1;
	f->snap = (struct qcow2_snap){ .l1_off = s->l1_off, .l1_size = s->l1_size };
	f->has_size = s->has_disk_size;
	f->size = s->disk_size;
	return 0;
}

static int find(struct qcow2 *q, struct search *f)
{
	int r = each(q, look_at, f);

	if (r < 0 || f->found > 0)
		return r;
	f->by_id = true;
	return each(q, look_at, f);
}

int qcow2_snapshot_missing(struct td_err *ret_err, const char *name, unsigned found)
{
	if (found > 1)
		return td_err_set(ret_err, -EEXIST, "%u snapshots or more are called '%s': say the id", found,
				  name);
	return td_err_set(ret_err, -ENOENT, "there is no snapshot '%s'", name);
}

/* The disk that it shows ends with its own size; what its L1 table has behind that is a machine's state. */
static int use(struct qcow2 *q, const struct search *f, struct td_err *ret_err)
{
	uint64_t size = f->has_size ? f->size : q->h.size;
	uint64_t nr = td_div_up(size, 1ull << (q->g.cluster_bits + q->g.l2_bits));
	int r;

	if (size > INT64_MAX || nr > f->snap.l1_size)
		return td_err_set(ret_err, -EUCLEAN,
				  "the L1 table of the snapshot '%s' is too small for its disk", f->name);
	qcow2_table_done(&q->l1);
	r = qcow2_table_load(q, f->snap.l1_off, nr, &q->l1);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot read the L1 table of the snapshot '%s': %s", f->name,
				  strerror(-r));
	q->h.size = size;
	q->past = true;
	return 0;
}

int qcow2_snapshot_open(struct qcow2 *q, const char *name, struct td_err *ret_err)
{
	struct search f = { .name = name, .len = strlen(name) };
	int r;

	if (q->h.nr_snapshots > QCOW2_MAX_SNAPSHOTS || q->h.snapshots_off % q->g.cluster_size)
		r = -EUCLEAN;
	else
		r = find(q, &f);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot read the snapshot table: %s", strerror(-r));
	return f.found == 1 ? use(q, &f, ret_err) : qcow2_snapshot_missing(ret_err, name, f.found);
}
