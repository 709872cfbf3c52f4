// SPDX-License-Identifier: BSD-2-Clause
/*
 * Several coroutines do the pieces of one job, and some step of it has to be done in order: each piece has a number,
 * waits for its turn, and passes it on, also when it has failed.
 */
#ifndef TAP_IMG_TURNS_H
#define TAP_IMG_TURNS_H

#include <blktap/lock.h>

struct turns {
	uint64_t now; /* whose turn it is; the first is 0 */
	struct td_waitq waiting;
};

TD_CO static inline void turns_wait(struct turns *t, uint64_t number)
{
	while (t->now != number)
		td_waitq_wait(&t->waiting);
}

static inline void turns_pass(struct turns *t)
{
	t->now++;
	td_waitq_wake_all(&t->waiting);
}

#endif
