// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest configuration to tokens, those of xl's lexer and Python's.  See lexer.h.
 */
#include "lexer.h"

#include <stdio.h>

void lexer_init(struct lexer *lx, const char *text, size_t len)
{
	*lx = (struct lexer){ .text = text, .len = len, .line = 1, .fresh = true };
}

static int refuse(const struct lexer *lx, const char *what, struct td_err *ret_err)
{
	return td_err_set(ret_err, -EINVAL, "line %u: %s", lx->line, what);
}

/* The byte n ahead; 0 beyond the end.  A NUL in the text is refused before anything is read ahead of it. */
static char at(const struct lexer *lx, size_t n)
{
	return n < lx->len - lx->pos ? lx->text[lx->pos + n] : '\0';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_word(char c)
{
	return is_lower(c) || is_digit(c) || c == '_' || c == '.';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

/* ---- one token, from lx->pos; each returns its length ---- */

/* [a-z][._0-9a-z]* is xl's; with a capital or a '_' in front it is Python's. */
static size_t word(const struct lexer *lx, enum tok *ret_kind)
{
	size_t n = 0;
	bool plain = is_lower(at(lx, 0));

	while (is_word(at(lx, n)) || is_upper(at(lx, n)))
		plain = !is_upper(at(lx, n++)) && plain;
	*ret_kind = plain ? TOK_WORD : TOK_CODE;
	return n;
}

/* [0-9][0-9a-fx]* */
static size_t number(const struct lexer *lx, enum tok *ret_kind)
{
	size_t n = 0;

	while (is_digit(at(lx, n)) || (at(lx, n) >= 'a' && at(lx, n) <= 'f') || at(lx, n) == 'x')
		n++;
	*ret_kind = TOK_NUMBER;
	if (is_word(at(lx, n)) || is_upper(at(lx, n)))
		*ret_kind = TOK_CODE;
	while (is_word(at(lx, n)) || is_upper(at(lx, n)))
		n++;
	return n;
}

/* Python's: over several lines. */
static int triple(struct lexer *lx, size_t *ret_len, struct td_err *ret_err)
{
	char q = at(lx, 0);
	size_t n = 3;
	unsigned lines = 0;

	for (; lx->pos + n < lx->len; n++) {
		if (at(lx, n) == '\\')
			n++;
		else if (at(lx, n) == q && at(lx, n + 1) == q && at(lx, n + 2) == q)
			break;
		if (at(lx, n) == '\n')
			lines++;
	}
	if (lx->pos + n >= lx->len)
		return refuse(lx, "a string in triple quotes that does not end", ret_err);
	lx->line += lines;
	*ret_len = n + 3;
	return 0;
}

static int string(struct lexer *lx, size_t *ret_len, enum tok *ret_kind, struct td_err *ret_err)
{
	char q = at(lx, 0);
	size_t n = 1;

	if (at(lx, 1) == q && at(lx, 2) == q) {
		*ret_kind = TOK_CODE;
		return triple(lx, ret_len, ret_err);
	}
	while (at(lx, n) && at(lx, n) != q && at(lx, n) != '\n') {
		n += at(lx, n) == '\\';
		if (at(lx, n) == '\n' || !at(lx, n))
			break;
		n++;
	}
	if (at(lx, n) != q)
		return refuse(lx, "a string without its second quote", ret_err);
	*ret_kind = TOK_STRING;
	*ret_len = n + 1;
	return 0;
}

static size_t comment(struct lexer *lx, enum tok *ret_kind)
{
	const char *end = memchr(lx->text + lx->pos, '\n', lx->len - lx->pos);

	*ret_kind = TOK_NEWLINE;
	if (!end)
		lx->open_comment = lx->line;
	return end ? (size_t)(end - lx->text) - lx->pos + 1 : lx->len - lx->pos;
}

static int scan(struct lexer *lx, size_t *ret_len, enum tok *ret_kind, struct td_err *ret_err)
{
	char c = at(lx, 0);

	*ret_len = 1;
	if (c == '\n')
		*ret_kind = TOK_NEWLINE;
	else if (c == '#')
		*ret_len = comment(lx, ret_kind);
	else if (is_lower(c) || is_upper(c) || c == '_')
		*ret_len = word(lx, ret_kind);
	else if (is_digit(c))
		*ret_len = number(lx, ret_kind);
	else if (c == '\'' || c == '"')
		return string(lx, ret_len, ret_kind, ret_err);
	else if (c == '+' && at(lx, 1) == '=')
		*ret_kind = TOK_ADD, *ret_len = 2;
	else if (strchr("=,;[]", c))
		*ret_kind = TOK_SIGN;
	else if (c == '\r')
		return refuse(lx,
			      "a carriage return: the file has the line ends of another system, "
			      "which xl refuses (dos2unix converts it)",
			      ret_err);
	else
		*ret_kind = TOK_CODE;
	return 0;
}

static void begin_line(struct lexer *lx)
{
	lx->line++;
	lx->line_start = lx->pos;
	lx->fresh = true;
}

int lexer_next(struct lexer *lx, struct token *ret_tok, struct td_err *ret_err)
{
	struct token t = { .kind = TOK_END };
	int r;

	while (at(lx, 0) == ' ' || at(lx, 0) == '\t')
		lx->pos++;
	t.off = lx->pos;
	t.line = lx->line;
	t.first = lx->fresh;
	t.indent = (unsigned)(lx->pos - lx->line_start);
	if (lx->pos < lx->len) {
		r = scan(lx, &t.len, &t.kind, ret_err);
		if (r < 0)
			return r;
	}
	lx->pos += t.len;
	lx->fresh = false;
	if (t.kind == TOK_NEWLINE)
		begin_line(lx);
	*ret_tok = t;
	return 0;
}

bool token_is(const struct lexer *lx, const struct token *t, const char *text)
{
	return t->len == strlen(text) && memcmp(lx->text + t->off, text, t->len) == 0;
}

/* ---- strings ---- */

/* What stands behind the backslash; 0: not one that xl and Python read alike. */
static char unescape(char c)
{
	static const char names[] = "\"'\\abfnrtv", values[] = "\"'\\\a\b\f\n\r\t\v";
	const char *p = strchr(names, c);

	return p && c ? values[p - names] : '\0';
}

int token_string(const struct lexer *lx, const struct token *t, char **ret_text, struct td_err *ret_err)
{
	const char *p = lx->text + t->off + 1, *end = lx->text + t->off + t->len - 1;
	char *text = malloc(t->len), *q = text;

	if (!text)
		return -ENOMEM;
	while (p < end) {
		char c = *p++;

		if (c == '\\') {
			c = unescape(*p++);
			if (!c) {
				free(text);
				return td_err_set(
					ret_err, -EINVAL,
					"line %u: the escape \\%c in a string: write the character itself",
					t->line, p[-1]);
			}
		}
		*q++ = c;
	}
	*q = '\0';
	*ret_text = text;
	return 0;
}
