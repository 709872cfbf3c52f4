// SPDX-License-Identifier: BSD-2-Clause
/*
 * The facts for verdicts, looked up on the running host, or on one whose files are below another folder.
 */
#ifndef TAP_CONFIG_HOST_H
#define TAP_CONFIG_HOST_H

#include "config.h"
#include "verdict.h"

/* root: "" or a folder without a '/' at its end.  dm: the configuration's device_model_override; NULL. */
TD_CHECK int host_look(const char *root, const char *dm, struct host *ret_host, struct td_err *ret_err);

/* Of one disk; class vbd3 has another default script.  Never fails: what is not there is said in it. */
void target_look(const char *root, const struct disk *d, struct target *ret);

/* All of a file; "-" is standard input.  *ret_text is the caller's, with a NUL behind it. -E2BIG. */
TD_CHECK int read_config(const char *file, char **ret_text, size_t *ret_len, struct td_err *ret_err);

#endif
