// SPDX-License-Identifier: BSD-2-Clause
/*
 * The directories of an extent that is going to be written.
 *
 * The tables of the redundant directory are written with those of the first.  Where the directories lead is outside
 * data: a table that lay over another, over grains or over the header would be overwritten by what belongs elsewhere.
 * So before anything is written each is looked at once.
 */
#include "vmdk-sparse.h"

/* All that entries can name, 2 TiB, in the smallest grains that the specification has: 4 KiB, 512 a table. */
#define TABLES_MAX (1u << 20)

static int read_directory(const struct vmdk_sparse *s, uint64_t at, uint32_t *entries, const char *what,
			  struct td_err *ret_err)
{
	int r = td_image_pread(s->im->child, at * VMDK_SECTOR, entries, s->nr_tables * 4, TD_EXACT);

	if (r < 0)
		return td_err_set(ret_err, r, "cannot read its %s: %s", what,
				  r == -EUCLEAN ? "it lies behind the end of the file" : strerror(-r));
	for (uint64_t i = 0; i < s->nr_tables; i++)
		entries[i] = le32toh(entries[i]);
	return 0;
}

static int by_place(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int by_table(const void *a, const void *b)
{
	return by_place(&((const struct vmdk_copy *)a)->table, &((const struct vmdk_copy *)b)->table);
}

static int bad(const char *what, struct td_err *ret_err)
{
	return td_err_set(ret_err, -EUCLEAN,
			  "%s: nothing is written to it like that (tap-img check says more; read-only it "
			  "opens)",
			  what);
}

/* All tables, sorted: each between the other metadata and the grains, none over another. */
static int check_places(const struct vmdk_sparse *s, uint64_t *place, uint64_t nr, struct td_err *ret_err)
{
	const struct vmdk_header *h = &s->h;
	const uint64_t end = h->overhead * VMDK_SECTOR, dir_len = vmdk_directory_len(h) * VMDK_SECTOR;

	qsort(place, nr, sizeof(*place), by_place);
	for (uint64_t i = 0; i < nr; i++) {
		if (place[i] == 0)
			return bad("a grain table is missing", ret_err);
		if (!td_in_range(place[i], s->table_bytes, end))
			return bad("a grain table lies among the grains", ret_err);
		if (!td_in_range(place[i], s->table_bytes, s->im->child->size))
			return bad("a grain table lies behind the end of the file", ret_err);
		if (i > 0 && place[i] - place[i - 1] < s->table_bytes)
			return bad("two grain tables lie at one place", ret_err);
		if (td_overlap(place[i], s->table_bytes, 0, VMDK_SECTOR) ||
		    td_overlap(place[i], s->table_bytes, h->desc * VMDK_SECTOR, h->desc_len * VMDK_SECTOR) ||
		    td_overlap(place[i], s->table_bytes, h->gd * VMDK_SECTOR, dir_len) ||
		    (s->nr_copies && td_overlap(place[i], s->table_bytes, h->rgd * VMDK_SECTOR, dir_len)))
			return bad("a grain table lies over a header or a directory", ret_err);
	}
	return 0;
}

static int check_directories(struct vmdk_sparse *s, const uint32_t *gd, const uint32_t *rgd,
			     struct td_err *ret_err)
{
	const uint64_t nr = s->nr_tables * (rgd ? 2 : 1);
	uint64_t *place = calloc(nr + 1, sizeof(*place));
	int r;

	if (!place)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	for (uint64_t i = 0; i < s->nr_tables; i++) {
		place[i] = (uint64_t)gd[i] * VMDK_SECTOR;
		if (!rgd)
			continue;
		place[s->nr_tables + i] = (uint64_t)rgd[i] * VMDK_SECTOR;
		s->copies[i] = (struct vmdk_copy){ place[i], place[s->nr_tables + i] };
	}
	s->nr_copies = rgd ? s->nr_tables : 0;
	r = check_places(s, place, nr, ret_err);
	free(place);
	if (rgd)
		qsort(s->copies, s->nr_copies, sizeof(*s->copies), by_table);
	return r;
}

/* Header, descriptor, directories and tables end before the grains begin, if the header is right. */
static int check_overhead(const struct vmdk_sparse *s, struct td_err *ret_err)
{
	const struct vmdk_header *h = &s->h;
	const uint64_t dir_len = vmdk_directory_len(h);

	if (h->overhead > VMDK_MAX_SECTORS)
		return bad("its header says that grains begin where none can", ret_err);
	/* A file with a hole may be as long as it likes. */
	if (s->nr_tables > TABLES_MAX)
		return bad("it has more grain tables than entries can name grains", ret_err);
	/* With no grain yet the file may end behind the last table. */
	if (!td_in_range(h->gd * VMDK_SECTOR, dir_len * VMDK_SECTOR, s->im->child->size))
		return bad("its file ends before its directory does", ret_err);
	if (!td_in_range(h->desc, h->desc_len, h->overhead) || !td_in_range(h->gd, dir_len, h->overhead) ||
	    (h->flags & VMDK_REDUNDANT && !td_in_range(h->rgd, dir_len, h->overhead)))
		return bad("its header says that grains begin before its directories end", ret_err);
	return 0;
}

static int load(struct vmdk_sparse *s, struct td_err *ret_err)
{
	const bool redundant = s->h.flags & VMDK_REDUNDANT;
	uint32_t *gd = calloc(s->nr_tables + 1, sizeof(*gd)), *rgd = NULL;
	int r = gd ? 0 : -ENOMEM;

	if (redundant) {
		rgd = calloc(s->nr_tables + 1, sizeof(*rgd));
		s->copies = calloc(s->nr_tables + 1, sizeof(*s->copies));
		r = gd && rgd && s->copies ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = read_directory(s, s->h.gd, gd, "grain directory", ret_err);
	if (r == 0 && rgd)
		r = read_directory(s, s->h.rgd, rgd, "redundant grain directory", ret_err);
	if (r == 0)
		r = check_directories(s, gd, rgd, ret_err);
	free(gd);
	free(rgd);
	return r == -ENOMEM ? td_err_set(ret_err, r, "no memory") : r;
}

int vmdk_directories_load(struct vmdk_sparse *s, struct td_err *ret_err)
{
	int r = check_overhead(s, ret_err); /* which bounds the tables, and so what is allocated */

	if (r == 0)
		r = load(s, ret_err);
	if (r == 0)
		return 0;
	free(s->copies);
	s->copies = NULL;
	s->nr_copies = 0;
	return r;
}

uint64_t vmdk_copy_at(const struct vmdk_sparse *s, uint64_t off)
{
	uint64_t from = 0, to = s->nr_copies;

	while (to - from > 1) {
		uint64_t mid = from + (to - from) / 2;

		if (s->copies[mid].table <= off)
			from = mid;
		else
			to = mid;
	}
	if (to == from || off < s->copies[from].table || off - s->copies[from].table >= s->table_bytes)
		return 0;
	return s->copies[from].copy + (off - s->copies[from].table);
}
