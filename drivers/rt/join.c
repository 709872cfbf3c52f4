// SPDX-License-Identifier: BSD-2-Clause
/* Several pieces of one request at the same time, each in a coroutine of its own. */
#include <blktap/co.h>

struct piece {
	struct td_join *j;
	td_join_fn *fn;
	void *arg;
};

static void piece_done(struct td_join *j, int result)
{
	if (result < 0 && j->result == 0)
		j->result = result;
	if (--j->running == 0 && j->waiter)
		td_co_wake(j->waiter);
}

/* *arg is on the stack of td_join_start(), which goes on at our first yield: copy it before. */
static void piece_run(void *arg)
{
	struct piece p = *(struct piece *)arg;

	piece_done(p.j, p.fn(p.arg));
}

void td_join_start(struct td_join *j, td_join_fn *fn, void *arg)
{
	struct piece p = { j, fn, arg };

	j->running++;
	if (td_co_start(piece_run, &p) < 0)
		piece_done(j, fn(arg));
}

int td_join_wait(struct td_join *j)
{
	if (j->running > 0) {
		j->waiter = td_co_self();
		td_co_yield();
		j->waiter = NULL;
	}
	return j->result;
}
