// SPDX-License-Identifier: BSD-2-Clause
/*
 * Checking: the map of each sparse extent, and whether its two directories say the same.
 *
 * The first directory decides, as everywhere.  A copy that differs is what a power cut between two writes leaves: no
 * harm, but no help either, so it counts as a leak does, and is written anew.  Directories whose tables lie where they
 * must not are worse: nobody may write to such an extent.  Of two the sound one is kept, by one write of the header.
 *
 * An entry that leads nowhere is a grain that is lost, unless the second copy knows better.  So before a repair gives
 * up what the first directory has lost it takes from the second what is good there.
 */
#include <inttypes.h>

#include <blktap/check.h>

#include "vmdk-sparse.h"

/* ---- two tables ---- */

static int compare_tables(struct vmdk_sparse *s, const struct vmdk_copy *t, uint8_t *buf, unsigned fix,
			  struct td_check *ret)
{
	struct td_image *child = s->im->child;
	int r = td_image_pread(child, t->table, buf, s->table_bytes, TD_EXACT);

	if (r == 0)
		r = td_image_pread(child, t->copy, buf + s->table_bytes, s->table_bytes, TD_EXACT);
	if (r < 0 || memcmp(buf, buf + s->table_bytes, s->table_bytes) == 0)
		return r;
	td_check_say(ret, "%s: the second copy of the grain table at 0x%" PRIx64 " differs", s->im->path,
		     t->table);
	if (!(fix & TD_FIX_LEAKS)) {
		ret->leaks++;
		return 0;
	}
	r = td_image_pwrite(child, t->copy, buf, s->table_bytes, 0);
	ret->leaks_fixed += r == 0;
	return r;
}

static int compare_copies(struct vmdk_sparse *s, unsigned fix, struct td_check *ret)
{
	uint8_t *buf = td_buf_alloc(2 * s->table_bytes);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; r == 0 && i < s->nr_copies; i++)
		r = compare_tables(s, &s->copies[i], buf, fix, ret);
	if (buf)
		td_buf_free(buf, 2 * s->table_bytes);
	if (r == 0 && ret->leaks_fixed > 0)
		r = td_image_flush(s->im->child);
	return r;
}

/* ---- entries that the second copy knows better ---- */

static bool may_be(const struct vmdk_sparse *s, uint32_t entry)
{
	const uint64_t off = (uint64_t)entry * VMDK_SECTOR;

	if (entry == VMDK_GRAIN_ABSENT || (entry == VMDK_GRAIN_ZERO && s->config.has_zero))
		return true;
	return off >= s->config.data_from && off < s->im->child->size;
}

static int rescue_table(struct vmdk_sparse *s, const struct vmdk_copy *t, uint8_t *buf, struct td_check *ret)
{
	struct td_image *child = s->im->child;
	uint8_t *copy = buf + s->table_bytes;
	uint64_t found = 0;
	int r = td_image_pread(child, t->table, buf, s->table_bytes, TD_EXACT);

	if (r == 0)
		r = td_image_pread(child, t->copy, copy, s->table_bytes, TD_EXACT);
	for (uint64_t i = 0; r == 0 && i < s->table_bytes; i += 4) {
		if (may_be(s, td_get_le32(buf + i)) || !may_be(s, td_get_le32(copy + i)))
			continue;
		memcpy(buf + i, copy + i, 4);
		found++;
	}
	if (r < 0 || found == 0)
		return r;
	r = td_image_pwrite(child, t->table, buf, s->table_bytes, 0);
	td_check_say(ret,
		     "%s: %" PRIu64 " entries of the grain table at 0x%" PRIx64
		     " are taken from its second copy",
		     s->im->path, found, t->table);
	ret->corruptions_fixed += r == 0 ? found : 0;
	return r;
}

/* On disk, before the map is looked at: nothing of it is in memory yet. */
static int rescue_entries(struct vmdk_sparse *s, struct td_check *ret)
{
	const uint64_t before = ret->corruptions_fixed;
	uint8_t *buf = td_buf_alloc(2 * s->table_bytes);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; r == 0 && i < s->nr_copies; i++)
		r = rescue_table(s, &s->copies[i], buf, ret);
	if (buf)
		td_buf_free(buf, 2 * s->table_bytes);
	return r == 0 && ret->corruptions_fixed > before ? td_image_flush(s->im->child) : r;
}

/* ---- the header ---- */

static int write_header(struct vmdk_sparse *s, const struct vmdk_header *h)
{
	uint8_t buf[VMDK_SECTOR];
	int r;

	vmdk_header_encode(h, buf);
	r = td_image_pwrite(s->im->child, 0, buf, sizeof(buf), 0);
	return r == 0 ? td_image_flush(s->im->child) : r;
}

/* Is the directory at gd sound, taken by itself? */
static bool is_sound(struct vmdk_sparse *s, uint64_t gd)
{
	struct vmdk_header was = s->h;
	int r;

	s->h.flags &= ~VMDK_REDUNDANT;
	s->h.gd = gd;
	r = vmdk_directories_load(s, NULL);
	s->h = was;
	return r == 0;
}

/* Neither pair nor single: leave only the one that is sound.  1: so it is, and what it leads to is not looked at. */
static int mend_directories(struct vmdk_sparse *s, unsigned fix, struct td_check *ret)
{
	struct vmdk_header h = s->h;
	struct td_err err = { "" };
	int r = vmdk_directories_load(s, &err);

	if (r != -EUCLEAN)
		return r;
	td_check_say(ret, "%s: %s", s->im->path, err.msg);
	if (!is_sound(s, h.gd))
		h.gd = h.flags & VMDK_REDUNDANT && is_sound(s, h.rgd) ? h.rgd : 0;
	if (h.gd == 0 || (fix & TD_FIX_ALL) != TD_FIX_ALL) {
		ret->corruptions++;
		return 1;
	}
	h.flags &= ~VMDK_REDUNDANT;
	h.rgd = 0;
	r = write_header(s, &h);
	if (r < 0)
		return r;
	ret->corruptions_fixed++;
	return 1;
}

/* ---- one extent ---- */

static int by_offset(const void *a, const void *b)
{
	const struct td_grains_used *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

/* What of the file the map does not know of, in order.  Ends with the number of them. */
static struct td_grains_used *used_by_us(const struct vmdk_sparse *s, unsigned *ret_nr)
{
	const struct vmdk_header *h = &s->h;
	struct td_grains_used *u = calloc(s->nr_copies + 4, sizeof(*u));
	unsigned nr = 0;

	if (!u)
		return NULL;
	u[nr++] = (struct td_grains_used){ 0, s->kind == VMDK_COWD ? VMDK_COWD_HEADER : VMDK_SECTOR };
	if (h->desc_len)
		u[nr++] = (struct td_grains_used){ h->desc * VMDK_SECTOR, h->desc_len * VMDK_SECTOR };
	if (s->nr_copies)
		u[nr++] =
			(struct td_grains_used){ h->rgd * VMDK_SECTOR, vmdk_directory_len(h) * VMDK_SECTOR };
	for (uint64_t i = 0; i < s->nr_copies; i++)
		u[nr++] = (struct td_grains_used){ s->copies[i].copy, s->table_bytes };
	qsort(u, nr, sizeof(*u), by_offset);
	*ret_nr = nr;
	return u;
}

static int check_map(struct vmdk_sparse *s, unsigned fix, struct td_check *ret)
{
	unsigned nr;
	struct td_grains_used *used = used_by_us(s, &nr);
	int r;

	if (!used)
		return -ENOMEM;
	r = (fix & TD_FIX_ALL) == TD_FIX_ALL ? rescue_entries(s, ret) : 0;
	if (r == 0)
		r = td_grains_check(s->grains, fix, used, nr, ret);
	free(used);
	if (r == 0 && s->nr_copies && !s->im->read_only)
		r = td_grains_flush(s->grains);
	return r == 0 && s->nr_copies ? compare_copies(s, fix, ret) : r;
}

int vmdk_sparse_check(struct vmdk_sparse *s, unsigned fix, struct td_check *ret)
{
	int r = 0;

	if (s->kind == VMDK_HOSTED && !(s->h.flags & VMDK_COMPRESSED) && !s->copies)
		r = mend_directories(s, fix, ret);
	if (r != 0) /* what they lead to is in doubt */
		return TD_MIN(r, 0);
	r = check_map(s, fix, ret);
	if (r == 0 && fix && s->h.unclean && ret->corruptions == 0) {
		s->h.unclean = false;
		r = write_header(s, &s->h);
	}
	return r;
}

/* ---- all ---- */

static void add(struct td_check *sum, const struct td_check *c)
{
	sum->leaks += c->leaks;
	sum->corruptions += c->corruptions;
	sum->errors += c->errors;
	sum->leaks_fixed += c->leaks_fixed;
	sum->corruptions_fixed += c->corruptions_fixed;
	sum->clusters += c->clusters;
	sum->allocated += c->allocated;
	sum->fragmented += c->fragmented;
	sum->compressed += c->compressed;
	sum->image_end += c->image_end;
	sum->told = c->told;
}

int vmdk_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	struct vmdk *v = im->state;
	int r = 0;

	if (v->own)
		return vmdk_sparse_check(v->own, fix, ret);
	for (unsigned i = 0; r == 0 && i < v->nr_files; i++) {
		struct td_check one = { .report = ret->report,
					.report_arg = ret->report_arg,
					.told = ret->told };

		if (v->file[i].part->drv != &vmdk_part_driver)
			continue;
		r = td_image_check(v->file[i].part, fix, &one);
		add(ret, &one);
	}
	return r;
}
