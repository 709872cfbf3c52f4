// SPDX-License-Identifier: BSD-2-Clause
/*
 * The image that is written to, under another name until it is whole.  See target.h.
 *
 * Order on disk: the image's own order until it is closed; the file's bytes and length; the name; the folder.
 */
#include "target.h"

#include <blktap/pool.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/common/operand.h"

#define PARTIAL ".partial"

/* ---- names ---- */

int target_parse(struct target *t, struct td_env *env, const char *operand, const char *format,
		 const char *direct, struct td_err *ret_err)
{
	struct td_spec_node *leaf;
	int r = operand_parse(operand, format, true, &t->spec, ret_err);

	if (r < 0)
		return r;
	t->env = env;
	leaf = &t->spec->node[t->spec->nr - 1];
	if (strcmp(leaf->name, "auto") == 0)
		return td_err_set(ret_err, -EINVAL, "%s: say the target's format, with -O FMT or as FMT:%s",
				  operand, operand);
	return direct ? td_opts_add(&leaf->opts, "direct", direct, ret_err) : 0;
}

int target_parse_stdout(struct target *t, struct td_env *env, const char *format, struct td_err *ret_err)
{
	td_cleanup(free) char *text = NULL;

	t->env = env;
	t->sent = true;
	if (asprintf(&text, "%s/stdout:", format) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return td_spec_parse(text, &t->spec, ret_err);
}

/* The file that is to be called path is written under another name until it is whole. */
static int write_beside(struct target *t, char *path, struct td_err *ret_err)
{
	char *partial;
	struct stat st;

	t->path = path;
	if (!path || asprintf(&partial, "%s" PARTIAL, path) < 0)
		return -ENOMEM;
	free(t->spec->path);
	t->spec->path = partial;
	t->spec->called = path;
	if (!t->force && lstat(partial, &st) == 0)
		return td_err_set(
			ret_err, -EEXIST,
			"%s: left by a conversion that was cut off, or another one is at work: remove it, "
			"or give --force",
			partial);
	return 0;
}

static int choose_name(struct target *t, struct td_err *ret_err)
{
	const char *path = t->spec->path;

	if (*path == '\0' || (stat(path, &t->old) < 0 && errno != ENOENT))
		return 0; /* no file, or none that can be had: creating it will say so */
	if (t->old.st_nlink == 0)
		return write_beside(t, strdup(path), ret_err);
	if (!S_ISREG(t->old.st_mode))
		return 0;
	if (t->old.st_size > 0 && !t->force)
		return td_err_set(
			ret_err, -EEXIST,
			"%s: exists and is not empty: --force replaces it once the new one is whole, -n "
			"writes into it",
			path);
	t->replaces = true;
	return write_beside(t, realpath(path, NULL), ret_err);
}

const char *target_name(const struct target *t)
{
	if (t->sent || !t->spec)
		return "standard output";
	return t->im ? t->im->name : t->path ? t->path : t->spec->path;
}

/* ---- opening ---- */

/* A device holds whatever it held, unless the format knows better. */
static int all_zero(struct td_image *im, bool *ret)
{
	struct td_extent e = { .kind = TD_EXTENT_ZERO };
	int r = 0;

	for (uint64_t off = 0; r == 0 && off < im->size && e.kind == TD_EXTENT_ZERO; off += e.len)
		r = td_image_extent(im, off, im->size - off, &e);
	*ret = r == 0 && e.kind == TD_EXTENT_ZERO;
	return r;
}

/* To be removed if this fails. */
static int note_parts(struct target *t)
{
	for (const struct td_image *p = td_image_layer(t->im)->parts; p; p = p->next_part) {
		char **parts = reallocarray(t->parts, t->nr_parts + 1, sizeof(*parts));

		if (!parts)
			return -ENOMEM;
		t->parts = parts;
		parts[t->nr_parts] = strdup(p->path);
		if (!parts[t->nr_parts])
			return -ENOMEM;
		t->nr_parts++;
	}
	return 0;
}

int target_check_compress(const struct target *t, struct td_opts *opts, struct td_err *ret_err)
{
	const struct td_driver *drv = NULL;

	for (unsigned i = 0; i < t->spec->nr; i++) {
		drv = td_driver_find(t->spec->node[i].name);
		if (!drv || !(drv->flags & TD_FILTER))
			break;
	}
	if (!drv) /* creating it will say so */
		return 0;
	if ((drv->flags & TD_COMPRESSES) && (!drv->compresses || drv->compresses(opts)))
		return 0;
	return td_err_set(ret_err, -ENOTSUP, "-c: %s images%s have no compressed clusters", drv->name,
			  drv->flags & TD_COMPRESSES ? " of this kind" : "");
}

int target_make(struct target *t, uint64_t size, struct td_opts *opts, struct td_err *ret_err)
{
	int r = choose_name(t, ret_err);

	t->begun = r == 0;
	if (r == 0)
		r = td_image_create(t->env, t->spec, size, opts, t->force, ret_err);
	if (r < 0)
		return r;
	t->made = t->path != NULL;
	r = td_image_open(t->env, t->spec, TD_OPEN_ONCE, &t->im, ret_err);
	if (r == 0 && t->made)
		r = note_parts(t);
	if (r < 0)
		return r;
	t->reads_zero = t->made;
	return t->made ? 0 : all_zero(t->im, &t->reads_zero);
}

int target_use(struct target *t, uint64_t size, struct td_err *ret_err)
{
	int r = td_image_open(t->env, t->spec, TD_OPEN_ONCE, &t->im, ret_err);

	if (r < 0)
		return r;
	if (t->im->size < size)
		return td_err_set(ret_err, -ENOSPC, "%s: has %llu bytes, too few for the %llu of the source",
				  t->im->name, (unsigned long long)t->im->size, (unsigned long long)size);
	return 0;
}

/* ---- the end ---- */

/* What the old file's owner could do with it he can do with the new one. */
static void take_rights(const struct target *t, int fd)
{
	td_ignore(fchown(fd, t->old.st_uid, t->old.st_gid)); /* it may not be ours to give */
	td_ignore(fchmod(fd, t->old.st_mode & 07777));
}

static int sync_path(const struct target *t, const char *path, int flags)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags), r = 0;

	if (fd < 0)
		return -errno;
	if (t->replaces && !(flags & O_DIRECTORY))
		take_rights(t, fd);
	if (fsync(fd) < 0 && !((flags & O_DIRECTORY) && errno == EINVAL))
		r = -errno;
	(void)close(fd);
	return r;
}

static int take_name(const struct target *t)
{
	int r = renameat2(AT_FDCWD, t->spec->path, AT_FDCWD, t->path, t->replaces ? 0 : RENAME_NOREPLACE);

	if (r == 0)
		return 0;
	if (errno != EINVAL || t->replaces) /* EINVAL: a file system that knows no such flag */
		return -errno;
	return rename(t->spec->path, t->path) < 0 ? -errno : 0;
}

static int finish_work(void *arg)
{
	struct target *t = arg;
	td_cleanup(free) char *dir = NULL;
	const char *slash;
	int r = *t->spec->path ? sync_path(t, t->spec->path, 0) : 0;

	if (r < 0 || !t->made)
		return r;
	slash = strrchr(t->path, '/');
	dir = slash ? strndup(t->path, (size_t)(slash - t->path) + 1) : strdup(".");
	if (!dir)
		return -ENOMEM;
	r = take_name(t);
	if (r < 0)
		return r;
	t->made = false;
	r = sync_path(t, dir, O_DIRECTORY);
	return r == -EACCES ? 0 : r; /* it may be ours to write in and not to read */
}

int target_finish(struct target *t, struct td_err *ret_err)
{
	const char *name = t->path ? t->path : t->sent ? target_name(t) : t->spec->path;
	int r = td_image_flush(t->im), r2 = td_image_close(t->im);

	t->im = NULL;
	if (r == 0)
		r = r2;
	if (r == 0)
		r = td_pool_run(t->env->pool, finish_work, t);
	return r < 0 ? td_err_set(ret_err, r, "%s: cannot be written to disk: %s", name, strerror(-r)) : 0;
}

void target_unlink(const struct target *t)
{
	if (!t->made)
		return;
	(void)unlink(t->spec->path);
	for (unsigned i = 0; i < t->nr_parts; i++)
		(void)unlink(t->parts[i]);
}

void target_drop(struct target *t, struct td_err *ret_err)
{
	bool open = t->im != NULL;

	if (open && t->im->limits.once) /* it shall not look like a whole one */
		td_image_freeze(t->im);
	if (open)
		td_ignore(td_image_close(t->im)); /* it has failed already */
	t->im = NULL;
	target_unlink(t);
	if (t->made)
		td_err_set(ret_err, 0, "%s (%s is removed)", ret_err->msg, t->spec->path);
	else if (open && t->begun && !t->sent)
		td_err_set(ret_err, 0, "%s (%s is written in part)", ret_err->msg, t->spec->path);
	td_spec_free(t->spec);
	for (unsigned i = 0; i < t->nr_parts; i++)
		free(t->parts[i]);
	free(t->parts);
	free(t->path);
	*t = (struct target){ .env = t->env };
}

int target_zero(struct target *t, uint64_t off, uint64_t len)
{
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < len;) {
		struct td_extent e;

		r = td_image_extent(t->im, off + done, len - done, &e);
		if (r == 0 && e.kind != TD_EXTENT_ZERO)
			r = td_image_zero(t->im, off + done, e.len, TD_MAY_UNMAP);
		done += r == 0 ? e.len : 0;
	}
	return r;
}
