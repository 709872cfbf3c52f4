// SPDX-License-Identifier: BSD-2-Clause
/*
 * What becomes of requests for which there is no room, and of those that take too long: each is answered once, nothing
 * is lost, and nothing older is written over what was answered.
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

#define NREQ  64
#define BLOCK 512u

struct test {
	struct testenv t;
	struct td_vbd *vbd;
	struct one {
		struct td_req req;
		struct iovec vec;
		unsigned done;
		int result;
		char buf[BLOCK];
	} one[NREQ];
};

static void run_done(struct td_req *req, int result)
{
	struct one *o = td_container_of(req, struct one, req);

	o->done++;
	o->result = result;
}

static char spec[300] = "fault/ram(size=1M):"; /* what is opened */

static int open_it(void *arg)
{
	return td_vbd_open(arg, spec, 0, NULL);
}

static int close_it(void *arg)
{
	return td_vbd_close(arg);
}

static int pause_it(void *arg)
{
	return td_vbd_pause(arg, NULL);
}

static int unpause_it(void *arg)
{
	return td_vbd_unpause(arg, NULL, NULL);
}

static int resize_it(void *arg)
{
	return td_vbd_resize(arg, 2 << 20, NULL);
}

struct set_call {
	struct td_vbd *vbd;
	const char *options;
};

static int set_it(void *arg)
{
	struct set_call *c = arg;

	return td_vbd_set(c->vbd, "fault", c->options, NULL);
}

static void fault(struct test *x, const char *options)
{
	struct set_call c = { x->vbd, options };

	assert_int_equal(testenv_run(&x->t, set_it, &c), 0);
}

static void policy(struct test *x, bool pause, unsigned timeout_s)
{
	td_vbd_set_policy(x->vbd, &(struct td_vbd_policy){ pause, timeout_s });
}

/* Any step of the disk's life, in a coroutine. */
static int step(struct test *x, int (*fn)(void *arg))
{
	return testenv_run(&x->t, fn, x->vbd);
}

static struct test *setup(void)
{
	struct test *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	assert_int_equal(testenv_open(&x->t, "sync", NULL), 0);
	x->vbd = td_vbd_new(&x->t.env, "test");
	assert_non_null(x->vbd);
	td_log_level(TD_LOG_ERR);
	assert_int_equal(step(x, open_it), 0);
	return x;
}

static void turn(struct test *x, unsigned n)
{
	while (n-- > 0)
		td_loop_turn(x->t.env.loop, false);
}

static void teardown(struct test *x)
{
	td_ignore(step(x, close_it)); /* a test that cares has closed it */
	turn(x, 3);
	assert_true(td_vbd_idle(x->vbd));
	td_vbd_free(x->vbd);
	testenv_close(&x->t);
	free(x);
}

static void submit(struct test *x, unsigned i, enum td_req_op op, unsigned block, char fill)
{
	struct one *o = &x->one[i];

	o->done = 0;
	o->req = (struct td_req){ .op = op, .off = block * BLOCK, .len = BLOCK, .done = run_done };
	if (op == TD_REQ_READ || op == TD_REQ_WRITE) {
		memset(o->buf, fill, BLOCK);
		o->req.iov = td_iov_buf(&o->vec, o->buf, BLOCK);
	}
	td_vbd_submit(x->vbd, &o->req);
}

static void wait_done(struct test *x, unsigned i)
{
	for (int n = 0; n < 5000 && x->one[i].done == 0; n++)
		td_loop_turn(x->t.env.loop, true);
	assert_int_equal(x->one[i].done, 1);
}

static int call(struct test *x, enum td_req_op op, unsigned block, char fill)
{
	submit(x, 0, op, block, fill);
	wait_done(x, 0);
	return x->one[0].result;
}

static char block_holds(struct test *x, unsigned block)
{
	assert_int_equal(call(x, TD_REQ_READ, block, 0), 0);
	assert_memory_equal(x->one[0].buf, x->one[0].buf + 1, BLOCK - 1);
	return x->one[0].buf[0];
}

/* ---- no room ---- */

/* A write that found no room is number 1, and what came after it 2 to 5; the disk is full. */
static struct test *full(const char *error)
{
	struct test *x = setup();
	char options[64];

	policy(x, true, 0);
	assert_int_equal(call(x, TD_REQ_WRITE, 7, 'o'), 0);
	(void)snprintf(options, sizeof(options), "write-every=1,error=%s", error);
	fault(x, options);
	submit(x, 1, TD_REQ_WRITE, 7, 'a');
	turn(x, 3);
	submit(x, 2, TD_REQ_WRITE, 7, 'b');
	submit(x, 3, TD_REQ_READ, 7, 0);
	submit(x, 4, TD_REQ_FLUSH, 0, 0);
	submit(x, 5, TD_REQ_ZERO, 9, 0);
	turn(x, 5);
	for (unsigned i = 1; i <= 5; i++)
		assert_int_equal(x->one[i].done, 0);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_FULL);
	assert_int_equal(td_vbd_stats(x->vbd)->waiting, 5);
	assert_int_equal(td_vbd_stats(x->vbd)->in_flight, 0);
	assert_int_equal(td_vbd_stats(x->vbd)->full, 1);
	assert_non_null(td_vbd_image(x->vbd));
	return x;
}

static void all_answered(struct test *x)
{
	for (unsigned i = 1; i <= 5; i++)
		wait_done(x, i);
	turn(x, 5);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(x->one[i].done, 1);
		assert_int_equal(x->one[i].result, 0);
	}
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_RUNNING);
}

static void by_default_it_is_reported(void **state)
{
	struct test *x = setup();

	(void)state;
	fault(x, "write-every=1,error=ENOSPC");
	assert_int_equal(call(x, TD_REQ_WRITE, 0, 'a'), -ENOSPC);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_RUNNING);
	teardown(x);
}

static void when_there_is_room_all_go_on(void **state)
{
	static const char *const errors[] = { "ENOSPC", "EDQUOT" };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(errors); i++) {
		struct test *x = full(errors[i]);

		fault(x, "write-every=0");
		assert_int_equal(step(x, unpause_it), 0);
		all_answered(x);
		/* What failed goes first, so that what came later stays. */
		assert_int_equal(block_holds(x, 7), 'b');
		teardown(x);
	}
}

static void without_room_it_is_full_again(void **state)
{
	struct test *x = full("ENOSPC");

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(step(x, unpause_it), 0);
		turn(x, 5);
		assert_int_equal(td_vbd_state(x->vbd), TD_VBD_FULL);
		assert_int_equal(td_vbd_stats(x->vbd)->full, 2 + i);
		assert_int_equal(x->one[1].done, 0);
		assert_int_equal(x->one[2].done, 0);
	}
	fault(x, "write-every=0");
	assert_int_equal(step(x, unpause_it), 0);
	all_answered(x);
	assert_int_equal(block_holds(x, 7), 'b'); /* the older write was tried first each time */
	teardown(x);
}

static void other_errors_are_reported(void **state)
{
	struct test *x = setup();

	(void)state;
	policy(x, true, 0);
	fault(x, "write-every=1,read-every=1,error=EIO");
	assert_int_equal(call(x, TD_REQ_WRITE, 0, 'a'), -EIO);
	assert_int_equal(call(x, TD_REQ_READ, 0, 'a'), -EIO);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_RUNNING);
	teardown(x);
}

static void a_flush_without_room_waits_too(void **state)
{
	struct test *x = setup();

	(void)state;
	policy(x, true, 0);
	fault(x, "flush-every=1,error=ENOSPC");
	submit(x, 1, TD_REQ_FLUSH, 0, 0);
	turn(x, 3);
	assert_int_equal(x->one[1].done, 0);
	fault(x, "flush-every=0");
	assert_int_equal(step(x, unpause_it), 0);
	wait_done(x, 1);
	assert_int_equal(x->one[1].result, 0);
	teardown(x);
}

static void a_full_disk_may_be_paused_and_moved(void **state)
{
	struct test *x = full("ENOSPC");

	(void)state;
	assert_int_equal(step(x, resize_it), -EBUSY);
	assert_int_equal(step(x, pause_it), 0);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_PAUSED);
	turn(x, 3);
	assert_int_equal(x->one[1].done, 0);
	free(x->vbd->spec);
	x->vbd->spec = strdup("ram(size=1M):"); /* what unpause opens: one with room */
	assert_int_equal(step(x, unpause_it), 0);
	all_answered(x);
	assert_int_equal(block_holds(x, 7), 'b');
	teardown(x);
}

static void a_pause_that_cannot_flush_leaves_it_full(void **state)
{
	struct test *x = full("ENOSPC");

	(void)state;
	fault(x, "flush-every=1");
	assert_int_equal(step(x, pause_it), -ENOSPC);
	turn(x, 3);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_FULL);
	assert_int_equal(x->one[1].done, 0);
	fault(x, "flush-every=0,write-every=0");
	assert_int_equal(step(x, unpause_it), 0);
	all_answered(x);
	teardown(x);
}

static void closing_a_full_disk_answers_all(void **state)
{
	struct test *x = full("ENOSPC");

	(void)state;
	assert_int_equal(step(x, close_it), 0);
	turn(x, 3);
	assert_int_equal(x->one[1].result, -ENOSPC);
	for (unsigned i = 2; i <= 5; i++)
		assert_int_equal(x->one[i].result, -ESHUTDOWN);
	assert_int_equal(step(x, open_it), 0);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_RUNNING);
	teardown(x);
}

static void another_policy_ends_the_wait(void **state)
{
	struct test *x = full("ENOSPC");

	(void)state;
	policy(x, false, 0);
	turn(x, 5);
	assert_int_equal(x->one[1].result, -ENOSPC);
	assert_int_equal(x->one[2].result, -ENOSPC); /* tried, and that is its own answer */
	assert_int_equal(x->one[3].result, 0);
	assert_int_equal(x->one[3].buf[0], 'o');
	assert_int_equal(x->one[4].result, 0);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_RUNNING);
	for (unsigned i = 1; i <= 5; i++)
		assert_int_equal(x->one[i].done, 1);
	teardown(x);
}

static void what_waits_can_be_cancelled(void **state)
{
	struct test *x = full("ENOSPC");

	(void)state;
	assert_true(td_vbd_cancel(x->vbd, &x->one[1].req));
	x->one[2].req.owner = x->one[4].req.owner = x;
	td_vbd_cancel_all(x->vbd, x);
	turn(x, 3);
	assert_int_equal(x->one[1].result, -ECANCELED);
	assert_int_equal(x->one[2].result, -ECANCELED);
	assert_int_equal(x->one[4].result, -ECANCELED);
	assert_int_equal(x->one[3].done, 0);
	fault(x, "write-every=0");
	assert_int_equal(step(x, unpause_it), 0);
	wait_done(x, 5);
	assert_int_equal(block_holds(x, 7), 'o');
	teardown(x);
}

/* ---- a storm ---- */

/* Somebody frees a little, pauses, or only tries again. */
static void help_out(struct test *x, uint64_t *random)
{
	switch (test_random(random) % 4) {
	case 0:
		assert_int_equal(step(x, pause_it), 0);
		break;
	case 1:
		fault(x, "write-every=7");
		break;
	case 2:
		fault(x, "write-every=3");
		break;
	default:
		break;
	}
	assert_int_equal(step(x, unpause_it), 0);
}

/* A block has one write in flight: what was answered last is what it holds, whatever was tried again meanwhile. */
static void a_storm_loses_and_doubles_nothing(void **state)
{
	uint64_t random = test_seed();
	struct test *x = setup();
	unsigned begun = 0, answered = 0;
	char want[NREQ] = { 0 };

	(void)state;
	policy(x, true, 0);
	/* Memory goes with a pause: the image is a file. */
	assert_int_equal(step(x, close_it), 0);
	assert_int_equal(test_create(&x->t, 1 << 20, NULL, true, "aio:%s", testenv_path(&x->t, "disk")), 0);
	(void)snprintf(spec, sizeof(spec), "fault(write-every=3,error=ENOSPC,delay-ms=1)/aio:%s",
		       testenv_path(&x->t, "disk"));
	assert_int_equal(step(x, open_it), 0);
	(void)snprintf(spec, sizeof(spec), "fault/ram(size=1M):");
	while (answered < 3000) {
		for (unsigned i = 1; i < NREQ; i++) {
			struct one *o = &x->one[i];

			if (o->done == 1 && want[i]) {
				assert_int_equal(o->result, 0);
				answered++;
				o->done = 0;
				want[i] = (char)-want[i]; /* settled */
			}
			assert_int_equal(o->done, 0);
			if (want[i] <= 0 && begun < 3000 && test_random(&random) % 3) {
				want[i] = (char)(1 + test_random(&random) % 100);
				submit(x, i, TD_REQ_WRITE, i, want[i]);
				begun++;
			}
		}
		td_loop_turn(x->t.env.loop, td_vbd_stats(x->vbd)->in_flight > 0);
		if (td_vbd_state(x->vbd) == TD_VBD_FULL && test_random(&random) % 2)
			help_out(x, &random);
	}
	assert_int_equal(begun, answered);
	assert_true(td_vbd_stats(x->vbd)->full > 10);
	fault(x, "write-every=0");
	for (unsigned i = 1; i < NREQ; i++)
		assert_int_equal(block_holds(x, i), -want[i]);
	teardown(x);
}

/* ---- too late ---- */

static void a_slow_request_is_told_once_and_answered_once(void **state)
{
	struct test *x = setup();
	const struct td_vbd_stats *s = td_vbd_stats(x->vbd);

	(void)state;
	policy(x, false, 1);
	fault(x, "delay-ms=2500");
	submit(x, 1, TD_REQ_WRITE, 0, 'a');
	submit(x, 2, TD_REQ_READ, 1, 0);
	while (s->timed_out == 0)
		td_loop_turn(x->t.env.loop, true);
	if (x->one[1].done == 0) /* or the machine stood still for a second and a half */
		assert_int_equal(s->overdue, 2);
	wait_done(x, 1);
	wait_done(x, 2);
	assert_int_equal(x->one[1].result, 0);
	assert_int_equal(s->overdue, 0);
	assert_int_equal(s->timed_out, 2);
	assert_int_equal(s->given_up, 0);
	assert_true(s->op[TD_REQ_WRITE].time->max >= 2400000000u);
	fault(x, "delay-ms=0");
	assert_int_equal(call(x, TD_REQ_READ, 0, 0), 0);
	assert_int_equal(s->timed_out, 2);
	teardown(x);
}

static void who_waits_too_long_is_answered(void **state)
{
	struct test *x = full("ENOSPC");
	const struct td_vbd_stats *s = td_vbd_stats(x->vbd);

	(void)state;
	policy(x, true, 1); /* for what waits already, too */
	for (unsigned i = 1; i <= 5; i++)
		wait_done(x, i);
	for (unsigned i = 1; i <= 5; i++)
		assert_int_equal(x->one[i].result, -ETIMEDOUT);
	assert_int_equal(s->timed_out, 5);
	assert_int_equal(s->given_up, 5);
	assert_int_equal(s->waiting, 0);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_FULL);
	assert_int_equal(step(x, pause_it), 0);
	submit(x, 1, TD_REQ_WRITE, 0, 'a');
	wait_done(x, 1);
	assert_int_equal(x->one[1].result, -ETIMEDOUT);
	policy(x, true, 0);
	submit(x, 1, TD_REQ_READ, 0, 'a');
	turn(x, 3);
	assert_null(x->vbd->timer.loop);
	assert_int_equal(step(x, unpause_it), 0);
	wait_done(x, 1);
	assert_int_equal(x->one[1].result, 0);
	teardown(x);
}

/* ---- a broken image ---- */

/* It can be opened anew by a pause, and somebody is told of what may be lost. */
static void a_frozen_image_is_closed_by_a_pause(void **state)
{
	struct test *x = setup();

	(void)state;
	td_image_freeze(x->vbd->image);
	assert_int_equal(call(x, TD_REQ_WRITE, 0, 'a'), -EIO);
	assert_int_equal(step(x, pause_it), -EIO);
	assert_int_equal(td_vbd_state(x->vbd), TD_VBD_PAUSED);
	assert_int_equal(step(x, unpause_it), 0);
	assert_int_equal(call(x, TD_REQ_WRITE, 0, 'a'), 0);
	assert_int_equal(call(x, TD_REQ_FLUSH, 0, 0), -EIO);
	assert_int_equal(call(x, TD_REQ_FLUSH, 0, 0), 0);
	teardown(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_default_it_is_reported),
		cmocka_unit_test(when_there_is_room_all_go_on),
		cmocka_unit_test(without_room_it_is_full_again),
		cmocka_unit_test(other_errors_are_reported),
		cmocka_unit_test(a_flush_without_room_waits_too),
		cmocka_unit_test(a_full_disk_may_be_paused_and_moved),
		cmocka_unit_test(a_pause_that_cannot_flush_leaves_it_full),
		cmocka_unit_test(closing_a_full_disk_answers_all),
		cmocka_unit_test(another_policy_ends_the_wait),
		cmocka_unit_test(what_waits_can_be_cancelled),
		cmocka_unit_test(a_storm_loses_and_doubles_nothing),
		cmocka_unit_test(a_slow_request_is_told_once_and_answered_once),
		cmocka_unit_test(who_waits_too_long_is_answered),
		cmocka_unit_test(a_frozen_image_is_closed_by_a_pause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
