// SPDX-License-Identifier: BSD-2-Clause
/*
 * The checked calls: every access to an image from above goes through here, and only here is a driver's slot called.
 * Ranges, read-only, frozen images, the size of one transfer, counters, and what a driver may leave to us: FUA as a
 * flush, zeros written out.  Opening and closing are open.c's, walking a chain of backing images is chain.c's.
 */
#include "drivers.h"

#define ZERO_STEP (1u << 20) /* zeros written at a time */

typedef int data_fn(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);

/* Requests that are inside the driver, whoever sent them. */
static void image_enter(struct td_image *im)
{
	im->in_flight++;
}

/* -ENOTSUP is an answer, not a failure. */
static int image_leave(struct td_image *im, int r)
{
	im->in_flight--;
	if (r < 0 && r != -ENOTSUP)
		im->stats.errors++;
	return r;
}

/* Where the image ends for a write. */
static uint64_t image_end(const struct td_image *im)
{
	return im->flags & TD_OPEN_GROW ? TD_IMAGE_MAX : im->size;
}

static int check_write(const struct td_image *im, uint64_t off, uint64_t len)
{
	if (im->read_only)
		return -EROFS;
	if (im->frozen)
		return -EIO;
	return td_in_range(off, len, image_end(im)) ? 0 : -EINVAL;
}

/* What was written behind the end belongs to the image from now on. */
static void image_grow(struct td_image *im, uint64_t off, uint64_t len)
{
	if (len > 0 && off + len > im->size)
		im->size = off + len;
}

/* Most requests: not empty, and the driver can take them as they are. */
static bool fits_one(const struct td_image *im, uint64_t len)
{
	return len > 0 && (im->limits.max_transfer == 0 || len <= im->limits.max_transfer);
}

/* In pieces that the driver can take. */
static int transfer(struct td_image *im, data_fn *fn, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	uint64_t max = im->limits.max_transfer ? im->limits.max_transfer : UINT64_MAX;
	int r = 0;

	for (uint64_t done = 0, n; r == 0 && done < iov->len; done += n) {
		struct td_iov part;

		n = TD_MIN(iov->len - done, max);
		part = td_iov_slice(iov, done, n);
		r = fn(im, off + done, &part, flags);
	}
	return r;
}

int td_image_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	uint64_t inside = off < im->size ? TD_MIN(iov->len, im->size - off) : 0;
	struct td_iov part;
	int r;

	if (!td_in_range(off, iov->len, image_end(im)))
		return -EINVAL;
	if (!im->drv->preadv)
		return -ENOTSUP;
	/* Behind the end of a file that may grow are zeros, unless what is read cannot be there. */
	if (inside < iov->len && (flags & TD_EXACT))
		return -EUCLEAN;
	image_enter(im);
	if (inside == iov->len && fits_one(im, inside)) {
		r = TD_MIN(im->drv->preadv(im, off, iov, flags), 0);
	} else {
		part = td_iov_slice(iov, 0, inside);
		r = transfer(im, im->drv->preadv, off, &part, flags);
		part = td_iov_slice(iov, inside, iov->len - inside);
		td_iov_zero(&part);
	}
	if (r == 0) {
		im->stats.reads++;
		im->stats.read_bytes += iov->len;
	}
	return image_leave(im, r);
}

/* Write, and flush if the caller wants FUA and the driver does not know it. */
static int write_fua(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	bool flush = (flags & TD_FUA) && !(im->drv->flags & TD_KNOWS_FUA);
	int r = transfer(im, im->drv->pwritev, off, iov, flush ? flags & ~TD_FUA : flags);

	if (r < 0)
		return r;
	image_grow(im, off, iov->len);
	return flush ? td_image_flush(im) : 0;
}

int td_image_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	int r = check_write(im, off, iov->len);

	if (r < 0)
		return r;
	if (!im->drv->pwritev || ((flags & TD_COMPRESS) && !im->limits.compresses))
		return -ENOTSUP;
	image_enter(im);
	r = write_fua(im, off, iov, flags);
	if (r == 0) {
		im->stats.writes++;
		im->stats.write_bytes += iov->len;
	}
	return image_leave(im, r);
}

int td_image_pread(struct td_image *im, uint64_t off, void *buf, size_t len, unsigned flags)
{
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, buf, len);

	return td_image_preadv(im, off, &iov, flags);
}

int td_image_pwrite(struct td_image *im, uint64_t off, const void *buf, size_t len, unsigned flags)
{
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, (void *)(uintptr_t)buf, len); /* writing only reads it */

	return td_image_pwritev(im, off, &iov, flags);
}

/* The slow way; FUA for the whole at the end. */
static int write_zeros(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	td_cleanup(free) struct iovec *vec = NULL;
	struct td_iov zeros;
	int r;

	if (!im->drv->pwritev)
		return -ENOTSUP;
	r = td_zero_iov(TD_MIN(len, (uint64_t)ZERO_STEP), &vec, &zeros);
	for (uint64_t done = 0; r == 0 && done < len; done += zeros.len) {
		zeros.len = TD_MIN(len - done, zeros.len);
		r = transfer(im, im->drv->pwritev, off + done, &zeros, 0);
	}
	if (r == 0)
		image_grow(im, off, len);
	if (r == 0 && (flags & TD_FUA))
		r = td_image_flush(im);
	return r;
}

static int zero_driver(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	bool flush = (flags & TD_FUA) && !(im->drv->flags & TD_KNOWS_FUA);
	int r;

	if (!im->drv->zero)
		return -ENOTSUP;
	r = im->drv->zero(im, off, len, flush ? flags & ~TD_FUA : flags);
	if (r < 0)
		return r;
	image_grow(im, off, len);
	return flush ? td_image_flush(im) : 0;
}

int td_image_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	int r = check_write(im, off, len);

	if (r < 0 || len == 0)
		return r;
	image_enter(im);
	r = zero_driver(im, off, len, flags);
	if (r == -ENOTSUP && !(flags & TD_FAST))
		r = write_zeros(im, off, len, flags);
	if (r == 0)
		im->stats.zeros++;
	return image_leave(im, r);
}

int td_image_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	int r = check_write(im, off, len);

	if (r == 0 && !td_in_range(off, len, im->size))
		r = -EINVAL;
	if (r < 0 || len == 0)
		return r;
	if (!im->drv->trim)
		return -ENOTSUP;
	image_enter(im);
	r = im->drv->trim(im, off, len);
	if (r == 0)
		im->stats.trims++;
	return image_leave(im, r);
}

int td_image_flush(struct td_image *im)
{
	struct td_image *top = im;
	int r = 0;

	if (im->read_only)
		return 0;
	if (im->frozen) /* what is pending in memory will not be written any more */
		return -EIO;
	/* A driver that keeps nothing back has no flush of its own. */
	while (!im->drv->flush && im->child)
		im = im->child;
	image_enter(top);
	if (im->drv->flush)
		r = im == top ? im->drv->flush(im) : td_image_flush(im);
	if (r == 0)
		top->stats.flushes++;
	return image_leave(top, r);
}

struct td_image *td_image_layer(const struct td_image *im)
{
	while ((im->drv->flags & TD_FILTER) && im->child)
		im = im->child;
	return (struct td_image *)(uintptr_t)im; /* as the caller has it */
}

/* May what the image records of itself be changed? */
static int check_change(const struct td_image *im, const char *what, struct td_err *ret_err)
{
	if (im->read_only)
		return td_err_set(ret_err, -EROFS, "%s: %s, it is read-only", im->name, what);
	if (im->frozen)
		return td_err_set(ret_err, -EIO,
				  "%s: %s, it is damaged (tap-img check) or its storage failed", im->name,
				  what);
	return 0;
}

/* A driver changes its own size; here is only what holds for all of them. */
int td_image_resize(struct td_image *im, uint64_t size, unsigned flags, struct td_err *ret_err)
{
	int r;

	r = check_change(im, "cannot be resized", ret_err);
	if (r < 0)
		return r;
	if (!im->drv->resize)
		return td_err_set(ret_err, -ENOTSUP, "%s: images of the format %s cannot be resized",
				  im->name, im->drv->name);
	if (size > TD_IMAGE_MAX)
		return td_err_set(ret_err, -EFBIG, "%s: no image can be larger than 2^63-1 bytes", im->name);
	if (size < im->size && !(flags & TD_RESIZE_SHRINK))
		return td_err_set(ret_err, -EINVAL,
				  "%s: has %llu bytes: what is behind the new end of %llu would be lost",
				  im->name, (unsigned long long)im->size, (unsigned long long)size);
	r = im->drv->resize(im, size, ret_err);
	if (r < 0)
		return r;
	im->size = size;
	return 0;
}

/*
 * A check looks at the format, so filters above it are passed by.  It is allowed of a frozen image: that is when it is
 * asked for.
 */
int td_image_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	im = td_image_layer(im);
	if (!im->drv->check)
		return -ENOTSUP;
	if (fix && im->read_only)
		return -EROFS;
	return im->drv->check(im, fix, ret);
}

/* A snapshot that was applied may have another size; filters have that of what is below them. */
static void follow_size(struct td_image *im)
{
	uint64_t size = td_image_layer(im)->size;

	for (; im->drv->flags & TD_FILTER && im->child; im = im->child)
		im->size = size;
}

int td_image_snapshot(struct td_image *top, enum td_snap_op op, const char *name,
		      const struct td_progress *progress, struct td_err *ret_err)
{
	struct td_image *im = td_image_layer(top);
	int r;

	if (!im->drv->snapshot)
		return td_err_set(ret_err, -ENOTSUP, "%s: images of the format %s have no snapshots",
				  im->name, im->drv->name);
	r = check_change(im, "its snapshots cannot be changed", ret_err);
	if (r == 0)
		r = im->drv->snapshot(im, op, name, progress, ret_err);
	if (r == 0)
		follow_size(top);
	return r;
}

int td_image_snapshots(struct td_image *im, struct td_snaps *ret, struct td_err *ret_err)
{
	int r;

	*ret = (struct td_snaps){ 0 };
	im = td_image_layer(im);
	if (!im->drv->snapshots)
		return 0;
	r = im->drv->snapshots(im, ret, ret_err);
	if (r < 0)
		td_snaps_done(ret);
	return r;
}

void td_snaps_done(struct td_snaps *s)
{
	for (size_t i = 0; i < s->nr; i++) {
		free(s->at[i].id);
		free(s->at[i].name);
	}
	free(s->at);
	*s = (struct td_snaps){ 0 };
}

int td_image_amend(struct td_image *im, struct td_opts *opts, const struct td_progress *progress,
		   struct td_err *ret_err)
{
	int r;

	im = td_image_layer(im);
	r = check_change(im, "it cannot be amended", ret_err);
	if (r < 0)
		return r;
	if (!im->drv->amend)
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: images of the format %s have no options that can be amended", im->name,
				  im->drv->name);
	return im->drv->amend(im, opts, progress, ret_err);
}

int td_image_set_backing(struct td_image *im, const char *path, const char *format, struct td_err *ret_err)
{
	char *new_path, *new_format;
	int r;

	im = td_image_layer(im);
	r = check_change(im, "its backing file cannot be changed", ret_err);
	if (r < 0)
		return r;
	if (!im->drv->set_backing)
		return td_err_set(ret_err, -ENOTSUP, "%s: images of the format %s have no backing file",
				  im->name, im->drv->name);
	/* No path takes the backing file away; a format without one means nothing. */
	if (path ? !*path : !!format)
		return td_err_set(ret_err, -EINVAL, "%s: the name of its backing file would be empty",
				  im->name);
	new_path = path ? strdup(path) : NULL;
	new_format = format ? strdup(format) : NULL;
	if ((path && !new_path) || (format && !new_format))
		r = td_err_set(ret_err, -ENOMEM, "%s: no memory", im->name);
	else
		r = im->drv->set_backing(im, path, format, ret_err);
	/* The caller's strings may be those that go. */
	free(r < 0 ? new_path : im->backing_path);
	free(r < 0 ? new_format : im->backing_format);
	if (r < 0)
		return r;
	im->backing_path = new_path;
	im->backing_format = new_format;
	return 0;
}

int td_image_empty(struct td_image *im, struct td_err *ret_err)
{
	int r;

	im = td_image_layer(im);
	r = check_change(im, "it cannot be emptied", ret_err);
	if (r < 0)
		return r;
	if (!im->drv->empty || !im->backing)
		return td_err_set(ret_err, -ENOTSUP, "%s: it cannot be emptied%s", im->name,
				  im->backing ? "" : ", it has no backing image");
	return im->drv->empty(im, ret_err);
}

/* ---- dirty bitmaps ---- */

int td_image_bitmap(struct td_image *im, const struct td_bitmap_op *op, struct td_err *ret_err)
{
	int r;

	im = td_image_layer(im);
	r = check_change(im, "its bitmaps cannot be changed", ret_err);
	if (r < 0)
		return r;
	if (!im->drv->bitmap)
		return td_err_set(ret_err, -ENOTSUP, "%s: images of the format %s have no bitmaps", im->name,
				  im->drv->name);
	return im->drv->bitmap(im, op, ret_err);
}

int td_image_bitmaps(const struct td_image *im, struct td_bitmap_list *ret)
{
	int r = 0;

	*ret = (struct td_bitmap_list){ 0 };
	im = td_image_layer(im);
	if (im->drv->bitmaps)
		r = im->drv->bitmaps(im, ret);
	if (r < 0)
		td_bitmap_list_done(ret);
	return r;
}

void td_bitmap_list_done(struct td_bitmap_list *l)
{
	for (unsigned i = 0; i < l->nr; i++)
		free(l->at[i].name);
	free(l->at);
	*l = (struct td_bitmap_list){ 0 };
}

/* Counted as inside, but an unknown name is no error of the storage. */
int td_image_bitmap_extent(struct td_image *im, const char *name, uint64_t off, uint64_t len, bool *ret_dirty,
			   uint64_t *ret_len)
{
	int r = -ENOENT;

	im = td_image_layer(im);
	if (len == 0 || !td_in_range(off, len, im->size))
		return -EINVAL;
	image_enter(im);
	if (im->drv->bitmap_extent)
		r = im->drv->bitmap_extent(im, name, off, len, ret_dirty, ret_len);
	im->in_flight--;
	return r;
}

void td_image_freeze(struct td_image *im)
{
	im->frozen = true;
}

/* ---- what is changed and asked beside the data ---- */

int td_image_set(struct td_image *im, const char *driver, struct td_opts *opts, struct td_err *ret_err)
{
	const char *top = im->name;

	while (strcmp(im->drv->name, driver) != 0) {
		im = im->child;
		if (!im)
			return td_err_set(ret_err, -ENOENT, "%s: there is no %s in its stack", top, driver);
	}
	if (!im->drv->set)
		return td_err_set(ret_err, -ENOTSUP, "%s: driver %s has no options that can be changed now",
				  im->name, driver);
	return im->drv->set(im, opts, ret_err);
}

/* A backing image stands behind one node of a stack, which is not always its top. */
void td_image_drain(struct td_image *im, bool on)
{
	struct td_image *below;

	for (; im; im = below) {
		below = NULL;
		for (; im; im = im->child) {
			if (im->drv->drain)
				im->drv->drain(im, on);
			if (im->backing)
				below = im->backing;
		}
	}
}

void td_image_counters(const struct td_image *im, struct td_counters *ret)
{
	ret->nr = 0;
	if (im->drv->counters)
		im->drv->counters(im, ret);
}
