// SPDX-License-Identifier: BSD-2-Clause
/*
 * The leaf driver for files and block devices: what its files share.
 *	aio.c		reading, writing, flush, zero, trim, extents
 *	aio-open.c	opening, resizing, info
 *	aio-create.c	making
 *	filelock.c	locks that other programs respect
 */
#ifndef DRIVERS_AIO_H
#define DRIVERS_AIO_H

#include <blktap/io.h>
#include <blktap/lock.h>

#include "drivers.h"

#define AIO_SECTOR 512u /* what a disk is counted in */

struct aio {
	int fd;
	int tail_fd; /* the same file through the page cache, for a piece of a block at its end; -1: none */
	bool direct; /* fd is O_DIRECT: off, len and memory have to be aligned */
	bool device;
	const char *cached_why; /* why not direct; for info */
	uint32_t align;         /* of offset and length: O_DIRECT's for a file, the sector for a device */
	uint32_t mem_align;     /* of memory */
	uint32_t page;          /* what the page cache reads and writes as one */
	uint64_t end;           /* of the file: below im->size if that was rounded up to sectors */

	/* What the file system said it cannot; not tried again. */
	bool no_punch, no_zero_range, no_discard, no_seek;

	struct td_mutex flush_lock;
	uint64_t flush_begun, flush_good; /* how many began; the last one that succeeded */
	struct td_ranges ranges;
};

TD_CO TD_CHECK int aio_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err);
TD_CO TD_CHECK int aio_close(struct td_image *im);
TD_CO TD_CHECK int aio_create(const struct td_create *c, struct td_err *ret_err);
TD_CHECK int aio_measure(struct td_measure *m, struct td_err *ret_err);
TD_CO TD_CHECK int aio_resize(struct td_image *im, uint64_t size, struct td_err *ret_err);
TD_CHECK int aio_info(struct td_image *im, struct td_opts *ret);

/*
 * Say to every other program how this file is used, and refuse if one of them uses it otherwise.  The locks belong to
 * fd's open file description: they end when it is closed, and only then.
 *
 * -EBUSY: another one has it.  -ENOLCK and others: the file system has no locks.
 */
enum filelock {
	FILELOCK_READ,  /* others may read */
	FILELOCK_WRITE, /* others may read if they bear changes; none may write */
	FILELOCK_GROW,  /* and we change its size */
};

TD_CHECK int td_filelock(int fd, const char *path, enum filelock how, struct td_err *ret_err);

#endif
