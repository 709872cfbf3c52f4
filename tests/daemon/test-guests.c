// SPDX-License-Identifier: BSD-2-Clause
/*
 * Xen guests that come and go, as the daemon sees them: connected once, disconnected in order, broken without taking
 * the daemon along, and what those who listen are told.  The guest's export is played by this file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control.h"
#include "testenv.h"
#include <blktap/log.h>
#include <stdio.h>

/* ---- a guest's export ---- */

struct played {
	struct td_export pub;
	char steps[16]; /* f(orget), s(top) */
	unsigned looks; /* at stopped() */
	const char *failed;
};

static struct played *last; /* the one that was started last */
static int start_result;
static char freed_steps[16];

static void step(struct td_export *e, char c)
{
	struct played *p = td_container_of(e, struct played, pub);

	p->steps[strlen(p->steps)] = c;
}

static void forget(struct td_export *e)
{
	step(e, 'f');
}

static void stop(struct td_export *e)
{
	step(e, 's');
}

/* Not at the first look. */
static bool stopped(struct td_export *e)
{
	struct played *p = td_container_of(e, struct played, pub);

	return strchr(p->steps, 's') && ++p->looks > 2;
}

static void free_it(struct td_export *e)
{
	struct played *p = td_container_of(e, struct played, pub);

	assert_null(td_co_self());
	memcpy(freed_steps, p->steps, sizeof(freed_steps));
	free(p->pub.address);
	free(p);
}

static int stats(const struct td_export *e, json_t *ret_object)
{
	const struct played *p = td_container_of(e, struct played, pub);

	json_object_set_new(ret_object, "domid", json_integer(3));
	json_object_set_new(ret_object, "devid", json_integer(51712));
	if (p->failed)
		json_object_set_new(ret_object, "failed", json_string(p->failed));
	return 0;
}

static const struct td_export_ops ops = { .name = "xen",
					  .one_guest = true,
					  .stop = stop,
					  .forget = forget,
					  .stopped = stopped,
					  .free = free_it,
					  .stats = stats };

int td_xen_ring_start(struct td_loop *loop, struct td_vbd *vbd, const struct td_xen_setup *setup,
		      struct td_export **ret_export, struct td_err *ret_err)
{
	(void)loop;
	assert_null(td_co_self());
	if (start_result < 0)
		return td_err_set(ret_err, start_result, "as the test wants it");
	last = calloc(1, sizeof(*last));
	assert_non_null(last);
	last->pub = (struct td_export){ .ops = &ops, .vbd = vbd };
	assert_true(asprintf(&last->pub.address, "xen:%u.%u", setup->domid, setup->devid) > 0);
	*ret_export = &last->pub;
	return 0;
}

/* ---- the daemon around it ---- */

struct test {
	struct testenv t;
	struct daemon d;
	struct control_events events;
	char told[1024];
	uint32_t domid, devid;
	struct td_err err;
};

static void tell(struct control_events *e, json_t *event)
{
	struct test *x = td_container_of(e, struct test, events);
	char *text = json_dumps(event, JSON_COMPACT | JSON_SORT_KEYS);

	assert_non_null(text);
	strncat(x->told, text, sizeof(x->told) - strlen(x->told) - 1);
	free(text);
	json_decref(event);
}

static int open_it(void *arg)
{
	struct test *x = arg;

	return td_vbd_open(x->d.vbd, "ram(size=1M):", 0, &x->err);
}

static int close_it(void *arg)
{
	return td_vbd_close(arg);
}

static struct test *setup(void)
{
	struct test *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	td_log_level(TD_LOG_ERR);
	start_result = 0;
	memset(freed_steps, 0, sizeof(freed_steps));
	assert_int_equal(testenv_open(&x->t, "sync", NULL), 0);
	x->d.env = x->t.env;
	x->d.minor = -1;
	x->d.vbd = td_vbd_new(&x->t.env, "test");
	assert_non_null(x->d.vbd);
	x->events.d = &x->d;
	x->events.tell = tell;
	control_events_start(&x->events);
	x->domid = 3;
	x->devid = 51712;
	return x;
}

static void teardown(struct test *x)
{
	assert_int_equal(x->d.nr_exports, 0);
	control_events_stop(&x->events);
	assert_int_equal(testenv_run(&x->t, close_it, x->d.vbd), 0);
	td_loop_turn(x->t.env.loop, false);
	td_vbd_free(x->d.vbd);
	testenv_close(&x->t);
	free(x);
}

static int connect_it(void *arg)
{
	struct test *x = arg;
	struct td_xen_setup s = { .domid = x->domid, .devid = x->devid };

	return daemon_ring_connect(&x->d, &s, &x->err);
}

static int disconnect_it(void *arg)
{
	struct test *x = arg;

	return daemon_ring_disconnect(&x->d, x->domid, x->devid, &x->err);
}

static void a_guest_is_connected_once(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(testenv_run(&x->t, connect_it, x), -ENODEV); /* no disk */
	assert_int_equal(testenv_run(&x->t, open_it, x), 0);
	start_result = -EIO;
	assert_int_equal(testenv_run(&x->t, connect_it, x), -EIO);
	assert_int_equal(x->d.nr_exports, 0);
	start_result = 0;
	assert_int_equal(testenv_run(&x->t, disconnect_it, x), -ENOENT);
	assert_int_equal(testenv_run(&x->t, connect_it, x), 0);
	assert_int_equal(testenv_run(&x->t, connect_it, x), -EEXIST);
	x->devid++; /* another disk of this guest, on the same image */
	assert_int_equal(testenv_run(&x->t, connect_it, x), 0);
	assert_int_equal(x->d.nr_exports, 2);
	x->devid--;
	assert_int_equal(testenv_run(&x->t, disconnect_it, x), 0);
	assert_string_equal(freed_steps, "fs");
	assert_int_equal(x->d.nr_exports, 1);
	assert_string_equal(x->d.exports[0]->address, "xen:3.51713");
	assert_int_equal(testenv_run(&x->t, disconnect_it, x), -ENOENT);
	x->devid++;
	assert_int_equal(testenv_run(&x->t, disconnect_it, x), 0);
	x->d.ending = true;
	assert_int_equal(testenv_run(&x->t, connect_it, x), -ESHUTDOWN);
	teardown(x);
}

static void a_guest_too_many_is_refused(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(testenv_run(&x->t, open_it, x), 0);
	for (x->devid = 0; x->devid < DAEMON_MAX_EXPORTS; x->devid++)
		assert_int_equal(testenv_run(&x->t, connect_it, x), 0);
	assert_int_equal(testenv_run(&x->t, connect_it, x), -E2BIG);
	while (x->devid-- > 0)
		assert_int_equal(testenv_run(&x->t, disconnect_it, x), 0);
	teardown(x);
}

static void a_broken_guest_does_not_end_the_daemon(void **state)
{
	struct test *x = setup();
	json_t *info = json_object();

	(void)state;
	assert_int_equal(testenv_run(&x->t, open_it, x), 0);
	assert_int_equal(testenv_run(&x->t, connect_it, x), 0);
	td_loop_turn(x->t.env.loop, false);
	x->told[0] = '\0';
	last->failed = "a reason";
	last->pub.ended(&last->pub);
	assert_string_equal(
		x->told, "{\"devid\":51712,\"domid\":3,\"event\":\"ring-stopped\",\"reason\":\"a reason\"}");
	assert_false(x->d.ending);
	assert_int_equal(control_stats(&x->d, info), 0); /* it is still there, to be looked at */
	assert_int_equal(json_array_size(json_object_get(info, "exports")), 1);
	json_decref(info);
	assert_int_equal(testenv_run(&x->t, disconnect_it, x), 0);
	teardown(x);
}

static void what_changed_is_told_once(void **state)
{
	struct test *x = setup();

	(void)state;
	assert_int_equal(testenv_run(&x->t, open_it, x), 0);
	td_loop_turn(x->t.env.loop, false);
	td_loop_turn(x->t.env.loop, false);
	assert_string_equal(
		x->told, "{\"event\":\"size\",\"size\":1048576}{\"event\":\"state\",\"state\":\"running\"}");
	teardown(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_is_connected_once),
		cmocka_unit_test(a_guest_too_many_is_refused),
		cmocka_unit_test(a_broken_guest_does_not_end_the_daemon),
		cmocka_unit_test(what_changed_is_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
