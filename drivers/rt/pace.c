// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who does a piece of work, by the time that pieces like it took?
 *
 * By measurement (two cores, Linux 6.18): to send work to a worker that sleeps and to hear of it takes 10 to 15 us of
 * processor time on both sides, so below that a worker is only in the way.  Longer work that is still brief is done by
 * whoever comes first, the loop's thread or a worker.  What would hold up the loop's other requests goes to a worker.
 */
#include <time.h>

#include <blktap/co.h>
#include <blktap/pool.h>

#define AT_ONCE_NS 20000u
#define BRIEF_NS   250000u
/*
 * The first go to workers, whatever they take: a thread's first run makes what it works in.  And a reader in order then
 * has two workers for what is read ahead: with one alone beside other load, a hundredth of the 4 KiB reads of zlib
 * clusters took 1.8 ms instead of 0.3.
 */
#define FIRST_RUNS  4u
#define TIMED_EVERY 8u /* runs: asking for a thread's time is a system call */
#define SMOOTHING   4

struct paced {
	struct td_work work;
	struct td_co *co;
	int (*fn)(void *arg);
	void *arg;
	bool timed;
	uint64_t ns;
};

/* The thread's, so that a busy machine does not look like long work. */
static uint64_t thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int paced_run(void *arg)
{
	struct paced *p = arg;
	uint64_t start;
	int r;

	if (!p->timed)
		return p->fn(p->arg);
	start = thread_ns();
	r = p->fn(p->arg);
	p->ns = thread_ns() - start;
	return r;
}

static void paced_done(struct td_work *w, int result)
{
	(void)result;
	td_co_wake(td_container_of(w, struct paced, work)->co);
}

static void learn(struct td_pace *pace, uint64_t ns, size_t len)
{
	uint64_t now = TD_MAX(ns * 1024 / TD_MAX(len, 1u), 1u);

	if (pace->ns_per_kib == 0)
		pace->ns_per_kib = now;
	else
		pace->ns_per_kib = (pace->ns_per_kib * (SMOOTHING - 1) + now + SMOOTHING - 1) / SMOOTHING;
}

static uint64_t expected_ns(const struct td_pace *pace, size_t len)
{
	return pace->nr >= FIRST_RUNS && pace->ns_per_kib > 0 ? pace->ns_per_kib * len / 1024 : UINT64_MAX;
}

int td_pool_run_paced(struct td_pool *pool, int (*fn)(void *arg), void *arg, struct td_pace *pace, size_t len)
{
	uint64_t expected = pace ? expected_ns(pace, len) : UINT64_MAX;
	struct paced p = {
		.work = { .fn = paced_run, .done = paced_done, .brief = expected <= BRIEF_NS },
		.co = td_co_self(),
		.fn = fn,
		.arg = arg,
	};

	if (!pace)
		return td_pool_run(pool, fn, arg);
	p.work.arg = &p;
	p.timed = pace->nr < FIRST_RUNS || pace->ns_per_kib == 0 || pace->nr % TIMED_EVERY == 0;
	pace->nr++;
	if (expected <= AT_ONCE_NS) {
		p.work.result = paced_run(&p);
	} else {
		td_pool_submit(pool, &p.work);
		td_co_yield();
	}
	if (p.timed)
		learn(pace, p.ns, len);
	return p.work.result;
}
