// SPDX-License-Identifier: BSD-2-Clause
/*
 * Locks between the coroutines of one thread: wait queue, mutex, range lock.  Plain integers and lists,
 * because nothing runs between two yields.  Every sleeper's node lies on its own stack.
 */
#include <assert.h>

#include <blktap/lock.h>

/* ---- wait queue ---- */

static void append(struct td_waitq *q, struct td_waiter *w)
{
	if (q->tail)
		q->tail->next = w;
	else
		q->head = w;
	q->tail = w;
}

void td_waitq_wait(struct td_waitq *q)
{
	struct td_waiter w = { .co = td_co_self() };

	append(q, &w);
	td_co_yield();
}

/* The node leaves the queue here, not when the sleeper runs: it may be gone by the next wake-up. */
bool td_waitq_wake_one(struct td_waitq *q)
{
	struct td_waiter *w = q->head;

	if (!w)
		return false;
	q->head = w->next;
	if (!q->head)
		q->tail = NULL;
	td_co_wake(w->co);
	return true;
}

void td_waitq_wake_all(struct td_waitq *q)
{
	while (td_waitq_wake_one(q))
		;
}

/* ---- mutex ---- */

void td_mutex_lock(struct td_mutex *m)
{
	if (m->held)
		td_waitq_wait(&m->waiters); /* it is handed over held */
	else
		m->held = true;
}

void td_mutex_unlock(struct td_mutex *m)
{
	assert(m->held);
	if (!td_waitq_wake_one(&m->waiters))
		m->held = false;
}

/* ---- range lock ---- */

void td_ranges_init(struct td_ranges *rs)
{
	TAILQ_INIT(&rs->all);
	rs->nr_exclusive = 0;
	rs->nr_waiting = 0;
}

static bool conflicts(const struct td_range *a, const struct td_range *b)
{
	if (a->mode == TD_RANGE_SHARED && b->mode == TD_RANGE_SHARED)
		return false;
	return td_overlap(a->off, a->len, b->off, b->len);
}

/* Does anything that came before r, held or waiting, stand in its way?  r is in the list. */
static bool is_blocked(struct td_ranges *rs, const struct td_range *r)
{
	const struct td_range *before;

	if (r->mode == TD_RANGE_SHARED && rs->nr_exclusive == 0)
		return false;
	TAILQ_FOREACH(before, &rs->all, link) {
		if (before == r)
			return false;
		if (conflicts(before, r))
			return true;
	}
	return false;
}

static void ranges_add(struct td_ranges *rs, struct td_range *r)
{
	TAILQ_INSERT_TAIL(&rs->all, r, link);
	rs->nr_exclusive += r->mode == TD_RANGE_EXCLUSIVE;
}

static void ranges_remove(struct td_ranges *rs, struct td_range *r)
{
	TAILQ_REMOVE(&rs->all, r, link);
	rs->nr_exclusive -= r->mode == TD_RANGE_EXCLUSIVE;
}

int td_range_trylock(struct td_ranges *rs, struct td_range *r, uint64_t off, uint64_t len,
		     enum td_range_mode mode)
{
	*r = (struct td_range){ .off = off, .len = len, .mode = mode };
	ranges_add(rs, r);
	if (is_blocked(rs, r)) {
		ranges_remove(rs, r);
		return -EBUSY;
	}
	r->granted = true;
	return 0;
}

void td_range_lock(struct td_ranges *rs, struct td_range *r, uint64_t off, uint64_t len,
		   enum td_range_mode mode)
{
	*r = (struct td_range){ .off = off, .len = len, .mode = mode, .co = td_co_self() };
	ranges_add(rs, r);
	if (!is_blocked(rs, r)) {
		r->granted = true;
		return;
	}
	rs->nr_waiting++;
	td_co_yield(); /* td_range_unlock() of the last one in the way grants it */
}

void td_range_unlock(struct td_ranges *rs, struct td_range *r)
{
	struct td_range *w;

	assert(r->granted);
	ranges_remove(rs, r);
	if (rs->nr_waiting == 0)
		return;
	TAILQ_FOREACH(w, &rs->all, link) {
		/* Who did not wait for r has no other reason to go on now. */
		if (w->granted || !conflicts(w, r) || is_blocked(rs, w))
			continue;
		w->granted = true;
		rs->nr_waiting--;
		td_co_wake(w->co);
	}
}
