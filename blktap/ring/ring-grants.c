// SPDX-License-Identifier: BSD-2-Clause
/*
 * Pages of the guest.  Without persistent grants a request's pages are mapped in one call and unmapped at its answer.
 * With them up to `max` stay mapped, one by one so that each can go alone, keyed by their grant reference; they are
 * mapped writable, because the next request that names the page may be a read.
 *
 * The guest gave its word not to take such pages away.  If it uses more than we keep, the one unused for longest goes;
 * those in use never do, and what then finds no room is mapped for its request only.
 */
#include "ring-private.h"

static unsigned bucket_of(const struct ring_grants *g, uint32_t gref)
{
	return (uint32_t)(gref * 2654435769u) >> (32 - g->bucket_bits);
}

int ring_grants_init(struct ring_grants *g, struct ring_port *port, unsigned max, struct ring_stats *stats)
{
	*g = (struct ring_grants){ .port = port, .stats = stats, .max = max, .bucket_bits = 1 };
	TAILQ_INIT(&g->idle);
	SLIST_INIT(&g->free);
	if (max == 0)
		return 0;
	while (1u << g->bucket_bits < max && g->bucket_bits < 16)
		g->bucket_bits++;
	g->all = calloc(max, sizeof(*g->all));
	g->bucket = calloc((size_t)1 << g->bucket_bits, sizeof(*g->bucket));
	if (!g->all || !g->bucket) {
		free(g->all);
		free(g->bucket);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < max; i++)
		SLIST_INSERT_HEAD(&g->free, &g->all[i], chain);
	return 0;
}

/* Unmap a page that nobody uses. */
static void drop(struct ring_grants *g, struct ring_grant *e)
{
	TAILQ_REMOVE(&g->idle, e, idle);
	SLIST_REMOVE(&g->bucket[bucket_of(g, e->gref)], e, ring_grant, chain);
	g->port->ops->unmap(g->port, &e->page, 1);
	SLIST_INSERT_HEAD(&g->free, e, chain);
	g->stats->persistent = --g->nr;
}

void ring_grants_done(struct ring_grants *g)
{
	struct ring_grant *e;

	while ((e = TAILQ_FIRST(&g->idle)))
		drop(g, e);
	free(g->all);
	free(g->bucket);
}

static struct ring_grant *find(struct ring_grants *g, uint32_t gref)
{
	struct ring_grant *e;

	SLIST_FOREACH(e, &g->bucket[bucket_of(g, gref)], chain)
		if (e->gref == gref)
			return e;
	return NULL;
}

static void use(struct ring_grants *g, struct ring_grant *e)
{
	if (e->users++ == 0)
		TAILQ_REMOVE(&g->idle, e, idle);
}

static void unuse(struct ring_grants *g, struct ring_grant *e)
{
	if (--e->users == 0)
		TAILQ_INSERT_TAIL(&g->idle, e, idle);
}

static int map_one(struct ring_grants *g, struct ring_grant *e, bool must_write)
{
	const struct ring_port_ops *ops = g->port->ops;
	int r = ops->map(g->port, &e->gref, 1, true, &e->page);

	e->writable = r == 0;
	if (r < 0 && !must_write)
		r = ops->map(g->port, &e->gref, 1, false, &e->page);
	return r;
}

/* 0 and *ret: kept from now on, with one user; *ret NULL: there is no room for it. */
static int keep(struct ring_grants *g, uint32_t gref, bool writable, struct ring_grant **ret)
{
	struct ring_grant *e = SLIST_FIRST(&g->free);
	int r;

	*ret = NULL;
	if (!e) {
		e = TAILQ_FIRST(&g->idle);
		if (!e)
			return 0;
		drop(g, e);
		g->stats->grants_evicted++;
	}
	e->gref = gref;
	r = map_one(g, e, writable);
	if (r < 0)
		return r;
	SLIST_REMOVE_HEAD(&g->free, chain);
	SLIST_INSERT_HEAD(&g->bucket[bucket_of(g, gref)], e, chain);
	e->users = 1;
	g->stats->persistent = ++g->nr;
	g->stats->grants_mapped++;
	*ret = e;
	return 0;
}

static int get_kept(struct ring_grants *g, uint32_t gref, bool writable, struct ring_grant **ret)
{
	struct ring_grant *e = find(g, gref);

	*ret = NULL;
	if (e && writable && !e->writable) {
		if (e->users > 0)
			return 0; /* a second mapping, for this request only */
		drop(g, e);       /* the guest may have changed its mind since */
		e = NULL;
	}
	if (!e)
		return keep(g, gref, writable, ret);
	use(g, e);
	g->stats->grants_reused++;
	*ret = e;
	return 0;
}

static void put_kept(struct ring_grants *g, struct ring_grant *const *kept, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		if (kept[i])
			unuse(g, kept[i]);
}

/* Those that are not kept, in one call. */
static int map_rest(struct ring_grants *g, const uint32_t *grefs, unsigned nr, bool writable, void **pages,
		    struct ring_grant *const *kept)
{
	uint32_t rest[TD_BLKIF_MAX_SEGS];
	void *mapped[TD_BLKIF_MAX_SEGS];
	unsigned n = 0;
	int r;

	for (unsigned i = 0; i < nr; i++)
		if (!kept[i])
			rest[n++] = grefs[i];
	if (n == 0)
		return 0;
	r = g->port->ops->map(g->port, rest, n, writable, mapped);
	if (r < 0)
		return r;
	g->stats->grants_mapped += n;
	n = 0;
	for (unsigned i = 0; i < nr; i++)
		if (!kept[i])
			pages[i] = mapped[n++];
	return 0;
}

int ring_grants_get(struct ring_grants *g, const uint32_t *grefs, unsigned nr, bool writable,
		    void **ret_pages, struct ring_grant **ret_kept)
{
	unsigned i;
	int r = 0;

	if (g->max == 0) {
		r = g->port->ops->map(g->port, grefs, nr, writable, ret_pages);
		g->stats->grants_mapped += r < 0 ? 0 : nr;
		return r;
	}
	for (i = 0; i < nr; i++) {
		r = get_kept(g, grefs[i], writable, &ret_kept[i]);
		if (r < 0)
			break;
		if (ret_kept[i])
			ret_pages[i] = ret_kept[i]->page;
	}
	if (r == 0)
		r = map_rest(g, grefs, nr, writable, ret_pages, ret_kept);
	if (r < 0)
		put_kept(g, ret_kept, i);
	return r;
}

static void unmap_rest(struct ring_grants *g, void *const *pages, struct ring_grant *const *kept, unsigned nr)
{
	void *rest[TD_BLKIF_MAX_SEGS];
	unsigned n = 0;

	for (unsigned i = 0; i < nr; i++)
		if (!kept[i])
			rest[n++] = pages[i];
	if (n > 0)
		g->port->ops->unmap(g->port, rest, n);
}

void ring_grants_put(struct ring_grants *g, void *const *pages, struct ring_grant *const *kept, unsigned nr)
{
	if (g->max == 0) {
		g->port->ops->unmap(g->port, pages, nr);
		return;
	}
	unmap_rest(g, pages, kept, nr);
	put_kept(g, kept, nr);
}
