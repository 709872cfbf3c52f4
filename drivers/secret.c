// SPDX-License-Identifier: BSD-2-Clause
/*
 * Pass phrases and keys: where they come from, and the memory in which they are.
 *
 * What is read goes from the kernel into that memory and nowhere else: no stdio, no string that grows.
 */
#include "drivers.h"

#include <blktap/crypt.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FD_MAX 1048576u

/* ---- memory ---- */

/* What follows fails where the system is older, or allows no locked memory: a disk is served all the same. */
static void keep_to_ourselves(void *p, size_t len)
{
	td_ignore(mlock(p, len));
	td_ignore(madvise(p, len, MADV_DONTDUMP));
	td_ignore(prctl(PR_SET_DUMPABLE, 0));
}

void *td_locked_alloc(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	keep_to_ourselves(p, len);
	return p;
}

void td_locked_free(void *p, size_t len)
{
	if (!p)
		return;
	explicit_bzero(p, len);
	(void)munmap(p, len);
}

static size_t secret_size(void)
{
	return sizeof(struct td_secret) + TD_SECRET_MAX + 1; /* one more: too long shows */
}

void td_secret_free(struct td_secret *s)
{
	td_locked_free(s, secret_size());
}

/* ---- reading ---- */

/* All there is; of what can be read again, from the start.  More than fits: TD_SECRET_MAX + 1. */
static int read_all(int fd, struct td_secret *s)
{
	bool again = lseek(fd, 0, SEEK_CUR) >= 0;

	s->len = 0;
	while (s->len <= TD_SECRET_MAX) {
		size_t room = TD_SECRET_MAX + 1 - s->len;
		ssize_t n = again ? pread(fd, s->bytes + s->len, room, (off_t)s->len)
				  : read(fd, s->bytes + s->len, room);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		s->len += (size_t)n;
	}
	return 0;
}

static int take(int fd, const char *option, const char *value, struct td_secret *s, struct td_err *ret_err)
{
	int r = read_all(fd, s);

	if (r < 0)
		return td_err_set(ret_err, r, "%s=%s: cannot be read: %s", option, value, strerror(-r));
	if (s->len > TD_SECRET_MAX)
		return td_err_set(ret_err, -EINVAL, "%s=%s: more than %u bytes: that is no pass phrase",
				  option, value, TD_SECRET_MAX);
	if (s->len > 0 && s->bytes[s->len - 1] == '\n')
		s->bytes[--s->len] = 0;
	if (s->len == 0)
		return td_err_set(ret_err, -EINVAL,
				  "%s=%s: there is no pass phrase in it (and what came through a pipe can be "
				  "read once only)",
				  option, value);
	return 0;
}

static void tell_who_reads(int fd, const char *path, void (*notice)(const char *line))
{
	struct td_err line;
	struct stat st;

	if (!notice || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & (S_IRGRP | S_IROTH)))
		return;
	td_err_set(&line, 0, "%s: others than its owner can read this pass phrase: chmod 600 would end that",
		   path);
	notice(line.msg);
}

/* O_NONBLOCK: a FIFO that nobody writes to must not hold the process up; of a file it says nothing. */
static int read_file(const char *option, const char *path, void (*notice)(const char *line),
		     struct td_secret *s, struct td_err *ret_err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r;
	struct stat st;

	if (fd < 0)
		return td_err_set(ret_err, -errno, "%s=%s: cannot be opened: %m", option, path);
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		r = td_err_set(ret_err, -EISDIR, "%s=%s: is a directory", option, path);
	} else {
		tell_who_reads(fd, path, notice);
		r = take(fd, option, path, s, ret_err);
	}
	(void)close(fd);
	return r;
}

int td_secret_load(struct td_opts *opts, const char *file, const char *fd, void (*notice)(const char *line),
		   struct td_secret **ret, struct td_err *ret_err)
{
	const char *path = td_opts_get(opts, file), *text = fd ? td_opts_get(opts, fd) : NULL;
	struct td_secret *s;
	uint64_t nr = 0;
	int r = 0;

	*ret = NULL;
	if (!path && !text)
		return 0;
	if (path && text)
		return td_err_set(ret_err, -EINVAL, "%s and %s exclude each other", file, fd);
	if (text)
		r = td_opts_u64(opts, fd, 0, FD_MAX, &nr, ret_err);
	if (r < 0)
		return r;
	s = td_locked_alloc(secret_size());
	if (!s)
		return td_err_set(ret_err, -ENOMEM, "no memory for a pass phrase");
	r = path ? read_file(file, path, notice, s, ret_err) : take((int)nr, fd, text, s, ret_err);
	if (r < 0) {
		td_secret_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int td_secret_for_new(const struct td_create *c, struct td_secret **ret, struct td_err *ret_err)
{
	int r = td_secret_load(c->opts, "encrypt.key-file", NULL, c->env->notice, ret, ret_err);

	if (r == 0 && !*ret && c->spec_opts)
		r = td_secret_load(c->spec_opts, "key-file", "key-fd", c->env->notice, ret, ret_err);
	if (r == 0 && !*ret)
		r = td_err_set(
			ret_err, -EINVAL,
			"encryption needs a pass phrase: name a file with it by encrypt.key-file=FILE");
	return r;
}
