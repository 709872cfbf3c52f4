// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest configuration: its settings, as xl reads them; and what in it is no setting but Python, as xm's files may
 * hold.
 *
 * Nothing is run and nothing guessed: code that names `disk`, or could change it by any other way, is refused with its
 * line.  Other code is noted and stepped over, since xl refuses the whole file for it.
 */
#ifndef TAP_CONFIG_CONFIG_H
#define TAP_CONFIG_CONFIG_H

#include <blktap/err.h>

/* No guest's configuration is larger. */
#define CFG_SIZE_MAX     (1u << 20)
#define CFG_SETTINGS_MAX 4096

/* A string (or number) with its place in the file, quotes included. */
struct cfg_item {
	char *text;
	size_t off, len;
	unsigned line;
};

struct cfg_setting {
	char *name;
	unsigned line;
	bool add;    /* += */
	bool list;   /* else items[0] alone */
	bool nested; /* an element is itself a list: not kept */
	unsigned nr;
	struct cfg_item *items;
};

struct cfg {
	const char *text; /* the caller's */
	size_t len;
	unsigned nr;
	struct cfg_setting *settings;
	unsigned code_line; /* the first line that xl refuses; 0: none */
};

/* text is not copied and has to outlive *ret_cfg.  -EINVAL with the line; -E2BIG. */
TD_CHECK int cfg_parse(const char *text, size_t len, struct cfg *ret_cfg, struct td_err *ret_err);
void cfg_free(struct cfg *cfg);

/*
 * The elements that count: of the last NAME = [...] and all NAME += [...] behind it.  *ret_items is the caller's (free;
 * the items' texts stay the cfg's).  None is no error.  -EINVAL: it is no list of strings.
 */
TD_CHECK int cfg_list(const struct cfg *cfg, const char *name, const struct cfg_item ***ret_items,
		      unsigned *ret_nr, struct td_err *ret_err);

/* The last single value; NULL: not set, or a list. */
const char *cfg_string(const struct cfg *cfg, const char *name);

#endif
