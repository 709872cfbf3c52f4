// SPDX-License-Identifier: BSD-2-Clause
/*
 * From guest offsets to places in the file, and back into the tables.  Nothing here writes to the disk: what is changed
 * goes with the next commit.
 */
#include "grains-int.h"

#define UNITS_FAR 1024u /* looked at for one answer: the others want the processor too */

/* ---- entries ---- */

uint64_t grains_raw(const struct td_grains *g, const uint8_t *bytes, uint64_t i)
{
	const uint8_t *p = bytes + (i << g->entry_bits);

	if (g->c.entry_size == 4)
		return g->c.big_endian ? td_get_be32(p) : td_get_le32(p);
	return g->c.big_endian ? td_get_be64(p) : td_get_le64(p);
}

/* In one store: a kill never leaves half of one. */
void grains_put_raw(const struct td_grains *g, uint8_t *bytes, uint64_t i, uint64_t raw)
{
	void *p = bytes + (i << g->entry_bits);
	uint32_t half = (uint32_t)raw;

	if (g->c.entry_size == 4)
		__atomic_store_n((uint32_t *)p, g->c.big_endian ? htobe32(half) : htole32(half),
				 __ATOMIC_RELAXED);
	else
		__atomic_store_n((uint64_t *)p, g->c.big_endian ? htobe64(raw) : htole64(raw),
				 __ATOMIC_RELAXED);
}

int grains_decode(const struct td_grains *g, uint64_t raw, struct td_grain *ret)
{
	int r = g->c.ops->decode(g->im, raw, ret);

	if (r < 0 || ret->kind == TD_GRAIN_HOLE || ret->kind == TD_GRAIN_ZERO)
		return r;
	/*
	 * The file may end inside its last grain, and what is missing there are zeros.  A grain that lies wholly behind
	 * the end was cut off: its bytes are lost, and zeros would be a lie.
	 */
	if (ret->host_off < g->c.data_from || ret->host_off >= g->im->child->size)
		return -EUCLEAN;
	return td_overlap(ret->host_off, ret->kind == TD_GRAIN_DATA ? g->grain_size : 1, g->c.dir_off,
			  g->dir_bytes)
		       ? -EUCLEAN
		       : 0;
}

/* ---- tables ---- */

static bool touches_directory(const struct td_grains *g, uint64_t off)
{
	uint64_t start = td_align_down(g->c.dir_off, TD_KEEP_SECTOR);
	uint64_t end = td_align_up(g->c.dir_off + g->dir_bytes, TD_KEEP_SECTOR);

	return td_overlap(start, end - start, off, g->table_bytes);
}

static int directory_entry(struct td_grains *g, uint64_t table, uint64_t *ret_unit, uint8_t **ret)
{
	uint64_t at = g->c.dir_off + (table << g->entry_bits);
	uint8_t *bytes = NULL;
	int r;

	*ret_unit = td_align_down(at, TD_KEEP_SECTOR);
	r = td_meta_get(g->meta, TD_GRAINS_DIRECTORY, *ret_unit, &bytes);
	if (r < 0)
		return r;
	*ret = bytes + (at - *ret_unit);
	return 0;
}

static int find_table(struct td_grains *g, uint64_t table, uint64_t *ret)
{
	uint8_t *entry = NULL;
	uint64_t unit, off;
	int r;

	if (table >= g->c.nr_tables)
		return -EUCLEAN;
	r = directory_entry(g, table, &unit, &entry);
	if (r < 0)
		return r;
	off = g->c.ops->table_at(g->im, grains_raw(g, entry, 0));
	if (off && (off % TD_KEEP_SECTOR || off > UINT64_MAX / 2 || touches_directory(g, off)))
		return -EUCLEAN;
	if (off)
		g->recent[table % GRAINS_RECENT] = (struct grains_recent){ .number = table + 1, .off = off };
	*ret = off;
	return 0;
}

int grains_table(struct td_grains *g, uint64_t table, uint64_t *ret)
{
	const struct grains_recent *known = &g->recent[table % GRAINS_RECENT];

	if (known->number != table + 1)
		return find_table(g, table, ret);
	*ret = known->off;
	return 0;
}

int grains_name_table(struct td_grains *g, uint64_t table, uint64_t off)
{
	uint8_t *entry = NULL;
	uint64_t unit = 0;
	int r = directory_entry(g, table, &unit, &entry);

	if (r < 0)
		return r;
	td_meta_mark(g->meta, TD_GRAINS_DIRECTORY, unit);
	grains_put_raw(g, entry, 0, off ? g->c.ops->table_raw(g->im, off) : 0);
	return 0;
}

void grains_forget_tables(struct td_grains *g)
{
	if (g->c.dir_off)
		memset(g->recent, 0, sizeof(g->recent));
}

/* ---- units ---- */

uint64_t grains_to_unit_end(const struct td_grains *g, uint64_t off)
{
	uint64_t span = 1ull << (g->unit_bits + g->c.grain_bits);

	return span - (off & (span - 1));
}

static uint64_t to_table_end(const struct td_grains *g, uint64_t off)
{
	uint64_t span = 1ull << (g->c.table_bits + g->c.grain_bits);

	return span - (off & (span - 1));
}

int grains_unit(struct td_grains *g, uint64_t off, uint64_t *ret_off, uint8_t **ret_bytes)
{
	uint64_t grain = off >> g->c.grain_bits, table_off = 0, at;
	uint64_t in = grain & ((1ull << g->c.table_bits) - 1);
	int r = grains_table(g, grain >> g->c.table_bits, &table_off);

	if (r < 0)
		return r;
	*ret_bytes = NULL;
	if (table_off == 0)
		return g->c.table_align ? 0 : -EUCLEAN;
	at = table_off + (in >> g->unit_bits) * g->unit;
	*ret_off = at;
	*ret_bytes = td_meta_look(g->meta, TD_GRAINS_TABLES, at);
	return *ret_bytes ? 0 : td_meta_get(g->meta, TD_GRAINS_TABLES, at, ret_bytes);
}

static uint64_t in_unit(const struct td_grains *g, uint64_t off)
{
	return (off >> g->c.grain_bits) & ((1ull << g->unit_bits) - 1);
}

/* ---- where something is ---- */

/* Does this entry go on where that many bytes behind the first one's grain end? */
static bool continues(const struct td_grains *g, uint64_t raw, const struct td_grain *first, uint64_t bytes)
{
	struct td_grain next = { 0 };

	if (grains_decode(g, raw, &next) < 0 || next.kind != first->kind)
		return false;
	return first->kind != TD_GRAIN_DATA || next.host_off == first->host_off + bytes;
}

int grains_map(struct td_grains *g, uint64_t off, uint64_t len, struct grains_extent *ret)
{
	uint64_t in = grains_in(g, off), unit = 0, i, covered = g->grain_size;
	struct td_grain first = { 0 };
	uint8_t *bytes = NULL;
	int r = grains_unit(g, off, &unit, &bytes);

	if (r < 0)
		return r;
	if (!bytes) {
		*ret = (struct grains_extent){ .kind = TD_GRAIN_HOLE,
					       .len = TD_MIN(len, to_table_end(g, off)) };
		return 0;
	}
	i = in_unit(g, off);
	r = grains_decode(g, grains_raw(g, bytes, i), &first);
	if (r < 0)
		return r;
	while (first.kind != TD_GRAIN_PACKED && covered < in + len && ++i < 1ull << g->unit_bits &&
	       continues(g, grains_raw(g, bytes, i), &first, covered))
		covered += g->grain_size;
	*ret = (struct grains_extent){ .kind = first.kind,
				       .host_off = first.host_off,
				       .packed_len = first.len,
				       .len = TD_MIN(len, covered - in) };
	if (first.kind == TD_GRAIN_DATA)
		ret->host_off += in;
	return 0;
}

static bool goes_on(const struct grains_extent *e, const struct grains_extent *next)
{
	if (next->kind != e->kind || e->kind == TD_GRAIN_PACKED)
		return false;
	return e->kind != TD_GRAIN_DATA || next->host_off == e->host_off + e->len;
}

static bool ends_unit(const struct td_grains *g, uint64_t off)
{
	return (off & ((1ull << (g->unit_bits + g->c.grain_bits)) - 1)) == 0;
}

int grains_map_far(struct td_grains *g, uint64_t off, uint64_t len, struct grains_extent *ret)
{
	struct grains_extent e, next;
	int r = grains_map(g, off, len, &e);

	if (r < 0)
		return r;
	/* What is wrong further on is found by who gets there. */
	for (unsigned i = 0; i < UNITS_FAR && e.len < len && ends_unit(g, off + e.len); i++) {
		if (grains_map(g, off + e.len, len - e.len, &next) < 0 || !goes_on(&e, &next))
			break;
		e.len += next.len;
	}
	*ret = e;
	return 0;
}

/* ---- changing it ---- */

int grains_link(struct td_grains *g, uint64_t off, uint64_t nr, const struct td_grain *grain)
{
	struct td_grain one = *grain;
	uint8_t *bytes = NULL;
	uint64_t unit = 0, i;
	int r = grains_unit(g, off, &unit, &bytes);

	if (r < 0 || !bytes)
		return r < 0 ? r : -EIO;
	td_meta_mark(g->meta, TD_GRAINS_TABLES, unit);
	i = in_unit(g, off);
	for (uint64_t end = i + nr; i < end; i++) {
		grains_put_raw(g, bytes, i, g->c.ops->encode(g->im, &one));
		if (one.kind == TD_GRAIN_DATA)
			one.host_off += g->grain_size;
	}
	return 0;
}
