// SPDX-License-Identifier: BSD-2-Clause
/*
 * Making a new image: the file by the leaf's create, then each format of the stack, bottom up, into what stands below
 * it.  A create that fails removes the file that it made, and no other.
 */
#include "drivers.h"

#include <assert.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_SECTOR 512u

struct creating {
	struct td_place at;
	struct td_spec *spec;
	const struct td_driver *drv[TD_SPEC_NODES + 1]; /* the top first, the leaf last */
	unsigned nr;
	uint64_t size;
	struct td_opts *opts; /* create's own; what nobody used in the end is an error */
	const struct td_progress *progress;
	bool force;
	struct td_made made; /* beside the file itself */
};

static bool has_format(const struct creating *c)
{
	for (unsigned i = 0; i < c->nr; i++)
		if (c->drv[i]->flags & TD_FORMAT)
			return true;
	return false;
}

static int create_leaf(const struct creating *c, struct td_err *ret_err)
{
	const struct td_driver *leaf = c->drv[c->nr - 1];
	struct td_create tc = { .env = c->at.env, .path = c->spec->path, .opts = c->opts, .force = c->force };

	if (!leaf->create)
		return td_err_set(ret_err, -ENOTSUP, "%s: there is no file to create", c->spec->text);
	tc.progress = c->progress;
	tc.size = has_format(c) ? 0 : c->size; /* a format makes its file as long as it needs */
	return leaf->create(&tc, ret_err);
}

/* Write format i into what stands below it. */
static int create_format(struct creating *c, unsigned i, struct td_err *ret_err)
{
	struct td_create tc = { .env = c->at.env, .path = c->spec->path, .size = c->size, .opts = c->opts };
	const struct td_driver *drv = c->drv[i];
	int r, r2;

	if (!drv->create)
		return td_err_set(ret_err, -ENOTSUP, "%s: driver %s cannot create an image", c->spec->text,
				  drv->name);
	r = td_stack_open_from(&c->at, c->spec, c->drv, c->nr, i + 1, TD_OPEN_GROW, &tc.child, ret_err);
	if (r < 0)
		return r;
	tc.progress = c->progress;
	tc.force = c->force;
	tc.called = c->spec->called ? c->spec->called : c->spec->path;
	tc.made = &c->made;
	tc.spec_opts = &c->spec->node[TD_MIN(i, c->spec->nr - 1)].opts;
	r = drv->create(&tc, ret_err);
	r2 = td_image_close(tc.child);
	if (r == 0 && r2 < 0)
		r = td_err_set(ret_err, r2, "%s: cannot be written to disk: %s", c->spec->text,
			       strerror(-r2));
	return r;
}

/* From the leaf up; each is closed, and so on the disk, before the next one is written into it. */
static int create_all(struct creating *c, struct td_err *ret_err)
{
	const char *unused;
	int r = 0;

	for (unsigned i = c->nr - 1; r == 0 && i-- > 0;)
		if (c->drv[i]->flags & TD_FORMAT)
			r = create_format(c, i, ret_err);
	if (r < 0)
		return r;
	/* Only now: an option may be the leaf's or any format's. */
	unused = td_opts_unused(c->opts);
	if (unused)
		return td_err_set(ret_err, -EINVAL, "%s: there is no create option '%s'", c->spec->text,
				  unused);
	return 0;
}

/* Before a file is made that would have to be removed again. */
static int create_checks(const struct creating *c, struct td_err *ret_err)
{
	if (c->size > TD_IMAGE_MAX)
		return td_err_set(ret_err, -EFBIG, "%s: no image can be larger than 2^63-1 bytes",
				  c->spec->text);
	for (unsigned i = 0; i < c->spec->nr; i++)
		if (strcmp(c->spec->node[i].name, "auto") == 0)
			return td_err_set(ret_err, -EINVAL,
					  "%s: a new image needs the name of a format, not auto",
					  c->spec->text);
	return 0;
}

static int create_run(struct creating *c, struct td_err *ret_err)
{
	struct stat st;
	bool existed;
	int r = create_checks(c, ret_err);

	if (r == 0)
		r = td_stack_drivers(&c->at, c->spec, 0, c->drv, &c->nr, ret_err);
	if (r != 0)
		return r;
	assert(c->nr > 0); /* the leaf */
	/* Of the name itself: what a symbolic link leads to was not made here, and is never removed. */
	existed = lstat(c->spec->path, &st) == 0;
	r = create_leaf(c, ret_err); /* if it fails it has removed what it made */
	if (r < 0)
		return r;
	c->made.policy = c->at.policy;
	c->made.leaf_opts = &c->spec->node[c->spec->nr - 1].opts;
	r = create_all(c, ret_err);
	if (r < 0 && !existed)
		(void)unlink(c->spec->path);
	td_made_done(&c->made, r < 0);
	return r;
}

int td_image_create(struct td_env *env, struct td_spec *spec, uint64_t size, struct td_opts *opts, bool force,
		    struct td_err *ret_err)
{
	return td_image_create_told(env, spec, size, opts, force, NULL, ret_err);
}

int td_image_create_told(struct td_env *env, struct td_spec *spec, uint64_t size, struct td_opts *opts,
			 bool force, const struct td_progress *progress, struct td_err *ret_err)
{
	struct creating c = {
		.at = { .env = env }, .spec = spec, .size = size, .progress = progress, .force = force
	};
	struct td_policy policy;
	struct td_opts none = { 0 };
	int r;

	c.opts = opts ? opts : &none;
	r = td_policy_copy(&policy, env->policy, spec->path, ret_err);
	if (r < 0)
		return r;
	c.at.policy = &policy;
	r = create_run(&c, ret_err);
	td_policy_done(&policy);
	return r;
}

int td_image_measure(const struct td_driver *drv, struct td_measure *m, struct td_err *ret_err)
{
	const char *unused;
	int r;

	if (!drv->measure)
		return td_err_set(ret_err, -ENOTSUP, "driver %s cannot tell how large its files are",
				  drv->name);
	if (m->size > TD_IMAGE_MAX - DISK_SECTOR)
		return td_err_set(ret_err, -EFBIG, "no image can be larger than 2^63-1 bytes");
	r = drv->measure(m, ret_err);
	if (r < 0)
		return r;
	unused = td_opts_unused(m->opts);
	return unused ? td_err_set(ret_err, -EINVAL, "there is no create option '%s'", unused) : 0;
}

int td_measure_data(struct td_image *source, uint64_t cluster, uint64_t *ret)
{
	uint64_t sum = 0;

	for (uint64_t off = 0, end; off < source->size; off = end) {
		struct td_extent e;
		int r = td_image_extent(source, off, source->size - off, &e);

		if (r < 0)
			return r;
		end = off + e.len;
		if (e.kind != TD_EXTENT_DATA)
			continue;
		/* A cluster that is begun is counted whole, and what else lies in it is not looked at again. */
		end = td_align_up(end, cluster);
		sum += end - td_align_down(off, cluster);
	}
	*ret = sum;
	return 0;
}
