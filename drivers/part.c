// SPDX-License-Identifier: BSD-2-Clause
/*
 * Parts: further files that hold bytes of one image, named in it.  Opened as the policy permits, locked and cached as
 * the image itself; made beside a new image, and removed again with it if it does not come to be.
 */
#include "drivers.h"

#include <assert.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* What holds for the image holds for what it consists of. */
#define PART_INHERITS                                                                                        \
	(TD_OPEN_RDONLY | TD_OPEN_BACKING | TD_OPEN_NO_LOCK | TD_OPEN_NO_CHAIN | TD_OPEN_CHECK | TD_OPEN_BASE)

/* ---- opening ---- */

static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int names_itself(const struct td_image *im, const char *path, struct td_err *ret_err)
{
	return td_err_set(ret_err, -EUCLEAN, "%s: it names itself (%s) as a file that it consists of",
			  im->name, path);
}

/* Locked: by another program, or because the image names it by two names? */
static int part_busy(const struct td_image *im, const char *path, struct td_err *ret_err)
{
	for (const struct td_image *p = im->parts; p; p = p->next_part)
		if (same_file(p->path, path))
			return td_err_set(ret_err, -EUCLEAN, "%s: it names one file twice: %s and %s",
					  im->name, p->path, path);
	return -EBUSY;
}

/* A stack of drv (NULL: none) over the file, with the options that the image's own leaf has. */
static int part_stack(struct td_image *im, const char *path, const struct td_driver *drv,
		      struct td_opts *opts, unsigned flags, struct td_image **ret_part,
		      struct td_err *ret_err)
{
	struct td_place at = { .env = im->env, .policy = im->policy };
	struct td_opts none = { 0 };
	struct td_opts *leaf_opts = im->leaf_opts ? im->leaf_opts : &none;
	struct td_image *leaf;
	int r;

	flags |= (im->flags & PART_INHERITS) | TD_OPEN_PART | (im->read_only ? TD_OPEN_RDONLY : 0);
	r = td_node_open(&at, &td_aio, path, leaf_opts, flags | (drv ? TD_OPEN_GROW : 0), NULL, &leaf,
			 ret_err);
	if (r < 0)
		return r;
	if (!drv) {
		*ret_part = leaf;
		return 0;
	}
	r = td_node_open(&at, drv, path, opts ? opts : &none, flags & ~TD_OPEN_GROW, leaf, ret_part, ret_err);
	if (r < 0)
		td_ignore(td_stack_close(leaf)); /* the first error is the one to tell */
	return r;
}

int td_image_part_path(const struct td_image *im, const char *name, char **ret_path, struct td_err *ret_err)
{
	const char *slash = strrchr(im->path, '/');
	int dir_len = slash && *name != '/' ? (int)(slash - im->path) + 1 : 0;

	if (*name == 0)
		return td_err_set(ret_err, -EUCLEAN, "%s: it names a file without a name", im->name);
	if (asprintf(ret_path, "%.*s%s", dir_len, im->path, name) < 0)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", im->name);
	return 0;
}

bool td_image_part_exists(const struct td_image *im, const char *name)
{
	td_cleanup(free) char *path = NULL;
	struct stat st;

	return td_image_part_path(im, name, &path, NULL) == 0 && stat(path, &st) == 0;
}

int td_image_open_part(struct td_image *im, const char *name, const struct td_driver *drv,
		       struct td_opts *opts, unsigned flags, struct td_image **ret_part,
		       struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	struct td_image *part;
	int r = td_image_part_path(im, name, &path, ret_err);

	if (r == 0 && same_file(im->path, path))
		r = names_itself(im, path, ret_err);
	if (r == 0)
		r = part_stack(im, path, drv, opts, flags, &part, ret_err);
	if (r == -EBUSY)
		return part_busy(im, path, ret_err);
	if (r < 0)
		return r;
	part->next_part = im->parts;
	im->parts = part;
	*ret_part = part;
	return 0;
}

int td_image_close_part(struct td_image *im, struct td_image *part)
{
	struct td_image **p = &im->parts;

	while (*p != part)
		p = &(*p)->next_part;
	*p = part->next_part;
	if (im->frozen)
		td_image_freeze(part); /* what it holds back is of no use any more */
	return td_image_close(part);
}

/* ---- making ---- */

static int part_create_path(const struct td_create *c, const char *name, char **ret_path,
			    struct td_err *ret_err)
{
	const char *slash = strrchr(c->path, '/');
	struct stat st;

	assert(!strchr(name, '/'));
	if (stat(c->path, &st) == 0 && !S_ISREG(st.st_mode))
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: an image of several files cannot be made on a device", c->path);
	if (asprintf(ret_path, "%.*s%s", slash ? (int)(slash - c->path) + 1 : 0, c->path, name) < 0)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", c->path);
	if (lstat(*ret_path, &st) < 0)
		return 0;
	/* Nobody named it: it is not to lead elsewhere. */
	if (!S_ISREG(st.st_mode))
		return td_err_set(ret_err, -EEXIST, "%s: exists and is not a regular file", *ret_path);
	return 0;
}

/* Remember it, so that it is removed if the image does not come to be.  path is taken. */
static int part_made(const struct td_create *c, char *path)
{
	struct td_made *made = c->made;
	char **paths = reallocarray(made->path, made->nr + 1, sizeof(*paths));

	if (!paths) {
		(void)unlink(path);
		free(path);
		return -ENOMEM;
	}
	made->path = paths;
	made->path[made->nr++] = path;
	return 0;
}

/*
 * The image takes the place of an old one once it is whole; its parts have their names from the start.  So what is
 * there would be lost before, be it the old image's, or what the new one is made from.
 */
static int part_keeps(const struct td_create *c, const char *path, const struct stat *st,
		      struct td_err *ret_err)
{
	if (st->st_size == 0 || !c->called || strcmp(c->path, c->called) == 0)
		return 0;
	return td_err_set(
		ret_err, -EEXIST,
		"%s: exists and is not empty, and would be lost before the new disk is whole: remove "
		"it, or choose another name for the disk",
		path);
}

static int part_create(const struct td_create *c, char *path, uint64_t size, struct td_err *ret_err)
{
	struct td_create tc = *c;
	struct stat st;
	bool existed = lstat(path, &st) == 0;
	int r = existed ? part_keeps(c, path, &st, ret_err) : 0;

	if (r < 0) {
		free(path);
		return r;
	}
	tc.path = path;
	tc.child = NULL;
	tc.size = size;
	r = td_aio.create(&tc, ret_err); /* if it fails it has removed what it made */
	if (r < 0 || existed)
		free(path);
	else
		r = part_made(c, path);
	return r;
}

int td_image_create_part(const struct td_create *c, const char *name, uint64_t size,
			 struct td_image **ret_part, struct td_err *ret_err)
{
	struct td_place at = { .env = c->env, .policy = c->made->policy };
	struct td_opts none = { 0 };
	char *path = NULL;
	int r = part_create_path(c, name, &path, ret_err);

	if (r < 0) {
		free(path);
		return r;
	}
	r = part_create(c, path, size, ret_err);
	if (r < 0)
		return r;
	path = NULL;
	r = part_create_path(c, name, &path, ret_err);
	if (r == 0)
		r = td_node_open(&at, &td_aio, path, c->made->leaf_opts ? c->made->leaf_opts : &none,
				 TD_OPEN_GROW | TD_OPEN_PART, NULL, ret_part, ret_err);
	free(path);
	return r;
}

void td_made_done(struct td_made *made, bool remove)
{
	for (unsigned i = 0; i < made->nr; i++) {
		if (remove)
			(void)unlink(made->path[i]);
		free(made->path[i]);
	}
	free(made->path);
	*made = (struct td_made){ 0 };
}
