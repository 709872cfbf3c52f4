// SPDX-License-Identifier: BSD-2-Clause
/*
 * The shared map of sparse formats: opening, closing, facts.
 */
#include "grains-int.h"

#include <blktap/opts.h>

#define CACHE_DEFAULT   (2ull << 20)
#define DIRECTORY_CACHE (256ull << 10)

/* ---- what a killed process left ---- */

static bool table_may_be(const struct td_grains *g, const uint8_t *bytes)
{
	struct td_grain at = { 0 };

	for (uint64_t i = 0; i < 1ull << g->unit_bits; i++)
		if (grains_decode(g, grains_raw(g, bytes, i), &at) < 0)
			return false;
	return true;
}

/* The sector may hold something else besides. */
static bool directory_may_be(const struct td_grains *g, uint64_t off, const uint8_t *bytes)
{
	for (uint64_t at = off; at < off + TD_KEEP_SECTOR; at += g->c.entry_size) {
		uint64_t table;

		if (at < g->c.dir_off || (at - g->c.dir_off) >> g->entry_bits >= g->c.nr_tables)
			continue;
		table = g->c.ops->table_at(g->im, grains_raw(g, bytes + (at - off), 0));
		if (table && !td_in_range(table, g->table_bytes, g->im->child->size))
			return false;
	}
	return true;
}

static bool may_lie(void *arg, unsigned level, uint64_t off, const uint8_t *bytes)
{
	return level == TD_GRAINS_TABLES ? table_may_be(arg, bytes) : directory_may_be(arg, off, bytes);
}

static uint64_t copy_at(void *arg, unsigned level, uint64_t off)
{
	const struct td_grains *g = arg;

	return g->c.copy_at ? g->c.copy_at(g->im, level, off) : 0;
}

/* ---- open ---- */

static bool numbers_ok(const struct td_grains_config *c)
{
	uint64_t table = (uint64_t)c->entry_size << c->table_bits;

	if (c->grain_bits < 9 || c->grain_bits > 27 || (c->entry_size != 4 && c->entry_size != 8) ||
	    c->table_bits > (c->dir_off ? 24 : 32) || table < TD_KEEP_SECTOR)
		return false;
	if (c->table_align && (c->table_align < TD_KEEP_SECTOR || (c->table_align & (c->table_align - 1))))
		return false;
	return c->max_host <= INT64_MAX && c->nr_tables > 0 && c->nr_tables <= UINT32_MAX;
}

/*
 * The file may end inside the last sector of its directory, or of its only table, and what is missing there reads as
 * zeros: fine behind the entries of this disk, and a hole in it anywhere else.
 */
static bool all_there(const struct td_image *im, const struct td_grains_config *c, uint64_t off, uint64_t has,
		      uint64_t needs)
{
	return td_in_range(off, has * c->entry_size, td_align_up(im->child->size, TD_KEEP_SECTOR)) &&
	       td_in_range(off, needs * c->entry_size, im->child->size);
}

/* Enough tables for the disk, in a directory that is inside the file. */
static int fits(const struct td_image *im, const struct td_grains_config *c, struct td_err *ret_err)
{
	unsigned span = c->table_bits + c->grain_bits;
	uint64_t needs;

	if (!numbers_ok(c))
		return td_err_set(ret_err, -EUCLEAN, "its tables make no sense");
	needs = td_div_up(im->size, 1ull << span);
	if (needs > c->nr_tables)
		return td_err_set(ret_err, -EUCLEAN, "its tables do not reach to the end of the disk");
	if (c->dir_off == 0) {
		needs = td_div_up(im->size, 1ull << c->grain_bits);
		if (c->table_off % TD_KEEP_SECTOR || c->nr_tables != 1)
			return td_err_set(ret_err, -EUCLEAN, "its table does not start on a sector");
		if (!all_there(im, c, c->table_off, needs, needs))
			return td_err_set(ret_err, -EUCLEAN, "its table does not lie inside the file");
		return 0;
	}
	if (c->dir_off % c->entry_size || !all_there(im, c, c->dir_off, c->nr_tables, needs))
		return td_err_set(ret_err, -EUCLEAN, "its directory of tables does not lie inside the file");
	return 0;
}

/*
 * All from here on is free.  The file may end inside its last grain, and grains of others may begin at any sector: what
 * is missing of that one is its own for all that.
 */
static uint64_t end_of_use(const struct td_grains *g)
{
	uint64_t size = g->im->child->size, first = grains_first(g);

	if (size <= first || size % g->grain_size == 0)
		return TD_MAX(size, first);
	return size + g->grain_size - TD_KEEP_SECTOR;
}

static void state_init(struct td_grains *g, struct td_image *im, const struct td_grains_config *config)
{
	g->im = im;
	g->c = *config;
	g->grain_size = 1ull << config->grain_bits;
	g->entry_bits = config->entry_size == 4 ? 2 : 3;
	g->table_bytes = 1ull << (config->table_bits + g->entry_bits);
	g->unit = (uint32_t)TD_MIN(g->table_bytes, (uint64_t)TD_META_UNIT_MAX);
	g->unit_bits = (unsigned)__builtin_ctz(g->unit) - g->entry_bits;
	td_ranges_init(&g->ranges);
	g->touched = im->child->size;
	if (config->dir_off) {
		g->dir_bytes = config->nr_tables << g->entry_bits;
	} else {
		uint64_t bytes = td_div_up(im->size, g->grain_size) << g->entry_bits;

		/* It ends with the disk: what lies behind it may be data. */
		g->table_bytes = TD_MIN(g->table_bytes, td_align_up(bytes, TD_KEEP_SECTOR));
		g->recent[0] = (struct grains_recent){ .number = 1, .off = config->table_off };
	}
	g->end = end_of_use(g);
}

static int open_meta(struct td_grains *g, struct td_opts *opts, struct td_err *ret_err)
{
	struct td_meta_config mc = {
		.tag = g->c.tag, .nr_levels = 2, .copy_at = copy_at, .may_lie = may_lie, .arg = g
	};
	const bool single = g->c.dir_off == 0;
	uint64_t cache = CACHE_DEFAULT;
	int r = td_opts_size(opts, "l2-cache", &cache, ret_err);

	if (r < 0)
		return r;
	mc.level[TD_GRAINS_TABLES] =
		(struct td_meta_level){ .unit = g->unit,
					.cache = single ? cache : TD_MAX(cache, 4 * g->table_bytes),
					.may_end = single };
	mc.level[TD_GRAINS_DIRECTORY] =
		(struct td_meta_level){ .unit = TD_KEEP_SECTOR, .cache = DIRECTORY_CACHE, .may_end = true };
	return td_meta_open(g->im, &mc, opts, &g->meta, ret_err);
}

static void set_limits(const struct td_grains *g)
{
	struct td_image *im = g->im;

	im->limits = im->child->limits;
	im->limits.max_transfer = 0;
	im->limits.cluster_size = (uint32_t)g->grain_size;
	im->limits.zero_efficient =
		!g->c.sealed && im->child->limits.zero_efficient && (g->c.has_zero || !im->backing_path);
	if (g->c.sealed)
		im->limits.trim_granularity = 0;
}

int td_grains_open(struct td_image *im, const struct td_grains_config *config, struct td_opts *opts,
		   struct td_grains **ret_grains, struct td_err *ret_err)
{
	struct td_grains *g;
	int r = fits(im, config, ret_err);

	if (r < 0)
		return r;
	g = calloc(1, sizeof(*g));
	if (!g)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	state_init(g, im, config);
	r = open_meta(g, opts, ret_err);
	if (r < 0) {
		free(g);
		return r;
	}
	/* Adopting may have made it longer. */
	g->end = TD_MAX(g->end, im->child->size);
	set_limits(g);
	*ret_grains = g;
	return 0;
}

int td_grains_close(struct td_grains *g)
{
	int r;

	if (!g)
		return 0;
	r = td_meta_close(g->meta);
	if (r == 0 && !g->im->frozen)
		grains_cut(g);
	td_packed_free(g->packed);
	free(g);
	return r;
}

int td_grains_flush(struct td_grains *g)
{
	return td_meta_commit(g->meta);
}

void td_grains_counters(const struct td_grains *g, struct td_counters *ret)
{
	td_meta_counters(g->meta, ret);
	td_counter(ret, "allocated_bytes", g->allocated);
	td_counter(ret, "tables_made", g->tables_made);
	td_packed_counters(g->packed, ret);
}
