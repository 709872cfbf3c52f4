// SPDX-License-Identifier: BSD-2-Clause
/*
 * From the name of a backing file, as an image records it, to a path; which of several names it is.
 */
#include "drivers.h"

#include <stdio.h>
#include <sys/stat.h>

/* "nbd://host", "ssh:...": a ':' before the first '/'.  A file of such a name is written ./a:b. */
static bool looks_like_protocol(const char *name)
{
	return name[strcspn(name, ":/")] == ':';
}

int td_image_backing_path(const struct td_image *im, const char *name, char **ret_path,
			  struct td_err *ret_err)
{
	const char *slash = strrchr(im->path, '/');
	int dir_len = slash ? (int)(slash - im->path) + 1 : 0;

	if (strncmp(name, "file:/", 6) == 0)
		name += 5;
	if (strncmp(name, "json:", 5) == 0 || looks_like_protocol(name))
		return td_err_set(
			ret_err, -ENOTSUP,
			"%s: its backing file '%s' is not a plain path, which is all that is supported: "
			"record one with tap-img rebase -u -b PATH -F FMT",
			im->name, name);
	if (*name == 0)
		return td_err_set(ret_err, -EUCLEAN, "%s: the name of its backing file is empty", im->name);
	if (*name == '/')
		dir_len = 0;
	if (asprintf(ret_path, "%.*s%s", dir_len, im->path, name) < 0)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", im->name);
	return 0;
}

int td_backing_try(const struct td_image *im, struct td_backing_names *n, const char *name)
{
	td_cleanup(free) char *path = NULL;
	char *copy;
	struct stat st;

	if (n->found || td_image_backing_path(im, name, &path, NULL) < 0)
		return 0;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	if (stat(path, &st) == 0)
		n->found = copy;
	else if (!n->first)
		n->first = copy;
	else
		free(copy);
	return 0;
}

void td_backing_take(struct td_image *im, struct td_backing_names *n)
{
	im->backing_path = n->found ? n->found : n->first;
	if (n->found)
		free(n->first);
	*n = (struct td_backing_names){ 0 };
}
