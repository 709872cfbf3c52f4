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

void qcow2_frees_add_entry(struct qcow2_frees *f, const struct qcow2_geom *g, const struct qcow2_l2e *e)
{
	uint64_t first = e->host_off >> g->cluster_bits, last = first;

	if (g->data_file)
		return; /* nobody counts there */
	if (e->kind == QCOW2_PACKED)
		last = (e->host_off + e->packed_len - 1) >> g->cluster_bits;
	qcow2_frees_add(f, first, last - first + 1);
}

void qcow2_frees_join(struct qcow2_frees *to, struct qcow2_frees *from)
{
	STAILQ_CONCAT(&to->chunks, &from->chunks);
	to->nr += from->nr;
	to->spare += from->spare;
	from->nr = from->spare = 0;
}
