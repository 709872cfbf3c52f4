// SPDX-License-Identifier: BSD-2-Clause
/* New images: what vmdk-create.c, vmdk-create-sparse.c and vmdk-measure.c know of each other. */
#ifndef DRIVERS_VMDK_CREATE_H
#define DRIVERS_VMDK_CREATE_H

#include "vmdk-int.h"

#define VMDK_PART_SECTORS 4192256u /* "2GbMaxExtent" as VMware cuts */
#define VMDK_NEW_GRAIN    128u     /* sectors */
#define VMDK_NEW_TABLE    512u     /* entries */

struct vmdk_kind {
	const char *name, *type; /* of the image, of its extents */
	const char *infix;       /* of an extent's file: disk-flat.vmdk; NULL: it is the image's own */
	bool split, sparse, cowd, stream;
};

/* By the option subformat. */
TD_CHECK int vmdk_kind_of(struct td_opts *opts, const struct vmdk_kind **ret, struct td_err *ret_err);

/* text: a descriptor to embed, or NULL. */
TD_CO TD_CHECK int vmdk_hosted_create(struct td_image *file, uint64_t sectors, bool zeroed, const char *text,
				      size_t text_len, struct td_err *ret_err);
TD_CO TD_CHECK int vmdk_cowd_create(struct td_image *file, uint64_t sectors, struct td_err *ret_err);

#endif
