// SPDX-License-Identifier: BSD-2-Clause
/*
 * The image that is written to.
 *
 * A new file grows under the name DST.partial and gets its own name when all of it is on the disk: whatever happens
 * before, a power cut included, there is no DST that looks like a whole disk and is none, and a DST that was there
 * before is there still.  Further files that an image consists of have their names from the start; without the one
 * that names them they are nothing.  What cannot be renamed (a block device, an image that is there already and is
 * written into) is written in place.
 */
#ifndef TAP_IMG_TARGET_H
#define TAP_IMG_TARGET_H

#include <blktap/image.h>
#include <blktap/spec.h>
#include <sys/stat.h>

struct target {
	struct td_env *env;
	struct td_spec *spec; /* its path is the file that is written */
	struct td_image *im;  /* NULL: standard output */
	char *path;           /* what the file is called in the end; NULL: it is written in place */
	bool sent;            /* it is standard output */
	bool made;            /* the file is ours: gone if this fails */
	bool begun;           /* it may have been written to */
	bool force, replaces; /* there is such a file, whose place it takes */
	struct stat old;      /* that file */
	bool reads_zero;      /* where nothing was written */
	char **parts;         /* further files of the new image, which have their names already */
	unsigned nr_parts;
};

/* What operand means: format as -O said it, direct as -t.  All-zero before; target_drop also after a failure. */
TD_CHECK int target_parse(struct target *t, struct td_env *env, const char *operand, const char *format,
			  const char *direct, struct td_err *ret_err);

/* Standard output, for a format that can be written as a stream; then as target_parse. */
TD_CHECK int target_parse_stdout(struct target *t, struct td_env *env, const char *format,
				 struct td_err *ret_err);

/* For messages; of one that is not open as well. */
const char *target_name(const struct target *t);

/* -ENOTSUP: an image that is made with these options has no compressed clusters.  Nothing is made. */
TD_CHECK int target_check_compress(const struct target *t, struct td_opts *opts, struct td_err *ret_err);

/* Make it and open it.  It may want what limits.once says. */
TD_CO TD_CHECK int target_make(struct target *t, uint64_t size, struct td_opts *opts, struct td_err *ret_err);

/* Open what is there already, of at least this size.  The same. */
TD_CO TD_CHECK int target_use(struct target *t, uint64_t size, struct td_err *ret_err);

/* On stable storage, under its name. */
TD_CO TD_CHECK int target_finish(struct target *t, struct td_err *ret_err);

/* Close, and remove what target_make made if target_finish did not take it; *ret_err says so too. */
TD_CO void target_drop(struct target *t, struct td_err *ret_err);

/* Only the removal, and at once: the program is about to end. */
void target_unlink(const struct target *t);

/* Make [off, off + len) read as zeros where it does not do so already. */
TD_CO TD_CHECK int target_zero(struct target *t, uint64_t off, uint64_t len);

#endif
