// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk specification as a tool passes it on: checked, and with an absolute path, since a daemon does not
 * share the working directory of whoever typed it.
 */
#ifndef TOOLS_DISKSPEC_H
#define TOOLS_DISKSPEC_H

#include <blktap/err.h>

/* *ret_text is a new string of the caller's, without tap: and friends in front. */
TD_CHECK int diskspec_absolute(const char *text, char **ret_text, struct td_err *ret_err);

/*
 * Where the path begins in a specification that parses: after the first ':' outside parentheses.
 * NULL if there is none.
 */
const char *diskspec_path(const char *text);

#endif
