// SPDX-License-Identifier: BSD-2-Clause
/*
 * See diskspec.h.
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

int diskspec_absolute(const char *text, char **ret_text, struct td_err *ret_err)
{
	td_cleanup(free) char *cwd = NULL;
	struct td_spec *spec;
	size_t stack_len;
	char *s = NULL;
	int r;

	r = td_spec_parse(text, &spec, ret_err);
	if (r < 0)
		return r;
	stack_len = strlen(spec->text) - strlen(spec->path); /* the path is the end of the text */
	if (spec->path[0] == '/' || spec->path[0] == '\0') {
		s = strdup(spec->text);
	} else {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			r = td_err_set(ret_err, -errno, "the working directory: %s", strerror(errno));
		else if (asprintf(&s, "%.*s%s/%s", (int)stack_len, spec->text, cwd, spec->path) < 0)
			s = NULL;
	}
	td_spec_free(spec);
	if (r < 0)
		return r;
	if (!s)
		return -ENOMEM;
	*ret_text = s;
	return 0;
}
