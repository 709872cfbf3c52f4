// SPDX-License-Identifier: BSD-2-Clause
/*
 * name=value options of one driver in a disk specification, or of one create call.
 *
 * Whoever reads an option marks it as used; what nobody used is an error by name, so a typing error is never ignored.
 */
#ifndef BLKTAP_OPTS_H
#define BLKTAP_OPTS_H

#include <blktap/err.h>

#define TD_OPTS_MAX 32

struct td_opt {
	char *name, *value; /* "direct" alone means "direct=on" */
	bool used;
};

struct td_opts {
	unsigned nr;
	struct td_opt opt[TD_OPTS_MAX];
};

/* Add "a=b,c=d"; a value may be quoted by \ before , ) and \.  The same name twice is -EINVAL. */
TD_CHECK int td_opts_parse(struct td_opts *o, const char *text, size_t len, struct td_err *ret_err);
TD_CHECK int td_opts_add(struct td_opts *o, const char *name, const char *value, struct td_err *ret_err);
void td_opts_done(struct td_opts *o); /* frees the strings; o is empty then */

/* Value or NULL; marks it as used.  Belongs to o. */
const char *td_opts_get(struct td_opts *o, const char *name);

/*
 * Typed readers: *ret gets the value, or keeps what it had if the option is absent.  A bad value is -EINVAL with a
 * sentence that names option and value.
 *   bool  on, off, yes, no, true, false, 1, 0
 *   size  a number of bytes with an optional suffix K, M, G, T, P, E (powers of 1024)
 */
TD_CHECK int td_opts_bool(struct td_opts *o, const char *name, bool *ret, struct td_err *ret_err);
TD_CHECK int td_opts_size(struct td_opts *o, const char *name, uint64_t *ret, struct td_err *ret_err);
TD_CHECK int td_opts_u64(struct td_opts *o, const char *name, uint64_t min, uint64_t max, uint64_t *ret,
			 struct td_err *ret_err);

/* The name of the first option that nobody used, or NULL. */
const char *td_opts_unused(const struct td_opts *o);

/* While something runs: -EINVAL if one is unused, with a sentence that says whose option it is not. */
TD_CHECK int td_opts_none_unused(const struct td_opts *o, const char *whose, struct td_err *ret_err);

/* Give an option this value, whether it was there or not. */
TD_CHECK int td_opts_replace(struct td_opts *o, const char *name, const char *value, struct td_err *ret_err);

/* "64K" to 65536.  -EINVAL; -ERANGE at 2^63 and above. */
TD_CHECK int td_parse_size(const char *text, uint64_t *ret);

#endif
