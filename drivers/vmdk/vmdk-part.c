// SPDX-License-Identifier: BSD-2-Clause
/*
 * A sparse extent as an image of its own: one of many that a disk consists of.  No specification can name this driver.
 *
 * Its backing image is a window of the parent, its share of the disk; so the map reads through holes as it does where a
 * disk is one file.
 */
#include "vmdk-sparse.h"

struct part {
	struct vmdk_sparse *sparse;
};

struct vmdk_sparse *vmdk_part_sparse(const struct td_image *part)
{
	const struct part *p = part->state;

	return p->sparse;
}

static int part_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct part *p = im->state;
	int r = vmdk_sparse_open(im, opts, &p->sparse, ret_err);

	return r < 0 ? td_err_prefix(ret_err, r, "%s", im->path) : 0;
}

static int part_close(struct td_image *im)
{
	return vmdk_sparse_close(vmdk_part_sparse(im));
}

static int part_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	return vmdk_sparse_preadv(vmdk_part_sparse(im), off, iov, flags);
}

static int part_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	return vmdk_sparse_pwritev(vmdk_part_sparse(im), off, iov, flags);
}

static int part_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	return vmdk_sparse_zero(vmdk_part_sparse(im), off, len, flags);
}

static int part_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	return vmdk_sparse_trim(vmdk_part_sparse(im), off, len);
}

static int part_flush(struct td_image *im)
{
	return vmdk_sparse_flush(vmdk_part_sparse(im));
}

static int part_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	return vmdk_sparse_extent(vmdk_part_sparse(im), off, len, ret);
}

static int part_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	return vmdk_sparse_check(vmdk_part_sparse(im), fix, ret);
}

const struct td_driver vmdk_part_driver = {
	.name = "vmdk-extent",
	.flags = TD_FORMAT,
	.state_size = sizeof(struct part),
	.open = part_open,
	.close = part_close,
	.preadv = part_preadv,
	.pwritev = part_pwritev,
	.zero = part_zero,
	.trim = part_trim,
	.flush = part_flush,
	.extent = part_extent,
	.check = part_check,
};
