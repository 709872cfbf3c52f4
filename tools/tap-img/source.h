// SPDX-License-Identifier: BSD-2-Clause
/*
 * Images that are read from: one, or several as if they were one disk, each behind the end of the one before.
 *
 * They are opened read-only with their backing images.  A file whose format nobody said is probed; if that finds an
 * image with a backing file it is refused, since a guest could have written its header into a raw disk, and what is
 * read would be another file of this machine.
 */
#ifndef TAP_IMG_SOURCE_H
#define TAP_IMG_SOURCE_H

#include <blktap/image.h>

struct stat;

struct source_part {
	struct td_image *im;
	uint64_t start; /* where it begins in the whole */
	const char *operand;
};

struct source {
	struct source_part *part;
	unsigned nr;
	uint64_t size; /* of all together */
};

/* What the command line said of them. */
struct source_how {
	const char *format; /* -f; NULL: not said */
	const char *direct; /* "on", "off"; NULL: not said */
	bool no_lock;       /* -U */
};

/* All-zero before; source_close also after a failure.  operands outlive it. */
TD_CO TD_CHECK int source_open(struct source *s, struct td_env *env, char *const *operands, unsigned nr,
			       const struct source_how *how, struct td_err *ret_err);
TD_CO void source_close(struct source *s);

/* As td_image_extent.  *ret does not reach from one image into the next. */
TD_CO TD_CHECK int source_extent(const struct source *s, uint64_t off, uint64_t len, struct td_extent *ret);
TD_CO TD_CHECK int source_read(const struct source *s, uint64_t off, const struct td_iov *iov);

/* Which of them holds this byte. */
const struct source_part *source_part_at(const struct source *s, uint64_t off);

/* Is this the file of one of them, or of one of their backing images? */
bool source_has_file(const struct source *s, const struct stat *st);

#endif
