// SPDX-License-Identifier: BSD-2-Clause
/*
 * Locks on image files, understood by QEMU and its tools, so that each refuses a disk which the other writes.
 *
 * The protocol (QEMU, block/file-posix.c): one byte of the file for each permission, locked shared by whoever holds
 * it at 100 + bit, and by whoever does not bear others to hold it at 200 + bit.  Nobody conflicts by locking; one locks
 * first, then looks at the bytes of the opposite meaning: what I do against what others do not bear, what I do not
 * bear against what others do.  Two that come at the same moment may both be refused, never both served.
 *
 * The locks are OFD locks: they belong to the open file description, survive fork, and another descriptor of the same
 * file in this process does not drop them.  Bytes need not exist to be locked.
 */
#include "aio.h"

#include <fcntl.h>

#define LOCK_DOES    100
#define LOCK_REFUSES 200

enum { BIT_READ, BIT_WRITE, BIT_WRITE_UNCHANGED, BIT_RESIZE, NR_BITS };

struct lock_use {
	unsigned does, refuses; /* bits */
};

static const struct lock_use lock_uses[] = {
	[FILELOCK_READ] = { 1 << BIT_READ, 1 << BIT_WRITE | 1 << BIT_RESIZE },
	[FILELOCK_WRITE] = { 1 << BIT_READ | 1 << BIT_WRITE, 1 << BIT_WRITE | 1 << BIT_RESIZE },
	[FILELOCK_GROW] = { 1 << BIT_READ | 1 << BIT_WRITE | 1 << BIT_RESIZE,
			    1 << BIT_WRITE | 1 << BIT_RESIZE },
};

static int lock_byte(int fd, unsigned byte)
{
	struct flock fl = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Has anyone else locked this byte?  0 no, 1 yes. */
static int lock_test(int fd, unsigned byte)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
		return -errno;
	return fl.l_type != F_UNLCK;
}

static int lock_bits(int fd, unsigned base, unsigned bits)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < NR_BITS; i++)
		if (bits & 1u << i)
			r = lock_byte(fd, base + i);
	return r;
}

static int test_bits(int fd, unsigned base, unsigned bits)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < NR_BITS; i++)
		if (bits & 1u << i)
			r = lock_test(fd, base + i);
	return r;
}

static void unlock_all(int fd)
{
	struct flock fl = { .l_type = F_UNLCK,
			    .l_whence = SEEK_SET,
			    .l_start = LOCK_DOES,
			    .l_len = LOCK_REFUSES + NR_BITS - LOCK_DOES };

	td_ignore(fcntl(fd, F_OFD_SETLK, &fl)); /* the caller closes it anyway */
}

int td_filelock(int fd, const char *path, enum filelock how, struct td_err *ret_err)
{
	const struct lock_use *use = &lock_uses[how];
	bool others_write = false;
	int r = lock_bits(fd, LOCK_DOES, use->does);

	if (r == 0)
		r = lock_bits(fd, LOCK_REFUSES, use->refuses);
	if (r == 0) {
		r = test_bits(fd, LOCK_DOES, use->refuses);
		others_write = r > 0;
	}
	if (r == 0)
		r = test_bits(fd, LOCK_REFUSES, use->does);
	if (r == 0)
		return 0;
	unlock_all(fd);
	if (r < 0)
		return td_err_set(
			ret_err, r,
			"%s: cannot be locked against other programs: %s (the option lock=off goes without)",
			path, strerror(-r));
	return td_err_set(
		ret_err, -EBUSY,
		others_write ? "%s: another program (tapdisk, QEMU, ...) has it open for writing: end that "
			       "first"
			     : "%s: another program (tapdisk, QEMU, ...) has it open and does not bear "
			       "changes: end that first, or open it read-only",
		path);
}
