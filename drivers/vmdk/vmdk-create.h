// SPDX-License-Identifier: BSD-2-Clause
/* New sparse extents: what vmdk-create.c asks of vmdk-create-sparse.c. */
#ifndef DRIVERS_VMDK_CREATE_H
#define DRIVERS_VMDK_CREATE_H

#include "vmdk-int.h"

/* text: a descriptor to embed, or NULL. */
TD_CO TD_CHECK int vmdk_hosted_create(struct td_image *file, uint64_t sectors, bool zeroed, const char *text,
				      size_t text_len, struct td_err *ret_err);
TD_CO TD_CHECK int vmdk_cowd_create(struct td_image *file, uint64_t sectors, struct td_err *ret_err);

#endif
