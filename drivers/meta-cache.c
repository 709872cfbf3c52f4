// SPDX-License-Identifier: BSD-2-Clause
/*
 * The units of one level of metadata in memory: found by hash, evicted by a clock, and only when clean.  Their bytes
 * lie in memory that outlives the process for as long as there is any (blktap/keep.h).
 */
#include "meta-int.h"

#define CHUNK_FIRST 4u /* units: a backing image is often asked for little */
#define CHUNK_MORE  16u

struct meta_chunk {
	struct meta_chunk *next;
	void *mem;
	struct meta_unit unit[];
};

int meta_cache_init(struct meta_cache *c, size_t unit, uint64_t bytes)
{
	*c = (struct meta_cache){ .unit = unit, .sectors = (unsigned)(unit / TD_KEEP_SECTOR) };
	TAILQ_INIT(&c->clock);
	TAILQ_INIT(&c->dirty);
	TAILQ_INIT(&c->unused);
	c->limit = (unsigned)TD_MAX((uint64_t)META_MIN_UNITS, TD_MIN(bytes / unit, 1ull << 28));
	while ((1ull << c->hash_bits) < c->limit)
		c->hash_bits++;
	c->hash = calloc((size_t)1 << c->hash_bits, sizeof(struct meta_unit *));
	return c->hash ? 0 : -ENOMEM;
}

void meta_cache_done(struct meta_cache *c)
{
	struct meta_chunk *ch = c->chunks;

	while (ch) {
		struct meta_chunk *next = ch->next;

		free(ch->mem);
		free(ch);
		ch = next;
	}
	td_keep_area_free(&c->kept);
	free(c->hash);
	*c = (struct meta_cache){ 0 };
}

/* ---- finding ---- */

static struct meta_unit **bucket_of(const struct meta_cache *c, uint64_t off)
{
	uint64_t key = (off / TD_KEEP_SECTOR) * 0x9e3779b97f4a7c15ull;

	return &c->hash[key >> (64 - c->hash_bits)];
}

struct meta_unit *meta_cache_find(const struct meta_cache *c, uint64_t off)
{
	struct meta_unit *u = *bucket_of(c, off);

	while (u && u->off != off)
		u = u->hash_next;
	return u;
}

void meta_cache_insert(struct meta_cache *c, struct meta_unit *u, uint64_t off)
{
	struct meta_unit **p = bucket_of(c, off);

	*u = (struct meta_unit){
		.off = off, .bytes = u->bytes, .kept = u->kept, .loading = true, .hash_next = *p
	};
	td_keep_drop(u->kept);
	*p = u;
	TAILQ_INSERT_HEAD(&c->clock, u, link);
}

/* Out of the table; its memory can be used for another unit. */
static void unhash(struct meta_cache *c, struct meta_unit *u)
{
	struct meta_unit **p = bucket_of(c, u->off);

	while (*p != u)
		p = &(*p)->hash_next;
	*p = u->hash_next;
	TAILQ_REMOVE(&c->clock, u, link);
	u->dead = true;
}

static void put_unused(struct meta_cache *c, struct meta_unit *u)
{
	c->nr--;
	TAILQ_INSERT_TAIL(&c->unused, u, link);
}

void meta_cache_remove(struct meta_cache *c, struct meta_unit *u)
{
	unhash(c, u);
	if (u->pins == 0)
		put_unused(c, u);
}

void meta_cache_unpin(struct meta_cache *c, struct meta_unit *u)
{
	if (--u->pins == 0 && u->dead)
		put_unused(c, u);
}

/* ---- memory ---- */

/* Memory that outlives the process, if there is any left; else our own, and then nothing is kept any more. */
static int chunk_memory(struct meta_cache *c, struct meta_chunk *ch, unsigned nr)
{
	uint64_t first = 0;
	uint8_t *bytes;
	int r = c->kept.keep ? td_keep_take(&c->kept, nr, &first) : 0;

	if (c->kept.keep && r == 0) {
		for (unsigned i = 0; i < nr; i++) {
			ch->unit[i].kept = td_keep_unit(&c->kept, first + i);
			ch->unit[i].bytes = c->kept.bytes + (first + i) * c->unit;
		}
		return 0;
	}
	td_keep_give_up(c->kept.keep, r);
	if (posix_memalign(&ch->mem, TD_META_UNIT_MAX, nr * c->unit))
		return -ENOMEM;
	bytes = ch->mem;
	for (unsigned i = 0; i < nr; i++)
		ch->unit[i].bytes = bytes + i * c->unit;
	return 0;
}

/* Units come in chunks, so that aligned memory for each does not waste half. */
static int add_chunk(struct meta_cache *c)
{
	unsigned nr = c->chunks ? CHUNK_MORE : CHUNK_FIRST;
	struct meta_chunk *ch = calloc(1, sizeof(*ch) + nr * sizeof(ch->unit[0]));

	if (!ch)
		return -ENOMEM;
	if (chunk_memory(c, ch, nr) < 0) {
		free(ch);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < nr; i++)
		TAILQ_INSERT_TAIL(&c->unused, &ch->unit[i], link);
	ch->next = c->chunks;
	c->chunks = ch;
	return 0;
}

struct meta_unit *meta_cache_take(struct meta_cache *c)
{
	struct meta_unit *u;

	if (TAILQ_EMPTY(&c->unused) && add_chunk(c) < 0)
		return NULL;
	u = TAILQ_FIRST(&c->unused);
	TAILQ_REMOVE(&c->unused, u, link);
	c->nr++;
	return u;
}

/* The clock: a unit that was used since the hand passed it gets another round. */
struct meta_unit *meta_cache_evict(struct meta_cache *c)
{
	for (unsigned i = 0; i < 2 * c->nr; i++) {
		struct meta_unit *u = TAILQ_LAST(&c->clock, meta_units);

		if (!u)
			return NULL;
		if (!u->used && !u->dirty && u->pins == 0) {
			c->evictions++;
			unhash(c, u);
			return u;
		}
		u->used = false;
		TAILQ_REMOVE(&c->clock, u, link);
		TAILQ_INSERT_HEAD(&c->clock, u, link);
	}
	return NULL;
}

/* ---- dirty ---- */

void meta_cache_remark(struct meta_cache *c, struct meta_unit *u)
{
	if (u->dirty || u->dead)
		return;
	u->dirty = true;
	TAILQ_INSERT_TAIL(&c->dirty, u, dirty_link);
	c->nr_dirty++;
}

void meta_cache_mark(struct meta_cache *c, struct meta_unit *u)
{
	if (u->dirty)
		return;
	td_keep_mark(u->kept, u->off, u->bytes, c->sectors);
	meta_cache_remark(c, u);
}

void meta_cache_unmark(struct meta_cache *c, struct meta_unit *u)
{
	if (!u->dirty)
		return;
	u->dirty = false;
	TAILQ_REMOVE(&c->dirty, u, dirty_link);
	c->nr_dirty--;
}
