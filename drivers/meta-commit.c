// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writing metadata back: the only place that does, and so the only place where its order is decided.
 *
 * Units are changed in memory only.  A commit takes a copy of all that is changed, in one go without a yield, marks it
 * clean, and writes it level by level, whatever runs on meanwhile, with a barrier before each: what the level names is
 * durable by then, be it data or lower units.  A unit is changed only after the data that it names were written, so any
 * copy is consistent, and a crash at any instant leaks space at most.
 *
 * If a write fails, all that the commit took is marked as changed again, and the error goes to whoever asked.  The next
 * commit does every step anew.  If a barrier fails there is no next one (meta_barrier).
 *
 * One commit runs at a time.  Whoever asks meanwhile waits for the next one, which serves all who wait.
 */
#include "meta-int.h"

struct meta_committer {
	struct td_co *co;
	bool barrier;
	int result;
	bool lead; /* woken to run the next commit rather than with a result */
	STAILQ_ENTRY(meta_committer) link;
};

/* Adjacent in the file. */
struct piece {
	struct td_image *child;
	uint64_t off;
	const uint8_t *bytes;
	size_t len;
};

/* What is written of one level. */
struct stage {
	uint8_t *bytes;
	size_t len;
	struct piece *piece, *copy; /* of units; of their second copies */
	size_t nr_pieces, nr_copies;
	struct meta_unit **unit; /* pinned until the end */
	size_t nr_units;
};

struct commit {
	struct td_meta *m;
	struct stage stage[TD_META_LEVELS];
	bool synced; /* no write since the last barrier */
};

/* ---- taking the copy ---- */

static int stage_alloc(struct stage *st, size_t nr, size_t unit)
{
	if (nr == 0)
		return 0;
	st->len = nr * unit;
	st->bytes = td_buf_alloc(st->len);
	st->piece = calloc(nr, sizeof(st->piece[0]));
	st->copy = calloc(nr, sizeof(st->copy[0]));
	st->unit = calloc(nr, sizeof(struct meta_unit *));
	return st->bytes && st->piece && st->copy && st->unit ? 0 : -ENOMEM;
}

static void stage_done(struct stage *st)
{
	if (st->bytes)
		td_buf_free(st->bytes, st->len);
	free(st->piece);
	free(st->copy);
	free(st->unit);
}

/* Does b go on where a ends, in the file and in memory? */
static bool adjoins(const struct piece *a, const struct piece *b)
{
	return a->off + a->len == b->off && a->bytes + a->len == b->bytes;
}

static void add_piece(struct piece *pieces, size_t *nr, const struct piece *p)
{
	if (*nr > 0 && adjoins(&pieces[*nr - 1], p))
		pieces[*nr - 1].len += p->len;
	else
		pieces[(*nr)++] = *p;
}

static int by_off(const void *a, const void *b)
{
	const struct meta_unit *x = *(struct meta_unit *const *)a, *y = *(struct meta_unit *const *)b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static void copy_unit(const struct td_meta *m, unsigned level, struct stage *st, size_t i)
{
	const struct meta_cache *c = &m->cache[level];
	const struct meta_unit *u = st->unit[i];
	struct piece p = {
		.child = m->im->child, .off = u->off, .bytes = st->bytes + i * c->unit, .len = c->unit
	};

	memcpy(st->bytes + i * c->unit, u->bytes, c->unit);
	add_piece(st->piece, &st->nr_pieces, &p);
	p.off = m->config.copy_at ? m->config.copy_at(m->config.arg, level, u->off) : 0;
	if (p.off)
		add_piece(st->copy, &st->nr_copies, &p);
	td_keep_writing(u->kept, u->bytes, c->sectors, UINT32_MAX);
}

static void stage_level(struct td_meta *m, unsigned level, struct stage *st)
{
	struct meta_cache *c = &m->cache[level];
	struct meta_unit *u;

	while ((u = TAILQ_FIRST(&c->dirty)) != NULL) {
		st->unit[st->nr_units++] = u; // NOLINT(clang-analyzer-core.NullDereference): room for all
		u->pins++;
		meta_cache_unmark(c, u);
	}
	if (st->nr_units > 0)
		qsort(st->unit, st->nr_units, sizeof(struct meta_unit *), by_off);
	for (size_t i = 0; i < st->nr_units; i++)
		copy_unit(m, level, st, i);
}

static int take_copy(struct commit *c)
{
	struct td_meta *m = c->m;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < m->config.nr_levels; i++)
		r = stage_alloc(&c->stage[i], m->cache[i].nr_dirty, m->cache[i].unit);
	if (r < 0)
		return r;
	/* Nothing fails and nothing yields from here to the end. */
	for (unsigned i = 0; i < m->config.nr_levels; i++)
		stage_level(m, i, &c->stage[i]);
	return 0;
}

/* ---- writing it ---- */

static int write_piece(void *arg)
{
	const struct piece *p = arg;

	return td_image_pwrite(p->child, p->off, p->bytes, p->len, 0);
}

static int write_pieces(struct piece *p, size_t nr)
{
	int r = 0;

	if (nr == 1)
		return write_piece(p);
	for (size_t i = 0; r == 0 && i < nr;) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < META_PARALLEL && i < nr; n++)
			td_join_start(&j, write_piece, &p[i++]);
		r = td_join_wait(&j);
	}
	return r;
}

int meta_barrier(struct td_meta *m)
{
	int r = td_image_flush(m->im->child);

	m->barriers++;
	if (r < 0) {
		td_image_freeze(m->im);
		td_keep_give_up(m->keep, 0);
	}
	return r;
}

static int barrier(struct commit *c)
{
	int r = c->synced ? 0 : meta_barrier(c->m);

	c->synced = r == 0;
	return r;
}

static int write_copy(struct commit *c, bool last_barrier)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < TD_META_LEVELS; i++) {
		struct stage *st = &c->stage[i];

		if (st->nr_units == 0)
			continue;
		r = barrier(c);
		c->synced = false;
		if (r == 0)
			r = write_pieces(st->piece, st->nr_pieces);
		if (r == 0)
			r = write_pieces(st->copy, st->nr_copies);
	}
	return r == 0 && last_barrier ? barrier(c) : r;
}

/* ---- afterwards ---- */

static void stage_finish(struct stage *st, struct meta_cache *cache, bool failed)
{
	for (size_t i = 0; i < st->nr_units; i++) {
		struct meta_unit *u = st->unit[i];

		if (failed)
			meta_cache_remark(cache, u);
		td_keep_written(u->kept, !failed, u->dirty); // NOLINT(*NullDereference): all are there
		meta_cache_unpin(cache, u);
	}
	stage_done(st);
}

bool td_meta_dirty(const struct td_meta *m)
{
	for (unsigned i = 0; i < m->config.nr_levels; i++)
		if (m->cache[i].nr_dirty > 0)
			return true;
	return false;
}

static int commit_once(struct td_meta *m, bool last_barrier)
{
	struct commit c = { .m = m };
	int r;

	if (!td_meta_dirty(m))
		return last_barrier ? meta_barrier(m) : 0;
	/* Tables that are known to be broken are not written. */
	if (m->im->frozen)
		return -EIO;
	m->commits++;
	r = take_copy(&c);
	if (r == 0)
		r = write_copy(&c, last_barrier);
	for (unsigned i = 0; i < m->config.nr_levels; i++)
		stage_finish(&c.stage[i], &m->cache[i], r < 0);
	return r;
}

/* ---- one at a time, for all who wait ---- */

static void hand_over(struct td_meta *m)
{
	struct meta_committer *next = STAILQ_FIRST(&m->committers);

	if (!next) {
		m->committing = false;
		return;
	}
	next->lead = true;
	td_co_wake(next->co);
}

static int lead(struct td_meta *m, const struct meta_committer *me)
{
	struct meta_committers served = STAILQ_HEAD_INITIALIZER(served);
	struct meta_committer *w;
	bool last_barrier = false;
	int r;

	STAILQ_FOREACH(w, &m->committers, link)
		last_barrier |= w->barrier;
	STAILQ_CONCAT(&served, &m->committers);
	r = commit_once(m, last_barrier);
	while ((w = STAILQ_FIRST(&served)) != NULL) {
		STAILQ_REMOVE_HEAD(&served, link);
		if (w == me)
			continue;
		w->result = r;
		td_co_wake(w->co);
	}
	hand_over(m);
	return r;
}

int meta_commit(struct td_meta *m, bool barrier)
{
	struct meta_committer me = { .co = td_co_self(), .barrier = barrier };

	STAILQ_INSERT_TAIL(&m->committers, &me, link);
	if (m->committing) {
		td_co_yield();
		if (!me.lead)
			return me.result;
	}
	m->committing = true;
	return lead(m, &me);
}
