// SPDX-License-Identifier: BSD-2-Clause
/*
 * What we write to a backend folder.  All of it in transactions that find the folder in the state `be` (node_change).
 */
#ifndef TAPBACK_PUBLISH_H
#define TAPBACK_PUBLISH_H

#include "announce.h"
#include "node.h"

/* State 2, with what the frontend may choose from; f NULL: one queue of one page, the rest is told at state 4. */
TD_CHECK int publish_offer(struct td_xs *xs, const char *dir, enum xs_state be, const struct features *f);

/* State 4, with everything that holds from here on. */
TD_CHECK int publish_connected(struct td_xs *xs, const char *dir, enum xs_state be, const struct features *f);

/* Another size: and the state once more, so that the frontend's watch fires. */
TD_CHECK int publish_size(struct td_xs *xs, const char *dir, const struct features *f);

TD_CHECK int publish_state(struct td_xs *xs, const char *dir, enum xs_state be, enum xs_state state);

/* Which tapdisk serves it, and what that has open: for our scripts, and for us after a crash.  pid 0: none any more. */
TD_CHECK int publish_disk(struct td_xs *xs, const char *dir, enum xs_state be, pid_t pid, const char *spec);

/* 0: none any more. */
TD_CHECK int publish_cookie(struct td_xs *xs, const char *dir, enum xs_state be, uint64_t cookie);

/* For our hotplug script: sentence NULL: the disk is open. */
TD_CHECK int publish_hotplug(struct td_xs *xs, const char *dir, enum xs_state be, const char *sentence);

/* Where Linux' backends write it: error/backend/CLASS/DOMID/VDEV of our own domain.  code: -errno. */
void publish_error(struct td_xs *xs, const char *dir, int code, const char *sentence);
void publish_no_error(struct td_xs *xs, const char *dir);

#endif
