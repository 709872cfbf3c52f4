// SPDX-License-Identifier: BSD-2-Clause
/*
 * Guests that do what no frontend does, and a toolstack in every order.  TEST_SEED repeats a run, TEST_ROUNDS makes it
 * longer.
 */
#include "world.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

static const struct guest_disk other = { "vbd", 4, 51712 };

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static unsigned random_below(unsigned n)
{
	return (unsigned)rand() % n;
}

/* ---- what a guest writes where its ring should be ---- */

static void nonsense_in_the_ring_nodes(void **state)
{
	static const struct {
		const char *key, *value;
	} rows[] = {
		{ "ring-ref", "" },
		{ "ring-ref", "-1" },
		{ "ring-ref", "8 " },
		{ "ring-ref", "0x8" },
		{ "ring-ref", "4294967296" },
		{ "ring-ref", "99999999999999999999999999" },
		{ "event-channel", "0" },
		{ "event-channel", "x" },
		{ "event-channel", "4294967296" },
		{ "ring-page-order", "5" },
		{ "ring-page-order", "-1" },
		{ "ring-page-order", "4294967295" },
		{ "ring-page-order", "1" }, /* and there is no ring-ref0 */
		{ "multi-queue-num-queues", "0" },
		{ "multi-queue-num-queues", "5" },
		{ "multi-queue-num-queues", "4294967295" },
		{ "multi-queue-num-queues", "2" }, /* and there is no queue-0 */
		{ "feature-persistent", "2" },
		{ "protocol", "x86_64-abi-and-more-than-any-name-has" },
	};

	(void)state;
	world_start();
	for (size_t i = 0; i < TD_NELEMS(rows); i++) {
		tool_add(&vbd, "block-tapdisk", "aio:/a");
		settle();
		fake_set(fe_path(&vbd, "ring-ref"), "8");
		fake_set(fe_path(&vbd, "event-channel"), "15");
		fake_set(fe_path(&vbd, rows[i].key), "%s", rows[i].value);
		guest_state(&vbd, 3);
		settle();
		assert_int_equal(be_state(&vbd), 5);
		assert_int_equal(fake_connects, 0);
		assert_non_null(
			strstr(fake_get("/local/domain/0/error/backend/vbd/3/51712/error"), "the guest's "));
		guest_state(&vbd, 6);
		settle();
		assert_int_equal(be_state(&vbd), 6);
		tool_remove(&vbd);
		settle();
		assert_int_equal(tapback->nr_devices, 0);
	}
	/* 4 KiB in each node that we read; and no nodes at all. */
	for (unsigned none = 0; none < 2; none++) {
		static char big[4096];

		memset(big, '1', sizeof(big) - 1);
		big[sizeof(big) - 1] = '\0';
		tool_add(&vbd, "block-tapdisk", "aio:/a");
		settle();
		for (size_t i = 0; i < TD_NELEMS(rows) && !none; i++)
			fake_set(fe_path(&vbd, rows[i].key), "%s", big);
		guest_state(&vbd, 3);
		settle();
		assert_int_equal(be_state(&vbd), 5);
		fake_set(fe_path(&vbd, "state"), "%s", big); /* no state: nothing follows from it */
		settle();
		assert_int_equal(be_state(&vbd), 5);
		tool_remove(&vbd);
		settle();
	}
	assert_int_equal(fake_nr_disks(), 0);
}

static void the_tapdisk_refuses_the_ring(void **state)
{
	(void)state;
	world_start();
	tool_add(&vbd, "block-tapdisk", "aio:/a");
	settle();
	fake_connect_error = "grant 8: Invalid argument";
	guest_connect(&vbd);
	settle();
	assert_int_equal(be_state(&vbd), 5);
	assert_null(fake_get(be_path(&vbd, "ring-cookie")));
	fake_connect_error = NULL;
	guest_reconnect(&vbd);
	assert_int_equal(be_state(&vbd), 4);
}

/* ---- a flood ---- */

/*
 * 100,000 changes of one guest's state: few passes, and its neighbour does not wait.  Only the changes themselves have
 * to be taken from the socket, one by one.
 */
static void a_flood_of_changes(void **state)
{
	unsigned changes = 0;
	unsigned long calls;
	double begin, worst = 0;

	(void)state;
	fake_set("/local/domain/4/memory/target", "4194304");
	world_passes = DEVICE_PASSES;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "aio:/a");
	calls = fake_calls;
	begin = seconds();
	while (changes < 100000) {
		double before = seconds();

		for (unsigned i = 0; i < 1000; i++, changes++)
			guest_state(&vbd, 1 + random_below(6));
		if (changes == 50000) { /* in the middle of it, somebody else */
			tool_add(&other, "block-tapdisk", "aio:/b");
			settle();
			assert_int_equal(be_state(&other), 2);
			guest_connect(&other);
			settle();
			assert_int_equal(be_state(&other), 4);
		} else {
			settle();
		}
		worst = TD_MAX(worst, seconds() - before);
	}
	calls = fake_calls - calls;
	printf("100000 changes: %.2f s, %lu round trips to xenstore, %u connects, %u tapdisks, worst 1000: "
	       "%.3f s\n",
	       seconds() - begin, calls, fake_connects, fake_spawns, worst);
	/* A pass is some ten round trips; there are 40 in a second, each of some steps. */
	assert_true((double)calls < 20000 + (seconds() - begin) * DEVICE_PASSES * 200);
	assert_true(fake_nr_disks() <= 2);
	/* One after the other, so that each could be a pass of its own. */
	calls = fake_calls;
	begin = seconds();
	for (unsigned i = 0; i < 2000; i++) {
		guest_state(&vbd, 1 + random_below(6));
		settle();
	}
	calls = fake_calls - calls;
	printf("2000 changes: %.2f s, %lu round trips\n", seconds() - begin, calls);
	assert_true((double)calls < (seconds() - begin + 1) * DEVICE_PASSES * 60);
	/* It is served again as soon as it behaves. */
	guest_state(&vbd, 6);
	wait_until(be_state(&vbd) == 6);
	guest_state(&vbd, 1);
	wait_until(be_state(&vbd) == 2);
	guest_connect(&vbd);
	wait_until(be_state(&vbd) == 4);
}

/* ---- one slow disk ---- */

static void a_slow_disk_holds_up_nobody(void **state)
{
	double begin;

	(void)state;
	world_threads = 4;
	fake_spawn_ms = 700;
	fake_set("/local/domain/4/memory/target", "4194304");
	world_start();
	begin = seconds();
	tool_add(&vbd, "block-tapdisk", "aio:/slow");
	tool_add(&other, "block-tapdisk", "aio:/b");
	wait_until(be_state(&other) == 2);
	guest_connect(&other);
	wait_until(be_state(&other) == 4);
	assert_true(be_state(&vbd) == 1 || seconds() - begin >= 0.7); /* unless the machine is slower yet */
	wait_until(be_state(&vbd) == 2); /* before it is open: libxl does not wait for ever */
	assert_string_equal(be_get(&vbd, "max-ring-page-order"), "0");
	guest_connect(&vbd);
	wait_until(be_state(&vbd) == 4);
	assert_true(seconds() - begin >= 0.7);
	assert_string_equal(be_get(&vbd, "hotplug-status"), "connected");
	assert_int_equal(atoi(be_get(&vbd, "tapdisk-pid")), disk_of(&vbd)->pid);
	/* One that fails late. */
	tool_remove(&vbd);
	wait_until(fake_nr_disks() == 1);
	fake_spawn_error = "No such file or directory";
	tool_add(&vbd, "block-tapdisk", "aio:/slow");
	wait_until(be_state(&vbd) == 2);
	wait_until(strcmp(be_get(&vbd, "hotplug-status"), "error") == 0);
	fake_spawn_error = NULL;
	/* Gone while it is being opened. */
	tool_remove(&vbd);
	settle();
	tool_add(&vbd, "block-tapdisk", "aio:/slow");
	for (unsigned i = 0; i < 50; i++)
		world_turn();
	tool_remove(&vbd);
	wait_until(tapback->nr_devices == 1);
	assert_int_equal(fake_nr_disks(), 1);
	assert_int_equal(fake_nr_below(be_path(&vbd, "")), 0);
}

/* ---- everything in every order ---- */

static const struct guest_disk disks[] = {
	{ "vbd", 3, 51712 },
	{ "vbd3", 3, 51728 },
	{ "qdisk", 3, 51744 },
	{ "vbd", 4, 51712 },
};

static void do_something(void)
{
	const struct guest_disk *g = &disks[random_below(TD_NELEMS(disks))];
	struct fake_disk *f = disk_of(g);

	switch (random_below(16)) {
	case 0:
	case 1:
		if (!fake_get(be_path(g, "state")))
			tool_add(g, strcmp(g->class, "qdisk") == 0 ? NULL : "block-tapdisk",
				 strcmp(g->class, "vbd3") == 0 ? "aio:aio:/x"
				 : g->domid == 4               ? "aio:/y"
				 : g->vdev == 51744            ? "aio:/z"
							       : "aio:/w");
		break;
	case 2:
		tool_remove(g);
		break;
	case 3:
		if (fake_get(be_path(g, "state")))
			tool_detach(g);
		break;
	case 4:
		if (f)
			fake_disk_kill(f);
		break;
	case 5:
		world_kill();
		world_start();
		break;
	case 6:
	case 7:
	case 8:
		if (fake_get(be_path(g, "state")))
			guest_connect(g);
		break;
	case 9:
		fake_rm(fe_path(g, "state"));
		break;
	case 10:
		fake_conflicts = random_below(3);
		break;
	case 11:
		if (f && f->events >= 0)
			fake_disk_event(
				f, "{\"event\":\"ring-stopped\",\"reason\":\"x\"}\n{\"event\":\"size\"}\n");
		break;
	default:
		if (fake_get(be_path(g, "state")))
			guest_state(g, random_below(8));
		break;
	}
}

static void check_invariants(void)
{
	assert_null(fake_disk_wrong());
	assert_true(fake_nr_disks() <= TD_NELEMS(disks));
	for (size_t i = 0; i < TD_NELEMS(disks); i++) {
		const struct guest_disk *g = &disks[i];
		struct fake_disk *f = disk_of(g);

		/* A folder without a state was brought back by somebody. */
		if (!fake_get(be_path(g, "state")))
			assert_int_equal(fake_nr_below(be_path(g, "")), 0);
		if (f && f->mapped)
			assert_true(fake_get(be_path(g, "ring-cookie")) || !fake_get(be_path(g, "state")));
	}
}

static void every_order(void **state)
{
	const char *seed = getenv("TEST_SEED"), *rounds = getenv("TEST_ROUNDS");
	unsigned s = seed ? (unsigned)atoi(seed) : (unsigned)time(NULL),
		 nr = rounds ? (unsigned)atoi(rounds) : 1;

	(void)state;
	printf("TEST_SEED=%u\n", s);
	srand(s);
	fake_set("/local/domain/4/memory/target", "98304");
	world_start();
	for (unsigned i = 0; i < nr * 5000; i++) {
		struct device *d;

		for (unsigned n = 1 + random_below(3); n > 0; n--)
			do_something();
		settle();
		check_invariants();
		/* Delays are not waited for here. */
		for (size_t k = 0; k < TD_NELEMS(disks); k++) {
			d = backend_find(tapback, disks[k].class, disks[k].domid, disks[k].vdev);
			if (d && d->not_before_ns) {
				d->not_before_ns = 0;
				device_kick(d);
			}
		}
		settle();
	}
	/* Everything goes away, and nothing is left. */
	for (size_t k = 0; k < TD_NELEMS(disks); k++)
		tool_remove(&disks[k]);
	settle();
	for (unsigned i = 0; i < 20 && tapback->nr_devices > 0; i++) {
		for (size_t k = 0; k < TD_NELEMS(disks); k++) {
			struct device *d =
				backend_find(tapback, disks[k].class, disks[k].domid, disks[k].vdev);

			if (d)
				d->not_before_ns = 0;
			if (d)
				device_kick(d);
		}
		settle();
	}
	assert_int_equal(tapback->nr_devices, 0);
	assert_int_equal(fake_nr_disks(), 0);
	assert_int_equal(fake_nr_watches(), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nonsense_in_the_ring_nodes, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(the_tapdisk_refuses_the_ring, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_flood_of_changes, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_slow_disk_holds_up_nobody, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(every_order, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
