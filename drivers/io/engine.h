// SPDX-License-Identifier: BSD-2-Clause
/* The engines that there are.  Private to this folder: the rest of the tree knows them by name. */
#ifndef TD_IO_ENGINE_H
#define TD_IO_ENGINE_H

#include <blktap/io.h>

extern const struct td_engine_ops td_engine_sync;
extern const struct td_engine_ops td_engine_threads;
extern const struct td_engine_ops td_engine_libaio;
extern const struct td_engine_ops td_engine_uring; /* only if HAVE_LIBURING */

#endif
