// SPDX-License-Identifier: BSD-2-Clause
/*
 * For drivers that check images: telling what was found, and which bytes of a file are named by whom.
 */
#ifndef BLKTAP_CHECK_H
#define BLKTAP_CHECK_H

#include <blktap/image.h>

/*
 * One finding, for people.  After TD_CHECK_LINES of them one more line says that there are others: an image may have
 * millions of lies to tell.  The counters are the caller's.
 */
#define TD_CHECK_LINES 2000u
TD_PRINTF(2, 3) void td_check_say(struct td_check *c, const char *fmt, ...);

/* Runs of bytes that are named, each after the other; those that adjoin are one. */
struct td_run {
	uint64_t off, len;
};

struct td_runs {
	struct td_run *at;
	size_t nr, room;
};

/* -ENOMEM: also more than TD_RUNS_MAX (128 MiB): a file in more pieces than that cannot be checked. */
#define TD_RUNS_MAX (8u << 20)
TD_CHECK int td_runs_add(struct td_runs *r, uint64_t off, uint64_t len);
void td_runs_sort(struct td_runs *r); /* by offset */
void td_runs_done(struct td_runs *r);

#endif
