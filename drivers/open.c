// SPDX-License-Identifier: BSD-2-Clause
/*
 * Opening and closing: the user's stack, and then its backing images one after the other.  Nothing here recurses; a
 * chain may have any depth up to a bound that only a loop of images would reach.
 */
#include "drivers.h"

#include <sys/stat.h>

#define CHAIN_MAX 4096u

struct file_id {
	dev_t dev;
	ino_t ino;
};

/* The page cache, and what opens encrypted images. */
static const char *const chain_options[] = { "direct", "key-file", "key-fd", "key-rounds" };

/* One td_image_open. */
struct opening {
	struct td_place at;
	struct td_policy policy;
	const char *backing_format; /* the user's word for the first image that records none; taken once */
	const char *said[4];        /* chain_options that the user gave: they hold for the whole chain */
	bool key_used;              /* one of the backing images is encrypted */
	bool wants_base;            /* one of the chain is opened for writing: */
	const char *base_path;      /* this file; NULL: the first */
	struct td_image *base;      /* once it is open */
	struct file_id *seen;
	unsigned nr_seen, max_seen;
};

/* ---- the chain ---- */

/* Note the file; -ELOOP if the chain has it already.  A file that is not there is for the open to report. */
static int chain_note(struct opening *op, const char *path, struct td_err *ret_err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return 0;
	for (unsigned i = 0; i < op->nr_seen; i++)
		if (op->seen[i].dev == st.st_dev && op->seen[i].ino == st.st_ino)
			return td_err_set(
				ret_err, -ELOOP,
				"%s: it is in the chain of backing images already: the chain is a loop",
				path);
	if (op->nr_seen == CHAIN_MAX)
		return td_err_set(ret_err, -ELOOP, "%s: more than %u backing images", path, CHAIN_MAX);
	if (op->nr_seen == op->max_seen) {
		unsigned max = op->max_seen ? 2 * op->max_seen : 8;
		struct file_id *seen = reallocarray(op->seen, max, sizeof(*seen));

		if (!seen)
			return td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
		op->seen = seen;
		op->max_seen = max;
	}
	op->seen[op->nr_seen++] = (struct file_id){ st.st_dev, st.st_ino };
	return 0;
}

/* Which driver reads im's backing file?  "auto" only where the configuration allows it. */
static int backing_driver(struct opening *op, const struct td_image *im, const char **ret_name,
			  struct td_err *ret_err)
{
	const char *name = im->backing_format;
	const struct td_driver *drv;

	if (!name && op->backing_format) {
		name = op->backing_format;
		op->backing_format = NULL;
	} else if (!name && op->policy.probe_backing) {
		*ret_name = "auto";
		return 0;
	}
	if (!name)
		return td_err_set(
			ret_err, -EINVAL,
			"%s: the image does not say which format its backing file '%s' has: give the option "
			"backing-format=FMT, record it with tap-img rebase -u -F FMT, or put the line "
			"\"probe-backing = yes\" in " TD_POLICY_CONF,
			im->name, im->backing_path);
	drv = td_driver_find(name);
	if (!drv || (drv != &td_aio && !(drv->flags & TD_FORMAT)))
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: its backing file '%s' has the format '%s', which is not "
				  "supported",
				  im->name, im->backing_path, name);
	*ret_name = drv->name;
	return 0;
}

/* Is this the image of the chain that is to be written? */
static bool is_base(const struct opening *op, const char *path)
{
	struct stat a, b;

	if (!op->wants_base || op->base)
		return false;
	if (!op->base_path)
		return true;
	return stat(path, &a) == 0 && stat(op->base_path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static int backing_spec(struct opening *op, struct td_image *im, struct td_spec **ret_spec,
			struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	const char *driver = NULL;
	struct td_spec *spec = NULL;
	int r = td_image_backing_path(im, im->backing_path, &path, ret_err);

	if (r == 0)
		r = chain_note(op, path, ret_err);
	if (r == 0)
		r = backing_driver(op, im, &driver, ret_err);
	if (r == 0)
		r = td_spec_make(driver, path, &spec, ret_err);
	if (r < 0)
		return r;
	for (unsigned i = 0; r == 0 && i < TD_NELEMS(chain_options); i++)
		if (op->said[i])
			r = td_opts_add(&spec->node[0].opts, chain_options[i], op->said[i], ret_err);
	if (r < 0) {
		td_spec_free(spec);
		return r;
	}
	*ret_spec = spec;
	return 0;
}

/* One of key-file and so on that was read, or was not; NULL: there is none. */
static const char *key_option(const struct td_opts *o, bool used)
{
	for (unsigned i = 0; i < o->nr; i++)
		if (strncmp(o->opt[i].name, "key-", 4) == 0 && o->opt[i].used == used)
			return o->opt[i].name;
	return NULL;
}

/*
 * A key that nobody asked for: whoever gave it takes the disk for an encrypted one.  It may be one of its backing
 * images, as far as they were opened.
 */
static int check_keys(const struct opening *op, struct td_spec *spec, bool whole, struct td_err *ret_err)
{
	for (unsigned i = 0; i < spec->nr; i++) {
		const char *name;

		while ((name = key_option(&spec->node[i].opts, false)) != NULL) {
			if (whole && !op->key_used)
				return td_err_set(ret_err, -EINVAL,
						  "%s: %s is given, but no image of this disk is encrypted",
						  spec->text, name);
			(void)td_opts_get(&spec->node[i].opts, name);
		}
	}
	return 0;
}

/* Open what im, and then each image below it, names as its backing file. */
static int chain_open(struct opening *op, struct td_image *im, unsigned flags, struct td_err *ret_err)
{
	flags &= TD_OPEN_NO_LOCK;
	for (; im->backing_path; im = im->backing) {
		struct td_spec *spec;
		int r = backing_spec(op, im, &spec, ret_err);
		bool base;

		if (r < 0)
			return r;
		base = is_base(op, spec->path);
		r = td_stack_open(&op->at, spec,
				  flags | (base ? TD_OPEN_BASE : TD_OPEN_RDONLY | TD_OPEN_BACKING),
				  &im->backing, ret_err);
		op->key_used |= key_option(&spec->node[0].opts, true) != NULL;
		td_spec_free(spec);
		if (r < 0)
			return td_err_prefix(ret_err, r, "%s: backing file", im->name);
		if (base)
			op->base = im->backing;
		if (im->drv->check_backing)
			r = im->drv->check_backing(im, ret_err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Without marking it as used: that is for the driver which obeys it. */
static const char *peek_option(const struct td_opts *o, const char *name)
{
	for (unsigned i = 0; i < o->nr; i++)
		if (strcmp(o->opt[i].name, name) == 0)
			return o->opt[i].value;
	return NULL;
}

/* The options of the user's specification that concern more than the driver they stand at. */
static void opening_options(struct opening *op, struct td_spec *spec)
{
	for (unsigned i = 0; i < spec->nr; i++) {
		const struct td_driver *drv = td_driver_find(spec->node[i].name);
		const char *format = NULL, *value;

		if (!drv || (drv->flags & TD_FORMAT)) /* no driver: auto, or an error that is found soon */
			format = td_opts_get(&spec->node[i].opts, "backing-format");
		if (format)
			op->backing_format = format;
		for (unsigned k = 0; k < TD_NELEMS(chain_options); k++) {
			value = peek_option(&spec->node[i].opts, chain_options[k]);
			if (value)
				op->said[k] = value;
		}
	}
}

static void opening_done(struct opening *op)
{
	td_policy_done(&op->policy);
	free(op->seen);
}

static int no_base(const struct opening *op, const struct td_spec *spec, struct td_err *ret_err)
{
	if (!op->base_path)
		return td_err_set(ret_err, -ENOENT, "%s: it has no backing image", spec->text);
	return td_err_set(ret_err, -ENOENT, "%s: it is not in the chain of backing images of %s",
			  op->base_path, spec->text);
}

static int open_all(struct opening *op, struct td_spec *spec, unsigned flags, struct td_image **ret_im,
		    struct td_err *ret_err)
{
	struct td_image *top = NULL;
	int r = 0;

	opening_options(op, spec);
	if (*spec->path)
		r = chain_note(op, spec->path, ret_err);
	if (r == 0)
		r = td_stack_open(&op->at, spec, flags, &top, ret_err);
	for (struct td_image *im = top; r == 0 && im && !(flags & TD_OPEN_NO_CHAIN); im = im->child)
		r = chain_open(op, im, flags, ret_err);
	if (r == 0)
		r = check_keys(op, spec, !(flags & TD_OPEN_NO_CHAIN) || !td_image_layer(top)->backing_path,
			       ret_err);
	if (r == 0)
		r = td_spec_unused(spec, ret_err);
	if (r == 0 && op->wants_base && !op->base)
		r = no_base(op, spec, ret_err);
	if (r < 0) {
		if (top)
			td_ignore(td_image_close(top)); /* the first error is the one to tell */
		return r;
	}
	*ret_im = top;
	return 0;
}

static int open_image(struct opening *op, struct td_env *env, struct td_spec *spec, unsigned flags,
		      struct td_image **ret_im, struct td_err *ret_err)
{
	int r = td_policy_copy(&op->policy, env->policy, spec->path, ret_err);

	if (r < 0)
		return r;
	op->at = (struct td_place){ .env = env, .policy = &op->policy };
	r = open_all(op, spec, flags, ret_im, ret_err);
	opening_done(op);
	return r;
}

int td_image_open(struct td_env *env, struct td_spec *spec, unsigned flags, struct td_image **ret_im,
		  struct td_err *ret_err)
{
	struct opening op = { 0 };

	if (flags & TD_OPEN_BACKING)
		flags |= TD_OPEN_RDONLY;
	return open_image(&op, env, spec, flags, ret_im, ret_err);
}

int td_image_open_base(struct td_env *env, struct td_spec *spec, const char *base, unsigned flags,
		       struct td_image **ret_im, struct td_image **ret_base, struct td_err *ret_err)
{
	struct opening op = { .wants_base = true, .base_path = base };
	int r = open_image(&op, env, spec, flags, ret_im, ret_err);

	if (r == 0)
		*ret_base = op.base;
	return r;
}

int td_image_open_text(struct td_env *env, const char *text, unsigned flags, struct td_image **ret_im,
		       struct td_err *ret_err)
{
	struct td_spec *spec;
	int r = td_spec_parse(text, &spec, ret_err);

	if (r < 0)
		return r;
	r = td_image_open(env, spec, flags, ret_im, ret_err);
	td_spec_free(spec);
	return r;
}

/*
 * Take one image off the tree and return the next to close.  An image comes before its child, into which it writes
 * back; its backing image is hung at the end of the child's list, so that a loop visits all.
 */
static struct td_image *close_next(struct td_image *im)
{
	struct td_image *last = im->child;

	if (!last)
		return im->backing;
	while (last->backing)
		last = last->backing;
	last->backing = im->backing;
	return im->child;
}

int td_image_close(struct td_image *im)
{
	int result;

	if (!im)
		return 0;
	result = td_image_flush(im); /* frozen: -EIO */
	while (im) {
		struct td_image *next = close_next(im);
		int r = im->drv->close ? im->drv->close(im) : 0;

		if (result == 0)
			result = r;
		td_image_free(im);
		im = next;
	}
	return result;
}
