// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading a disk's partition table through its vbd: only what stands where tables stand is read, and libblkid, which
 * wants a file, is given a sparse one in memory that holds it.
 *
 * The table is the guest's: what it says is bounded, and what lies outside the disk or over another is left out, with a
 * line in the log.
 */
#ifndef BLKTAP_FUSE_PARTS_H
#define BLKTAP_FUSE_PARTS_H

#include <blktap/err.h>
#include <blktap/vbd.h>

#define FUSE_PARTS_MAX 128 /* their numbers go from 1 to this */

struct fuse_part {
	uint64_t start, len; /* bytes; len 0: there is no such partition */
};

struct fuse_parts {
	struct fuse_part part[FUSE_PARTS_MAX + 1]; /* by number; 0 is not used */
};

struct fuse_parts_reader;

/* -ENOTSUP: built without libblkid. */
TD_CHECK int fuse_parts_reader_new(struct td_vbd *vbd, struct fuse_parts_reader **ret,
				   struct td_err *ret_err);
void fuse_parts_reader_free(struct fuse_parts_reader *r); /* nothing being read */

/*
 * Read the table; not from a coroutine, and one at a time.  done comes with the partitions (none is no error) or -errno
 * of a failed read, later; r may be used again from inside it.  The disk has a size.
 */
void fuse_parts_read(struct fuse_parts_reader *r,
		     void (*done)(void *arg, int result, const struct fuse_parts *parts), void *arg);

#endif
