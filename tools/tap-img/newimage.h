// SPDX-License-Identifier: BSD-2-Clause
/*
 * What create and convert ask of a new image alike: the options of its format, and its backing file.
 */
#ifndef TAP_IMG_NEWIMAGE_H
#define TAP_IMG_NEWIMAGE_H

#include <blktap/image.h>
#include <blktap/opts.h>
#include <blktap/spec.h>

#include "tools/common/cli.h"

/* -o, -b (or -B) and -F as options of the format, into *opts. */
TD_CHECK int newimage_options(const struct cli_list *list, const char *backing, const char *backing_format,
			      struct td_opts *opts, struct td_err *ret_err);

/* Where the file is that this option names beside the new image, from malloc; NULL: there is none. */
TD_CHECK int newimage_beside(const struct td_spec *spec, const struct td_opts *opts, const char *option,
			     char **ret_path);

/* Is there a backing file among them? */
bool newimage_has_backing(const struct td_opts *opts);

/* Opens the backing file, to know that it is what -F says; *ret_size: its size. */
TD_CO TD_CHECK int newimage_look_at_backing(struct td_env *env, const struct td_spec *spec,
					    const struct td_opts *opts, uint64_t *ret_size,
					    struct td_err *ret_err);

#endif
