// SPDX-License-Identifier: BSD-2-Clause
/* One sparse extent: what the files that serve it know of each other. */
#ifndef DRIVERS_VMDK_SPARSE_H
#define DRIVERS_VMDK_SPARSE_H

#include <blktap/grains.h>

#include "vmdk-int.h"

/* Where the second copy of a table is. */
struct vmdk_copy {
	uint64_t table, copy; /* bytes */
};

enum vmdk_sparse_kind { VMDK_HOSTED, VMDK_COWD, VMDK_SE };

struct vmdk_sparse {
	struct td_image *im;
	struct td_grains *grains;
	struct td_grains_config config;
	enum vmdk_sparse_kind kind;
	struct vmdk_header h; /* HOSTED; of a stream the footer's */
	struct vmdk_cowd c;
	struct vmdk_se se;
	uint64_t nr_tables, table_bytes;
	struct vmdk_copy *copies; /* in order of table; NULL: there are none, or it is only read */
	uint64_t nr_copies;
	size_t stream_len;         /* bytes of a compressed grain, lately */
	struct td_mutex grow_lock; /* COWD: next_free, which may be ahead of the file's end */
};

/* ---- vmdk-hosted.c, vmdk-cowd-file.c, vmdk-sesparse-file.c: the header, and the config that follows from it ---- */

TD_CO TD_CHECK int vmdk_hosted_load(struct vmdk_sparse *s, const uint8_t *head, struct td_err *ret_err);
TD_CO TD_CHECK int vmdk_cowd_load(struct vmdk_sparse *s, struct td_err *ret_err);
TD_CO TD_CHECK int vmdk_sesparse_load(struct vmdk_sparse *s, const uint8_t *head, struct td_err *ret_err);

/* The next free sector on disk is behind `end` before anything there is named. */
TD_CO int vmdk_cowd_grow(struct vmdk_sparse *s, uint64_t end);

/* It is where the file ends. */
TD_CO TD_CHECK int vmdk_cowd_settle(struct vmdk_sparse *s);

/* ---- vmdk-directory.c ---- */

/* For who writes: both directories name tables that are all there, all before the grains, and none twice. */
TD_CO TD_CHECK int vmdk_directories_load(struct vmdk_sparse *s, struct td_err *ret_err);

/* The second copy of what lies at off in a table; 0: there is none. */
uint64_t vmdk_copy_at(const struct vmdk_sparse *s, uint64_t off);

/* ---- vmdk-packed.c ---- */

td_packed_fn vmdk_unpack; /* as td_grains_ops has it */

/* ---- vmdk-check.c ---- */

TD_CO int vmdk_sparse_check(struct vmdk_sparse *s, unsigned fix, struct td_check *ret);

/* Of an image that is a sparse extent: a part, or the whole disk.  Both have it first in their state. */
static inline struct vmdk_sparse *vmdk_sparse_of(const struct td_image *im)
{
	struct vmdk_sparse *const *state = im->state;

	return *state;
}

#endif
