// SPDX-License-Identifier: BSD-2-Clause
/*
 * The smallest image format whose tables do not move, for the tests of the metadata cache: a directory of tables of
 * blocks of one sector.  Every table has a second copy behind it.
 *
 *	| nothing | directory: a sector, 64 entries | then, as they come: tables and their copies, data |
 *
 * An entry is a little-endian byte offset in the file; 0: nothing is there, zeros.
 */
#ifndef TESTS_DRIVER_TOY_H
#define TESTS_DRIVER_TOY_H

#include <blktap/meta.h>

#include "testenv.h"

#define TOY_SECTOR  512u
#define TOY_ENTRIES 64u /* in the directory, and in a table */
#define TOY_DIR     512u
#define TOY_SECTORS (16u * TOY_ENTRIES)
#define TOY_BYTES   (TOY_SECTORS * TOY_SECTOR)

/* Not in the list of drivers: this is what td_image_open would have made. */
struct toy {
	struct td_image im;
	struct td_meta *meta;
	struct td_mutex alloc;
	struct td_ranges ranges;
	uint64_t end; /* of the file: all before is taken */
};

/* A new image: a file of two sectors of zeros. */
TD_CHECK int toy_create(const char *path);

/* What to open it with. */
struct toy_how {
	struct testenv *t;
	const char *path, *opts; /* of the image: adopt=off */
	unsigned flags;
	uint32_t tag;   /* of the kept file */
	uint64_t cache; /* bytes, for each level */
	bool fault;     /* the first flush fails */
};

TD_CO TD_CHECK int toy_open(struct toy *y, const struct toy_how *how);
TD_CO TD_CHECK int toy_close(struct toy *y);

/* What is wrong in the file: entries out of it, two that name the same.  copies: both have to be alike, too. */
TD_CHECK int toy_fsck(const char *path, bool copies);

#endif
