// SPDX-License-Identifier: BSD-2-Clause
/*
 * Refcounts as they are on the disk, a block at a time: for who reads them in order, beside the cache.
 */
#include "qcow2-shadow.h"

int qcow2_counts_init(struct qcow2_counts *c, struct qcow2 *q, const struct qcow2_geom *g,
		      const struct qcow2_table *t)
{
	*c = (struct qcow2_counts){ .q = q, .g = *g, .table = t, .block = td_buf_alloc(g->cluster_size) };
	return c->block ? 0 : -ENOMEM;
}

void qcow2_counts_done(struct qcow2_counts *c)
{
	if (c->block)
		td_buf_free(c->block, c->g.cluster_size);
	c->block = NULL;
}

static int load(struct qcow2_counts *c, uint64_t region)
{
	struct qcow2_reftable_entry e = { 0 };
	int r = 0;

	c->loaded = false;
	if (region < c->table->nr)
		r = qcow2_reftable_decode(&c->g, qcow2_table_get(c->table, region), &e);
	if (r == 0 && e.present)
		r = td_image_pread(c->q->child, e.host_off, c->block, c->g.cluster_size, TD_EXACT);
	if (r < 0)
		return r == -EINVAL ? -EUCLEAN : r;
	c->loaded = true;
	c->present = e.present;
	c->region = region;
	return 0;
}

int qcow2_counts_get(struct qcow2_counts *c, uint64_t cluster, uint64_t *ret)
{
	uint64_t region = cluster / c->g.refblock_entries;
	int r = c->loaded && c->region == region ? 0 : load(c, region);

	if (r == 0)
		*ret = c->present ? qcow2_refcount_get(&c->g, c->block, cluster % c->g.refblock_entries) : 0;
	return r;
}
