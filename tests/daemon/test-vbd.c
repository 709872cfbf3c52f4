// SPDX-License-Identifier: BSD-2-Clause
/*
 * The virtual block device: when done() is called, what a pause holds back, what a failure leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "testenv.h"
#include "vbd-private.h"
#include <blktap/log.h>
#include <stdio.h>

#define NREQ 2000

struct test {
	struct testenv t;
	struct td_vbd *vbd;
	bool submitting;
	bool done_inside; /* done() was called from inside submit, or in a coroutine */
	unsigned nr_done;
	int results[NREQ];
	unsigned order[NREQ]; /* which was done as the n-th */
	struct one {
		struct td_req req;
		struct iovec vec;
		unsigned index;
		struct test *test;
	} one[NREQ];
	char buf[4096];
};

static struct test *setup(void)
{
	struct test *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	assert_int_equal(testenv_open(&x->t, "sync", NULL), 0);
	x->vbd = td_vbd_new(&x->t.env, "test");
	assert_non_null(x->vbd);
	td_log_level(TD_LOG_ERR);
	return x;
}

static int close_it(void *arg)
{
	return td_vbd_close(arg);
}

static void turn(struct test *x, unsigned n)
{
	while (n-- > 0)
		td_loop_turn(x->t.env.loop, false);
}

static void teardown(struct test *x)
{
	td_ignore(testenv_run(&x->t, close_it, x->vbd)); /* a test that cares has closed it */
	turn(x, 3);
	assert_true(td_vbd_idle(x->vbd));
	td_vbd_free(x->vbd);
	testenv_close(&x->t);
	free(x);
}

struct open_call {
	struct td_vbd *vbd;
	const char *spec;
	struct td_err err;
};

static int open_it(void *arg)
{
	struct open_call *c = arg;

	return td_vbd_open(c->vbd, c->spec, 0, &c->err);
}

static int pause_it(void *arg)
{
	return td_vbd_pause(arg, NULL);
}

static int unpause_it(void *arg)
{
	struct open_call *c = arg;

	return td_vbd_unpause(c->vbd, c->spec, &c->err);
}

static int open_spec(struct test *x, const char *spec)
{
	struct open_call c = { .vbd = x->vbd, .spec = spec };

	return testenv_run(&x->t, open_it, &c);
}

static int unpause(struct test *x, const char *spec)
{
	struct open_call c = { .vbd = x->vbd, .spec = spec };

	return testenv_run(&x->t, unpause_it, &c);
}

static void done(struct td_req *req, int result)
{
	struct one *o = td_container_of(req, struct one, req);
	struct test *x = o->test;

	if (x->submitting || td_co_self())
		x->done_inside = true;
	x->results[o->index] = result;
	x->order[x->nr_done++] = o->index;
}

static void submit(struct test *x, unsigned i, enum td_req_op op, uint64_t off, uint64_t len, unsigned flags)
{
	struct one *o = &x->one[i];

	o->test = x;
	o->index = i;
	o->req = (struct td_req){ .op = op, .flags = flags, .off = off, .len = len, .done = done };
	if (op == TD_REQ_READ || op == TD_REQ_WRITE)
		o->req.iov = td_iov_buf(&o->vec, x->buf, len);
	x->submitting = true;
	td_vbd_submit(x->vbd, &o->req);
	x->submitting = false;
}

/* One request, to its end. */
static int call(struct test *x, enum td_req_op op, uint64_t off, uint64_t len, unsigned flags)
{
	unsigned before = x->nr_done;

	submit(x, 0, op, off, len, flags);
	for (int i = 0; i < 2000 && x->nr_done == before; i++)
		td_loop_turn(x->t.env.loop, true);
	assert_int_equal(x->nr_done, before + 1);
	return x->results[0];
}

static void done_is_never_called_from_inside_submit(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "null:"), 0);
	for (unsigned i = 0; i < 100; i++)
		submit(x, i, i % 2 ? TD_REQ_READ : TD_REQ_FLUSH, 0, 512, 0);
	turn(x, 3);
	assert_int_equal(x->nr_done, 100);
	assert_false(x->done_inside);
	teardown(x);
}

static void a_closed_disk_refuses_everything(void **state)
{
	struct test *x = setup();

	(void)state;
	submit(x, 0, TD_REQ_READ, 0, 512, 0);
	turn(x, 1);
	assert_int_equal(x->results[0], -ESHUTDOWN);
	assert_false(x->done_inside);
	teardown(x);
}

static void what_is_asked_is_done(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "ram(size=1M):"), 0);
	memset(x->buf, 'a', sizeof(x->buf));
	assert_int_equal(call(x, TD_REQ_WRITE, 4096, 4096, TD_FUA), 0);
	memset(x->buf, 0, sizeof(x->buf));
	assert_int_equal(call(x, TD_REQ_READ, 4096, 4096, 0), 0);
	assert_true(x->buf[0] == 'a' && x->buf[4095] == 'a');
	assert_int_equal(call(x, TD_REQ_EXTENT, 0, 1 << 20, 0), 0);
	assert_true(x->one[0].req.extent.len >= 1);
	assert_int_equal(call(x, TD_REQ_ZERO, 4096, 4096, TD_MAY_UNMAP), 0);
	assert_int_equal(call(x, TD_REQ_READ, 4096, 4096, 0), 0);
	assert_true(x->buf[0] == 0 && x->buf[4095] == 0);
	assert_int_equal(call(x, TD_REQ_TRIM, 0, 8192, TD_FUA), 0);
	assert_int_equal(call(x, TD_REQ_FLUSH, 0, 0, 0), 0);
	assert_int_equal(call(x, TD_REQ_READ, 512, 0, 0), 0);
	assert_int_equal(call(x, TD_REQ_EXTENT, 0, 0, 0), -EINVAL);
	assert_int_equal(call(x, TD_REQ_READ, (1 << 20) - 511, 512, 0), -EINVAL);
	assert_int_equal(td_vbd_stats(x->vbd)->op[TD_REQ_WRITE].bytes, 4096);
	assert_int_equal(td_vbd_stats(x->vbd)->op[TD_REQ_EXTENT].errors, 1);
	assert_int_equal(td_vbd_stats(x->vbd)->op[TD_REQ_READ].errors, 1);
	teardown(x);
}

static void more_than_the_bound_waits_in_order(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "fault(delay-ms=20)/null:"), 0);
	for (unsigned i = 0; i < NREQ; i++)
		submit(x, i, TD_REQ_READ, 0, 512, 0);
	assert_int_equal(td_vbd_stats(x->vbd)->in_flight, VBD_MAX_IN_FLIGHT);
	assert_int_equal(td_vbd_stats(x->vbd)->waiting, NREQ - VBD_MAX_IN_FLIGHT);
	for (int i = 0; i < 5000 && x->nr_done < NREQ; i++)
		td_loop_turn(x->t.env.loop, true);
	assert_int_equal(x->nr_done, NREQ);
	for (unsigned i = 0; i < NREQ; i++)
		assert_int_equal(x->order[i], i);
	assert_int_equal(td_vbd_stats(x->vbd)->max_in_flight, VBD_MAX_IN_FLIGHT);
	teardown(x);
}

static void a_pause_drains_and_holds_back(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "fault(delay-ms=5)/ram(size=1M):"), 0);
	for (unsigned i = 0; i < 10; i++)
		submit(x, i, TD_REQ_READ, 0, 512, 0);
	assert_int_equal(testenv_run(&x->t, pause_it, x->vbd), 0);
	turn(x, 2);
	assert_int_equal(x->nr_done, 10);
	assert_null(td_vbd_image(x->vbd));
	assert_true(td_vbd_size(x->vbd) == 1 << 20);
	for (unsigned i = 10; i < 20; i++)
		submit(x, i, TD_REQ_READ, 0, 512, 0);
	turn(x, 5);
	assert_int_equal(x->nr_done, 10);
	assert_int_equal(td_vbd_stats(x->vbd)->waiting, 10);
	assert_int_equal(unpause(x, "aio:/nonexistent/image"), -ENOENT);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_PAUSED);
	assert_int_equal(unpause(x, "ram(size=2M):"), 0);
	turn(x, 5);
	assert_int_equal(x->nr_done, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(x->results[i], 0);
	assert_true(td_vbd_size(x->vbd) == 2 << 20);
	assert_string_equal(td_vbd_spec(x->vbd), "ram(size=2M):");
	teardown(x);
}

/* A driver whose reads take longer than its flush: only who waits for them closes it empty. */
static unsigned slow_reads, slow_reads_at_close;

static int slow_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	(void)off;
	(void)flags;
	slow_reads++;
	td_loop_sleep(im->env->loop, 20000000);
	slow_reads--;
	td_iov_zero(iov);
	return 0;
}

static int slow_flush(struct td_image *im)
{
	(void)im;
	return 0;
}

static int slow_close(struct td_image *im)
{
	(void)im;
	slow_reads_at_close = slow_reads;
	return 0;
}

static void nothing_is_in_the_image_when_it_is_closed(void **state)
{
	static const struct td_driver slow = {
		.name = "slow", .preadv = slow_preadv, .flush = slow_flush, .close = slow_close
	};
	int (*const ends[])(void *arg) = { pause_it, close_it };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(ends); i++) {
		struct test *x = setup();

		assert_int_equal(open_spec(x, "null:"), 0);
		x->vbd->image->drv = &slow;
		submit(x, 0, TD_REQ_READ, 0, 512, 0);
		slow_reads_at_close = 99;
		assert_int_equal(testenv_run(&x->t, ends[i], x->vbd), 0);
		assert_int_equal(slow_reads_at_close, 0);
		for (int n = 0; n < 100 && x->nr_done == 0; n++)
			td_loop_turn(x->t.env.loop, true);
		assert_int_equal(x->results[0], 0);
		teardown(x);
	}
}

static void a_pause_whose_flush_fails_runs_on(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "fault(flush-every=2,once=on)/ram(size=1M):"), 0);
	assert_int_equal(call(x, TD_REQ_FLUSH, 0, 0, 0), 0);
	assert_int_equal(testenv_run(&x->t, pause_it, x->vbd), -EIO);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_RUNNING);
	assert_int_equal(call(x, TD_REQ_READ, 0, 512, 0), 0);
	assert_int_equal(testenv_run(&x->t, pause_it, x->vbd), 0);
	assert_int_equal(unpause(x, NULL), 0);
	teardown(x);
}

static void closing_a_paused_disk_refuses_what_waits(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "ram(size=1M):"), 0);
	assert_int_equal(testenv_run(&x->t, pause_it, x->vbd), 0);
	submit(x, 0, TD_REQ_WRITE, 0, 512, 0);
	assert_int_equal(testenv_run(&x->t, close_it, x->vbd), 0);
	turn(x, 2);
	assert_int_equal(x->results[0], -ESHUTDOWN);
	assert_null(td_vbd_spec(x->vbd));
	teardown(x);
}

static void a_failed_close_is_reported(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "fault(flush-every=1)/ram(size=1M):"), 0);
	assert_int_equal(testenv_run(&x->t, close_it, x->vbd), -EIO);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_CLOSED);
	teardown(x);
}

/* ---- resize, watching, cancelling ---- */

struct resize_call {
	struct td_vbd *vbd;
	uint64_t size;
	struct td_err err;
};

static int resize_it(void *arg)
{
	struct resize_call *c = arg;

	return td_vbd_resize(c->vbd, c->size, &c->err);
}

static int resize(struct test *x, uint64_t size)
{
	struct resize_call c = { .vbd = x->vbd, .size = size };

	return testenv_run(&x->t, resize_it, &c);
}

/* Who watches, and what it saw last. */
struct watcher {
	struct td_vbd_watch w;
	struct td_vbd *vbd;
	struct watcher *drop; /* unwatched when this one is told */
	unsigned told;
	bool inside;
	uint64_t size;
	enum td_vbd_state state;
};

static void told(struct td_vbd_watch *w)
{
	struct watcher *x = td_container_of(w, struct watcher, w);

	x->told++;
	x->inside |= td_co_self() != NULL;
	x->size = td_vbd_size(x->vbd);
	x->state = td_vbd_state(x->vbd);
	if (x->drop)
		td_vbd_unwatch(x->vbd, &x->drop->w);
	x->drop = NULL;
}

/* No request may be in the image while a driver moves its tables. */
static unsigned slow_reads_at_resize;

static int slow_resize(struct td_image *im, uint64_t size, struct td_err *ret_err)
{
	(void)size;
	(void)ret_err;
	td_loop_sleep(im->env->loop, 20000000);
	slow_reads_at_resize = slow_reads;
	return 0;
}

static void a_resize_drains_and_tells(void **state)
{
	static const struct td_driver slow = {
		.name = "slow", .preadv = slow_preadv, .flush = slow_flush, .resize = slow_resize
	};
	struct test *x = setup();
	struct watcher w = { .w.fn = told, .vbd = x->vbd };
	const struct td_driver *kept;

	(void)state;
	assert_int_equal(open_spec(x, "ram(size=1M):"), 0);
	turn(x, 2);
	td_vbd_watch(x->vbd, &w.w);
	kept = x->vbd->image->drv;
	x->vbd->image->drv = &slow;
	slow_reads_at_resize = 99;
	for (unsigned i = 0; i < 10; i++)
		submit(x, i, TD_REQ_READ, 0, 512, 0);
	assert_int_equal(resize(x, 2 << 20), 0);
	assert_int_equal(slow_reads_at_resize, 0);
	x->vbd->image->drv = kept;
	turn(x, 2);
	assert_int_equal(x->nr_done, 10);
	assert_int_equal(w.told, 1);
	assert_false(w.inside);
	assert_true(w.size == 2 << 20 && w.state == TD_VBD_RUNNING);
	td_vbd_unwatch(x->vbd, &w.w);
	teardown(x);
}

static int submit_while_held(void *arg)
{
	struct test *x = arg;
	struct resize_call c = { .vbd = x->vbd, .size = 4 << 20 };
	int r = td_vbd_resize(x->vbd, c.size, &c.err);

	/* From a timer, while the resize above slept. */
	assert_int_equal(td_vbd_stats(x->vbd)->in_flight, 1);
	return r;
}

struct late {
	struct td_timer timer;
	struct test *x;
	bool waited;
};

static void submit_late(struct td_timer *t)
{
	struct late *l = td_container_of(t, struct late, timer);

	submit(l->x, 0, TD_REQ_WRITE, 0, 512, 0);
	l->waited = td_vbd_stats(l->x->vbd)->waiting == 1 && td_vbd_stats(l->x->vbd)->in_flight == 0;
}

static void what_comes_during_a_resize_waits(void **state)
{
	struct test *x = setup();
	struct late l = { .timer.fn = submit_late, .x = x };

	(void)state;
	assert_int_equal(open_spec(x, "fault(delay-ms=20)/ram(size=1M):"), 0);
	td_timer_arm(x->t.env.loop, &l.timer, 1000000);
	assert_int_equal(testenv_run(&x->t, submit_while_held, x), 0);
	assert_true(l.waited);
	for (int i = 0; i < 2000 && x->nr_done == 0; i++)
		td_loop_turn(x->t.env.loop, true);
	assert_int_equal(x->results[0], 0);
	teardown(x);
}

static void a_resize_is_refused_by_name(void **state)
{
	struct test *x = setup();
	struct resize_call c = { .vbd = x->vbd, .size = 512 << 10 };

	(void)state;
	assert_int_equal(resize(x, 1 << 20), -ENODEV);
	assert_int_equal(open_spec(x, "ram(size=1M):"), 0);
	assert_int_equal(testenv_run(&x->t, resize_it, &c), -ENOTSUP);
	assert_non_null(strstr(c.err.msg, "ram"));
	assert_int_equal(resize(x, (1 << 20) + 100), -EINVAL);
	assert_int_equal(resize(x, UINT64_MAX - 511), -EFBIG);
	assert_true(td_vbd_size(x->vbd) == 1 << 20);
	assert_int_equal(call(x, TD_REQ_READ, 0, 512, 0), 0);
	assert_int_equal(testenv_run(&x->t, pause_it, x->vbd), 0);
	assert_int_equal(resize(x, 2 << 20), -EBUSY);
	teardown(x);
}

static void watchers_hear_of_states_and_sizes(void **state)
{
	struct test *x = setup();
	struct watcher a = { .w.fn = told, .vbd = x->vbd }, b = a, c = a;

	(void)state;
	td_vbd_watch(x->vbd, &a.w);
	td_vbd_watch(x->vbd, &b.w);
	td_vbd_watch(x->vbd, &c.w);
	a.drop = &b; /* the next one, from inside */
	c.drop = &c; /* itself */
	assert_int_equal(open_spec(x, "ram(size=1M):"), 0);
	turn(x, 2);
	assert_true(a.told == 1 && b.told == 0 && c.told == 1);
	assert_true(a.size == 1 << 20 && a.state == TD_VBD_RUNNING);
	assert_int_equal(testenv_run(&x->t, pause_it, x->vbd), 0);
	turn(x, 2);
	assert_true(a.state == TD_VBD_PAUSED && a.size == 1 << 20);
	assert_int_equal(unpause(x, "ram(size=2M):"), 0);
	turn(x, 2);
	assert_true(a.state == TD_VBD_RUNNING && a.size == 2 << 20);
	assert_true(!a.inside && c.told == 1);
	td_vbd_unwatch(x->vbd, &a.w);
	teardown(x);
}

static void only_what_waits_can_be_cancelled(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(open_spec(x, "fault(delay-ms=5)/ram(size=1M):"), 0);
	submit(x, 0, TD_REQ_READ, 0, 512, 0);
	assert_false(td_vbd_cancel(x->vbd, &x->one[0].req));
	assert_int_equal(testenv_run(&x->t, pause_it, x->vbd), 0);
	turn(x, 2);
	assert_int_equal(x->results[0], 0);
	submit(x, 1, TD_REQ_WRITE, 0, 512, 0);
	submit(x, 2, TD_REQ_READ, 0, 512, 0);
	assert_true(td_vbd_cancel(x->vbd, &x->one[1].req));
	assert_false(td_vbd_cancel(x->vbd, &x->one[1].req));
	assert_int_equal(x->nr_done, 1);
	turn(x, 2);
	assert_int_equal(x->nr_done, 2);
	assert_int_equal(x->results[1], -ECANCELED);
	assert_int_equal(td_vbd_stats(x->vbd)->waiting, 1);
	assert_int_equal(unpause(x, NULL), 0);
	for (int i = 0; i < 2000 && x->nr_done < 3; i++)
		td_loop_turn(x->t.env.loop, true);
	assert_int_equal(x->results[2], 0);
	assert_false(x->done_inside);
	teardown(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(done_is_never_called_from_inside_submit),
		cmocka_unit_test(a_closed_disk_refuses_everything),
		cmocka_unit_test(what_is_asked_is_done),
		cmocka_unit_test(more_than_the_bound_waits_in_order),
		cmocka_unit_test(a_pause_drains_and_holds_back),
		cmocka_unit_test(nothing_is_in_the_image_when_it_is_closed),
		cmocka_unit_test(a_pause_whose_flush_fails_runs_on),
		cmocka_unit_test(closing_a_paused_disk_refuses_what_waits),
		cmocka_unit_test(a_failed_close_is_reported),
		cmocka_unit_test(a_resize_drains_and_tells),
		cmocka_unit_test(what_comes_during_a_resize_waits),
		cmocka_unit_test(a_resize_is_refused_by_name),
		cmocka_unit_test(watchers_hear_of_states_and_sizes),
		cmocka_unit_test(only_what_waits_can_be_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
