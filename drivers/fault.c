// SPDX-License-Identifier: BSD-2-Clause
/*
 * A filter that fails: for trying out what stands above it, in tests and by hand.
 *
 *	read-every=N write-every=N zero-every=N trim-every=N flush-every=N	each N-th of its kind fails; 0: none
 *	error=NAME	EIO (if not given), ENOSPC, EDQUOT, ENOMEM, EAGAIN, ETIMEDOUT, EUCLEAN
 *	after=N		the first N requests of any kind pass
 *	once=on		one failure, then none
 *	torn=on		a write that fails has written its first half (whole sectors)
 *	from=OFF to=OFF	only requests that touch these bytes are counted and fail; flushes always are
 *	delay-ms=N	each request first sleeps so long
 *
 * All can be changed while the disk runs (td_image_set); what is not named stays, and it counts anew from there.
 */
#include "drivers.h"

#include <blktap/loop.h>

enum fault_op { FAULT_READ, FAULT_WRITE, FAULT_ZERO, FAULT_TRIM, FAULT_FLUSH, FAULT_OPS };

struct fault {
	uint64_t every[FAULT_OPS];
	uint64_t from, to, after, delay_ms;
	int error;
	bool once, torn;
	uint64_t seen[FAULT_OPS], all; /* requests so far */
	uint64_t failed;
};

static const char *const every_names[FAULT_OPS] = {
	[FAULT_READ] = "read-every", [FAULT_WRITE] = "write-every", [FAULT_ZERO] = "zero-every",
	[FAULT_TRIM] = "trim-every", [FAULT_FLUSH] = "flush-every",
};

static const struct {
	const char *name;
	int code;
} fault_errors[] = {
	{ "EIO", EIO },       { "ENOSPC", ENOSPC },       { "EDQUOT", EDQUOT },   { "ENOMEM", ENOMEM },
	{ "EAGAIN", EAGAIN }, { "ETIMEDOUT", ETIMEDOUT }, { "EUCLEAN", EUCLEAN },
};

static int parse_error(struct fault *f, const char *name, struct td_err *ret_err)
{
	if (!name)
		return 0;
	for (unsigned i = 0; i < TD_NELEMS(fault_errors); i++) {
		if (strcmp(fault_errors[i].name, name) == 0) {
			f->error = fault_errors[i].code;
			return 0;
		}
	}
	return td_err_set(ret_err, -EINVAL,
			  "fault: error=%s: it is one of EIO ENOSPC EDQUOT ENOMEM EAGAIN ETIMEDOUT EUCLEAN",
			  name);
}

static int fault_options(struct fault *f, struct td_opts *opts, struct td_err *ret_err)
{
	int r = parse_error(f, td_opts_get(opts, "error"), ret_err);

	for (unsigned i = 0; r == 0 && i < FAULT_OPS; i++)
		r = td_opts_u64(opts, every_names[i], 0, UINT64_MAX, &f->every[i], ret_err);
	if (r == 0)
		r = td_opts_size(opts, "from", &f->from, ret_err);
	if (r == 0)
		r = td_opts_size(opts, "to", &f->to, ret_err);
	if (r == 0)
		r = td_opts_u64(opts, "after", 0, UINT64_MAX, &f->after, ret_err);
	if (r == 0)
		r = td_opts_u64(opts, "delay-ms", 0, 60000, &f->delay_ms, ret_err);
	if (r == 0)
		r = td_opts_bool(opts, "once", &f->once, ret_err);
	if (r == 0)
		r = td_opts_bool(opts, "torn", &f->torn, ret_err);
	return r;
}

static int fault_set(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct fault *f = im->state, next = *f;
	int r = fault_options(&next, opts, ret_err);

	if (r == 0)
		r = td_opts_none_unused(opts, im->drv->name, ret_err);
	if (r < 0)
		return r;
	memset(next.seen, 0, sizeof(next.seen));
	next.all = next.failed = 0;
	*f = next;
	return 0;
}

static int fault_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct fault *f = im->state;

	f->error = EIO;
	f->to = TD_IMAGE_MAX;
	return fault_options(f, opts, ret_err);
}

static void fault_counters(const struct td_image *im, struct td_counters *ret)
{
	const struct fault *f = im->state;

	td_counter(ret, "failed", f->failed);
}

/* 0: let it pass; -errno: this is the one. */
static int fault_now(struct td_image *im, enum fault_op op, uint64_t off, uint64_t len)
{
	struct fault *f = im->state;

	if (f->delay_ms > 0)
		td_loop_sleep(im->env->loop, f->delay_ms * 1000000);
	if (op != FAULT_FLUSH && !(f->to > f->from && td_overlap(off, len, f->from, f->to - f->from)))
		return 0;
	if (f->all++ < f->after || f->every[op] == 0 || (f->once && f->failed > 0))
		return 0;
	if (++f->seen[op] % f->every[op] != 0)
		return 0;
	f->failed++;
	return -f->error;
}

static int fault_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	int r = fault_now(im, FAULT_READ, off, iov->len);

	return r < 0 ? r : td_image_preadv(im->child, off, iov, flags);
}

static int fault_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct fault *f = im->state;
	int r = fault_now(im, FAULT_WRITE, off, iov->len);
	struct td_iov half;

	if (r == 0)
		return td_image_pwritev(im->child, off, iov, flags);
	if (f->torn) {
		half = td_iov_slice(iov, 0, td_align_down(iov->len / 2, 512));
		td_ignore(td_image_pwritev(im->child, off, &half, 0)); /* it has failed already */
	}
	return r;
}

static int fault_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	int r = fault_now(im, FAULT_ZERO, off, len);

	return r < 0 ? r : td_image_zero(im->child, off, len, flags);
}

static int fault_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	int r = fault_now(im, FAULT_TRIM, off, len);

	return r < 0 ? r : td_image_trim(im->child, off, len);
}

static int fault_flush(struct td_image *im)
{
	int r = fault_now(im, FAULT_FLUSH, 0, 0);

	return r < 0 ? r : td_image_flush(im->child);
}

static int fault_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	return td_image_extent(im->child, off, len, ret);
}

static int fault_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	return td_image_resize(im->child, size, TD_RESIZE_SHRINK, ret_err);
}

const struct td_driver td_fault = {
	.name = "fault",
	.flags = TD_FILTER | TD_KNOWS_FUA,
	.state_size = sizeof(struct fault),
	.open = fault_open,
	.preadv = fault_preadv,
	.pwritev = fault_pwritev,
	.zero = fault_zero,
	.trim = fault_trim,
	.flush = fault_flush,
	.extent = fault_extent,
	.resize = fault_resize,
	.set = fault_set,
	.counters = fault_counters,
};
