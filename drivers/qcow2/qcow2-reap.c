// SPDX-License-Identifier: BSD-2-Clause
/*
 * Giving clusters back: what a commit made ready is punched out of the file, then counted down, and from then on the
 * allocator may hand it out.  And the keeper, the one coroutine of an image that works without being asked by a guest:
 * it commits when much has piled up, and reaps.
 */
#include "qcow2-int.h"

/* Clusters that are looked at, punched and counted down in one go: allocations wait meanwhile. */
#define PIECE_MAX 1024u

/* How many clusters from the run's start have a refcount of exactly one (*ret_last) or not. */
static int same_count(struct qcow2 *q, const struct qcow2_free_run *run, bool *ret_last, uint64_t *ret_nr)
{
	uint64_t first, count, nr = 1;
	int r = qcow2_refs_get(q, run->cluster, &first);

	for (; r == 0 && nr < TD_MIN(run->nr, (uint64_t)PIECE_MAX); nr++) {
		r = qcow2_refs_get(q, run->cluster + nr, &count);
		if (r < 0 || (count == 1) != (first == 1))
			break;
	}
	if (r < 0)
		return r;
	*ret_last = first == 1;
	*ret_nr = nr;
	return 0;
}

/*
 * One piece of a run.  Punching comes before counting down: afterwards the cluster may be somebody else's.  Nothing
 * can raise a count of one meanwhile: nothing points at the cluster any more, and no new stream goes into it.
 */
static int reap_piece(struct qcow2 *q, struct qcow2_free_run *run)
{
	uint64_t nr = 0, host_off = run->cluster << q->g.cluster_bits;
	bool last = false;
	int r;

	td_mutex_lock(&q->alloc_lock);
	r = same_count(q, run, &last, &nr);
	if (r == 0 && last)
		qcow2_pack_elsewhere(q, run->cluster, nr);
	td_mutex_unlock(&q->alloc_lock);
	if (r < 0)
		return r;
	if (last && host_off < q->child->size)
		/* If it cannot be punched, the file only stays larger. */
		td_ignore(td_image_trim(q->child, host_off,
					TD_MIN(nr << q->g.cluster_bits, q->child->size - host_off)));
	td_mutex_lock(&q->alloc_lock);
	for (; r == 0 && nr > 0; nr--) {
		r = qcow2_refs_drop(q, run->cluster);
		if (r == 0) {
			run->cluster++;
			run->nr--;
		}
	}
	td_mutex_unlock(&q->alloc_lock);
	return r;
}

/*
 * On failure what is left stays ready, for the next try.  One reaper at a time; it takes the whole list, so that what
 * becomes ready meanwhile cannot move under it.
 */
int qcow2_frees_reap(struct qcow2 *q)
{
	struct qcow2_frees mine;
	struct qcow2_free_chunk *c;
	int r = 0;

	/* Whether somebody else names them too is not known of a broken image: nothing is punched out of it. */
	if (q->im->frozen)
		return -EIO;
	if (q->reaping)
		return 0;
	q->reaping = true;
	qcow2_frees_init(&mine);
	qcow2_frees_join(&mine, &q->ready);
	while (r == 0 && (c = STAILQ_FIRST(&mine.chunks)) != NULL) {
		while (r == 0 && c->nr > 0) {
			r = reap_piece(q, &c->run[c->nr - 1]);
			if (r == 0 && c->run[c->nr - 1].nr == 0)
				c->nr--, mine.nr--;
		}
		if (r == 0) {
			STAILQ_REMOVE_HEAD(&mine.chunks, link);
			free(c);
		}
	}
	mine.spare = 0; /* chunks have gone, and others have room now */
	STAILQ_FOREACH(c, &mine.chunks, link)
		mine.spare += TD_NELEMS(c->run) - c->nr;
	qcow2_frees_join(&q->ready, &mine);
	q->reaping = false;
	td_waitq_wake_all(&q->reaped);
	return r;
}

bool qcow2_reclaim(struct qcow2 *q)
{
	int r;

	if (!q->committing && !q->reaping && q->pending.nr == 0 && q->ready.nr == 0)
		return false;
	r = qcow2_commit(q, 0);
	while (q->reaping)
		td_waitq_wait(&q->reaped);
	return r == 0 && qcow2_frees_reap(q) == 0;
}

/* ---- the keeper ---- */

/* An error is not lost: everything stays changed, and whoever commits next gets it. */
static void keep(struct qcow2 *q)
{
	unsigned flags = q->refs.nr_dirty > q->refs.limit / 2 ? QCOW2_COMMIT_REFS : 0;

	if (qcow2_commit_wanted(q, flags))
		td_ignore(qcow2_commit(q, flags));
	td_ignore(qcow2_frees_reap(q));
}

static void keeper_main(void *arg)
{
	struct qcow2 *q = arg;
	struct qcow2_keeper *k = &q->keeper;

	k->runs = true;
	while (!k->ends) {
		if (!k->asked) {
			td_waitq_wait(&k->asleep);
			continue;
		}
		k->asked = false;
		k->busy = true;
		keep(q);
		k->busy = false;
		if (!k->asked)
			td_waitq_wake_all(&k->idle);
	}
	k->runs = false;
	td_waitq_wake_all(&k->idle);
}

int qcow2_keeper_start(struct qcow2 *q)
{
	return td_co_start(keeper_main, q);
}

void qcow2_keeper_wait(struct qcow2 *q)
{
	struct qcow2_keeper *k = &q->keeper;

	while (k->runs && (k->asked || k->busy))
		td_waitq_wait(&k->idle);
}

void qcow2_keeper_end(struct qcow2 *q)
{
	struct qcow2_keeper *k = &q->keeper;

	qcow2_keeper_wait(q);
	k->ends = true;
	td_waitq_wake_one(&k->asleep);
	while (k->runs)
		td_waitq_wait(&k->idle);
}
