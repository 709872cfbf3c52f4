// SPDX-License-Identifier: BSD-2-Clause
/*
 * The marker of the daemon's minor: a file that tap-ctl allocate made (ctl.h).  While a daemon has the minor it holds a
 * lock on the marker, and its pid stands in it: who has a minor is told by the lock, and who had it by the pid.
 */
#include "marker.h"
#include <blktap/ctl.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Given back, and perhaps made again, between our open and our lock? */
static bool is_current(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* A file of our own on tmpfs: a short write is one that failed.  -1: errno says why. */
static int write_pid(int fd)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", getpid());

	errno = ENOSPC;
	return ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n ? 0 : -1;
}

int marker_take(int minor, int *ret_fd, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	int fd, r;

	*ret_fd = -1;
	r = td_run_path(&path, ret_err, TD_MARKER, minor);
	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		r = td_err_set(ret_err, errno == EWOULDBLOCK ? -EBUSY : -errno,
			       "minor %d: another tapdisk has it", minor);
	else if (!is_current(fd, path))
		r = td_err_set(ret_err, -EBUSY, "minor %d: was freed meanwhile", minor);
	else if (write_pid(fd) < 0)
		r = td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	if (r == 0)
		*ret_fd = fd;
	else
		close(fd);
	return r;
}

void marker_drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
