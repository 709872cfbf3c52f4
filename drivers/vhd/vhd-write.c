// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writing, block by block:
 *
 *	1. the block gets a place, if it has none; its bitmap is empty			(vhd_alloc)
 *	2. the data, where it belongs
 *	3. its sectors' bits, in memory							(vhd_hold)
 *
 * and the commit brings the bits to the disk behind the data.  A sector of which only a part is written, and which is
 * not held yet, is read from below, completed, and written whole, alone.
 *
 * Zeros: there is no way to say zero but to hold zeros.  In a disk without a parent what is not held reads as zeros, so
 * only what has a place is zeroed, where it is; its bits stay, and nothing of the metadata changes.
 */
#include "vhd-int.h"

struct part {
	struct vhd *v;
	uint64_t off; /* of iov, or of len zeros */
	struct td_iov iov;
	uint64_t host_off;
	bool full; /* all of its sectors are held already */
};

static uint64_t block_left(const struct vhd *v, uint64_t off)
{
	return v->g.block_size - (off & (v->g.block_size - 1));
}

/* ---- a part of a sector ---- */

static bool ragged(uint64_t off, uint64_t len)
{
	return (off | len) % VHD_SECTOR != 0;
}

/* Is the sector at off ours? */
static int held(struct vhd *v, uint64_t off, bool *ret)
{
	struct vhd_extent e;
	int r = vhd_map(v, off, 1, &e);

	*ret = r == 0 && e.kind == VHD_HERE;
	return r;
}

/* The whole sector at off (its start) as it reads from below, where it is. */
static int bring_sector(struct vhd *v, uint64_t off, uint64_t host_off)
{
	uint8_t buf[VHD_SECTOR];
	struct iovec vec;
	struct td_iov iov = td_iov_buf(&vec, buf, sizeof(buf));
	bool ours;
	int r = held(v, off, &ours);

	if (r < 0 || ours)
		return r;
	r = vhd_read_below(v, off, &iov);
	if (r == 0)
		r = td_image_pwrite(v->child, host_off, buf, sizeof(buf), 0);
	return r == 0 ? vhd_hold(v, off, VHD_SECTOR) : r;
}

/* The first and the last sector of a request that covers them in part are whole and ours. */
static int bring_edges(struct vhd *v, uint64_t off, uint64_t len, uint64_t host_off)
{
	uint64_t first = td_align_down(off, VHD_SECTOR), last = td_align_down(off + len - 1, VHD_SECTOR);
	int r = 0;

	if (off % VHD_SECTOR != 0 || off + len < first + VHD_SECTOR)
		r = bring_sector(v, first, host_off - (off - first));
	if (r == 0 && last != first && (off + len) % VHD_SECTOR != 0)
		r = bring_sector(v, last, host_off + (last - off));
	return r;
}

/* ---- one part, inside one block ---- */

/* Where off is to be written; the block has a place afterwards.  *ret_full: nothing has to be said of it. */
static int find_place(struct vhd *v, uint64_t off, uint64_t len, uint64_t *ret_host, bool *ret_full)
{
	uint32_t block = (uint32_t)(off >> v->g.block_bits);
	struct vhd_extent e;
	int r = vhd_map(v, off, len, &e);

	if (r == 0 && e.kind == VHD_NOWHERE) {
		r = vhd_alloc(v, block);
		if (r == 0)
			r = vhd_map(v, off, len, &e);
	}
	if (r < 0)
		return r;
	*ret_host = e.host_off;
	*ret_full = e.kind == VHD_HERE && e.len >= len;
	return 0;
}

static int write_part(void *arg)
{
	const struct part *p = arg;
	struct vhd *v = p->v;
	int r = 0;

	if (!p->full && ragged(p->off, p->iov.len))
		r = bring_edges(v, p->off, p->iov.len, p->host_off);
	if (r == 0)
		r = td_image_pwritev(v->child, p->host_off, &p->iov, 0);
	return r == 0 && !p->full ? vhd_hold(v, p->off, p->iov.len) : r;
}

static int plan(struct vhd *v, uint64_t off, const struct td_iov *iov, uint64_t done, struct part *p)
{
	uint64_t at = off + done, len = TD_MIN(iov->len - done, block_left(v, at));

	*p = (struct part){ .v = v, .off = at, .iov = td_iov_slice(iov, done, len) };
	return find_place(v, at, len, &p->host_off, &p->full);
}

static int write_parts(struct vhd *v, uint64_t off, const struct td_iov *iov)
{
	struct part part[VHD_PARALLEL];
	uint64_t done = 0;
	int r = 0, r2;

	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < VHD_PARALLEL && done < iov->len; n++) {
			r = plan(v, off, iov, done, &part[n]);
			if (r < 0)
				break;
			done += part[n].iov.len;
			if (n == 0 && done == iov->len)
				return write_part(&part[0]);
			td_join_start(&j, write_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

/* A part of a sector that somebody else completes at the same time would lose one of the two. */
static void lock_sectors(struct vhd *v, struct td_range *range, uint64_t off, uint64_t len)
{
	uint64_t start = td_align_down(off, VHD_SECTOR), end = td_align_up(off + len, VHD_SECTOR);

	td_range_lock(&v->ranges, range, start, end - start,
		      ragged(off, len) ? TD_RANGE_EXCLUSIVE : TD_RANGE_SHARED);
}

int vhd_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct vhd *v = im->state;
	struct td_range range;
	int r;

	if (vhd_fixed(v))
		return td_image_pwritev(v->child, off, iov, flags & TD_FUA);
	lock_sectors(v, &range, off, iov->len);
	r = write_parts(v, off, iov);
	td_range_unlock(&v->ranges, &range);
	if (r == 0 && (flags & TD_FUA))
		r = td_meta_commit(v->meta);
	return r;
}

/* ---- zeros ---- */

/* What is not held, and reads as something else from below, is held from now on. */
static int zero_hole(struct vhd *v, uint64_t off, uint64_t len, unsigned flags)
{
	struct part p = { .v = v, .off = off };
	int r = find_place(v, off, len, &p.host_off, &p.full);

	if (r == 0 && ragged(off, len))
		r = bring_edges(v, off, len, p.host_off);
	if (r == 0)
		r = td_image_zero(v->child, p.host_off, len, flags & (TD_MAY_UNMAP | TD_FAST));
	return r == 0 ? vhd_hold(v, off, len) : r;
}

/* How much from off on, at most len, reads as zeros already; 0: none. */
static int zero_below(struct vhd *v, uint64_t off, uint64_t len, unsigned flags, uint64_t *ret)
{
	struct td_extent e;
	int r;

	*ret = 0;
	if (v->f.type != VHD_DIFF || (!v->im->backing && !(flags & TD_OWN))) {
		*ret = len;
		return 0;
	}
	if (flags & TD_OWN)
		return 0;
	r = td_chain_extent(v->im, off, len, &e);
	/* Whole sectors, so that only the request's own ends are parts of some. */
	if (r == 0 && e.kind == TD_EXTENT_ZERO)
		*ret = e.len == len ? len : e.len - TD_MIN(e.len, (off + e.len) % VHD_SECTOR);
	return r;
}

/* One run; *ret: how long it was. */
static int zero_run(struct vhd *v, uint64_t off, uint64_t len, unsigned flags, uint64_t *ret)
{
	struct vhd_extent e;
	uint64_t n = 0;
	int r = vhd_map(v, off, len, &e);

	if (r < 0)
		return r;
	*ret = e.len;
	/*
	 * A write that a kill or a power cut stopped before its sectors were held has left bytes in them, which
	 * programs that do not ask the bitmap (QEMU) take for the disk's.  So zeros go there too.
	 */
	if (e.kind == VHD_HERE || (e.kind == VHD_HOLE && v->f.type != VHD_DIFF))
		return td_image_zero(v->child, e.host_off, e.len, flags & (TD_MAY_UNMAP | TD_FAST));
	r = zero_below(v, off, e.len, flags, &n);
	if (r < 0)
		return r;
	*ret = n > 0 ? n : TD_MIN(e.len, block_left(v, off));
	return n > 0 ? 0 : zero_hole(v, off, *ret, flags);
}

int vhd_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct vhd *v = im->state;
	struct td_range range;
	int r = 0;

	if (vhd_fixed(v))
		return td_image_zero(v->child, off, len, flags);
	lock_sectors(v, &range, off, len);
	for (uint64_t done = 0, n = 0; r == 0 && done < len; done += n)
		r = zero_run(v, off + done, len - done, flags, &n);
	td_range_unlock(&v->ranges, &range);
	if (r == 0 && (flags & TD_FUA))
		r = td_meta_commit(v->meta);
	return r;
}

/* What is held keeps its place, and its bytes are given back; of what is not held there is nothing to give. */
int vhd_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	struct vhd *v = im->state;
	int r = 0;

	if (vhd_fixed(v))
		return td_image_trim(v->child, off, len);
	for (uint64_t done = 0; r == 0 && done < len;) {
		struct vhd_extent e;

		r = vhd_map(v, off + done, len - done, &e);
		if (r == 0 && e.kind == VHD_HERE)
			r = td_image_trim(v->child, e.host_off, e.len);
		done += r == 0 ? e.len : 0;
	}
	return r;
}
