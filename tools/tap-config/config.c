// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest configuration to settings, Python refused or stepped over.  See config.h.
 *
 * The grammar is xl's:
 *
 *	statement = NAME ("=" | "+=") value, ended by a newline or ';'
 *	value = STRING | NUMBER | "[" [value {"," value} [","]] "]", with newlines between the brackets
 *
 * A statement that is none is read again as a logical line of Python, only to find its end and the names in it.
 */
#include "config.h"

#include <stdio.h>

#include "lexer.h"

struct parser {
	struct lexer lx;
	struct token t; /* the one to be looked at */
	struct cfg *cfg;
	struct td_err *err;
	bool in_block; /* the lines behind "if x:" and the like */
};

static int next(struct parser *p)
{
	return lexer_next(&p->lx, &p->t, p->err);
}

static bool is(const struct parser *p, const char *text)
{
	return token_is(&p->lx, &p->t, text);
}

static bool ends_statement(const struct parser *p)
{
	return p->t.kind == TOK_END || p->t.kind == TOK_NEWLINE || is(p, ";");
}

/* Room for one more in an array of nr, which grows by doubling. */
static int grow(void **array, unsigned nr, size_t size)
{
	void *more;

	if (nr & (nr - 1))
		return 0; /* it has room up to the next power of two */
	more = reallocarray(*array, nr ? 2 * (size_t)nr : 1, size);
	if (!more)
		return -ENOMEM;
	*array = more;
	return 0;
}

/* ---- settings; 1: this is none ---- */

static int add_item(struct parser *p, struct cfg_setting *s)
{
	struct cfg_item item = { .off = p->t.off, .len = p->t.len, .line = p->t.line };
	int r;

	r = grow((void **)&s->items, s->nr, sizeof(*s->items));
	if (r < 0)
		return r;
	if (p->t.kind == TOK_STRING)
		r = token_string(&p->lx, &p->t, &item.text, p->err);
	else if (!(item.text = strndup(p->lx.text + p->t.off, p->t.len)))
		r = -ENOMEM;
	if (r < 0)
		return r;
	s->items[s->nr++] = item;
	return next(p);
}

/* Not kept, but it has to be one that xl reads. */
static int skip_item(struct parser *p)
{
	char *text = NULL;
	int r = p->t.kind == TOK_STRING ? token_string(&p->lx, &p->t, &text, p->err) : 0;

	free(text);
	return r < 0 ? r : next(p);
}

static bool is_atom(const struct parser *p)
{
	return p->t.kind == TOK_STRING || p->t.kind == TOK_NUMBER;
}

static int skip_newlines(struct parser *p)
{
	int r = 0;

	while (p->t.kind == TOK_NEWLINE && r == 0)
		r = next(p);
	return r;
}

/*
 * The elements up to the bracket that closes the outermost list.  Those of inner lists are not kept: no disk is one.
 * Depth is counted, not recursed.
 */
static int parse_list(struct parser *p, struct cfg_setting *s)
{
	bool value_may_come = true; /* else a ',' or ']' has to */
	unsigned depth = 0;
	int r;

	do {
		if (is(p, "[")) {
			if (!value_may_come)
				return 1;
			s->nested = ++depth > 1 || s->nested;
			r = next(p);
		} else if (is(p, "]")) {
			depth--;
			value_may_come = false;
			r = next(p);
			if (depth == 0)
				return r;
		} else if (is(p, ",")) {
			if (value_may_come)
				return 1;
			value_may_come = true;
			r = next(p);
		} else if (is_atom(p) && value_may_come) {
			value_may_come = false;
			r = depth == 1 ? add_item(p, s) : skip_item(p);
		} else {
			return 1;
		}
		if (r == 0)
			r = skip_newlines(p);
	} while (r == 0);
	return r;
}

static void setting_done(struct cfg_setting *s)
{
	for (unsigned i = 0; i < s->nr; i++)
		free(s->items[i].text);
	free(s->items);
	free(s->name);
	*s = (struct cfg_setting){ 0 };
}

static int parse_value(struct parser *p, struct cfg_setting *s)
{
	int r;

	s->list = is(p, "[");
	if (s->list)
		r = parse_list(p, s);
	else
		r = is_atom(p) ? add_item(p, s) : 1;
	return r == 0 && !ends_statement(p) ? 1 : r;
}

static int parse_setting(struct parser *p, struct cfg_setting *s)
{
	int r;

	if (p->t.kind != TOK_WORD || (p->in_block && p->t.first && p->t.indent > 0))
		return 1;
	s->line = p->t.line;
	s->name = strndup(p->lx.text + p->t.off, p->t.len);
	if (!s->name)
		return -ENOMEM;
	r = next(p);
	if (r < 0)
		return r;
	s->add = p->t.kind == TOK_ADD;
	if (!s->add && !is(p, "="))
		return 1;
	r = next(p);
	return r < 0 ? r : parse_value(p, s);
}

/* xl does not add a list to a single value, nor the other way round. */
static int check_add(const struct parser *p, const struct cfg_setting *s)
{
	for (unsigned i = p->cfg->nr; i-- > 0 && s->add;) {
		const struct cfg_setting *before = &p->cfg->settings[i];

		if (strcmp(before->name, s->name) != 0)
			continue;
		if (before->list == s->list)
			break;
		return td_err_set(p->err, -EINVAL, "line %u: %s += of a %s to a %s", s->line, s->name,
				  s->list ? "list" : "single value", before->list ? "list" : "single value");
	}
	return 0;
}

static int store(struct parser *p, struct cfg_setting *s)
{
	int r;

	if (p->cfg->nr == CFG_SETTINGS_MAX)
		return td_err_set(p->err, -E2BIG, "more than %d settings: no guest configuration",
				  CFG_SETTINGS_MAX);
	r = check_add(p, s);
	if (r == 0)
		r = grow((void **)&p->cfg->settings, p->cfg->nr, sizeof(*s));
	if (r < 0)
		return r;
	p->cfg->settings[p->cfg->nr++] = *s;
	*s = (struct cfg_setting){ 0 };
	return 0;
}

/* ---- code ---- */

/* Names by which Python reaches any variable. */
static bool reaches_all(const struct parser *p)
{
	static const char *const names[] = { "exec",   "execfile", "eval",    "globals",
					     "locals", "vars",     "setattr", "__import__" };

	for (size_t i = 0; i < TD_NELEMS(names); i++)
		if (is(p, names[i]))
			return true;
	return false;
}

/* disk, disk.append, 'disk' */
static bool names_disk(const struct parser *p)
{
	const char *s = p->lx.text + p->t.off;

	if (p->t.kind == TOK_STRING)
		return p->t.len == 6 && memcmp(s + 1, "disk", 4) == 0;
	return p->t.kind == TOK_WORD && (is(p, "disk") || (p->t.len > 5 && memcmp(s, "disk.", 5) == 0));
}

static int refuse_code(const struct parser *p, unsigned line, const char *why)
{
	return td_err_set(p->err, -EINVAL,
			  "line %u: %s, and this does not run Python: write disk = [ '...' ] out", line, why);
}

static int check_code(const struct parser *p, bool star_may_come)
{
	if (names_disk(p))
		return refuse_code(p, p->t.line, "code with the name disk in it");
	if (reaches_all(p) || (star_may_come && is(p, "*")))
		return refuse_code(p, p->t.line, "code that may set any name");
	return 0;
}

static int count_brackets(const struct parser *p, int depth)
{
	if (is(p, "[") || is(p, "(") || is(p, "{"))
		return depth + 1;
	if ((is(p, "]") || is(p, ")") || is(p, "}")) && depth > 0)
		return depth - 1;
	return depth;
}

/* From the statement's first token to the end of the line: what stands behind a ';' may hang on an "if" before it. */
static int skip_code(struct parser *p)
{
	unsigned line = p->t.line;
	bool import = is(p, "from"), joined = false, block = false;
	int r, depth = 0;

	if (p->cfg->code_line == 0)
		p->cfg->code_line = line;
	while (p->t.kind != TOK_END && (depth > 0 || joined || p->t.kind != TOK_NEWLINE)) {
		r = check_code(p, import);
		if (r < 0)
			return r;
		depth = count_brackets(p, depth);
		if (p->t.kind != TOK_NEWLINE)
			block = depth == 0 && is(p, ":");
		joined = is(p, "\\");
		r = next(p);
		if (r < 0)
			return r;
	}
	if (depth > 0)
		return td_err_set(p->err, -EINVAL, "line %u: a bracket that is never closed", line);
	p->in_block = block || p->in_block;
	return 0;
}

/* ---- the file ---- */

static int parse_statement(struct parser *p)
{
	struct cfg_setting s = { 0 };
	struct parser start;
	int r;

	if (p->t.first && p->t.indent == 0)
		p->in_block = false;
	start = *p;
	r = parse_setting(p, &s);
	if (r == 0)
		r = store(p, &s);
	setting_done(&s);
	if (r != 1)
		return r;
	*p = start;
	return skip_code(p);
}

static int parse_file(struct parser *p)
{
	int r = next(p);

	while (r == 0 && p->t.kind != TOK_END)
		r = ends_statement(p) ? next(p) : parse_statement(p);
	return r;
}

static int check_bytes(const char *text, size_t len, struct td_err *ret_err)
{
	unsigned line = 1;

	if (len > CFG_SIZE_MAX)
		return td_err_set(ret_err, -E2BIG, "larger than %u bytes: no guest configuration",
				  CFG_SIZE_MAX);
	for (size_t i = 0; i < len; i++) {
		line += text[i] == '\n';
		if (!text[i])
			return td_err_set(ret_err, -EINVAL, "line %u: a NUL byte: no guest configuration",
					  line);
	}
	return 0;
}

int cfg_parse(const char *text, size_t len, struct cfg *ret_cfg, struct td_err *ret_err)
{
	struct cfg cfg = { .text = text, .len = len };
	struct parser p = { .cfg = &cfg, .err = ret_err };
	int r;

	r = check_bytes(text, len, ret_err);
	if (r < 0)
		return r;
	lexer_init(&p.lx, text, len);
	r = parse_file(&p);
	if (r < 0) {
		cfg_free(&cfg);
		return r;
	}
	if (cfg.code_line == 0)
		cfg.code_line = p.lx.open_comment;
	*ret_cfg = cfg;
	return 0;
}

void cfg_free(struct cfg *cfg)
{
	for (unsigned i = 0; i < cfg->nr; i++)
		setting_done(&cfg->settings[i]);
	free(cfg->settings);
	*cfg = (struct cfg){ 0 };
}

/* ---- asking ---- */

/* Where the setting that counts begins: its last plain assignment. nr: there is none. */
static unsigned first_of(const struct cfg *cfg, const char *name)
{
	unsigned first = cfg->nr;

	for (unsigned i = 0; i < cfg->nr; i++)
		if (strcmp(cfg->settings[i].name, name) == 0 && (!cfg->settings[i].add || first == cfg->nr))
			first = i;
	return first;
}

static int check_list(const struct cfg_setting *s, struct td_err *ret_err)
{
	if (!s->list)
		return td_err_set(ret_err, -EINVAL, "line %u: %s is no list: write %s = [ '...' ]", s->line,
				  s->name, s->name);
	if (s->nested)
		return td_err_set(ret_err, -EINVAL, "line %u: a list inside the list %s", s->line, s->name);
	return 0;
}

int cfg_list(const struct cfg *cfg, const char *name, const struct cfg_item ***ret_items, unsigned *ret_nr,
	     struct td_err *ret_err)
{
	const struct cfg_item **items = NULL;
	unsigned nr = 0;
	int r = 0;

	for (unsigned i = first_of(cfg, name); i < cfg->nr && r == 0; i++) {
		const struct cfg_setting *s = &cfg->settings[i];

		if (strcmp(s->name, name) != 0)
			continue;
		r = check_list(s, ret_err);
		for (unsigned j = 0; j < s->nr && r == 0; j++) {
			r = grow((void **)&items, nr, sizeof(*items));
			if (r == 0)
				items[nr++] = &s->items[j];
		}
	}
	if (r < 0) {
		free(items);
		return r;
	}
	*ret_items = items;
	*ret_nr = nr;
	return 0;
}

const char *cfg_string(const struct cfg *cfg, const char *name)
{
	unsigned i = first_of(cfg, name);

	return i < cfg->nr && !cfg->settings[i].list ? cfg->settings[i].items[0].text : NULL;
}
