// SPDX-License-Identifier: BSD-2-Clause
/*
 * One line of block-list: an attached disk, by whatever way.
 */
#ifndef BLKTAP_ATTACH_LIST_H
#define BLKTAP_ATTACH_LIST_H

#include "ring.h"

struct row {
	char vdev[ATTACH_VDEV_MAX];
	unsigned domid;
	char device[64];  /* in domain 0; "" in others */
	const char *mode; /* "r", "w" */
	const char *state;
	char note[128]; /* what is wrong, or "" */
	pid_t pid;      /* of the tapdisk; 0: none runs */
	int64_t size;   /* bytes; -1: not known */
	char *spec;     /* NULL: not known */
	json_t *json;   /* what else there is to say, as an object */
};

/* A disk that we serve, by a ring, or that block-attach made; row is gone when the callback returns. */
typedef void (*list_fn)(void *ctx, const struct row *row);

/* domid: -1 for all of them. */
void ring_list(struct td_xs *xs, int domid, list_fn fn, void *ctx);

#endif
