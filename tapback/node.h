// SPDX-License-Identifier: BSD-2-Clause
/*
 * Nodes below a folder of xenstore, and changing a backend folder only while it is there and as we know it.
 */
#ifndef TAPBACK_NODE_H
#define TAPBACK_NODE_H

#include "fsm.h"
#include <blktap/xs.h>

#define NODE_PATH_MAX 256 /* of a folder */

/* As their td_xs_ namesakes; dir/key. */
TD_CHECK int node_read(struct td_xs *xs, const char *dir, const char *key, char **ret);
TD_CHECK int node_u64(struct td_xs *xs, const char *dir, const char *key, uint64_t *ret);
TD_CHECK int node_write(struct td_xs *xs, const char *dir, const char *key, const char *fmt, ...)
	TD_PRINTF(4, 5);
TD_CHECK int node_remove(struct td_xs *xs, const char *dir, const char *key);

/* A number up to max. -ENOENT, -EINVAL (no number, or more than that). */
TD_CHECK int node_number(struct td_xs *xs, const char *dir, const char *key, uint64_t max, uint64_t *ret);

/* dir/state. XS_NONE if there is none or it cannot be read; XS_OTHER for what is no state. */
enum xs_state node_state(struct td_xs *xs, const char *dir);

/* The text of a node, or NULL: then none, or more than any honest one holds.  The caller's. */
char *node_text(struct td_xs *xs, const char *dir, const char *key);

/*
 * Run fn in a transaction, in which dir/state is still `expect`: never bring back a folder that the toolstack has
 * removed meanwhile, never write over another's state.  -ENOENT: it is gone; -ESTALE: another state; else fn's or the
 * store's error.  fn may run several times.
 */
TD_CHECK int node_change(struct td_xs *xs, const char *dir, enum xs_state expect,
			 int (*fn)(struct td_xs *xs, const char *dir, void *arg), void *arg);

#endif
