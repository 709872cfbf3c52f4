// SPDX-License-Identifier: BSD-2-Clause
/*
 * Disk specifications: text to nodes and a path, and back.  Names are not looked up here, and no file is touched.
 *
 * The first ':' outside parentheses ends the drivers.  All behind it is the path, as it is: whoever has a file whose
 * name holds ':' or ',' can name it.
 */
#include <blktap/spec.h>

#include "drivers.h"

#include <stdio.h>

static const char *const spec_prefixes[] = { "tap:", "tap2:", "tapdisk:" };

/* Xen's configurations write tap:aio:/path, tap:tapdisk:aio:/path and the like. */
static const char *skip_prefixes(const char *text)
{
	bool again = true;

	while (again) {
		again = false;
		for (unsigned i = 0; i < TD_NELEMS(spec_prefixes); i++) {
			size_t len = strlen(spec_prefixes[i]);

			if (strncmp(text, spec_prefixes[i], len) == 0) {
				text += len;
				again = true;
			}
		}
	}
	return text;
}

/* The ')' that ends an option list, or NULL; a \ takes the next character as it is. */
static const char *find_close(const char *p)
{
	for (; *p; p++) {
		if (*p == ')')
			return p;
		if (*p == '\\' && p[1])
			p++;
	}
	return NULL;
}

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* One "name" or "name(opt=val,...)"; *pos moves behind it. */
static int parse_node(struct td_spec_node *node, const char *text, const char **pos, struct td_err *ret_err)
{
	const char *start = *pos, *end = start, *close;

	while (name_char(*end))
		end++;
	if (end == start || (size_t)(end - start) >= sizeof(node->name))
		return td_err_set(
			ret_err, -EINVAL,
			"%s: no driver where one is expected: write aio:PATH for a raw image, qcow2:PATH, "
			"or auto:PATH to have the format probed",
			text);
	memcpy(node->name, start, (size_t)(end - start));
	node->name[end - start] = 0;
	*pos = end;
	if (*end != '(')
		return 0;
	close = find_close(end + 1);
	if (!close)
		return td_err_set(ret_err, -EINVAL, "%s: the '(' after %s is not closed", text, node->name);
	*pos = close + 1;
	if (close == end + 1)
		return 0;
	return td_opts_parse(&node->opts, end + 1, (size_t)(close - end - 1), ret_err);
}

/* Nodes up to the ':'; *pos moves behind it. */
static int parse_stack(struct td_spec *spec, const char **pos, struct td_err *ret_err)
{
	int r;

	for (;;) {
		if (spec->nr == TD_SPEC_NODES)
			return td_err_set(ret_err, -EINVAL, "%s: more than %d drivers", spec->text,
					  TD_SPEC_NODES);
		r = parse_node(&spec->node[spec->nr++], spec->text, pos, ret_err);
		if (r < 0)
			return r;
		switch (*(*pos)++) {
		case ':':
			return 0;
		case '/':
			break;
		default:
			return td_err_set(ret_err, -EINVAL,
					  "%s: ':' and a path are missing after %s: write DRIVER:PATH",
					  spec->text, spec->node[spec->nr - 1].name);
		}
	}
}

int td_spec_parse(const char *text, struct td_spec **ret_spec, struct td_err *ret_err)
{
	struct td_spec *spec = calloc(1, sizeof(*spec));
	const char *pos;
	int r = -ENOMEM;

	if (!spec) {
		td_err_set(ret_err, -ENOMEM, "%s: no memory", text);
		return -ENOMEM;
	}
	spec->text = strdup(skip_prefixes(text));
	if (!spec->text)
		goto fail;
	pos = spec->text;
	r = parse_stack(spec, &pos, ret_err);
	if (r < 0)
		goto fail;
	spec->path = strdup(pos);
	if (!spec->path) {
		r = -ENOMEM;
		td_err_set(ret_err, r, "%s: no memory", text);
		goto fail;
	}
	*ret_spec = spec;
	return 0;
fail:
	td_spec_free(spec);
	return r;
}

/* Of parts that are not parsed: the path of a backing file, as an image has it, may begin like a driver. */
int td_spec_make(const char *driver, const char *path, struct td_spec **ret_spec, struct td_err *ret_err)
{
	struct td_spec *spec = calloc(1, sizeof(*spec));

	if (!spec)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
	spec->nr = 1;
	(void)snprintf(spec->node[0].name, sizeof(spec->node[0].name), "%s", driver);
	spec->path = strdup(path);
	if (!spec->path || asprintf(&spec->text, "%s:%s", driver, path) < 0) {
		td_spec_free(spec);
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
	}
	*ret_spec = spec;
	return 0;
}

void td_spec_free(struct td_spec *spec)
{
	if (!spec)
		return;
	for (unsigned i = 0; i < spec->nr; i++)
		td_opts_done(&spec->node[i].opts);
	free(spec->path);
	free(spec->text);
	free(spec);
}

/* ---- and back to text ---- */

/* So that td_opts_parse() reads the same value again. */
static void put_option(FILE *f, const struct td_opt *opt, bool first)
{
	fprintf(f, "%s%s=", first ? "(" : ",", opt->name);
	for (const char *p = opt->value; *p; p++) {
		if (strchr(",)\\", *p))
			(void)fputc('\\', f);
		(void)fputc(*p, f);
	}
}

char *td_spec_format(const struct td_spec *spec)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	bool failed;

	if (!f)
		return NULL;
	for (unsigned i = 0; i < spec->nr; i++) {
		const struct td_spec_node *node = &spec->node[i];

		fprintf(f, "%s%s", i > 0 ? "/" : "", node->name);
		for (unsigned k = 0; k < node->opts.nr; k++)
			put_option(f, &node->opts.opt[k], k == 0);
		if (node->opts.nr > 0)
			(void)fputc(')', f);
	}
	fprintf(f, ":%s", spec->path);
	/* A text that was cut off by a lack of memory would name another disk. */
	failed = ferror(f) != 0;
	if (fclose(f) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}

static struct td_spec_node *find_node(struct td_spec *spec, const char *driver)
{
	for (unsigned i = 0; i < spec->nr; i++)
		if (strcmp(spec->node[i].name, driver) == 0)
			return &spec->node[i];
	return NULL;
}

/* Options that were changed while the disk ran become part of its text: that is what it is opened by after a pause. */
int td_spec_change(const char *text, const char *driver, const struct td_opts *opts, char **ret_text,
		   struct td_err *ret_err)
{
	struct td_spec_node *node;
	struct td_spec *spec;
	char *changed = NULL;
	int r = td_spec_parse(text, &spec, ret_err);

	if (r < 0)
		return r;
	node = find_node(spec, driver);
	if (!node)
		r = td_err_set(ret_err, -ENOENT, "%s: names no driver %s", text, driver);
	for (unsigned i = 0; r == 0 && i < opts->nr; i++)
		r = td_opts_replace(&node->opts, opts->opt[i].name, opts->opt[i].value, ret_err);
	if (r == 0) {
		changed = td_spec_format(spec);
		if (!changed)
			r = td_err_set(ret_err, -ENOMEM, "%s: no memory", text);
	}
	td_spec_free(spec);
	if (r == 0)
		*ret_text = changed;
	return r;
}
