// SPDX-License-Identifier: BSD-2-Clause
/*
 * From a byte of the disk to a byte of the file; reading, and what is where.  Nothing changes while the image is open,
 * so there is no lock.
 */
#include <blktap/co.h>

#include "vhdx-int.h"

enum kind {
	HERE,  /* its bytes are at host_off */
	ZEROS, /* by this layer's word */
	BELOW, /* the parent's; zeros if there is none */
};

struct place {
	enum kind kind;
	uint64_t host_off;
	uint64_t len; /* 1..asked */
};

struct part {
	struct vhdx *v;
	uint64_t off;
	struct place at;
	struct td_iov iov;
};

/* ---- the BAT ---- */

int vhdx_bat_entry(struct vhdx *v, uint64_t i, uint64_t *ret)
{
	const uint64_t at = v->regions.bat.off + i * 8;
	const uint8_t *unit = NULL;
	int r = vhdx_unit(v, VHDX_BAT, td_align_down(at, VHDX_UNIT), &unit);

	if (r == 0)
		*ret = td_get_le64(unit + at % VHDX_UNIT);
	return r;
}

/* What begins or ends behind the end of the file was cut off, and zeros would be a lie. */
static int check_place(const struct vhdx *v, uint64_t host_off, uint64_t len, uint64_t needed)
{
	const struct vhdx_regions *at = &v->regions;

	if (host_off < VHDX_START || !td_in_range(host_off, needed, v->end) ||
	    td_overlap(host_off, len, at->bat.off, at->bat.len) ||
	    td_overlap(host_off, len, at->metadata.off, at->metadata.len))
		return -EUCLEAN;
	return v->log && td_overlap(host_off, len, v->h.log_off, v->h.log_len) ? -EUCLEAN : 0;
}

int vhdx_check_block(const struct vhdx *v, uint64_t host_off)
{
	const uint64_t size = v->g.block_size, in_last = v->disk.size % size;

	/* Of the disk's last block, wherever it lies, what is behind the disk may be missing. */
	return check_place(v, host_off, size, in_last ? in_last : size);
}

int vhdx_check_bitmap(const struct vhdx *v, uint64_t host_off)
{
	return check_place(v, host_off, VHDX_MIB, VHDX_MIB);
}

/* ---- one block ---- */

/* Of a block that has some of its sectors at host_off. */
static int map_sectors(struct vhdx *v, uint64_t off, uint64_t len, uint64_t host_off, struct place *ret)
{
	const uint64_t block = off >> v->g.block_bits, chunk = block >> v->g.ratio_bits;
	const unsigned bits = v->g.sector_bits;
	const uint64_t sector = (off >> bits) - (chunk << (v->g.ratio_bits + v->g.block_bits - bits));
	uint32_t bit = (uint32_t)(sector % (8 * VHDX_UNIT)), nr;
	uint64_t raw = 0, bitmap = 0, sectors;
	const uint8_t *unit = NULL;
	int r = vhdx_bat_entry(v, vhdx_bitmap_entry(&v->g, block), &raw);

	if (r == 0)
		r = vhdx_bitmap_decode(raw, &bitmap);
	if (r == 0)
		r = vhdx_check_bitmap(v, bitmap);
	if (r == 0)
		r = vhdx_unit(v, VHDX_BITMAPS, bitmap + td_align_down(sector / 8, VHDX_UNIT), &unit);
	if (r < 0 || !unit)
		return r < 0 ? r : -EIO;
	sectors = ((off + len - 1) >> bits) - (off >> bits) + 1;
	nr = vhdx_bits_run(unit, bit, (uint32_t)TD_MIN(sectors, 8ull * VHDX_UNIT - bit));
	*ret = (struct place){ .kind = vhdx_bit(unit, bit) ? HERE : BELOW, .host_off = host_off };
	ret->len = TD_MIN(len, ((uint64_t)nr << bits) - (off & ((1ull << bits) - 1)));
	return 0;
}

static int map_block(struct vhdx *v, uint64_t off, uint64_t len, struct place *ret)
{
	const uint64_t in = off & (v->g.block_size - 1), here = TD_MIN(len, v->g.block_size - in);
	struct vhdx_entry e = { .state = VHDX_ZERO };
	uint64_t raw = 0;
	int r = vhdx_bat_entry(v, vhdx_block_entry(&v->g, off >> v->g.block_bits), &raw);

	if (r == 0)
		r = vhdx_entry_decode(raw, &e);
	if (r < 0)
		return r;
	*ret = (struct place){ .kind = e.state == VHDX_NOT_PRESENT ? BELOW : ZEROS, .len = here };
	if (e.state != VHDX_PRESENT && e.state != VHDX_PARTLY)
		return 0;
	r = vhdx_check_block(v, e.off);
	if (r < 0)
		return r;
	if (e.state == VHDX_PARTLY)
		return v->disk.parent ? map_sectors(v, off, here, e.off + in, ret) : -EUCLEAN;
	*ret = (struct place){ .kind = HERE, .host_off = e.off + in, .len = here };
	return 0;
}

/* ---- more than one ---- */

static bool goes_on(const struct place *at, const struct place *next)
{
	return next->kind == at->kind && (at->kind != HERE || next->host_off == at->host_off + at->len);
}

/* As far as one unit of the BAT goes; what is wrong further on is found by who gets there. */
static int map(struct vhdx *v, uint64_t off, uint64_t len, struct place *ret)
{
	struct place next;
	int r = map_block(v, off, len, ret);

	for (unsigned i = 0; r == 0 && i < VHDX_UNIT / 8 && ret->len < len; i++) {
		if (map_block(v, off + ret->len, len - ret->len, &next) < 0 || !goes_on(ret, &next))
			break;
		ret->len += next.len;
	}
	return r;
}

/* ---- reading ---- */

static int read_place(struct vhdx *v, uint64_t off, const struct place *at, const struct td_iov *iov)
{
	if (at->kind == HERE)
		return vhdx_file_read(v, at->host_off, iov);
	if (at->kind == BELOW && v->im->backing)
		return td_chain_read(v->im, off, iov);
	td_iov_zero(iov);
	return 0;
}

static int read_part(void *arg)
{
	const struct part *p = arg;

	return read_place(p->v, p->off, &p->at, &p->iov);
}

static int read_parts(struct vhdx *v, uint64_t off, const struct td_iov *iov)
{
	struct part part[VHDX_PARALLEL];
	uint64_t done = 0;
	int r = 0, r2;

	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < VHDX_PARALLEL && r == 0 && done < iov->len; n++) {
			part[n].v = v;
			part[n].off = off + done;
			r = map(v, off + done, iov->len - done, &part[n].at);
			if (r < 0)
				break;
			part[n].iov = td_iov_slice(iov, done, part[n].at.len);
			done += part[n].at.len;
			td_join_start(&j, read_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

int vhdx_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct vhdx *v = im->state;
	struct place at;
	int r = map(v, off, iov->len, &at);

	(void)flags; /* EXACT: a disk has no end of file inside its size */
	if (r < 0)
		return r;
	return at.len < iov->len ? read_parts(v, off, iov) : read_place(v, off, &at, iov);
}

/* ---- what is where ---- */

int vhdx_extent_at(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	static const enum td_extent_kind kinds[] = {
		[HERE] = TD_EXTENT_DATA, [ZEROS] = TD_EXTENT_ZERO, [BELOW] = TD_EXTENT_BACKING
	};
	struct vhdx *v = im->state;
	struct place at;
	int r = map(v, off, len, &at);

	if (r < 0)
		return r;
	*ret = (struct td_extent){
		.kind = kinds[at.kind],
		.allocated = at.kind == HERE,
		/* What the log changes is not in the file. */
		.has_host = at.kind == HERE && !td_overlap(at.host_off, at.len, v->changed_from,
							   v->changed_to - v->changed_from),
		.host_off = at.host_off,
		.len = at.len,
	};
	return 0;
}
