// SPDX-License-Identifier: BSD-2-Clause
/*
 * Coroutines: bootstrap by makecontext, switch by sigsetjmp/siglongjmp.  Under a sanitizer the switch is
 * swapcontext too, because the sanitizers know it.  No scheduler beyond a list of ready ones, no cancellation,
 * no thread hop.
 *
 * The struct sits at the top of its own stack's mapping, above the guard page and the stack:
 *
 *	guard page | stack, grows down ... | struct td_co
 *
 * A coroutine that ended is parked inside co_main() and starts again from there, so only a stack's first use
 * costs system calls.  td_co_start() from a coroutine nests: the new one runs on top, and its first yield
 * comes back to whoever entered it.  Later it is the loop that enters it.
 */
#include "config.h"

#include <assert.h>
#include <setjmp.h>
#include <stdnoreturn.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <blktap/co.h>

#include "sanitize.h"

#define GUARD_SIZE 4096
#define POOL_MAX   256 /* stacks kept for the next request; what is above goes back to the system */

#if TD_ANY_SANITIZER
#define STACK_SIZE (256 * 1024) /* redzones inflate every frame */
#else
#define STACK_SIZE (64 * 1024)
#endif

/* A place to come back to: a coroutine, or the thread's own stack. */
struct ctx {
	ucontext_t uc;
	sigjmp_buf env;
	bool started; /* env is valid, or will be by the time anybody comes back */
	struct td_fiber fiber;
};

enum co_state { CO_ENDED, CO_RUNNING, CO_ASLEEP, CO_READY };

struct td_co {
	struct ctx ctx;
	enum co_state state;
	td_co_fn *fn;
	void *arg;
	struct td_co *back; /* who entered it; NULL: the thread's own stack */
	void *map;
	unsigned valgrind_id;
	union {
		STAILQ_ENTRY(td_co) ready;
		SLIST_ENTRY(td_co) pooled;
	};
	TAILQ_ENTRY(td_co) live;
};

#define MAP_SIZE  (GUARD_SIZE + STACK_SIZE)
#define CO_OFFSET td_align_down(MAP_SIZE - sizeof(struct td_co), 64)

struct co_thread {
	bool initialised;
	struct ctx main;
	struct td_co *self;
	unsigned count, nr_pooled;
	STAILQ_HEAD(td_co_ready, td_co) ready;
	SLIST_HEAD(td_co_pool, td_co) pool;
	TAILQ_HEAD(td_co_list, td_co) live; /* for a debugger: every coroutine that has not ended */
};

static _Thread_local struct co_thread co_thread;

static struct co_thread *this_thread(void)
{
	struct co_thread *t = &co_thread;

	if (!t->initialised) {
		STAILQ_INIT(&t->ready);
		TAILQ_INIT(&t->live);
		t->main.started = true;
		t->initialised = true;
	}
	return t;
}

/* ---- switching ---- */

#if TD_ANY_SANITIZER

static void ctx_jump(struct ctx *from, struct ctx *to)
{
	swapcontext(&from->uc, &to->uc);
}

#else

/* By another name: with _FORTIFY_SOURCE the real one aborts when a jump goes to another stack. */
extern noreturn void td_co_longjmp(sigjmp_buf env, int val) __asm__("siglongjmp");

/* Nothing but the jump in here: a local that lives across sigsetjmp may be clobbered. */
static __attribute__((noinline)) void ctx_jump(struct ctx *from, struct ctx *to)
{
	if (sigsetjmp(from->env, 0))
		return;
	if (to->started)
		td_co_longjmp(to->env, 1);
	to->started = true;
	setcontext(&to->uc);
}

#endif

static void ctx_switch(struct ctx *from, struct ctx *to, bool from_ends)
{
	td_fiber_leave(&from->fiber, &to->fiber, from_ends);
	ctx_jump(from, to);
	td_fiber_arrive(&from->fiber);
}

static struct ctx *ctx_of(struct co_thread *t, struct td_co *co)
{
	return co ? &co->ctx : &t->main;
}

/* Give the processor back to whoever entered co. */
static void co_leave(struct td_co *co, enum co_state state)
{
	co->state = state;
	ctx_switch(&co->ctx, ctx_of(&co_thread, co->back), state == CO_ENDED);
}

/* The bottom frame of every coroutine.  makecontext passes ints only: the pointer comes by the thread's state. */
static TD_NO_ASAN void co_main(void)
{
	struct td_co *co = co_thread.self;

	td_fiber_first(&co->ctx.fiber, &ctx_of(&co_thread, co->back)->fiber);
	for (;;) {
		co->fn(co->arg);
		co_leave(co, CO_ENDED);
	}
}

/* ---- stacks ---- */

static struct td_co *co_new(void)
{
	char *map =
		mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	struct td_co *co;

	if (map == MAP_FAILED)
		return NULL;
	co = (struct td_co *)(map + CO_OFFSET);
	if (mprotect(map, GUARD_SIZE, PROT_NONE) < 0 || getcontext(&co->ctx.uc) < 0) {
		munmap(map, MAP_SIZE);
		return NULL;
	}
	co->map = map;
	co->ctx.uc.uc_stack.ss_sp = map + GUARD_SIZE;
	co->ctx.uc.uc_stack.ss_size = CO_OFFSET - GUARD_SIZE;
	co->ctx.uc.uc_link = NULL;
	makecontext(&co->ctx.uc, co_main, 0);
	td_fiber_create(&co->ctx.fiber, map + GUARD_SIZE, CO_OFFSET - GUARD_SIZE);
	co->valgrind_id = VALGRIND_STACK_REGISTER(map + GUARD_SIZE, map + CO_OFFSET);
	return co;
}

static void co_free(struct td_co *co)
{
	VALGRIND_STACK_DEREGISTER(co->valgrind_id);
	td_fiber_destroy(&co->ctx.fiber);
	munmap(co->map, MAP_SIZE);
}

static struct td_co *co_get(struct co_thread *t)
{
	struct td_co *co = SLIST_FIRST(&t->pool);

	if (!co)
		return co_new();
	SLIST_REMOVE_HEAD(&t->pool, pooled);
	t->nr_pooled--;
	return co;
}

static void co_put(struct co_thread *t, struct td_co *co)
{
	TAILQ_REMOVE(&t->live, co, live);
	t->count--;
	if (t->nr_pooled >= POOL_MAX) {
		co_free(co);
		return;
	}
	SLIST_INSERT_HEAD(&t->pool, co, pooled);
	t->nr_pooled++;
}

static void co_enter(struct co_thread *t, struct td_co *co)
{
	co->back = t->self;
	co->state = CO_RUNNING;
	t->self = co;
	ctx_switch(ctx_of(t, co->back), &co->ctx, false);
	t->self = co->back;
	if (co->state == CO_ENDED) /* freed here: nobody can unmap the stack it stands on */
		co_put(t, co);
}

/* ---- the interface ---- */

int td_co_start(td_co_fn *fn, void *arg)
{
	struct co_thread *t = this_thread();
	struct td_co *co = co_get(t);

	if (!co)
		return -ENOMEM;
	co->fn = fn;
	co->arg = arg;
	TAILQ_INSERT_TAIL(&t->live, co, live);
	t->count++;
	co_enter(t, co);
	return 0;
}

struct td_co *td_co_self(void)
{
	return co_thread.self;
}

void td_co_yield(void)
{
	assert(co_thread.self);
	co_leave(co_thread.self, CO_ASLEEP);
}

void td_co_wake(struct td_co *co)
{
	assert(co->state == CO_ASLEEP); /* two wakers for one yield would end somebody's wait too early */
	co->state = CO_READY;
	STAILQ_INSERT_TAIL(&co_thread.ready, co, ready);
}

void td_co_pause(void)
{
	struct td_co *co = co_thread.self;

	assert(co);
	STAILQ_INSERT_TAIL(&co_thread.ready, co, ready);
	co_leave(co, CO_READY);
}

unsigned td_co_run_ready(unsigned max)
{
	struct co_thread *t = this_thread();
	struct td_co *co;
	unsigned nr;

	assert(!t->self);
	for (nr = 0; (max == 0 || nr < max) && (co = STAILQ_FIRST(&t->ready)); nr++) {
		STAILQ_REMOVE_HEAD(&t->ready, ready);
		co_enter(t, co);
	}
	return nr;
}

bool td_co_any_ready(void)
{
	return !STAILQ_EMPTY(&this_thread()->ready);
}

unsigned td_co_stacks(size_t *ret_bytes)
{
	*ret_bytes = MAP_SIZE;
	return co_thread.count + co_thread.nr_pooled;
}

unsigned td_co_count(void)
{
	return co_thread.count;
}

void td_co_thread_done(void)
{
	struct co_thread *t = this_thread();
	struct td_co *co;

	assert(t->count == 0);
	while ((co = SLIST_FIRST(&t->pool))) {
		SLIST_REMOVE_HEAD(&t->pool, pooled);
		co_free(co);
	}
	t->nr_pooled = 0;
}
