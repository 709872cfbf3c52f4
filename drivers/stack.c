// SPDX-License-Identifier: BSD-2-Clause
/*
 * One stack: the drivers of one specification over one file, opened bottom up.  Backing images are open.c's.
 */
#include "drivers.h"

#include <stdio.h>

void td_image_free(struct td_image *im)
{
	free(im->name);
	free(im->path);
	free(im->backing_path);
	free(im->backing_format);
	free(im->state);
	free(im);
}

static struct td_image *image_new(const struct td_driver *drv, const char *path)
{
	struct td_image *im = calloc(1, sizeof(*im));

	if (!im)
		return NULL;
	im->drv = drv;
	im->path = strdup(path);
	im->state = calloc(1, drv->state_size + 1);
	if (!im->path || !im->state || asprintf(&im->name, "%s%s%s", drv->name, *path ? " " : "", path) < 0) {
		im->name = NULL;
		td_image_free(im);
		return NULL;
	}
	return im;
}

/*
 * A driver finds its child open and owns it only when its open succeeds.  policy and leaf_opts are the caller's and are
 * here for the time of the open; a filter has the size of its child unless it says otherwise.
 */
int td_node_open(const struct td_place *at, const struct td_driver *drv, const char *path,
		 struct td_opts *opts, unsigned flags, struct td_image *child, struct td_image **ret_im,
		 struct td_err *ret_err)
{
	struct td_image *im = image_new(drv, path);
	int r;

	if (!im) {
		td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
		return -ENOMEM;
	}
	im->env = at->env;
	im->policy = at->policy;
	im->leaf_opts = at->leaf_opts;
	im->flags = flags;
	im->child = child;
	im->read_only = (flags & TD_OPEN_RDONLY) || (child && child->read_only);
	if (child && (drv->flags & TD_FILTER)) {
		im->size = child->size;
		im->limits = child->limits;
	}
	r = drv->open ? drv->open(im, opts, ret_err) : 0;
	im->policy = NULL;
	im->leaf_opts = NULL;
	if (r < 0) {
		td_image_free(im);
		return r;
	}
	im->limits.device &=
		!(drv->flags & TD_FORMAT); /* a format can be resized on one, as far as it goes */
	/* Limits are often begun as a copy of the child's. */
	im->limits.compresses &= (drv->flags & (TD_COMPRESSES | TD_FILTER)) != 0;
	*ret_im = im;
	return 0;
}

/* ---- one stack ---- */

/* From the top down: who closes may still write to what is below.  All are closed; the first error is returned. */
int td_stack_close(struct td_image *im)
{
	int result = 0;

	while (im) {
		struct td_image *child = im->child;
		int r = im->drv->close ? im->drv->close(im) : 0;

		if (r < 0 && result == 0)
			result = r;
		td_image_free(im);
		im = child;
	}
	return result;
}

static int find_driver(const struct td_spec *spec, unsigned i, const struct td_driver **ret_drv,
		       struct td_err *ret_err)
{
	const struct td_driver *drv = td_driver_find(spec->node[i].name);
	char known[256] = "";

	if (!drv) {
		for (unsigned k = 0; td_driver_at(k); k++) {
			size_t used = strlen(known);

			(void)snprintf(known + used, sizeof(known) - used, " %s", td_driver_at(k)->name);
		}
		td_err_set(ret_err, -EINVAL, "%s: there is no driver '%s'; there are: auto raw%s", spec->text,
			   spec->node[i].name, known);
		return -EINVAL;
	}
	if ((drv->flags & TD_LEAF) && i + 1 < spec->nr) {
		td_err_set(ret_err, -EINVAL, "%s: %s has to be the last driver, it takes the path",
			   spec->text, drv->name);
		return -EINVAL;
	}
	*ret_drv = drv;
	return 0;
}

/* auto:PATH: look into the file; no lock is needed for that, and the open that follows checks what it finds. */
static int find_auto(const struct td_place *at, const struct td_spec *spec, struct td_opts *opts,
		     unsigned flags, const struct td_driver **ret_drv, struct td_err *ret_err)
{
	struct td_image *leaf;
	int r;

	flags = (flags & TD_OPEN_BACKING) | TD_OPEN_RDONLY | TD_OPEN_NO_LOCK | TD_OPEN_GROW;
	r = td_node_open(at, &td_aio, spec->path, opts, flags, NULL, &leaf, ret_err);
	if (r != 0)
		return r;
	r = td_probe_image(leaf, ret_drv, ret_err);
	td_ignore(td_stack_close(leaf)); /* nothing was written */
	return r;
}

/* The drivers of a specification, from the top to the leaf; *ret_nr of them, one more than nodes at most. */
int td_stack_drivers(const struct td_place *at, struct td_spec *spec, unsigned flags,
		     const struct td_driver **drv, unsigned *ret_nr, struct td_err *ret_err)
{
	unsigned nr = spec->nr, last = nr - 1;
	int r = 0;

	if (nr == 0 || nr > TD_SPEC_NODES) {
		td_err_set(ret_err, -EINVAL, "%s: %u drivers", spec->text, nr);
		return -EINVAL;
	}
	for (unsigned i = 0; r == 0 && i < nr; i++) {
		if (i == last && strcmp(spec->node[i].name, "auto") == 0)
			r = find_auto(at, spec, &spec->node[i].opts, flags, &drv[i], ret_err);
		else
			r = find_driver(spec, i, &drv[i], ret_err);
	}
	if (r != 0)
		return r;
	if (!(drv[last]->flags & TD_LEAF))
		drv[nr++] = &td_aio; /* with the options of the node above it */
	*ret_nr = nr;
	return 0;
}

/* Nodes [from, nr) of the stack.  What stands below a format is a file to it, which may grow. */
int td_stack_open_from(const struct td_place *at, struct td_spec *spec, const struct td_driver *const *drv,
		       unsigned nr, unsigned from, unsigned flags, struct td_image **ret_im,
		       struct td_err *ret_err)
{
	struct td_place here = *at;
	struct td_image *im = NULL;
	unsigned top_format = 0;
	int r = 0;

	here.leaf_opts = &spec->node[spec->nr - 1].opts;
	while (top_format < nr && !(drv[top_format]->flags & TD_FORMAT))
		top_format++;
	for (unsigned i = nr; r == 0 && i-- > from;) {
		struct td_opts *opts = &spec->node[TD_MIN(i, spec->nr - 1)].opts;
		unsigned node_flags = i > top_format ? flags | TD_OPEN_GROW : flags;

		r = td_node_open(&here, drv[i], spec->path, opts, node_flags, im, &im, ret_err);
	}
	if (r < 0) {
		td_ignore(td_stack_close(im)); /* the first error is the one to tell */
		return r;
	}
	*ret_im = im;
	return 0;
}

int td_stack_open(const struct td_place *at, struct td_spec *spec, unsigned flags, struct td_image **ret_im,
		  struct td_err *ret_err)
{
	const struct td_driver *drv[TD_SPEC_NODES + 1];
	unsigned nr;
	int r = td_stack_drivers(at, spec, flags, drv, &nr, ret_err);

	if (r != 0)
		return r;
	return td_stack_open_from(at, spec, drv, nr, 0, flags, ret_im, ret_err);
}

/* After all drivers have read what they know. */
int td_spec_unused(const struct td_spec *spec, struct td_err *ret_err)
{
	for (unsigned i = 0; i < spec->nr; i++) {
		const char *name = td_opts_unused(&spec->node[i].opts);

		if (name)
			return td_err_set(ret_err, -EINVAL, "%s: %s has no option '%s'", spec->text,
					  spec->node[i].name, name);
	}
	return 0;
}
