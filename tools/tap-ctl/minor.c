// SPDX-License-Identifier: BSD-2-Clause
/*
 * Minors; see minor.h.  They are taken and given back under a lock on the directory.
 */
#include <blktap/ctl.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "minor.h"

static int marker_path(int minor, char **ret_path, struct td_err *ret_err)
{
	return td_run_path(ret_path, ret_err, "tapdisk-%d", minor);
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

/* Whoever holds the descriptor has the lock. */
static int lock_dir(int *ret_fd, struct td_err *ret_err)
{
	const char *dir;
	int fd, r;

	r = td_run_dir(&dir, ret_err);
	if (r < 0)
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

int minor_record(int minor, pid_t pid, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	int fd, r;

	r = marker_path(minor, &path, ret_err);
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d\n", (int)pid) < 0)
		r = td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
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

static pid_t read_pid(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	char buf[16] = "";

	if (fd < 0)
		return -1;
	if (read(fd, buf, sizeof(buf) - 1) < 0)
		buf[0] = '\0';
	close(fd);
	return (pid_t)parse_number(buf);
}

int minor_free(int minor, pid_t pid, struct td_err *ret_err)
{
	char name[32];
	int lock = -1, r;

	r = lock_dir(&lock, ret_err);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "tapdisk-%d", minor);
	if (read_pid(lock, name) == pid && unlinkat(lock, name, 0) < 0 && errno != ENOENT)
		r = td_err_set(ret_err, -errno, "minor %d: %s: %s", minor, name, strerror(errno));
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
		list[nr++] = (struct minor){ .minor = (int)n, .pid = read_pid(dirfd(d), e->d_name) };
	}
	if (nr > 1)
		qsort(list, nr, sizeof(*list), by_number);
	*ret = list;
	*ret_nr = nr;
	return 0;
}

int minor_list(struct minor **ret, size_t *ret_nr, struct td_err *ret_err)
{
	const char *dir;
	DIR *d;
	int r;

	r = td_run_dir(&dir, ret_err);
	if (r < 0)
		return r;
	d = opendir(dir);
	if (!d)
		return td_err_set(ret_err, -errno, "%s: %s", dir, strerror(errno));
	r = read_markers(d, ret, ret_nr);
	closedir(d);
	return r;
}
