// SPDX-License-Identifier: BSD-2-Clause
/*
 * Locks between the coroutines of one thread.  All are first come, first served, and none makes a system call.
 * All-zero is the initial state of each, except the range lock (td_ranges_init).
 */
#ifndef BLKTAP_LOCK_H
#define BLKTAP_LOCK_H

#include <blktap/co.h>

/* Wait queue: sleepers in order of arrival. */
struct td_waiter {
	struct td_co *co;
	struct td_waiter *next;
};

struct td_waitq {
	struct td_waiter *head, *tail;
};

/* Sleep until one of the two below wakes this coroutine.  What it waited for may be over again when it runs. */
TD_CO void td_waitq_wait(struct td_waitq *q);
bool td_waitq_wake_one(struct td_waitq *q); /* false: nobody waits */
void td_waitq_wake_all(struct td_waitq *q);

/* Mutex. Not recursive.  The lock is handed to the first waiter: nobody overtakes. */
struct td_mutex {
	bool held;
	struct td_waitq waiters;
};

/* Yields only if somebody holds it.  td_mutex_unlock() never does. */
TD_CO void td_mutex_lock(struct td_mutex *m);
void td_mutex_unlock(struct td_mutex *m);

/* For td_co_guard(), below. */
static inline struct td_mutex *td_guard_lock(struct td_mutex *m)
{
	td_mutex_lock(m);
	return m;
}

static inline void td_cleanup_guard(struct td_mutex **m)
{
	if (*m)
		td_mutex_unlock(*m);
}

/* Hold m until the scope ends. */
#define td_co_guard(m)                                                                                       \
	td_cleanup(guard) __attribute__((unused)) struct td_mutex *TD_PASTE(td_guard_, __LINE__) =           \
		td_guard_lock(m)

/*
 * Range lock: byte ranges, shared or exclusive.  Two ranges conflict if they overlap and one of them is exclusive.
 * A newcomer waits for every conflicting range that is held *or waits before it*, so that nobody starves.  Taking a
 * shared range while no exclusive one is held or waits costs no search.
 */
enum td_range_mode { TD_RANGE_SHARED, TD_RANGE_EXCLUSIVE };

struct td_range {
	uint64_t off, len;
	enum td_range_mode mode;
	bool granted;
	struct td_co *co;
	TAILQ_ENTRY(td_range) link;
};

struct td_ranges {
	TAILQ_HEAD(td_range_list, td_range) all; /* held and waiting, in order of arrival */
	unsigned nr_exclusive;                   /* of those */
	unsigned nr_waiting;                     /* of those */
};

/* There is nothing to free: an empty set holds no memory. */
void td_ranges_init(struct td_ranges *rs);

/* *r is the caller's, on its stack usually, and stays in the list until td_range_unlock. off + len must not wrap. */
TD_CO void td_range_lock(struct td_ranges *rs, struct td_range *r, uint64_t off, uint64_t len,
			 enum td_range_mode mode);

/* The same, but -EBUSY instead of waiting (r is then not in the list). */
TD_CHECK int td_range_trylock(struct td_ranges *rs, struct td_range *r, uint64_t off, uint64_t len,
			      enum td_range_mode mode);

/* Wakes who can go on now; never yields. */
void td_range_unlock(struct td_ranges *rs, struct td_range *r);

#endif
