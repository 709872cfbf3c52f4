// SPDX-License-Identifier: BSD-2-Clause
/*
 * Images that are read from, several as one disk.  See source.h.
 */
#include "source.h"

#include <blktap/iov.h>
#include <sys/stat.h>

#include "tools/common/operand.h"

static bool was_probed(const struct td_spec *spec)
{
	return strcmp(spec->node[spec->nr - 1].name, "auto") == 0;
}

static bool has_option(const struct td_opts *o, const char *name)
{
	for (unsigned i = 0; i < o->nr; i++)
		if (strcmp(o->opt[i].name, name) == 0)
			return true;
	return false;
}

/*
 * Read through the page cache unless told otherwise: what was written lately is there, and the kernel reads ahead.  It
 * is no more than a wish: a leaf that has no page cache need not know the option.
 */
static int set_direct(struct td_spec *spec, const char *direct, struct td_err *ret_err)
{
	struct td_opts *opts = &spec->node[spec->nr - 1].opts;
	int r;

	if (direct)
		return td_opts_add(opts, "direct", direct, ret_err);
	if (has_option(opts, "direct") || opts->nr == TD_OPTS_MAX)
		return 0;
	r = td_opts_add(opts, "direct", "off", ret_err);
	if (r == 0)
		opts->opt[opts->nr - 1].used = true;
	return r;
}

/* A probed one is looked at first, without touching what it names. */
static int refuse_probed_chain(struct td_env *env, struct td_spec *spec, unsigned flags, const char *operand,
			       struct td_err *ret_err)
{
	struct td_image *im;
	const char *fmt;
	bool names;
	int r;

	if (!was_probed(spec))
		return 0;
	r = td_image_open(env, spec, flags | TD_OPEN_NO_CHAIN, &im, ret_err);
	if (r < 0)
		return r;
	names = td_image_layer(im)->backing_path != NULL;
	fmt = td_image_layer(im)->drv->name;
	td_ignore(td_image_close(im)); /* it was opened read-only */
	if (!names)
		return 0;
	return td_err_set(
		ret_err, -EINVAL,
		"%s: looks like %s with a backing file, and a guest could have written that into a raw "
		"disk: say the format, with -f FMT or as FMT:%s",
		operand, fmt, operand);
}

static int open_part(struct source *s, struct td_env *env, const char *operand, const struct source_how *how,
		     struct td_err *ret_err)
{
	unsigned flags = TD_OPEN_RDONLY | (how->no_lock ? TD_OPEN_NO_LOCK : 0);
	struct source_part *part = &s->part[s->nr];
	struct td_spec *spec;
	int r = operand_parse(operand, how->format, true, &spec, ret_err);

	if (r < 0)
		return r;
	r = set_direct(spec, how->direct, ret_err);
	if (r == 0)
		r = refuse_probed_chain(env, spec, flags, operand, ret_err);
	if (r == 0)
		r = td_image_open(env, spec, flags, &part->im, ret_err);
	td_spec_free(spec);
	if (r < 0)
		return r;
	part->operand = operand;
	part->start = s->size;
	s->nr++;
	if (part->im->size > INT64_MAX - s->size)
		return td_err_set(ret_err, -EFBIG, "%s: all together would be larger than 2^63-1 bytes",
				  operand);
	s->size += part->im->size;
	return 0;
}

int source_open(struct source *s, struct td_env *env, char *const *operands, unsigned nr,
		const struct source_how *how, struct td_err *ret_err)
{
	int r = 0;

	s->part = calloc(nr, sizeof(*s->part));
	if (!s->part)
		return -ENOMEM;
	for (unsigned i = 0; r == 0 && i < nr; i++)
		r = open_part(s, env, operands[i], how, ret_err);
	return r;
}

void source_close(struct source *s)
{
	for (unsigned i = 0; i < s->nr; i++)
		td_ignore(td_image_close(s->part[i].im)); /* read-only: there is nothing to lose */
	free(s->part);
	*s = (struct source){ .size = 0 };
}

const struct source_part *source_part_at(const struct source *s, uint64_t off)
{
	unsigned i = s->nr - 1;

	while (i > 0 && s->part[i].start > off)
		i--;
	return &s->part[i];
}

int source_extent(const struct source *s, uint64_t off, uint64_t len, struct td_extent *ret)
{
	const struct source_part *part = source_part_at(s, off);
	uint64_t at = off - part->start;

	return td_image_extent(part->im, at, TD_MIN(len, part->im->size - at), ret);
}

int source_read(const struct source *s, uint64_t off, const struct td_iov *iov)
{
	int r = 0;

	for (uint64_t done = 0, n; r == 0 && done < iov->len; done += n) {
		const struct source_part *part = source_part_at(s, off + done);
		uint64_t at = off + done - part->start;
		struct td_iov piece;

		n = TD_MIN(iov->len - done, part->im->size - at);
		piece = td_iov_slice(iov, done, n);
		r = td_image_preadv(part->im, at, &piece, 0);
	}
	return r;
}

/* A device may have several names. */
static bool same_file(const char *path, const struct stat *st)
{
	struct stat mine;

	if (stat(path, &mine) < 0)
		return false;
	if (S_ISBLK(mine.st_mode) && S_ISBLK(st->st_mode))
		return mine.st_rdev == st->st_rdev;
	return mine.st_dev == st->st_dev && mine.st_ino == st->st_ino;
}

bool source_has_file(const struct source *s, const struct stat *st)
{
	for (unsigned i = 0; i < s->nr; i++)
		for (const struct td_image *im = s->part[i].im; im; im = td_image_layer(im)->backing)
			if (same_file(im->path, st))
				return true;
	return false;
}
