// SPDX-License-Identifier: BSD-2-Clause
/*
 * Clusters on their way back to the allocator.
 *
 * When the last pointer to a cluster is dropped in memory, the disk still has it: the cluster is *pending* until a
 * commit has made the drop durable, then *ready*: its space is punched out of the file and its refcount is counted
 * down, and only then can the allocator hand it out again.  A crash before that leaks it at most.
 */
#include "qcow2-int.h"

void qcow2_frees_init(struct qcow2_frees *f)
{
	*f = (struct qcow2_frees){ 0 };
	STAILQ_INIT(&f->chunks);
}

void qcow2_frees_done(struct qcow2_frees *f)
{
	struct qcow2_free_chunk *c;

	while ((c = STAILQ_FIRST(&f->chunks)) != NULL) {
		STAILQ_REMOVE_HEAD(&f->chunks, link);
		free(c);
	}
	f->nr = f->spare = 0;
}

/* Memory is taken before tables are changed, so that dropping never fails half-way. */
int qcow2_frees_reserve(struct qcow2_frees *f, size_t nr)
{
	while (f->spare < nr) {
		struct qcow2_free_chunk *c = calloc(1, sizeof(*c));

		if (!c)
			return -ENOMEM;
		STAILQ_INSERT_HEAD(&f->chunks, c, link);
		f->spare += TD_NELEMS(c->run);
	}
	return 0;
}

static struct qcow2_free_chunk *chunk_with_room(struct qcow2_frees *f)
{
	struct qcow2_free_chunk *c;

	/* New chunks come first: it is one of the first few. */
	STAILQ_FOREACH(c, &f->chunks, link)
		if (c->nr < TD_NELEMS(c->run))
			return c;
	return NULL;
}

void qcow2_frees_add(struct qcow2_frees *f, uint64_t cluster, uint64_t nr)
{
	struct qcow2_free_chunk *c = chunk_with_room(f);
	struct qcow2_free_run *last;

	if (!c)
		return; /* not reserved: a bug of the caller.  A leak is the least harm it can do */
	last = c->nr > 0 ? &c->run[c->nr - 1] : NULL;
	if (last && last->cluster + last->nr == cluster) {
		last->nr += nr;
		return;
	}
	c->run[c->nr++] = (struct qcow2_free_run){ .cluster = cluster, .nr = nr };
	f->nr++;
	f->spare--;
}

void qcow2_frees_join(struct qcow2_frees *to, struct qcow2_frees *from)
{
	STAILQ_CONCAT(&to->chunks, &from->chunks);
	to->nr += from->nr;
	to->spare += from->spare;
	from->nr = from->spare = 0;
}

/* How many clusters from the run's start have a refcount of exactly one (*ret_last) or not. */
static int same_count(struct qcow2 *q, const struct qcow2_free_run *run, bool *ret_last, uint64_t *ret_nr)
{
	uint64_t first, count, nr = 1;
	int r = qcow2_refs_get(q, run->cluster, &first);

	for (; r == 0 && nr < run->nr; nr++) {
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
 * can raise a count of one meanwhile, because nothing points at the cluster any more.
 */
static int reap_piece(struct qcow2 *q, struct qcow2_free_run *run)
{
	uint64_t nr = 0, host_off = run->cluster << q->g.cluster_bits;
	bool last = false;
	int r;

	td_mutex_lock(&q->alloc_lock);
	r = same_count(q, run, &last, &nr);
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
	return r;
}
