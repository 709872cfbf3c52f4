// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading: map, then one child request for each run that lies together.  No lock: a block stays where it is for as long
 * as the image is open, and a sector that becomes ours meanwhile was being written meanwhile.
 */
#include "vhd-int.h"

struct part {
	struct vhd *v;
	uint64_t off;
	struct vhd_extent e;
	struct td_iov iov;
};

int vhd_read_below(struct vhd *v, uint64_t off, const struct td_iov *iov)
{
	if (v->im->backing)
		return td_chain_read(v->im, off, iov);
	td_iov_zero(iov);
	return 0;
}

/*
 * The file may end inside its last block: zeros.  What lies wholly behind the end was cut off: zeros would be a lie.
 */
static int read_here(struct vhd *v, uint64_t host_off, const struct td_iov *iov)
{
	if (host_off >= v->child->size)
		return -EUCLEAN;
	return td_image_preadv(v->child, host_off, iov, 0);
}

static int read_part(void *arg)
{
	const struct part *p = arg;

	if (p->e.kind == VHD_HERE)
		return read_here(p->v, p->e.host_off, &p->iov);
	return vhd_read_below(p->v, p->off, &p->iov);
}

static int next_part(struct vhd *v, uint64_t off, const struct td_iov *iov, uint64_t done, struct part *p)
{
	int r = vhd_map(v, off + done, iov->len - done, &p->e);

	if (r < 0)
		return r;
	p->v = v;
	p->off = off + done;
	p->iov = td_iov_slice(iov, done, p->e.len);
	return 0;
}

static int read_parts(struct vhd *v, uint64_t off, const struct td_iov *iov)
{
	struct part part[VHD_PARALLEL];
	uint64_t done = 0;
	int r = 0, r2;

	while (r == 0 && done < iov->len) {
		struct td_join j = { 0 };

		for (unsigned n = 0; n < VHD_PARALLEL && r == 0 && done < iov->len; n++) {
			r = next_part(v, off, iov, done, &part[n]);
			if (r < 0)
				break;
			done += part[n].e.len;
			td_join_start(&j, read_part, &part[n]);
		}
		r2 = td_join_wait(&j);
		r = r < 0 ? r : r2;
	}
	return r;
}

int vhd_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct vhd *v = im->state;
	struct vhd_extent e;
	int r;

	(void)flags; /* EXACT: a disk has no end of file inside its size */
	if (vhd_fixed(v))
		return td_image_preadv(v->child, off, iov, 0);
	r = vhd_map(v, off, iov->len, &e);
	if (r < 0)
		return r;
	if (e.len < iov->len)
		return read_parts(v, off, iov);
	if (e.kind == VHD_HERE) /* straight on: this is most of what a disk does */
		return read_here(v, e.host_off, iov);
	return vhd_read_below(v, off, iov);
}

/* ---- what is where ---- */

int vhd_extent_at(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct vhd *v = im->state;
	struct vhd_extent e;
	int r;

	if (vhd_fixed(v)) {
		r = td_image_extent(v->child, off, len, ret);
		ret->host_off = off;
		ret->has_host = true;
		return r;
	}
	r = vhd_map(v, off, len, &e);
	if (r < 0)
		return r;
	*ret = (struct td_extent){
		.kind = e.kind == VHD_HERE ? TD_EXTENT_DATA : TD_EXTENT_BACKING,
		.allocated = e.kind == VHD_HERE,
		.has_host = e.kind == VHD_HERE,
		.host_off = e.host_off,
		.len = e.len,
	};
	return 0;
}
