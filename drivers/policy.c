// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which files an image may make us open.  An image is outside data: the name of a backing file in it must not make a
 * daemon that runs as root read /etc/shadow, or wait on a FIFO.
 *
 * What is checked is what is opened: the name is resolved once to an O_PATH descriptor, its real path is asked of the
 * kernel, and the file is opened through that descriptor.
 */
#include <blktap/policy.h>

#include "drivers.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLICY_DIRS_MAX 4096u

/* dir: a real path. */
static int add_real(struct td_policy *p, const char *dir, bool write, struct td_err *ret_err)
{
	struct td_policy_dir *dirs;

	for (unsigned i = 0; i < p->nr_dirs; i++) {
		if (strcmp(p->dirs[i].path, dir) != 0)
			continue;
		p->dirs[i].write |= write;
		return 0;
	}
	if (p->nr_dirs == POLICY_DIRS_MAX)
		return td_err_set(ret_err, -E2BIG, "%s: more than %u directories allowed", dir,
				  POLICY_DIRS_MAX);
	dirs = reallocarray(p->dirs, p->nr_dirs + 1, sizeof(*dirs));
	if (!dirs)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", dir);
	p->dirs = dirs;
	dirs[p->nr_dirs] = (struct td_policy_dir){ strdup(dir), write };
	if (!dirs[p->nr_dirs].path)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", dir);
	p->nr_dirs++;
	return 0;
}

static int allow(struct td_policy *p, const char *dir, bool write, struct td_err *ret_err)
{
	td_cleanup(free) char *real = realpath(dir, NULL);

	if (!real)
		return td_err_set(ret_err, -errno, "%s: cannot allow this directory: %m", dir);
	return add_real(p, real, write, ret_err);
}

int td_policy_allow(struct td_policy *p, const char *dir, struct td_err *ret_err)
{
	return allow(p, dir, false, ret_err);
}

int td_policy_allow_write(struct td_policy *p, const char *dir, struct td_err *ret_err)
{
	return allow(p, dir, true, ret_err);
}

/* Allow the directory part of path, its symbolic links resolved. */
static int allow_parent(struct td_policy *p, const char *path, struct td_err *ret_err)
{
	const char *slash = strrchr(path, '/');
	td_cleanup(free) char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	td_cleanup(free) char *real = dir ? realpath(dir, NULL) : NULL;

	if (!dir)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
	if (!real)
		return td_err_set(ret_err, -errno, "%s: cannot look into its directory: %m", path);
	return add_real(p, real, false, ret_err);
}

int td_policy_allow_file(struct td_policy *p, const char *path, struct td_err *ret_err)
{
	td_cleanup(free) char *real = realpath(path, NULL);
	int r = allow_parent(p, path, ret_err);

	/* Through a symbolic link the user named two places: where the link is, and where the file is. */
	if (r < 0 || !real)
		return r;
	return allow_parent(p, real, ret_err);
}

int td_policy_copy(struct td_policy *dst, const struct td_policy *src, const char *path,
		   struct td_err *ret_err)
{
	int r = 0;

	*dst = (struct td_policy){ .probe_backing = src && src->probe_backing };
	for (unsigned i = 0; src && r == 0 && i < src->nr_dirs; i++)
		r = add_real(dst, src->dirs[i].path, src->dirs[i].write, ret_err);
	if (r == 0 && *path)
		r = td_policy_allow_file(dst, path, ret_err);
	if (r < 0)
		td_policy_done(dst);
	return r;
}

/* ---- the configuration file ---- */

static char *trim_line(char *line)
{
	size_t len;

	line += strspn(line, " \t");
	len = strlen(line);
	while (len > 0 && strchr(" \t\r\n", line[len - 1]))
		line[--len] = 0;
	return line;
}

/* The value in "NAME = VALUE", spaces as one likes; NULL: the line has another name. */
static const char *conf_value(const char *line, const char *name)
{
	size_t len = strlen(name);

	if (strncmp(line, name, len) != 0)
		return NULL;
	line += len + strspn(line + len, " \t");
	if (*line++ != '=')
		return NULL;
	return line + strspn(line, " \t");
}

/* Is it one of these two words?  *ret: is it the second? */
static int conf_choice(const char *value, const char *no, const char *yes, bool *ret)
{
	*ret = strcmp(value, yes) == 0;
	return *ret || strcmp(value, no) == 0 ? 0 : -EINVAL;
}

static int conf_seconds(const char *value, unsigned *ret)
{
	uint64_t n;

	if (!*value || strspn(value, "0123456789") != strlen(value) || td_parse_size(value, &n) < 0 ||
	    n > TD_REQUEST_TIMEOUT_MAX)
		return -EINVAL;
	*ret = (unsigned)n;
	return 0;
}

/* What stands behind the word at the line's beginning; NULL: another word does. */
static char *behind(char *line, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(line, word, len) != 0 || (line[len] != ' ' && line[len] != '\t'))
		return NULL;
	return trim_line(line + len);
}

static int conf_line(struct td_policy *p, char *line, struct td_err *ret_err)
{
	const char *value;
	int r = -EINVAL;
	char *rest;

	line = trim_line(line);
	if (*line == 0 || *line == '#')
		return 0;
	rest = behind(line, "allow");
	if (rest && *rest)
		return td_policy_allow(p, rest, ret_err);
	rest = behind(line, "allow-write");
	if (rest && *rest)
		return td_policy_allow_write(p, rest, ret_err);
	if ((value = conf_value(line, "probe-backing")))
		r = conf_choice(value, "no", "yes", &p->probe_backing);
	else if ((value = conf_value(line, "on-enospc")))
		r = conf_choice(value, "report", "pause", &p->pause_on_enospc);
	else if ((value = conf_value(line, "request-timeout")))
		r = conf_seconds(value, &p->request_timeout);
	else if ((value = conf_value(line, "sandbox")))
		r = conf_choice(value, "on", "off", &p->no_sandbox);
	if (r == 0)
		return 0;
	return td_err_set(
		ret_err, -EINVAL,
		"'%s': a line is \"allow DIR\", \"allow-write DIR\", \"probe-backing = yes\" (or no), "
		"\"on-enospc = pause\" (or report), \"request-timeout = SECONDS\" or \"sandbox = off\" "
		"(or on)",
		line);
}

int td_policy_read(struct td_policy *p, const char *path, struct td_err *ret_err)
{
	td_cleanup(free) char *line = NULL;
	size_t size = 0;
	FILE *f;
	int r = 0;

	if (!path)
		path = getenv("BLKTAP_CONF");
	if (!path)
		path = TD_POLICY_CONF;
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? 0 : td_err_set(ret_err, -errno, "%s: cannot read it: %m", path);
	for (unsigned nr = 1; r == 0 && getline(&line, &size, f) >= 0; nr++) {
		r = conf_line(p, line, ret_err);
		if (r < 0)
			td_err_prefix(ret_err, r, "%s:%u", path, nr);
	}
	if (r == 0 && ferror(f))
		r = td_err_set(ret_err, -EIO, "%s: cannot read it", path);
	(void)fclose(f);
	return r;
}

/* ---- opening ---- */

bool td_policy_holds(const char *dir, const char *real)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return true;
	return strncmp(dir, real, len) == 0 && (real[len] == '/' || real[len] == '\0');
}

static int check_place(const struct td_policy *p, const char *path, const char *real, struct td_err *ret_err)
{
	const char *slash = strrchr(real, '/');

	for (unsigned i = 0; p && i < p->nr_dirs; i++)
		if (td_policy_holds(p->dirs[i].path, real))
			return 0;
	return td_err_set(
		ret_err, -EACCES,
		"%s: an image names this file, and no allowed directory holds it: --allow %.*s or the line "
		"\"allow %.*s\" in " TD_POLICY_CONF " would permit it",
		path, slash > real ? (int)(slash - real) : 1, real, slash > real ? (int)(slash - real) : 1,
		real);
}

static int check_kind(int path_fd, const char *path, struct td_err *ret_err)
{
	struct stat st;

	if (fstat(path_fd, &st) < 0)
		return td_err_set(ret_err, -errno, "%s: cannot look at it: %m", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return td_err_set(
			ret_err, -EACCES,
			"%s: an image names this file, and it is neither a regular file nor a block device",
			path);
	return 0;
}

/* Open what path_fd stands for, if it lies in an allowed place. */
static int open_checked(const struct td_policy *p, int path_fd, const char *path, int open_flags,
			struct td_err *ret_err)
{
	td_cleanup(free) char *real = calloc(1, PATH_MAX + 1); /* too large for a coroutine's stack */
	char proc[64];
	int fd, r;

	if (!real)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", path_fd);
	if (readlink(proc, real, PATH_MAX) < 0)
		return td_err_set(ret_err, -errno, "%s: cannot resolve it, is /proc mounted? %m", path);
	r = check_place(p, path, real, ret_err);
	if (r == 0)
		r = check_kind(path_fd, path, ret_err);
	if (r < 0)
		return r;
	/* Through the descriptor: whatever the name leads to by now, this is the file that was checked. */
	fd = open(proc, open_flags | O_CLOEXEC);
	return fd < 0 ? td_err_set(ret_err, -errno, "%s: cannot open it: %m", path) : fd;
}

int td_policy_open(const struct td_policy *p, const char *path, int open_flags, struct td_err *ret_err)
{
	int path_fd = open(path, O_PATH | O_CLOEXEC), r;

	if (path_fd < 0)
		return td_err_set(ret_err, -errno, "%s: cannot open it: %m", path);
	r = open_checked(p, path_fd, path, open_flags, ret_err);
	(void)close(path_fd);
	return r;
}

void td_policy_done(struct td_policy *p)
{
	for (unsigned i = 0; i < p->nr_dirs; i++)
		free(p->dirs[i].path);
	free(p->dirs);
	*p = (struct td_policy){ 0 };
}
