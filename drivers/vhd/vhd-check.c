// SPDX-License-Identifier: BSD-2-Clause
/*
 * Check and repair.
 *
 *	corruption	the copy of the footer at the start is damaged			written anew
 *			a block lies outside the file or over tables			dropped
 *			two blocks share bytes						the later one gets a copy,
 *											or is dropped, if its bitmap
 *											is empty: it reads the same.
 *											No copies, if there would be
 *											more than blocks in the file
 *			the batmap is damaged, or says too much				made anew
 *	leak		the footer at the end is not as at the start			written anew
 *			space of whole blocks that no block has				blocks from the end move there,
 *											and the file is cut
 *
 * An end without its footer is what a power cut leaves, and costs nothing: it is counted as a leak.
 */
#include <blktap/check.h>

#include "vhd-int.h"

#define PRESENT_MAX (8u << 20) /* blocks */
#define COPY_BUF    (256u << 10)
#define FEW_COPIES  128u /* or of FEW_BYTES: nobody asks whether there may be so many */
#define FEW_BYTES   (256ull << 20)

struct present {
	uint32_t entry, block;
};

struct check {
	struct vhd *v;
	struct td_check *ret;
	unsigned fix;
	struct present *present; /* those that lie where they may, in the order of the file */
	uint32_t nr, max;
	uint64_t end; /* of what is used */
	uint8_t *buf;
};

static bool fixes(const struct check *c, unsigned what)
{
	return (c->fix & what) == what && !c->v->im->frozen;
}

static uint64_t place(const struct present *p)
{
	return (uint64_t)p->entry * VHD_SECTOR;
}

/* ---- footers ---- */

static int check_footers(struct check *c)
{
	struct vhd *v = c->v;
	bool start = v->start_good, end = v->end_good;
	int r = 0;

	if (!start) {
		td_check_say(c->ret, "the copy of the footer at the start is damaged");
		c->ret->corruptions++;
	}
	if (!end) {
		td_check_say(c->ret,
			     "the footer at the end is missing, or differs from the one at the start");
		c->ret->leaks++;
	}
	if (fixes(c, TD_FIX_LEAKS) && (start || fixes(c, TD_FIX_ALL)))
		r = vhd_footer_mend(v);
	if (r == 0 && !start && v->start_good) {
		c->ret->corruptions--;
		c->ret->corruptions_fixed++;
	}
	if (r == 0 && !end && v->end_good) {
		c->ret->leaks--;
		c->ret->leaks_fixed++;
	}
	return r;
}

/* ---- the BAT ---- */

static int set_entry(struct check *c, uint32_t block, uint32_t entry)
{
	struct vhd *v = c->v;
	uint64_t at = v->g.bat_off + (uint64_t)block * 4, unit_off = td_align_down(at, VHD_SECTOR);
	uint8_t *unit = NULL;
	int r = td_meta_room(v->meta, 1);

	if (r < 0)
		return r;
	r = td_meta_get(v->meta, VHD_BAT, unit_off, &unit);
	if (r < 0)
		return r;
	td_meta_mark(v->meta, VHD_BAT, unit_off);
	td_put_be32(unit + at % VHD_SECTOR, entry);
	vhd_set_known(v, block, VHD_UNKNOWN);
	return 0;
}

static int add_present(struct check *c, uint32_t entry, uint32_t block)
{
	if (c->nr == c->max) {
		uint32_t max = c->max ? 2 * c->max : 1024;
		struct present *p = c->max < PRESENT_MAX ? reallocarray(c->present, max, sizeof(*p)) : NULL;

		if (!p)
			return -ENOMEM;
		c->present = p;
		c->max = max;
	}
	c->present[c->nr++] = (struct present){ entry, block };
	return 0;
}

static int check_entry(struct check *c, uint32_t entry, uint32_t block)
{
	int r;

	if (entry == VHD_UNUSED)
		return 0;
	c->ret->allocated++;
	if (vhd_check_entry(c->v, entry) == 0)
		return add_present(c, entry, block);
	td_check_say(c->ret, "block %u lies at 0x%llx, outside the file or over its tables", block,
		     (unsigned long long)entry * VHD_SECTOR);
	if (!fixes(c, TD_FIX_ALL)) {
		c->ret->corruptions++;
		return 0;
	}
	r = set_entry(c, block, VHD_UNUSED);
	c->ret->corruptions_fixed += r == 0;
	return r;
}

static int read_blocks(struct check *c)
{
	struct vhd *v = c->v;
	uint8_t *buf = td_buf_alloc(VHD_BAT_CHUNK);
	uint32_t nr = 0;
	int r = buf ? 0 : -ENOMEM;

	for (uint32_t first = 0; r == 0 && first < v->g.nr_blocks; first += nr) {
		r = vhd_read_bat(v, first, buf, &nr);
		for (uint32_t i = 0; r == 0 && i < nr; i++)
			r = check_entry(c, td_get_be32(buf + (size_t)i * 4), first + i);
		if (c->ret->progress)
			c->ret->progress(c->ret->report_arg, first + nr, v->g.nr_blocks);
	}
	if (buf)
		td_buf_free(buf, VHD_BAT_CHUNK);
	return r;
}

static int by_place(const void *a, const void *b)
{
	const struct present *x = a, *y = b;

	if (x->entry != y->entry)
		return x->entry < y->entry ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

static void sort_blocks(struct check *c)
{
	if (c->nr > 0)
		qsort(c->present, c->nr, sizeof(*c->present), by_place);
}

/* ---- moving blocks ---- */

/* Bitmap and sectors, as far as the file has them. */
static int copy_block(struct check *c, uint64_t from, uint64_t to)
{
	struct vhd *v = c->v;
	uint64_t len = vhd_block_len(&v->g);
	int r = td_meta_commit(v->meta); /* its bitmap is read from the disk */

	for (uint64_t done = 0, n; r == 0 && done < len; done += n) {
		n = TD_MIN(len - done, (uint64_t)COPY_BUF);
		r = td_image_pread(v->child, from + done, c->buf, n, 0);
		if (r == 0)
			r = td_image_pwrite(v->child, to + done, c->buf, n, 0);
	}
	td_meta_forget(v->meta, VHD_BITMAPS); /* what was read of the new place before */
	return r == 0 ? vhd_barrier(v) : r;
}

static int move_block(struct check *c, struct present *p, uint64_t to)
{
	int r = copy_block(c, place(p), to);

	if (r == 0)
		r = set_entry(c, p->block, (uint32_t)(to / VHD_SECTOR));
	if (r == 0)
		p->entry = (uint32_t)(to / VHD_SECTOR);
	return r == 0 ? td_meta_commit(c->v->meta) : r;
}

/* ---- blocks that share bytes ---- */

static int is_empty(struct check *c, const struct present *p, bool *ret)
{
	struct vhd *v = c->v;
	uint8_t *unit = NULL;
	int r = 0;

	*ret = true;
	for (uint64_t at = 0; r == 0 && *ret && at < v->g.bitmap_len; at += v->bitmap_unit) {
		r = td_meta_get(v->meta, VHD_BITMAPS, place(p) + at, &unit);
		if (r == 0)
			*ret = td_is_zero(unit, v->bitmap_unit);
	}
	return r;
}

/* A table of junk names the same place a hundred thousand times: without this each of them would take up a block. */
static int drop(struct check *c, struct present *p)
{
	int r = set_entry(c, p->block, VHD_UNUSED);

	if (r == 0)
		p->entry = VHD_UNUSED; /* sorted behind all others */
	return r;
}

static int own_place(struct check *c, struct present *p, bool may_copy)
{
	bool empty = false;
	uint64_t to = 0;
	int r = is_empty(c, p, &empty);

	if (r == 0 && !empty && !may_copy) {
		c->ret->corruptions++;
		return 0;
	}
	if (r == 0 && empty) {
		r = drop(c, p);
	} else if (r == 0) {
		r = vhd_take_place(c->v, &to);
		if (r == 0)
			r = move_block(c, p, to);
	}
	c->ret->corruptions_fixed += r == 0;
	return r;
}

/* Does it begin inside one before it?  To be asked of each in its order; end: of what was seen so far. */
static bool shares(const struct check *c, const struct present *p, uint64_t *end)
{
	if (place(p) < *end)
		return true;
	*end = place(p) + vhd_block_len(&c->v->g);
	return false;
}

/*
 * Whoever made few mistakes has few copies to get, and not more of them than the file has blocks that hold something:
 * it is twice as large afterwards, at most.  A table of junk can name one block a million times.
 */
static int may_copy(struct check *c, bool *ret)
{
	uint64_t few = TD_MAX(FEW_BYTES / vhd_block_len(&c->v->g), 2ull), copies = 0, owners = 0, end = 0;
	bool empty = false;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < c->nr; i++) {
		bool shared = shares(c, &c->present[i], &end);

		r = is_empty(c, &c->present[i], &empty);
		copies += r == 0 && !empty && shared;
		owners += r == 0 && !empty && !shared;
	}
	*ret = copies <= TD_MAX(TD_MIN(few, (uint64_t)FEW_COPIES), owners);
	if (r == 0 && !*ret)
		td_check_say(c->ret,
			     "%llu blocks would each need a copy of what others have, and only %llu have a "
			     "place of "
			     "their own: the block table is junk; none is copied",
			     (unsigned long long)copies, (unsigned long long)owners);
	return r;
}

static int mend_overlaps(struct check *c)
{
	uint64_t end = 0;
	uint32_t nr = c->nr;
	bool copy = false;
	int r = may_copy(c, &copy);

	for (uint32_t i = 0; r == 0 && i < nr; i++)
		if (shares(c, &c->present[i], &end))
			r = own_place(c, &c->present[i], copy);
	sort_blocks(c);
	while (c->nr > 0 && c->present[c->nr - 1].entry == VHD_UNUSED)
		c->nr--;
	return r;
}

static int check_overlaps(struct check *c)
{
	uint64_t shared = 0, end = 0;

	for (uint32_t i = 0; i < c->nr; i++) {
		if (!shares(c, &c->present[i], &end))
			continue;
		shared++;
		td_check_say(c->ret, "block %u at 0x%llx shares bytes with another", c->present[i].block,
			     (unsigned long long)place(&c->present[i]));
	}
	if (shared > 0 && fixes(c, TD_FIX_ALL))
		return mend_overlaps(c);
	c->ret->corruptions += shared;
	return 0;
}

/* ---- space that nobody has ---- */

struct hole {
	uint64_t at, blocks;
};

/* The first hole for a block behind `from`; tables may lie between blocks, too. */
static bool next_hole(const struct check *c, uint64_t *from, uint32_t *i, struct hole *ret)
{
	const struct vhd *v = c->v;
	uint64_t len = vhd_block_len(&v->g), last = v->child->limits.device ? 0 : v->end;

	for (; *i <= c->nr; ++*i) {
		uint64_t at = *from, end = *i < c->nr ? place(&c->present[*i]) : last;

		*from = *i < c->nr ? TD_MAX(*from, end + len) : *from;
		for (unsigned a = 0; a < v->nr_areas;
		     a++) /* what is left is in front of tables, or behind them */
			if (td_overlap(at, end - TD_MIN(at, end), v->area[a].off, v->area[a].len))
				at = TD_MAX(at, td_align_up(v->area[a].off + v->area[a].len, VHD_SECTOR));
		if (at < end && end - at >= len) {
			*ret = (struct hole){ at, (end - at) / len };
			++*i;
			return true;
		}
	}
	return false;
}

static uint64_t count_holes(const struct check *c)
{
	uint64_t from = 0, n = 0;
	uint32_t i = 0;
	struct hole h;

	while (next_hole(c, &from, &i, &h))
		n += h.blocks;
	return n;
}

/*
 * The last block into the first hole, for as long as there is one before it.  What was moved lies before what is looked
 * at next, so one walk from both ends is enough, however many there are.
 */
static int fill_holes(struct check *c)
{
	uint32_t nr = c->nr, i = 0;
	uint64_t from = 0;
	struct hole h = { 0 };
	int r = 0;

	while (r == 0 && c->nr > 0) {
		struct present *last = &c->present[c->nr - 1];

		if (h.blocks == 0 && !next_hole(c, &from, &i, &h))
			break;
		if (h.at > place(last))
			break;
		r = move_block(c, last, h.at);
		h.at += vhd_block_len(&c->v->g);
		h.blocks--;
		c->nr--;
	}
	c->nr = nr;
	sort_blocks(c);
	return r;
}

static void find_used_end(struct check *c)
{
	const struct vhd *v = c->v;

	c->end = c->nr > 0 ? place(&c->present[c->nr - 1]) + vhd_block_len(&v->g) : 0;
	for (unsigned i = 0; i < v->nr_areas; i++)
		c->end = TD_MAX(c->end, v->area[i].off + v->area[i].len);
	c->end = td_align_up(c->end, VHD_SECTOR);
}

static int cut(struct check *c)
{
	struct vhd *v = c->v;
	int r;

	find_used_end(c);
	if (v->end < c->end + vhd_block_len(&v->g))
		return 0;
	r = td_image_resize(v->child, c->end, TD_RESIZE_SHRINK, NULL);
	if (r < 0)
		return r == -ENOTSUP || r == -EINVAL ? 0 : r; /* a device: it is room */
	v->end = v->next = c->end;
	r = vhd_footer_put(v, v->end);
	return r == 0 ? vhd_barrier(v) : r;
}

static int check_leaks(struct check *c)
{
	uint64_t before = count_holes(c), after;
	int r;

	if (before == 0)
		return 0;
	td_check_say(c->ret, "%llu blocks' space is used by none", (unsigned long long)before);
	if (!fixes(c, TD_FIX_LEAKS) || c->ret->corruptions > 0) {
		c->ret->leaks += before;
		return 0;
	}
	r = fill_holes(c);
	if (r == 0)
		r = cut(c);
	if (r < 0)
		return r;
	after = count_holes(c);
	c->ret->leaks += after;
	c->ret->leaks_fixed += before - after;
	return 0;
}

/* ---- the batmap ---- */

static int is_full(struct check *c, const struct present *p, bool *ret)
{
	struct vhd *v = c->v;
	uint64_t bytes = td_div_up(v->g.block_size / VHD_SECTOR, 8);
	uint8_t *unit = NULL;
	int r = 0;

	*ret = bytes >= 8;
	for (uint64_t at = 0; r == 0 && *ret && at < bytes; at += v->bitmap_unit) {
		r = td_meta_get(v->meta, VHD_BITMAPS, place(p) + at, &unit);
		if (r == 0)
			*ret = vhd_bits_full(unit, TD_MIN(bytes - at, v->bitmap_unit));
	}
	return r;
}

/* How many bits say too much?  What each block is comes to be known on the way. */
static int batmap_lies(struct check *c, uint64_t *ret)
{
	struct vhd *v = c->v;
	uint64_t claimed = 0, right = 0;
	bool full = false;
	int r = 0;

	for (uint32_t i = 0; i < v->g.nr_blocks; i++)
		claimed += v->batmap && vhd_bit(v->batmap, i);
	for (uint32_t i = 0; r == 0 && i < c->nr; i++) {
		r = is_full(c, &c->present[i], &full);
		vhd_set_known(v, c->present[i].block, full ? VHD_FULL : VHD_PARTLY);
		right += full && v->batmap && vhd_bit(v->batmap, c->present[i].block);
	}
	*ret = claimed - right;
	return r;
}

static int rebuild_batmap(struct check *c, uint64_t found)
{
	struct vhd *v = c->v;
	int r;

	if (!v->batmap)
		v->batmap = calloc(1, v->batmap_len);
	if (!v->batmap)
		return -ENOMEM;
	v->batmap_stale = true;
	r = td_meta_commit(v->meta);
	if (r == 0)
		r = vhd_batmap_store(v);
	c->ret->corruptions_fixed += r == 0 ? found : 0;
	return r;
}

static int check_batmap(struct check *c)
{
	struct vhd *v = c->v;
	bool has_place = v->batmap_len > 0 && v->batmap_len <= VHD_BATMAP_MAX && v->batmap_head.off > 0;
	uint64_t lies = 0;
	int r = 0;

	if ((!v->batmap && !v->batmap_bad) || !v->known)
		return 0;
	r = batmap_lies(c, &lies);
	if (r < 0)
		return r;
	if (v->batmap_bad)
		td_check_say(c->ret, "the batmap is damaged; it is not used");
	if (lies > 0)
		td_check_say(
			c->ret,
			"the batmap says of %llu blocks that they are wholly written, which they are not",
			(unsigned long long)lies);
	lies += v->batmap_bad;
	if (lies > 0 && has_place && fixes(c, TD_FIX_ALL))
		return rebuild_batmap(c, lies);
	c->ret->corruptions += lies;
	return 0;
}

/* ---- all of it ---- */

/* Whoever repairs may need room at the end. */
static void find_end(struct check *c)
{
	struct vhd *v = c->v;

	find_used_end(c);
	if (v->end < c->end) {
		v->end = c->end;
		v->end_good = false;
	}
	v->next = v->end;
}

static int run(struct check *c)
{
	int r = read_blocks(c);

	if (r < 0)
		return r;
	sort_blocks(c);
	find_end(c);
	r = check_footers(c);
	if (r == 0)
		r = check_overlaps(c);
	if (r == 0)
		r = check_batmap(c);
	if (r == 0)
		r = check_leaks(c);
	if (r == 0 && c->fix)
		r = td_meta_commit(c->v->meta);
	return r;
}

static void count_fragments(struct check *c)
{
	for (uint32_t i = 1; i < c->nr; i++)
		c->ret->fragmented += c->present[i].block != c->present[i - 1].block + 1;
}

int vhd_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	struct vhd *v = im->state;
	struct check c = { .v = v, .ret = ret, .fix = fix };
	int r;

	ret->image_end = v->end + VHD_FOOTER;
	if (vhd_fixed(v))
		return 0;
	ret->clusters = v->g.nr_blocks;
	c.buf = td_buf_alloc(COPY_BUF);
	r = c.buf ? run(&c) : -ENOMEM;
	if (r == 0) {
		count_fragments(&c);
		ret->image_end = v->end + VHD_FOOTER;
	} else {
		ret->errors++;
	}
	if (c.buf)
		td_buf_free(c.buf, COPY_BUF);
	free(c.present);
	return r;
}
