// SPDX-License-Identifier: BSD-2-Clause
/*
 * SPEC|FILE on a command line, to a specification.  See operand.h.
 */
#include "operand.h"

#include <blktap/image.h>

#include <stdio.h>

static bool is_driver(const char *name)
{
	return strcmp(name, "auto") == 0 || td_driver_find(name) != NULL;
}

static bool all_drivers(const struct td_spec *spec)
{
	for (unsigned i = 0; i < spec->nr; i++)
		if (!is_driver(spec->node[i].name))
			return false;
	return true;
}

/* Does it begin so that nobody would call a file that?  Then what is wrong with it is worth a sentence. */
static bool begins_as_spec(const char *operand)
{
	size_t n = strcspn(operand, "(:/");
	char name[32];

	if (n == 0 || n >= sizeof(name) || operand[n] == '\0' || operand[n] == '/')
		return false;
	memcpy(name, operand, n);
	name[n] = '\0';
	return is_driver(name);
}

static int parse_file(const char *fmt, const char *file, struct td_spec **ret_spec, struct td_err *ret_err)
{
	td_cleanup(free) char *text = NULL;

	if (asprintf(&text, "%s:%s", fmt, file) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return td_spec_parse(text, ret_spec, ret_err);
}

int operand_parse(const char *operand, const char *fmt, bool may_probe, struct td_spec **ret_spec,
		  struct td_err *ret_err)
{
	struct td_spec *spec;
	int r;

	if (fmt && !td_driver_find(fmt))
		return td_err_set(ret_err, -EINVAL, "%s: no such format", fmt);
	if (fmt)
		return parse_file(fmt, operand, ret_spec, ret_err);
	r = td_spec_parse(operand, &spec, ret_err);
	if (r == 0 && all_drivers(spec)) {
		*ret_spec = spec;
		return 0;
	}
	if (r == 0)
		td_spec_free(spec);
	else if (begins_as_spec(operand))
		return r;
	if (!may_probe)
		return td_err_set(ret_err, -EINVAL, "%s: say the format, with -f FMT or as FMT:%s", operand,
				  operand);
	return parse_file("auto", operand, ret_spec, ret_err);
}
