// SPDX-License-Identifier: BSD-2-Clause
/*
 * What tools print: JSON, sizes for people.
 */
#ifndef TOOLS_PRINT_H
#define TOOLS_PRINT_H

#include <blktap/base.h>
#include <jansson.h>

/* Indented on a terminal, else on one line; the reference is taken.  -ENOMEM if json is NULL. */
TD_CHECK int print_json(json_t *json);

/* Always indented, four spaces, as scripts that read line by line expect it; the reference is taken. */
TD_CHECK int print_json_indented(json_t *json);

/* A name that may hold any bytes: those that are no UTF-8 are shown as '?', nothing else is possible in JSON. */
json_t *print_name(const char *name);

/* A name to a terminal: control characters as '?'. */
void print_safe(const char *text);

/* "1.5 GiB"; bytes below 1024 as "512 B".  Returns buf. */
#define PRINT_SIZE_LEN 32
const char *print_size(uint64_t bytes, char buf[static PRINT_SIZE_LEN]);

#endif
