// SPDX-License-Identifier: BSD-2-Clause
/*
 * What ASan, TSan and valgrind want to hear about a change of stacks.  Only co.c needs it; without them all
 * of it is nothing.
 */
#ifndef TD_RT_SANITIZE_H
#define TD_RT_SANITIZE_H

#include <stdbool.h>
#include <stddef.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define TD_ASAN 1
#include <sanitizer/asan_interface.h>
#define TD_NO_ASAN __attribute__((no_sanitize("address")))
#else
#define TD_ASAN 0
#define TD_NO_ASAN
#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define TD_TSAN 1
#include <sanitizer/tsan_interface.h>
#else
#define TD_TSAN 0
#endif

#define TD_ANY_SANITIZER (TD_ASAN || TD_TSAN)

#if defined(HAVE_VALGRIND_VALGRIND_H) && !TD_ANY_SANITIZER
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) 0
#define VALGRIND_STACK_DEREGISTER(id)      ((void)(id))
#define RUNNING_ON_VALGRIND                0
#endif

/* One stack as the sanitizers see it. */
struct td_fiber {
	const void *bottom;
	size_t size;
	void *fake_stack; /* ASan's stack-use-after-return frames */
	void *tsan;
};

static inline void td_fiber_create(struct td_fiber *f, void *bottom, size_t size)
{
	*f = (struct td_fiber){ .bottom = bottom, .size = size };
#if TD_TSAN
	f->tsan = __tsan_create_fiber(0);
#endif
}

/* The frames that were parked on the stack left their redzones: the next mapping there must not inherit them. */
static inline void td_fiber_destroy(struct td_fiber *f)
{
	(void)f;
#if TD_ASAN
	__asan_unpoison_memory_region(f->bottom, f->size);
#endif
#if TD_TSAN
	__tsan_destroy_fiber(f->tsan);
#endif
}

/* Just before the jump.  ends: the frames of from are done with, ASan may free their shadows. */
static inline void td_fiber_leave(struct td_fiber *from, struct td_fiber *to, bool ends)
{
	(void)from, (void)to, (void)ends;
#if TD_ASAN
	__sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, to->bottom, to->size);
	if (ends)
		from->fake_stack = NULL;
#endif
#if TD_TSAN
	from->tsan = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(to->tsan, 0);
#endif
}

/* Just after a jump back to self. */
static inline void td_fiber_arrive(struct td_fiber *self)
{
	(void)self;
#if TD_ASAN
	__sanitizer_finish_switch_fiber(self->fake_stack, NULL, NULL);
#endif
}

/* First instructions on a new stack: learn where the stack is that we came from. */
static inline void td_fiber_first(struct td_fiber *self, struct td_fiber *from)
{
	(void)self, (void)from;
#if TD_ASAN
	__sanitizer_finish_switch_fiber(NULL, &from->bottom, &from->size);
#endif
}

#endif
