// SPDX-License-Identifier: BSD-2-Clause
/*
 * Options and backing file of a new image, for create and convert.  See newimage.h.
 */
#include "newimage.h"

#include <stdio.h>

int newimage_options(const struct cli_list *list, const char *backing, const char *backing_format,
		     struct td_opts *opts, struct td_err *ret_err)
{
	int r = 0;

	for (unsigned i = 0; i < list->nr && r == 0; i++)
		r = td_opts_parse(opts, list->item[i], strlen(list->item[i]), ret_err);
	if (r == 0 && backing)
		r = td_opts_add(opts, "backing_file", backing, ret_err);
	if (r == 0 && backing_format)
		r = td_opts_add(opts, "backing_fmt", backing_format, ret_err);
	return r;
}

/* Without marking it as used: whether there is such an option is the driver's to say. */
static const char *peek(const struct td_opts *opts, const char *name)
{
	for (unsigned i = 0; i < opts->nr; i++)
		if (strcmp(opts->opt[i].name, name) == 0)
			return opts->opt[i].value;
	return NULL;
}

bool newimage_has_backing(const struct td_opts *opts)
{
	return peek(opts, "backing_file") != NULL;
}

int newimage_beside(const struct td_spec *spec, const struct td_opts *opts, const char *option,
		    char **ret_path)
{
	const char *name = peek(opts, option), *slash = strrchr(spec->path, '/');

	*ret_path = NULL;
	if (!name)
		return 0;
	return asprintf(ret_path, "%.*s%s", slash ? (int)(slash - spec->path) + 1 : 0, spec->path, name) < 0
		       ? -ENOMEM
		       : 0;
}

/* A relative name is relative to the new image, where it will be looked for ever after. */
static int backing_text(const struct td_spec *spec, const struct td_opts *opts, char **ret_text,
			struct td_err *ret_err)
{
	const char *file = peek(opts, "backing_file"), *fmt = peek(opts, "backing_fmt");
	const char *slash = strrchr(spec->path, '/');
	size_t dir_len = slash && file[0] != '/' ? (size_t)(slash - spec->path) + 1 : 0;

	if (!fmt)
		return td_err_set(
			ret_err, -EINVAL,
			"%s: say the backing file's format with -F; it is never guessed, since a guest could "
			"have written any header into a raw disk",
			file);
	if (!td_driver_find(fmt))
		return td_err_set(ret_err, -EINVAL, "-F %s: no such format", fmt);
	if (asprintf(ret_text, "%s:%.*s%s", fmt, (int)dir_len, spec->path, file) < 0)
		return -ENOMEM;
	return 0;
}

int newimage_look_at_backing(struct td_env *env, const struct td_spec *spec, const struct td_opts *opts,
			     uint64_t *ret_size, struct td_err *ret_err)
{
	td_cleanup(free) char *text = NULL;
	struct td_image *im = NULL;
	int r;

	r = backing_text(spec, opts, &text, ret_err);
	if (r == 0)
		r = td_image_open_text(env, text, TD_OPEN_RDONLY | TD_OPEN_NO_LOCK | TD_OPEN_NO_CHAIN, &im,
				       ret_err);
	if (r != 0)
		return td_err_prefix(ret_err, r, "backing file");
	*ret_size = im->size;
	return td_image_close(im);
}
