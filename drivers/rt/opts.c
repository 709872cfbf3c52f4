// SPDX-License-Identifier: BSD-2-Clause
/*
 * name=value options: the text into a table, the table into typed values.  Knows no option by name: each is asked for
 * by who has it, and what nobody asked for is a mistake that is told by name (td_opts_unused).
 */
#include <ctype.h>
#include <inttypes.h>

#include <blktap/opts.h>

static struct td_opt *find(struct td_opts *o, const char *name)
{
	for (unsigned i = 0; i < o->nr; i++)
		if (strcmp(o->opt[i].name, name) == 0)
			return &o->opt[i];
	return NULL;
}

int td_opts_add(struct td_opts *o, const char *name, const char *value, struct td_err *ret_err)
{
	struct td_opt opt;

	if (!*name)
		return td_err_set(ret_err, -EINVAL, "option without a name before '=%s'", value);
	if (find(o, name)) /* which of the two is meant is not for us to guess */
		return td_err_set(ret_err, -EINVAL, "option '%s' is given twice", name);
	if (o->nr == TD_OPTS_MAX)
		return td_err_set(ret_err, -EINVAL, "more than %d options", TD_OPTS_MAX);
	opt = (struct td_opt){ .name = strdup(name), .value = strdup(value) };
	if (!opt.name || !opt.value) {
		free(opt.name);
		free(opt.value);
		return td_err_set(ret_err, -ENOMEM, "out of memory");
	}
	o->opt[o->nr++] = opt;
	return 0;
}

/* Only what would end a value: a '\\' in a file's name is one otherwise. */
static bool is_quoted(const char *p, const char *end)
{
	return *p == '\\' && p + 1 < end && (p[1] == ',' || p[1] == ')' || p[1] == '\\');
}

/* One "name=value" from *text on, up to the comma or the end, with the quoting taken off; *text is moved there. */
static char *take_item(const char **text, const char *end)
{
	const char *p = *text;
	char *item = malloc((size_t)(end - p) + 1), *out = item;

	if (!item)
		return NULL;
	for (; p < end && *p != ','; p++) {
		if (is_quoted(p, end))
			p++;
		*out++ = *p;
	}
	*out = '\0';
	*text = p;
	return item;
}

/* A name alone switches on. */
static int add_item(struct td_opts *o, char *item, struct td_err *ret_err)
{
	char *eq = strchr(item, '=');

	if (!*item)
		return td_err_set(ret_err, -EINVAL, "empty option: a comma too many");
	if (eq)
		*eq = '\0';
	return td_opts_add(o, item, eq ? eq + 1 : "on", ret_err);
}

int td_opts_parse(struct td_opts *o, const char *text, size_t len, struct td_err *ret_err)
{
	const char *end = text + len;
	char *item;
	int r;

	if (len == 0)
		return 0;
	if (memchr(text, '\0', len)) /* what is behind it would be lost */
		return td_err_set(ret_err, -EINVAL, "options hold a zero byte");
	for (;; text++) {
		item = take_item(&text, end);
		if (!item)
			return td_err_set(ret_err, -ENOMEM, "out of memory");
		r = add_item(o, item, ret_err);
		free(item);
		if (r < 0 || text == end)
			return r;
	}
}

void td_opts_done(struct td_opts *o)
{
	for (unsigned i = 0; i < o->nr; i++) {
		free(o->opt[i].name);
		free(o->opt[i].value);
	}
	*o = (struct td_opts){ 0 };
}

const char *td_opts_get(struct td_opts *o, const char *name)
{
	struct td_opt *opt = find(o, name);

	if (!opt)
		return NULL;
	opt->used = true;
	return opt->value;
}

const char *td_opts_unused(const struct td_opts *o)
{
	for (unsigned i = 0; i < o->nr; i++)
		if (!o->opt[i].used)
			return o->opt[i].name;
	return NULL;
}

int td_opts_none_unused(const struct td_opts *o, const char *whose, struct td_err *ret_err)
{
	const char *name = td_opts_unused(o);

	return name ? td_err_set(ret_err, -EINVAL, "%s has no option '%s' that can be changed now", whose, name)
		    : 0;
}

int td_opts_replace(struct td_opts *o, const char *name, const char *value, struct td_err *ret_err)
{
	struct td_opt *opt = find(o, name);
	char *copy;

	if (!opt)
		return td_opts_add(o, name, value, ret_err);
	copy = strdup(value);
	if (!copy)
		return td_err_set(ret_err, -ENOMEM, "out of memory");
	free(opt->value);
	opt->value = copy;
	return 0;
}

/* ---- values ---- */

int td_opts_bool(struct td_opts *o, const char *name, bool *ret, struct td_err *ret_err)
{
	static const char *const words[] = { "off", "on", "no", "yes", "false", "true", "0", "1" };
	const char *value = td_opts_get(o, name);

	if (!value)
		return 0;
	for (unsigned i = 0; i < TD_NELEMS(words); i++)
		if (strcmp(value, words[i]) == 0) {
			*ret = i & 1;
			return 0;
		}
	return td_err_set(ret_err, -EINVAL, "option '%s' is on or off, not '%s'", name, value);
}

/* Decimal digits only: no sign, no blank, no hexadecimal.  *text is moved behind them. */
static int parse_digits(const char **text, uint64_t *ret)
{
	const char *p = *text;
	uint64_t v = 0;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			return -ERANGE;
	*text = p;
	*ret = v;
	return 0;
}

int td_parse_size(const char *text, uint64_t *ret)
{
	static const char suffixes[] = "KMGTPE";
	const char *suffix;
	uint64_t v;
	int r = parse_digits(&text, &v), shift = 0;

	if (r < 0)
		return r;
	if (*text) {
		suffix = strchr(suffixes, toupper((unsigned char)*text));
		if (!suffix || text[1])
			return -EINVAL;
		shift = 10 * (int)(suffix - suffixes + 1);
	}
	if (v > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*ret = v << shift;
	return 0;
}

int td_opts_size(struct td_opts *o, const char *name, uint64_t *ret, struct td_err *ret_err)
{
	const char *value = td_opts_get(o, name);
	int r;

	if (!value)
		return 0;
	r = td_parse_size(value, ret);
	if (r == -ERANGE)
		return td_err_set(ret_err, -EINVAL, "option '%s': %s is 8 EiB or more", name, value);
	if (r < 0)
		return td_err_set(ret_err, -EINVAL, "option '%s' is a size such as 64K or 1G, not '%s'", name,
				  value);
	return 0;
}

int td_opts_u64(struct td_opts *o, const char *name, uint64_t min, uint64_t max, uint64_t *ret,
		struct td_err *ret_err)
{
	const char *value = td_opts_get(o, name), *p = value;
	uint64_t v = 0;

	if (!value)
		return 0;
	if (parse_digits(&p, &v) < 0 || *p || v < min || v > max)
		return td_err_set(ret_err, -EINVAL,
				  "option '%s' is a number from %" PRIu64 " to %" PRIu64 ", not '%s'", name,
				  min, max, value);
	*ret = v;
	return 0;
}
