// SPDX-License-Identifier: BSD-2-Clause
/*
 * Minors; see minor.h.  They are taken and given back under a lock on the directory.
 */
#include <blktap/ctl.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "minor.h"

static int marker_path(int minor, char **ret_path, struct td_err *ret_err)
{
	return td_run_path(ret_path, ret_err, TD_MARKER, minor);
}

/* 1: it is ours now; 0: somebody has it. */
static int try_minor(int minor, char **ret_path, struct td_err *ret_err)
{
	char *path;
	int fd, r;

	r = marker_path(minor, &path, ret_err);
	if (r < 0)
		return r;
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0) {
		r = errno == EEXIST ? 0 : td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
		free(path);
		return r;
	}
	close(fd);
	*ret_path = path;
	return 1;
}

/* Made if it is not there. */
static int marker_dir(char **ret_dir, struct td_err *ret_err)
{
	char *dir;
	int r;

	r = td_run_path(&dir, ret_err, "%s", TD_MARKER_DIR);
	if (r < 0)
		return r;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		r = td_err_set(ret_err, -errno, "%s: %s", dir, strerror(errno));
		free(dir);
		return r;
	}
	*ret_dir = dir;
	return 0;
}

/* Whoever holds the descriptor has the lock. */
static int lock_dir(int *ret_fd, struct td_err *ret_err)
{
	td_cleanup(free) char *dir = NULL;
	int fd, r;

	r = marker_dir(&dir, ret_err);
	if (r < 0 || !dir)
		return r;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0) {
		r = td_err_set(ret_err, -errno, "%s: %s", dir, strerror(errno));
		if (fd >= 0)
			close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int minor_alloc(int *ret_minor, char **ret_path, struct td_err *ret_err)
{
	int lock = -1, r;

	r = lock_dir(&lock, ret_err);
	if (r < 0)
		return r;
	r = td_err_set(ret_err, -ENOSPC, "all %d minors are taken", MINOR_MAX);
	for (int i = 0; i < MINOR_MAX; i++) {
		int t = try_minor(i, ret_path, ret_err);

		if (t == 0)
			continue;
		if (t > 0)
			*ret_minor = i;
		r = TD_MIN(t, 0);
		break;
	}
	close(lock);
	return r;
}

/* Whole decimal number or -1. */
static long parse_number(const char *s)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (errno || end == s || (*end && *end != '\n') || v < 0 || v > INT32_MAX)
		return -1;
	return v;
}

static pid_t read_pid(int fd)
{
	char buf[16] = "";

	if (pread(fd, buf, sizeof(buf) - 1, 0) < 0)
		buf[0] = '\0';
	return (pid_t)parse_number(buf);
}

static pid_t read_pid_at(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	pid_t pid;

	if (fd < 0)
		return -1;
	pid = read_pid(fd);
	close(fd);
	return pid;
}

bool minor_is_allocated(int minor)
{
	td_cleanup(free) char *path = NULL;

	return marker_path(minor, &path, NULL) == 0 && access(path, F_OK) == 0;
}

/* With the directory locked nobody else removes it; the daemon that has it holds the marker's own lock. */
static int remove_marker(int dir, int minor, pid_t had, struct td_err *ret_err)
{
	char name[32];
	int fd, r = 0;

	snprintf(name, sizeof(name), "tapdisk-%d", minor);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return td_err_set(ret_err, -errno, "minor %d: %s", minor,
				  errno == ENOENT ? "is not allocated" : strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		r = td_err_set(
			ret_err, -EBUSY,
			"minor %d: tapdisk %d has it; tap-ctl detach takes it away, destroy ends all of it",
			minor, (int)read_pid(fd));
	else if (had != MINOR_ANYBODYS && read_pid(fd) != had)
		r = td_err_set(ret_err, -ENOENT, "minor %d: has been freed, and allocated anew", minor);
	else if (unlinkat(dir, name, 0) < 0)
		r = td_err_set(ret_err, -errno, "minor %d: %s: %s", minor, name, strerror(errno));
	close(fd);
	return r;
}

int minor_free(int minor, pid_t had, struct td_err *ret_err)
{
	int lock = -1, r;

	r = lock_dir(&lock, ret_err);
	if (r < 0)
		return r;
	r = remove_marker(lock, minor, had, ret_err);
	close(lock);
	return r;
}

/* ---- listing ---- */

static int by_number(const void *a, const void *b)
{
	const struct minor *x = a, *y = b;

	return (x->minor > y->minor) - (x->minor < y->minor);
}

static int read_markers(DIR *d, struct minor **ret, size_t *ret_nr)
{
	struct minor *list = NULL, *more;
	struct dirent *e;
	size_t nr = 0;

	while ((e = readdir(d))) {
		long n = strncmp(e->d_name, "tapdisk-", 8) == 0 ? parse_number(e->d_name + 8) : -1;

		if (n < 0)
			continue;
		more = reallocarray(list, nr + 1, sizeof(*list));
		if (!more) {
			free(list);
			return -ENOMEM;
		}
		list = more;
		list[nr++] = (struct minor){ .minor = (int)n, .pid = read_pid_at(dirfd(d), e->d_name) };
	}
	if (nr > 1)
		qsort(list, nr, sizeof(*list), by_number);
	*ret = list;
	*ret_nr = nr;
	return 0;
}

int minor_list(struct minor **ret, size_t *ret_nr, struct td_err *ret_err)
{
	td_cleanup(free) char *dir = NULL;
	DIR *d;
	int r;

	r = marker_dir(&dir, ret_err);
	if (r < 0 || !dir)
		return r;
	d = opendir(dir);
	if (!d)
		return td_err_set(ret_err, -errno, "%s: %s", dir, strerror(errno));
	r = read_markers(d, ret, ret_nr);
	closedir(d);
	return r;
}
