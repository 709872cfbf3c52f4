// SPDX-License-Identifier: BSD-2-Clause
/*
 * Opening, resizing and describing files and block devices for the leaf driver.
 *
 * Options: direct=on|off (O_DIRECT, on by default; falls back where the file system refuses it), lock=on|off,
 * align=SIZE (what O_DIRECT needs, if neither the kernel nor a trial read tells the truth).
 */
#include "aio.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define ALIGN_MAX 65536u

/* ---- the descriptor ---- */

static int open_path(const struct td_image *im, int flags, struct td_err *ret_err)
{
	int fd;

	if (im->flags & (TD_OPEN_BACKING | TD_OPEN_BASE | TD_OPEN_PART)) /* an image named it, not the user */
		return td_policy_open(im->policy, im->path, flags, ret_err);
	fd = open(im->path, flags | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	if (im->read_only || (errno != EACCES && errno != EROFS && errno != EPERM))
		return td_err_set(ret_err, -errno, "%s: cannot open it: %m", im->path);
	return td_err_set(ret_err, -errno, "%s: cannot open it for writing: %m (open it read-only?)",
			  im->path);
}

/* O_DIRECT if wanted, and if the file system has it.  O_NONBLOCK so that a FIFO does not hold us. */
static int open_data(struct td_image *im, struct td_err *ret_err)
{
	struct aio *a = im->state;
	int flags = (im->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY;
	int fd;

	if (a->direct) {
		fd = open_path(im, flags | O_DIRECT, ret_err);
		if (fd != -EINVAL)
			return fd;
		a->direct = false;
		a->cached_why = "the file system has no O_DIRECT";
	}
	return open_path(im, flags, ret_err);
}

static int check_type(struct td_image *im, const struct stat *st, struct td_err *ret_err)
{
	struct aio *a = im->state;
	int flags = fcntl(a->fd, F_GETFL);

	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return td_err_set(ret_err, -EINVAL, "%s: is neither a regular file nor a block device",
				  im->path);
	a->device = S_ISBLK(st->st_mode);
	/* io_uring would answer EAGAIN instead of waiting. */
	if (flags < 0 || fcntl(a->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return td_err_set(ret_err, -errno, "%s: cannot set its flags: %m", im->path);
	return 0;
}

/* The same file without O_DIRECT, for a write that ends within a block at the end of the file. */
static int open_tail(struct td_image *im, const struct stat *st, struct td_err *ret_err)
{
	struct aio *a = im->state;
	struct stat tail;

	if (!a->direct || a->device || im->read_only)
		return 0;
	a->tail_fd = open_path(im, O_RDWR, ret_err);
	if (a->tail_fd < 0)
		return a->tail_fd;
	if (fstat(a->tail_fd, &tail) < 0 || tail.st_dev != st->st_dev || tail.st_ino != st->st_ino)
		return td_err_set(ret_err, -EBUSY, "%s: was replaced while it was opened", im->path);
	return 0;
}

/* ---- alignment ---- */

/* What the kernel says of O_DIRECT on this file: 0 unknown, 1 known, -EINVAL it has none. */
static int ask_alignment(struct aio *a)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(a->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 || !(stx.stx_mask & STATX_DIOALIGN))
		return 0;
	if (stx.stx_dio_offset_align == 0)
		return -EINVAL;
	if (!td_is_pow2(stx.stx_dio_offset_align) || !td_is_pow2(stx.stx_dio_mem_align))
		return 0;
	a->align = TD_MAX(stx.stx_dio_offset_align, AIO_SECTOR);
	a->mem_align = stx.stx_dio_mem_align;
	return 1;
#else
	(void)a;
	return 0;
#endif
}

/* Older kernels: the smallest read that works.  Only a file with data at its start tells the truth. */
static int try_alignment(struct aio *a)
{
	uint32_t align = AIO_SECTOR;
	char *buf = td_buf_alloc(ALIGN_MAX);

	if (!buf)
		return -ENOMEM;
	while (align < 4096 && pread(a->fd, buf, align, 0) < 0)
		align *= 2;
	if (lseek(a->fd, 0, SEEK_DATA) != 0)
		align = 4096;
	td_buf_free(buf, ALIGN_MAX);
	a->align = a->mem_align = align;
	return 0;
}

/* O_DIRECT could be opened, and is no use: a file in a journalling or encrypting mode of its file system. */
static int go_cached(struct td_image *im, struct td_err *ret_err)
{
	struct aio *a = im->state;
	int flags = fcntl(a->fd, F_GETFL);

	a->direct = false;
	a->cached_why = "the file system has no O_DIRECT for this file";
	if (flags < 0 || fcntl(a->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return td_err_set(ret_err, -errno, "%s: cannot set its flags: %m", im->path);
	return 0;
}

static int find_alignment(struct td_image *im, struct td_err *ret_err)
{
	struct aio *a = im->state;
	int sector = 0, r;

	a->align = AIO_SECTOR;
	a->mem_align = 1;
	if (a->device) {
		if (ioctl(a->fd, BLKSSZGET, &sector) < 0 || sector < (int)AIO_SECTOR ||
		    sector > (int)ALIGN_MAX || !td_is_pow2((uint64_t)sector))
			return td_err_set(ret_err, -EIO, "%s: cannot tell its sector size", im->path);
		a->align = (uint32_t)sector;
		if (a->direct && ask_alignment(a) != 1)
			a->mem_align = (uint32_t)sector;
		a->align = TD_MAX(a->align, (uint32_t)sector);
		return 0;
	}
	if (!a->direct)
		return 0;
	r = ask_alignment(a);
	if (r == -EINVAL)
		return go_cached(im, ret_err);
	if (r == 0)
		r = try_alignment(a);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot find out how to align: %s", im->path, strerror(-r))
		     : 0;
}

/* The user knows better.  Never less than the file needs. */
static int option_alignment(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct aio *a = im->state;
	uint64_t align = a->align;
	int r = td_opts_size(opts, "align", &align, ret_err);

	if (r < 0)
		return r;
	if (!td_is_pow2(align) || align < AIO_SECTOR || align > ALIGN_MAX)
		return td_err_set(ret_err, -EINVAL, "%s: align= has to be a power of two from 512 to 64K",
				  im->path);
	if (a->direct && align > a->align)
		a->align = a->mem_align = (uint32_t)align;
	return 0;
}

/* ---- size and limits ---- */

static int device_size(const struct td_image *im, uint64_t *ret)
{
	const struct aio *a = im->state;

	return ioctl(a->fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
}

static int find_size(struct td_image *im, const struct stat *st, struct td_err *ret_err)
{
	struct aio *a = im->state;
	int read_only = 0, r;

	if (a->device) {
		r = device_size(im, &a->end);
		if (r < 0)
			return td_err_set(ret_err, r, "%s: cannot tell its size: %s", im->path, strerror(-r));
		if (!im->read_only && ioctl(a->fd, BLKROGET, &read_only) == 0 && read_only)
			return td_err_set(ret_err, -EROFS, "%s: the device is read-only (open it read-only)",
					  im->path);
	} else {
		a->end = (uint64_t)st->st_size;
	}
	im->size = a->end;
	/*
	 * A disk has whole sectors: what is missing of the last one reads as zeros, and is there once it is written.
	 * A format has to see where its file ends to the byte.
	 */
	if (!(im->flags & TD_OPEN_GROW))
		im->size = td_align_down(TD_MIN(td_align_up(a->end, AIO_SECTOR), TD_IMAGE_MAX), AIO_SECTOR);
	return 0;
}

/* A number from the device's queue in sysfs (of a partition: its disk's); 0: not known. */
static uint64_t queue_number(dev_t dev, const char *name)
{
	static const char *const where[] = { "queue", "../queue" };
	unsigned long long value = 0;

	for (unsigned i = 0; i < TD_NELEMS(where); i++) {
		char path[128], text[32];
		FILE *f;

		(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(dev), minor(dev),
			       where[i], name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(text, sizeof(text), f))
			value = strtoull(text, NULL, 10);
		(void)fclose(f);
		break;
	}
	return value;
}

static void set_limits(struct td_image *im, const struct stat *st)
{
	struct aio *a = im->state;
	uint32_t fs_block = (uint32_t)TD_MIN((uint64_t)st->st_blksize, ALIGN_MAX);

	a->page = TD_MAX(a->align, (uint32_t)sysconf(_SC_PAGESIZE));
	if (td_is_pow2(fs_block))
		a->page = TD_MAX(a->page, fs_block);
	im->limits.block_size = a->align;
	im->limits.mem_align = a->direct ? a->mem_align : 1;
	im->limits.device = a->device;
	if (a->device) {
		uint64_t discard = queue_number(st->st_rdev, "discard_granularity");

		im->limits.trim_granularity = (uint32_t)TD_MIN(discard, UINT32_MAX);
		im->limits.zero_efficient = queue_number(st->st_rdev, "write_zeroes_max_bytes") > 0;
		a->no_discard = discard == 0;
	} else {
		im->limits.trim_granularity = td_is_pow2(fs_block) ? TD_MAX(fs_block, AIO_SECTOR) : 4096;
		im->limits.zero_efficient = true;
	}
}

/* ---- open and close ---- */

static int take_lock(struct td_image *im, bool lock, struct td_err *ret_err)
{
	const struct aio *a = im->state;
	enum filelock how = FILELOCK_READ;

	if (!lock || (im->flags & TD_OPEN_NO_LOCK))
		return 0;
	if (!im->read_only)
		how = im->flags & TD_OPEN_GROW ? FILELOCK_GROW : FILELOCK_WRITE;
	return td_filelock(a->fd, im->path, how, ret_err);
}

static int setup(struct td_image *im, struct td_opts *opts, bool lock, struct td_err *ret_err)
{
	struct aio *a = im->state;
	struct stat st;
	int r;

	if (fstat(a->fd, &st) < 0)
		return td_err_set(ret_err, -errno, "%s: cannot look at it: %m", im->path);
	r = check_type(im, &st, ret_err);
	if (r == 0)
		r = take_lock(im, lock, ret_err);
	if (r == 0 && fstat(a->fd, &st) < 0) /* its size as nobody changes it any more */
		r = td_err_set(ret_err, -errno, "%s: cannot look at it: %m", im->path);
	if (r == 0)
		r = find_size(im, &st, ret_err);
	if (r == 0)
		r = find_alignment(im, ret_err);
	if (r == 0)
		r = option_alignment(im, opts, ret_err);
	if (r == 0)
		r = open_tail(im, &st, ret_err);
	if (r == 0)
		set_limits(im, &st);
	return r;
}

static void close_files(struct aio *a)
{
	if (a->tail_fd >= 0)
		(void)close(a->tail_fd);
	(void)close(a->fd);
}

int aio_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct aio *a = im->state;
	bool lock = true;
	int r;

	if (*im->path == 0)
		return td_err_set(ret_err, -EINVAL, "aio: no path is given: write aio:PATH");
	a->direct = true;
	a->cached_why = "direct=off";
	a->fd = a->tail_fd = -1;
	td_ranges_init(&a->ranges);
	r = td_opts_bool(opts, "direct", &a->direct, ret_err);
	if (r == 0)
		r = td_opts_bool(opts, "lock", &lock, ret_err);
	if (r < 0)
		return r;
	a->fd = open_data(im, ret_err);
	if (a->fd < 0)
		return a->fd;
	r = setup(im, opts, lock, ret_err);
	if (r < 0)
		close_files(a);
	return r;
}

int aio_close(struct td_image *im)
{
	struct aio *a = im->state;

	/* Who opens it next shall see what is on the disk, not pages that never came there (aio_flush). */
	if (im->frozen)
		(void)posix_fadvise(a->fd, 0, 0, POSIX_FADV_DONTNEED);
	close_files(a);
	return 0;
}

/* ---- resize and info ---- */

static int resize_device(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	struct aio *a = im->state;
	uint64_t now;
	int r = device_size(im, &now);

	if (r < 0)
		return td_err_set(ret_err, r, "%s: cannot tell its size: %s", im->path, strerror(-r));
	if (size != now)
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: the device has %llu bytes, and only its own tools change that",
				  im->path, (unsigned long long)now);
	a->end = now;
	return 0;
}

int aio_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	struct aio *a = im->state;
	struct td_range range;
	int r;

	if (a->device)
		return resize_device(im, size, ret_err);
	if (!(im->flags & TD_OPEN_GROW) && size % AIO_SECTOR)
		return td_err_set(ret_err, -EINVAL, "%s: the size of a disk is a multiple of 512", im->path);
	td_range_lock(&a->ranges, &range, 0, TD_IMAGE_MAX, TD_RANGE_EXCLUSIVE);
	r = td_io_truncate(im->env->engine, a->fd, size);
	if (r == 0)
		a->end = size;
	td_range_unlock(&a->ranges, &range);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be resized: %s", im->path, strerror(-r)) : 0;
}

static int add_number(struct td_opts *o, const char *name, uint64_t value)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return td_opts_add(o, name, text, NULL);
}

int aio_info(struct td_image *im, struct td_opts *ret)
{
	const struct aio *a = im->state;
	struct stat st;
	int r;

	if (fstat(a->fd, &st) < 0)
		return -errno;
	r = td_opts_add(ret, "type", a->device ? "block device" : "file", NULL);
	if (r == 0)
		r = td_opts_add(ret, "direct", a->direct ? "on" : "off", NULL);
	if (r == 0 && !a->direct)
		r = td_opts_add(ret, "direct-off-because", a->cached_why, NULL);
	if (r == 0)
		r = add_number(ret, "alignment", a->direct ? a->align : 1);
	if (r == 0)
		r = add_number(ret, "memory-alignment", im->limits.mem_align);
	if (r == 0 && !a->device)
		r = add_number(ret, "file-size", (uint64_t)st.st_size);
	if (r == 0 && !a->device)
		r = add_number(ret, "disk-size", (uint64_t)st.st_blocks * 512);
	return r;
}
