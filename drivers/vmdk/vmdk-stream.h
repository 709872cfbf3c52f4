// SPDX-License-Identifier: BSD-2-Clause
/* A streamOptimized extent while it is made: what vmdk-stream.c does for the driver. */
#ifndef DRIVERS_VMDK_STREAM_H
#define DRIVERS_VMDK_STREAM_H

#include "vmdk-int.h"

struct vmdk_stream;

/* What comes first: header and descriptor.  file is empty. */
TD_CO TD_CHECK int vmdk_stream_create(struct td_image *file, uint64_t sectors, const char *text,
				      size_t text_len, struct td_err *ret_err);

/* Of one that was made and holds nothing yet.  Sets im->size and limits. */
TD_CO TD_CHECK int vmdk_stream_open(struct td_image *im, struct vmdk_stream **ret, struct td_err *ret_err);

/* Tables, footer, end; unless something has failed, or the image is frozen. */
TD_CO int vmdk_stream_close(struct vmdk_stream *s);

TD_CO int vmdk_stream_pwritev(struct vmdk_stream *s, uint64_t off, const struct td_iov *iov, unsigned flags);
int vmdk_stream_zero(struct vmdk_stream *s, uint64_t off, uint64_t len);
int vmdk_stream_extent(const struct vmdk_stream *s, uint64_t off, uint64_t len, struct td_extent *ret);

#endif
