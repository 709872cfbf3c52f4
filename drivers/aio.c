// SPDX-License-Identifier: BSD-2-Clause
/*
 * The leaf driver: a file or a block device, byte for byte.  The only driver that knows engines and descriptors.
 *
 * With O_DIRECT the kernel takes aligned requests only.  What is not aligned goes through a bounce buffer: a read
 * reads the blocks around it; a write reads the block at each end, changes its bytes and writes it back.  Meanwhile
 * no other write may touch these blocks, so such a write holds its blocks exclusively, all others theirs shared.
 *
 * A write never makes the file longer than it was asked to.  So a piece of a block at the end of the file is written
 * through the page cache (tail_fd): the kernel writes it back, and drops it, before it lets a direct write near.
 */
#include "aio.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blktap/pool.h>

#define BOUNCE_MAX (1u << 20)

/* ---- alignment ---- */

static bool pieces_aligned(const struct aio *a, const struct td_iov *iov)
{
	size_t skip = iov->skip;
	uint64_t left = iov->len;

	for (unsigned i = 0; left > 0; i++) {
		uintptr_t base = (uintptr_t)iov->vec[i].iov_base + skip;
		uint64_t len = TD_MIN(iov->vec[i].iov_len - skip, left);

		if ((base & (a->mem_align - 1)) || (len & (a->align - 1)))
			return false;
		left -= len;
		skip = 0;
	}
	return true;
}

static bool aligned(const struct aio *a, uint64_t off, uint64_t len)
{
	return ((off | len) & (a->align - 1)) == 0;
}

/* Does the kernel take this as it is? */
static bool fits(const struct aio *a, uint64_t off, const struct td_iov *iov)
{
	return !a->direct || (aligned(a, off, iov->len) && pieces_aligned(a, iov));
}

/* Hold [off, off + len), rounded to blocks, against those who read and write back a part of a block. */
static void lock_blocks(struct aio *a, struct td_range *range, uint64_t off, uint64_t len, uint32_t block,
			enum td_range_mode mode)
{
	uint64_t start = td_align_down(off, block);

	td_range_lock(&a->ranges, range, start, td_align_up(off + len, block) - start, mode);
}

/* ---- reading ---- */

/* Bytes read, fewer at the end of the file; or -errno. */
static int64_t bounce_read(struct td_image *im, uint64_t off, const struct td_iov *iov)
{
	struct aio *a = im->state;
	uint64_t span = td_align_up(off + iov->len, a->align) - td_align_down(off, a->align);
	size_t size = (size_t)TD_MIN(span, BOUNCE_MAX);
	char *buf = td_buf_alloc(size);
	uint64_t done = 0;
	int64_t got = 0;

	if (!buf)
		return -ENOMEM;
	while (done < iov->len) {
		uint64_t start = td_align_down(off + done, a->align), skip = off + done - start;
		uint64_t n = TD_MIN(iov->len - done, size - skip), usable = 0;
		struct iovec v;
		struct td_iov blocks = td_iov_buf(&v, buf, td_align_up(skip + n, a->align)), part;

		got = td_io_readv(im->env->engine, a->fd, start, &blocks);
		if (got < 0)
			break;
		if ((uint64_t)got > skip)
			usable = TD_MIN((uint64_t)got - skip, n);
		part = td_iov_slice(iov, done, usable);
		td_iov_from_buf(&part, buf + skip);
		done += usable;
		if (usable < n)
			break;
	}
	td_buf_free(buf, size);
	return got < 0 ? got : (int64_t)done;
}

static int aio_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct aio *a = im->state;
	struct td_iov rest;
	int64_t got;

	if (fits(a, off, iov))
		got = td_io_readv(im->env->engine, a->fd, off, iov);
	else
		got = bounce_read(im, off, iov);
	if (got < 0)
		return (int)got;
	if ((uint64_t)got == iov->len)
		return 0;
	if (flags & TD_EXACT)
		return -EUCLEAN;
	/* Behind the end are zeros by right; a file that became shorter under us has lost data. */
	if (off + (uint64_t)got < a->end)
		return -EIO;
	rest = td_iov_slice(iov, (uint64_t)got, iov->len - (uint64_t)got);
	td_iov_zero(&rest);
	return 0;
}

/* ---- writing ---- */

/* One block for a read-modify-write; zeros behind the end of the file. */
static int read_block(struct td_image *im, uint64_t off, void *buf)
{
	struct aio *a = im->state;
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, buf, a->align);
	int64_t got = td_io_readv(im->env->engine, a->fd, off, &iov);

	if (got < 0)
		return (int)got;
	if (got < a->align && off + (uint64_t)got < a->end)
		return -EIO;
	memset((char *)buf + got, 0, a->align - (size_t)got);
	return 0;
}

/* The blocks around [off, off + len): read those of which only a part is written. */
static int read_edges(struct td_image *im, uint64_t off, uint64_t len, char *buf)
{
	struct aio *a = im->state;
	uint64_t start = td_align_down(off, a->align), stop = td_align_up(off + len, a->align);
	int r = 0;

	if (off > start || (off + len < stop && stop - start == a->align))
		r = read_block(im, start, buf);
	if (r == 0 && off + len < stop && stop - start > a->align)
		r = read_block(im, stop - a->align, buf + (stop - start - a->align));
	return r;
}

static int bounce_write(struct td_image *im, uint64_t off, const struct td_iov *iov)
{
	struct aio *a = im->state;
	uint64_t span = td_align_up(off + iov->len, a->align) - td_align_down(off, a->align);
	size_t size = (size_t)TD_MIN(span, BOUNCE_MAX);
	char *buf = td_buf_alloc(size);
	struct td_range range;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	lock_blocks(a, &range, off, iov->len, a->align,
		    aligned(a, off, iov->len) ? TD_RANGE_SHARED : TD_RANGE_EXCLUSIVE);
	for (uint64_t done = 0, n; r == 0 && done < iov->len; done += n) {
		uint64_t start = td_align_down(off + done, a->align), skip = off + done - start;
		struct td_iov part, blocks;
		struct iovec v;

		n = TD_MIN(iov->len - done, size - skip);
		r = read_edges(im, off + done, n, buf);
		if (r < 0)
			break;
		part = td_iov_slice(iov, done, n);
		td_iov_to_buf(&part, buf + skip);
		blocks = td_iov_buf(&v, buf, td_align_up(skip + n, a->align));
		r = td_io_writev(im->env->engine, a->fd, start, &blocks);
	}
	td_range_unlock(&a->ranges, &range);
	td_buf_free(buf, size);
	return r;
}

/*
 * A piece of the file's last block, byte exact, through the page cache.  The whole page is held: the kernel reads and
 * writes it as one, and must not put back what a direct write beside our bytes has changed meanwhile.
 */
static int tail_write(struct td_image *im, uint64_t off, const struct td_iov *iov)
{
	struct aio *a = im->state;
	struct td_range range;
	int r;

	if (iov->len == 0)
		return 0;
	lock_blocks(a, &range, off, iov->len, a->page, TD_RANGE_EXCLUSIVE);
	r = td_io_writev(im->env->engine, a->tail_fd, off, iov);
	td_range_unlock(&a->ranges, &range);
	return r;
}

static int direct_write(struct td_image *im, uint64_t off, const struct td_iov *iov)
{
	struct aio *a = im->state;
	struct td_range range;
	int r;

	lock_blocks(a, &range, off, iov->len, a->align, TD_RANGE_SHARED);
	r = td_io_writev(im->env->engine, a->fd, off, iov);
	td_range_unlock(&a->ranges, &range);
	return r;
}

static int misaligned_write(struct td_image *im, uint64_t off, const struct td_iov *iov)
{
	struct aio *a = im->state;
	uint64_t end = off + iov->len, cut = end;
	struct td_iov part;
	int r = 0;

	if (td_align_up(end, a->align) > TD_MAX(a->end, end)) /* whole blocks would go beyond the end */
		cut = TD_MAX(td_align_down(end, a->align), off);
	if (cut > off) {
		part = td_iov_slice(iov, 0, cut - off);
		r = bounce_write(im, off, &part);
	}
	if (r < 0 || cut == end)
		return r;
	part = td_iov_slice(iov, cut - off, end - cut);
	return tail_write(im, cut, &part);
}

static int aio_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct aio *a = im->state;
	int r;

	(void)flags; /* FUA is image.c's */
	if (!a->direct)
		r = td_io_writev(im->env->engine, a->fd, off, iov);
	else if (fits(a, off, iov))
		r = direct_write(im, off, iov);
	else
		r = misaligned_write(im, off, iov);
	if (r == 0)
		a->end = TD_MAX(a->end, off + iov->len);
	return r;
}

/*
 * One fsync at a time: of two on one descriptor the kernel tells only one of an error.  Who waited for another's that
 * began after he came needs none of his own.
 *
 * After a failed fsync Linux forgets what it could not write: the pages are clean, and the next fsync succeeds.  A
 * device does so too: it drops what it could not write from its cache and goes on behind that at the next flush.  So
 * the image is frozen until it is opened anew: an answer of 0 would be a lie, and what nobody can flush is not written.
 */
static int aio_flush(struct td_image *im)
{
	struct aio *a = im->state;
	uint64_t before = a->flush_begun;
	int r;

	td_co_guard(&a->flush_lock);
	if (im->frozen)
		return -EIO; /* whatever the first error was: more space, say, does not mend it */
	if (a->flush_good > before)
		return 0;
	a->flush_begun++;
	r = td_io_fsync(im->env->engine, a->fd);
	if (r == 0)
		a->flush_good = a->flush_begun;
	else
		td_image_freeze(im);
	return r;
}

/* ---- zero and trim ---- */

/* fallocate; -ENOTSUP, noted in *no, where the file system does not have this mode. */
static int try_fallocate(struct td_image *im, int mode, bool *no, uint64_t off, uint64_t len)
{
	struct aio *a = im->state;
	int r;

	if (*no)
		return -ENOTSUP;
	r = td_io_fallocate(im->env->engine, a->fd, mode, off, len);
	if (r == -EOPNOTSUPP || r == -ENOSYS) {
		*no = true;
		return -ENOTSUP;
	}
	return r;
}

static int punch(struct td_image *im, uint64_t off, uint64_t len)
{
	struct aio *a = im->state;

	return try_fallocate(im, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, &a->no_punch, off, len);
}

static int zero_file(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct aio *a = im->state;
	bool grows = off + len > a->end && (im->flags & TD_OPEN_GROW);
	int r = -ENOTSUP;

	if (!grows) { /* behind the end are zeros already */
		if (off >= a->end)
			return 0;
		len = TD_MIN(len, a->end - off);
		if (flags & TD_MAY_UNMAP)
			r = punch(im, off, len);
	}
	if (r == -ENOTSUP)
		r = try_fallocate(im, FALLOC_FL_ZERO_RANGE | (grows ? 0 : FALLOC_FL_KEEP_SIZE),
				  &a->no_zero_range, off, len);
	if (r == 0)
		a->end = TD_MAX(a->end, off + len);
	return r;
}

/* Zeros written into a part of one block. */
static int zero_piece(struct td_image *im, uint64_t off, uint64_t len)
{
	struct iovec v;
	struct td_iov iov;
	void *buf;
	int r;

	if (len == 0)
		return 0;
	buf = td_buf_alloc(len);
	if (!buf)
		return -ENOMEM;
	memset(buf, 0, len);
	iov = td_iov_buf(&v, buf, len);
	r = aio_pwritev(im, off, &iov, 0);
	td_buf_free(buf, len);
	return r;
}

/* Whole sectors.  Punching a block device gives zeros and may unmap; zeroing it may be slow, so not for TD_FAST. */
static int zero_sectors(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct aio *a = im->state;
	int r = -ENOTSUP;

	if (flags & TD_MAY_UNMAP)
		r = punch(im, off, len);
	if (r == -ENOTSUP && !(flags & TD_FAST))
		r = try_fallocate(im, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, &a->no_zero_range, off,
				  len);
	return r;
}

static int zero_device(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct aio *a = im->state;
	uint64_t start = td_align_up(off, a->align), stop = td_align_down(off + len, a->align);
	struct td_range range;
	int r;

	if (start >= stop)
		return -ENOTSUP; /* a part of a sector or two: to be written */
	lock_blocks(a, &range, start, stop - start, a->align, TD_RANGE_SHARED);
	r = zero_sectors(im, start, stop - start, flags);
	td_range_unlock(&a->ranges, &range);
	if (r == 0)
		r = zero_piece(im, off, start - off);
	if (r == 0)
		r = zero_piece(im, stop, off + len - stop);
	return r;
}

static int aio_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags)
{
	struct aio *a = im->state;
	struct td_range range;
	int r;

	if (a->device)
		return zero_device(im, off, len, flags);
	lock_blocks(a, &range, off, len, a->align, TD_RANGE_SHARED);
	r = zero_file(im, off, len, flags);
	td_range_unlock(&a->ranges, &range);
	return r;
}

struct discard {
	int fd;
	uint64_t range[2];
};

static int discard_work(void *arg)
{
	struct discard *d = arg;

	return ioctl(d->fd, BLKDISCARD, d->range) < 0 ? -errno : 0;
}

/* No promise of zeros here: BLKDISCARD leaves to the device what is read afterwards. */
static int trim_device(struct td_image *im, uint64_t off, uint64_t len)
{
	struct aio *a = im->state;
	uint64_t start = td_align_up(off, a->align), stop = td_align_down(off + len, a->align);
	struct discard d = { .fd = a->fd, .range = { start, stop - start } };
	int r;

	if (a->no_discard)
		return -ENOTSUP;
	if (start >= stop)
		return 0;
	r = td_pool_run(im->env->pool, discard_work, &d);
	if (r == -EOPNOTSUPP) {
		a->no_discard = true;
		return -ENOTSUP;
	}
	return r;
}

static int aio_trim(struct td_image *im, uint64_t off, uint64_t len)
{
	struct aio *a = im->state;
	struct td_range range;
	int r;

	if (off >= a->end)
		return 0;
	len = TD_MIN(len, a->end - off);
	lock_blocks(a, &range, off, len, a->align, TD_RANGE_SHARED);
	r = a->device ? trim_device(im, off, len) : punch(im, off, len);
	td_range_unlock(&a->ranges, &range);
	return r;
}

/* ---- extents ---- */

/* No data from off to the end of the file, says the kernel: a hole, unless the file became shorter under us. */
static int extent_last(struct aio *a, uint64_t off)
{
	struct stat st;

	if (fstat(a->fd, &st) < 0)
		return -errno;
	return off < a->end && (uint64_t)st.st_size < a->end ? -EIO : 0;
}

/*
 * A hole reads as zeros and takes no space; whatever is not known for sure is data.  SEEK_DATA and SEEK_HOLE together
 * take 3 to 4 us on ext4 and tmpfs, less than the way to a worker and back, so they are done here.
 */
static int aio_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct aio *a = im->state;
	off_t pos;

	*ret = (struct td_extent){
		.kind = TD_EXTENT_DATA, .allocated = true, .has_host = true, .host_off = off, .len = len
	};
	if (a->device || a->no_seek)
		return 0;
	pos = lseek(a->fd, (off_t)off, SEEK_DATA);
	if (pos < 0 && errno != ENXIO) {
		a->no_seek = true;
		return 0;
	}
	if (pos < 0 || (uint64_t)pos > off) {
		ret->kind = TD_EXTENT_ZERO;
		ret->allocated = false;
		if (pos < 0)
			return extent_last(a, off);
		ret->len = TD_MIN(len, (uint64_t)pos - off);
		return 0;
	}
	pos = lseek(a->fd, (off_t)off, SEEK_HOLE);
	if (pos > (off_t)off &&
	    (uint64_t)pos < a->end) /* at the end: what is left of the last sector with it */
		ret->len = TD_MIN(len, (uint64_t)pos - off);
	return 0;
}

const struct td_driver td_aio = {
	.name = "aio",
	.flags = TD_LEAF,
	.state_size = sizeof(struct aio),
	.create = aio_create,
	.measure = aio_measure,
	.open = aio_open,
	.close = aio_close,
	.preadv = aio_preadv,
	.pwritev = aio_pwritev,
	.zero = aio_zero,
	.trim = aio_trim,
	.flush = aio_flush,
	.extent = aio_extent,
	.resize = aio_resize,
	.info = aio_info,
};
