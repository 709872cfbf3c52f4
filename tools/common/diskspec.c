// SPDX-License-Identifier: BSD-2-Clause
/*
 * A specification as it is passed to a daemon: checked, with an absolute path.  See diskspec.h.
 */
#include <blktap/spec.h>

#include <stdio.h>
#include <unistd.h>

#include "diskspec.h"

const char *diskspec_path(const char *text)
{
	bool inside = false; /* an option list; it holds no other */

	for (const char *p = text; *p; p++) {
		if (*p == '\\' && p[1])
			p++; /* an escaped character of an option's value */
		else if (*p == '(' || *p == ')')
			inside = *p == '(';
		else if (*p == ':' && !inside)
			return p + 1;
	}
	return NULL;
}

/* *path is replaced by one that begins at the root; what is none yet stays as it is. */
static int from_root(char **path, bool *changed, struct td_err *ret_err)
{
	td_cleanup(free) char *cwd = NULL;
	char *s;

	if ((*path)[0] == '/' || (*path)[0] == '\0')
		return 0;
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return td_err_set(ret_err, -errno, "the working directory: %s", strerror(errno));
	if (asprintf(&s, "%s/%s", cwd, *path) < 0)
		return -ENOMEM;
	free(*path);
	*path = s;
	*changed = true;
	return 0;
}

static int spec_from_root(struct td_spec *spec, bool *changed, struct td_err *ret_err)
{
	int r = from_root(&spec->path, changed, ret_err);

	for (unsigned i = 0; i < spec->nr; i++) {
		struct td_opts *o = &spec->node[i].opts;

		for (unsigned k = 0; r == 0 && k < o->nr; k++)
			if (strcmp(o->opt[k].name, "key-file") == 0)
				r = from_root(&o->opt[k].value, changed, ret_err);
	}
	return r;
}

int diskspec_absolute(const char *text, char **ret_text, struct td_err *ret_err)
{
	struct td_spec *spec;
	bool changed = false;
	char *s = NULL;
	int r;

	r = td_spec_parse(text, &spec, ret_err);
	if (r < 0)
		return r;
	r = spec_from_root(spec, &changed, ret_err);
	if (r == 0)
		s = changed ? td_spec_format(spec) : strdup(spec->text);
	td_spec_free(spec);
	if (r < 0)
		return r;
	if (!s)
		return -ENOMEM;
	*ret_text = s;
	return 0;
}
