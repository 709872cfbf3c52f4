// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where a file is that a descriptor names.  As it is named, relative to the descriptor; where no such file is:
 *
 *	in UTF-8, if the descriptor was written in windows-1252
 *	beside the descriptor: the name was absolute, or a Windows path
 *	under the descriptor's new name: disk.vmdk and disk-s001.vmdk were renamed to new.vmdk and new-s001.vmdk
 *
 * The last is a guess, if a good one: whoever is served is told.
 */
#include <stdio.h>

#include "vmdk-int.h"

#define SUFFIX ".vmdk"

static struct vmdk_str str(const char *text)
{
	return (struct vmdk_str){ text, strlen(text) };
}

static bool ends_with(struct vmdk_str s, const char *end)
{
	size_t len = strlen(end);

	return s.len >= len && vmdk_str_is((struct vmdk_str){ s.at + s.len - len, len }, end);
}

/* Of "disk-s001.vmdk", "disk-flat.vmdk", "disk-000001-delta.vmdk": how much is the disk's own name? */
static size_t stem_len(struct vmdk_str name)
{
	size_t i = name.len;

	if (!ends_with(name, SUFFIX))
		return 0;
	while (i > 0 && name.at[i - 1] != '-')
		i--;
	return i > 0 ? i - 1 : 0;
}

/* The name with the descriptor's in front; NULL: it is not made like that, or no memory. */
static char *renamed(const struct vmdk *v, struct vmdk_str name)
{
	struct vmdk_str mine = vmdk_name_base(str(v->im->path));
	size_t stem = stem_len(name);
	char *out;

	if (stem == 0 || !ends_with(mine, SUFFIX))
		return NULL;
	mine.len -= sizeof(SUFFIX) - 1;
	if (asprintf(&out, "%.*s%.*s", (int)mine.len, mine.at, (int)(name.len - stem), name.at + stem) < 0)
		return NULL;
	return out;
}

static void tell(const struct vmdk *v, struct vmdk_str name, const char *taken)
{
	td_cleanup(free) char *line = NULL;

	if (!v->im->env->notice)
		return;
	if (asprintf(&line, "%s: '%.*s', which it names, is not there: %s beside it is taken", v->im->name,
		     (int)name.len, name.at, taken) >= 0)
		v->im->env->notice(line);
}

/* Take the name if such a file is there; else it is freed. */
static bool take(const struct vmdk *v, char *name, char **ret_name)
{
	if (name && *name && td_image_part_exists(v->im, name)) {
		*ret_name = name;
		return true;
	}
	free(name);
	return false;
}

static char *in_utf8(const struct vmdk *v, struct vmdk_str name)
{
	size_t max = 3 * name.len + 4;
	char *out;

	if (!v->desc.encoding.at || vmdk_str_is(v->desc.encoding, "UTF-8"))
		return NULL;
	out = malloc(max);
	if (out && vmdk_name_from_1252(name, out, max) < 0)
		out[0] = '\0';
	return out;
}

int vmdk_find_file(const struct vmdk *v, struct vmdk_str name, char **ret_name, struct td_err *ret_err)
{
	struct vmdk_str base = vmdk_name_base(name);

	if (take(v, strndup(name.at, name.len), ret_name) || take(v, in_utf8(v, name), ret_name))
		return 0;
	if (base.len < name.len && take(v, strndup(base.at, base.len), ret_name))
		return 0;
	if (base.len < name.len && take(v, in_utf8(v, base), ret_name))
		return 0;
	if (take(v, renamed(v, base), ret_name)) {
		tell(v, name, *ret_name);
		return 0;
	}
	return td_err_set(ret_err, -ENOENT,
			  "it names the file '%.*s', which is neither there nor, by the same or the "
			  "descriptor's name, beside the descriptor",
			  (int)TD_MIN(name.len, 200u), name.at);
}
