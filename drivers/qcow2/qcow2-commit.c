// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writing metadata back: the only place that does, and so the only place where its order is decided.
 *
 * Tables are changed in memory only.  A commit takes a copy of all that is changed, in one go without a yield, marks
 * it clean, and writes it in this order, whatever runs on meanwhile:
 *
 *	1. refcount slices
 *	   barrier, if the refcount table changed;  sectors of the refcount table
 *	2. barrier, if an L2 entry points at something new: its data, written before, and its refcount are durable
 *	3. L2 slices
 *	4. barrier, if an L1 entry depends on it: the L2 table it names is durable
 *	5. sectors of L1
 *	6. barrier, if somebody waits for one, or if clusters were dropped: they are no longer named on disk
 *	7. what was dropped is ready to be given back (qcow2-frees.c)
 *
 * An L2 entry is set in memory only after its data was written and its cluster counted, so any copy is consistent.
 * A crash at any instant leaks clusters at most: nothing on disk ever names a cluster whose refcount or whose data is
 * not there, and no cluster is handed out again while the disk still names it.
 *
 * A barrier that nothing depends on is left out: a flush with nothing changed is one flush of the child.
 *
 * If a write fails, all that the commit took is marked as changed again, what was dropped stays dropped and unfree,
 * and the error goes to whoever asked.  The next commit does every step anew.  If a barrier fails there is no next one
 * (qcow2_barrier).
 *
 * Where refcounts are lazy they are not needed on disk before the L2 entries (the dirty bit says that they are to be
 * counted again): step 1 is left to cache pressure and to close.
 *
 * One commit runs at a time.  Whoever asks meanwhile waits for the next one, which serves all who wait.
 */
#include "qcow2-int.h"

struct qcow2_committer {
	struct td_co *co;
	unsigned flags;
	int result;
	bool lead; /* woken to run the next commit rather than with a result */
	STAILQ_ENTRY(qcow2_committer) link;
};

struct piece {
	struct qcow2 *q;
	uint64_t host_off;
	uint8_t *buf;
	size_t len;
};

/* What one step writes: a copy, cut into pieces that are adjacent on disk. */
struct stage {
	uint8_t *buf;
	size_t buf_len;
	struct piece *piece;
	size_t nr_pieces;
	struct qcow2_slice **slice; /* pinned until the end */
	size_t nr_slices;
};

struct commit {
	struct qcow2 *q;
	unsigned flags;
	struct stage refs, reftable, l2, l1;
	struct qcow2_frees frees;
	bool depends;
	bool synced; /* no write since the last barrier */
};

/* ---- taking the copy ---- */

static int stage_alloc(struct stage *st, size_t nr, size_t unit)
{
	if (nr == 0)
		return 0;
	st->buf_len = nr * unit;
	st->buf = td_buf_alloc(st->buf_len);
	st->piece = calloc(nr, sizeof(st->piece[0]));
	st->slice = calloc(nr, sizeof(struct qcow2_slice *));
	return st->buf && st->piece && st->slice ? 0 : -ENOMEM;
}

static void stage_done(struct stage *st)
{
	if (st->buf)
		td_buf_free(st->buf, st->buf_len);
	free(st->piece);
	free(st->slice);
	*st = (struct stage){ 0 };
}

/* Units come in order of host_off. */
static void stage_add(struct commit *c, struct stage *st, uint64_t host_off, const void *data, size_t len)
{
	struct piece *next = st->piece + st->nr_pieces, *last = st->nr_pieces > 0 ? next - 1 : NULL;
	uint8_t *to = last ? last->buf + last->len : st->buf;

	memcpy(to, data, len);
	if (last && last->host_off + last->len == host_off) {
		last->len += len;
		return;
	}
	st->nr_pieces++;
	/* Room for every unit was taken by stage_alloc. */
	*next = (struct piece){ // NOLINT(clang-analyzer-core.NullDereference)
				.q = c->q,
				.host_off = host_off,
				.buf = to,
				.len = len
	};
}

static int by_host_off(const void *a, const void *b)
{
	const struct qcow2_slice *x = *(struct qcow2_slice *const *)a, *y = *(struct qcow2_slice *const *)b;

	return x->host_off < y->host_off ? -1 : x->host_off > y->host_off;
}

static void stage_cache(struct commit *c, struct stage *st, struct qcow2_cache *cache)
{
	struct qcow2_slice *s;

	if (!st->piece)
		return;
	while ((s = TAILQ_FIRST(&cache->dirty)) != NULL) {
		st->slice[st->nr_slices++] = s;
		s->pins++;
		qcow2_cache_unmark(cache, s);
	}
	qsort(st->slice, st->nr_slices, sizeof(struct qcow2_slice *), by_host_off);
	for (size_t i = 0; i < st->nr_slices; i++) {
		stage_add(c, st, st->slice[i]->host_off, st->slice[i]->data, cache->slice_size);
		td_keep_writing(st->slice[i]->kept, st->slice[i]->data, cache->kept.sectors,
				st->slice[i]->changed);
		st->slice[i]->changed = 0;
	}
}

static void stage_table(struct commit *c, struct stage *st, struct qcow2_table *t)
{
	if (!st->piece)
		return;
	for (size_t i = 0; i < t->bytes / QCOW2_SECTOR; i++) {
		size_t at = i * QCOW2_SECTOR;

		if (!t->dirty[i])
			continue;
		t->dirty[i] = 0;
		stage_add(c, st, t->host_off + at, t->raw + at, QCOW2_SECTOR);
		if (t->kept.keep)
			td_keep_writing(td_keep_unit(&t->kept, i), t->raw + at, 1, 1);
	}
	t->nr_dirty = 0;
}

static bool wants_refs(const struct commit *c)
{
	const struct qcow2 *q = c->q;

	if (c->flags & QCOW2_COMMIT_REFS)
		return true;
	return !q->lazy && (q->l2.nr_dirty > 0 || q->l1.nr_dirty > 0);
}

static int take_copy(struct commit *c)
{
	struct qcow2 *q = c->q;
	bool refs = wants_refs(c);
	int r = 0;

	if (refs)
		r = stage_alloc(&c->refs, q->refs.nr_dirty, q->refs.slice_size);
	if (r == 0 && refs)
		r = stage_alloc(&c->reftable, q->reftable.nr_dirty, QCOW2_SECTOR);
	if (r == 0)
		r = stage_alloc(&c->l2, q->l2.nr_dirty, q->l2.slice_size);
	if (r == 0)
		r = stage_alloc(&c->l1, q->l1.nr_dirty, QCOW2_SECTOR);
	if (r < 0)
		return r;
	/* Nothing fails and nothing yields from here to the end. */
	stage_cache(c, &c->refs, &q->refs);
	stage_table(c, &c->reftable, &q->reftable);
	stage_cache(c, &c->l2, &q->l2);
	stage_table(c, &c->l1, &q->l1);
	qcow2_frees_join(&c->frees, &q->pending);
	c->depends = q->l2_depends;
	q->l2_depends = false;
	return 0;
}

/* ---- writing it ---- */

static int write_piece(void *arg)
{
	const struct piece *p = arg;

	return td_image_pwrite(p->q->child, p->host_off, p->buf, p->len, 0);
}

static int stage_write(struct commit *c, struct stage *st)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < st->nr_pieces;) {
		struct td_join j = { 0 };

		c->synced = false;
		if (st->nr_pieces - i == 1)
			return write_piece(&st->piece[i]);
		for (unsigned n = 0; n < QCOW2_PARALLEL && i < st->nr_pieces; n++)
			td_join_start(&j, write_piece, &st->piece[i++]);
		r = td_join_wait(&j);
	}
	return r;
}

static int barrier(struct commit *c)
{
	int r;

	if (c->synced)
		return 0;
	r = qcow2_barrier(c->q);
	if (r == 0)
		c->synced = true;
	return r;
}

static int write_copy(struct commit *c)
{
	int r = qcow2_header_settle(c->q);

	if (r == 0)
		r = stage_write(c, &c->refs);
	if (r == 0 && c->reftable.nr_pieces > 0)
		r = barrier(c);
	if (r == 0)
		r = stage_write(c, &c->reftable);
	if (r == 0 && c->l2.nr_pieces > 0 && c->depends)
		r = barrier(c);
	if (r == 0)
		r = stage_write(c, &c->l2);
	if (r == 0 && c->l1.nr_pieces > 0)
		r = barrier(c);
	if (r == 0)
		r = stage_write(c, &c->l1);
	if (r == 0 && (c->frees.nr > 0 || (c->flags & QCOW2_COMMIT_BARRIER)))
		r = barrier(c);
	return r;
}

/* ---- afterwards ---- */

static void unpin(struct stage *st, struct qcow2_cache *cache, bool failed)
{
	for (size_t i = 0; i < st->nr_slices; i++) {
		struct qcow2_slice *s = st->slice[i];

		if (failed) {
			qcow2_cache_remark(cache, s);
			s->changed = UINT8_MAX; /* NOLINT(*NullDereference): nr_slices of them are there */
		}
		if (!s->dead)
			td_keep_written(s->kept, !failed, s->dirty);
		qcow2_cache_unpin(cache, s);
	}
}

/* A table that has moved meanwhile was written as a whole at its new place. */
static void table_written(const struct stage *st, struct qcow2_table *t, bool failed)
{
	for (size_t i = 0; i < st->nr_pieces; i++) {
		uint64_t at = st->piece[i].host_off - t->host_off;

		for (uint64_t end = at + st->piece[i].len; at < end && at < t->bytes; at += QCOW2_SECTOR) {
			uint8_t *mark = &t->dirty[at / QCOW2_SECTOR];

			t->nr_dirty += failed && !*mark;
			*mark |= failed;
			if (t->kept.keep)
				td_keep_written(td_keep_unit(&t->kept, at / QCOW2_SECTOR), !failed, *mark);
		}
	}
}

static void finish(struct commit *c, int r)
{
	struct qcow2 *q = c->q;

	unpin(&c->refs, &q->refs, r < 0);
	unpin(&c->l2, &q->l2, r < 0);
	table_written(&c->reftable, &q->reftable, r < 0);
	table_written(&c->l1, &q->l1, r < 0);
	if (r < 0) {
		q->l2_depends |= c->depends;
		qcow2_frees_join(&q->pending, &c->frees);
	} else {
		qcow2_frees_join(&q->ready, &c->frees);
	}
	stage_done(&c->refs);
	stage_done(&c->reftable);
	stage_done(&c->l2);
	stage_done(&c->l1);
}

bool qcow2_commit_wanted(const struct qcow2 *q, unsigned flags)
{
	if (q->l2.nr_dirty > 0 || q->l1.nr_dirty > 0 || q->pending.nr > 0 || q->header_unsure)
		return true;
	return (flags & QCOW2_COMMIT_REFS) && (q->refs.nr_dirty > 0 || q->reftable.nr_dirty > 0);
}

static int commit_once(struct qcow2 *q, unsigned flags)
{
	struct commit c = { .q = q, .flags = flags };
	int r;

	if (!qcow2_commit_wanted(q, flags))
		return (flags & QCOW2_COMMIT_BARRIER) ? qcow2_barrier(q) : 0;
	/* Tables that are known to be broken are not written. */
	if (q->im->frozen)
		return -EIO;
	qcow2_frees_init(&c.frees);
	r = take_copy(&c);
	if (r == 0)
		r = write_copy(&c);
	finish(&c, r);
	return r;
}

/* ---- one at a time, for all who wait ---- */

static void hand_over(struct qcow2 *q)
{
	struct qcow2_committer *next = STAILQ_FIRST(&q->committers);

	if (!next) {
		q->committing = false;
		return;
	}
	next->lead = true;
	td_co_wake(next->co);
}

static void wake_all(struct qcow2_committers *served, const struct qcow2_committer *me, int result)
{
	while (!STAILQ_EMPTY(served)) {
		struct qcow2_committer *w = STAILQ_FIRST(served);

		STAILQ_REMOVE_HEAD(served, link);
		if (w == me)
			continue;
		w->result = result;
		td_co_wake(w->co);
	}
}

static int lead(struct qcow2 *q, const struct qcow2_committer *me)
{
	struct qcow2_committers served = STAILQ_HEAD_INITIALIZER(served);
	struct qcow2_committer *w;
	unsigned flags = 0;
	int r;

	STAILQ_FOREACH(w, &q->committers, link)
		flags |= w->flags;
	while ((w = STAILQ_FIRST(&q->committers)) != NULL) {
		STAILQ_REMOVE_HEAD(&q->committers, link);
		STAILQ_INSERT_TAIL(&served, w, link);
	}
	r = commit_once(q, flags);
	wake_all(&served, me, r);
	hand_over(q);
	/* After an error the keeper would only meet it again. */
	if (r == 0 && q->ready.nr > 0)
		qcow2_commit_soon(q);
	return r;
}

int qcow2_commit(struct qcow2 *q, unsigned flags)
{
	struct qcow2_committer me = { .co = td_co_self(), .flags = flags };

	STAILQ_INSERT_TAIL(&q->committers, &me, link);
	if (q->committing) {
		td_co_yield();
		if (!me.lead)
			return me.result;
	}
	q->committing = true;
	return lead(q, &me);
}
