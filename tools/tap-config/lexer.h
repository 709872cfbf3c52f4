// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest configuration as tokens.  Where xl's own lexer has a token this has the same one; what else Python has, and
 * xm's files may hold, comes as TOK_CODE, so that it can be stepped over.  Pure: works on the caller's bytes.
 */
#ifndef TAP_CONFIG_LEXER_H
#define TAP_CONFIG_LEXER_H

#include <blktap/err.h>

enum tok {
	TOK_END,
	TOK_NEWLINE, /* also behind a comment */
	TOK_WORD,    /* a name as xl has it: lower case, digits, '_', '.' */
	TOK_NUMBER,
	TOK_STRING, /* with its quotes: one of each at its ends */
	TOK_ADD,    /* += */
	TOK_SIGN,   /* = , ; [ ] */
	TOK_CODE,   /* anything else: what xl refuses */
};

struct token {
	enum tok kind;
	size_t off, len;
	unsigned line;
	bool first; /* of its line; then indent is the blanks before it */
	unsigned indent;
};

struct lexer {
	const char *text;
	size_t len, pos;
	unsigned line;
	size_t line_start;
	bool fresh;            /* no token on this line yet */
	unsigned open_comment; /* the line of a comment at the end without a newline, which xl refuses; 0 */
};

void lexer_init(struct lexer *lx, const char *text, size_t len);

/* -EINVAL with a sentence that begins with the line's number: where no reader could go on. */
TD_CHECK int lexer_next(struct lexer *lx, struct token *ret_tok, struct td_err *ret_err);

/* Is the token this word, this sign? */
bool token_is(const struct lexer *lx, const struct token *t, const char *text);

/*
 * What a string stands for, by xl's rules; a new string of the caller's.  -EINVAL: an escape that xl does not have, or
 * reads otherwise than Python.
 */
TD_CHECK int token_string(const struct lexer *lx, const struct token *t, char **ret_text,
			  struct td_err *ret_err);

#endif
