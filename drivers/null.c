// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk that is not there: reads zeros, forgets what is written.  For measuring everything else.
 *
 * Options: size=SIZE (1G if not given).
 */
#include "drivers.h"

static int null_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	uint64_t size = (uint64_t)1 << 30;
	int r = td_opts_size(opts, "size", &size, ret_err);

	if (r < 0)
		return r;
	im->size = size;
	im->limits.block_size = 512;
	im->limits.mem_align = 1;
	im->limits.trim_granularity = 512;
	im->limits.zero_efficient = true;
	return 0;
}

static int null_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	(void)im;
	(void)off;
	(void)flags;
	td_iov_zero(iov);
	return 0;
}

static int null_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	(void)im;
	(void)off;
	(void)iov;
	(void)flags;
	return 0;
}

static int null_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	(void)im;
	(void)off;
	(void)len;
	(void)flags;
	return 0;
}

static int null_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	return null_zero(im, off, len, 0);
}

static int null_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	(void)im;
	(void)off;
	*ret = (struct td_extent){ .kind = TD_EXTENT_ZERO, .len = len };
	return 0;
}

static int null_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	(void)im;
	(void)size;
	(void)ret_err;
	return 0;
}

const struct td_driver td_null = {
	.name = "null",
	.flags = TD_LEAF | TD_KNOWS_FUA,
	.open = null_open,
	.preadv = null_preadv,
	.pwritev = null_pwritev,
	.zero = null_zero,
	.trim = null_trim,
	.extent = null_extent,
	.resize = null_resize,
};
