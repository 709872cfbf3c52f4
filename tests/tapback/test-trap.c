// SPDX-License-Identifier: BSD-2-Clause
/*
 * Classes that other daemons serve as well: nothing is ever written to a folder that is not ours, and where somebody
 * writes over ours we stop.
 */
#include "world.h"

#include <stdio.h>

static const char *forbidden; /* a folder that nobody of us may write to */
static unsigned trespasses;

static void watch_writes(const char *path, const char *value)
{
	(void)value;
	if (forbidden && strncmp(path, forbidden, strlen(forbidden)) == 0)
		trespasses++;
}

static char forbidden_path[256];

static void forbid(const struct guest_disk *g)
{
	snprintf(forbidden_path, sizeof(forbidden_path), "%s/", be_path(g, ""));
	forbidden = forbidden_path;
	trespasses = 0;
	fake_on_write = watch_writes;
}

static const struct guest_disk vbd3 = { "vbd3", 3, 51712 };
static const struct guest_disk qdisk = { "qdisk", 3, 51712 };

/* Through all that its real backend and its guest do with it. */
static void live_elsewhere(const struct guest_disk *g, unsigned from)
{
	for (unsigned be = from; be <= 6; be++) {
		fake_set(be_path(g, "state"), "%u", be);
		settle();
		for (unsigned fe = 1; fe <= 6; fe++) {
			guest_state(g, fe);
			settle();
		}
	}
	fake_set(be_path(g, "online"), "0");
	tool_remove(g);
	settle();
	assert_int_equal(trespasses, 0);
	assert_int_equal(fake_spawns, 0);
	assert_int_equal(tapback->nr_devices, 0);
	forbidden = NULL;
}

static void scripts_of_others_are_left_alone(void **state)
{
	static const struct {
		const struct guest_disk *g;
		const char *script, *params;
	} others[] = {
		{ &vbd3, "block-xapi", "aio:/img" },
		{ &vbd3, NULL, "aio:/img" },
		{ &vbd3, "block", "/img" },
		{ &vbd, "block-nbd", "host:port" },
		{ &vbd, NULL, "/img" },
		{ &vbd, "block-tap", "aio:/img" },
		{ &vbd, "my-block-tapdisk", "x" },
		{ &qdisk, "something", "qcow2:/img" },
	};

	(void)state;
	world_start();
	for (size_t i = 0; i < TD_NELEMS(others); i++) {
		forbid(others[i].g);
		tool_add(others[i].g, others[i].script, others[i].params);
		settle();
		live_elsewhere(others[i].g, 1);
	}
}

/* A folder that another backend has taken to a state before we looked. */
static void what_another_serves_is_left_alone(void **state)
{
	static const struct {
		const struct guest_disk *g;
		const char *script, *params;
	} others[] = {
		{ &vbd3, "block-tap", "aio:/img" },
		{ &vbd, "block", "/img" },
		{ &qdisk, NULL, "qcow2:/img" },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(others); i++) {
		forbid(others[i].g);
		tool_add(others[i].g, others[i].script, others[i].params);
		fake_set(be_path(others[i].g, "state"), "2");
		world_start();
		live_elsewhere(others[i].g, 3);
		world_stop();
	}
}

/* Xen's block-tap script with the tapdisk of another toolkit. */
static void a_foreign_tapdisk_is_left_alone(void **state)
{
	static const char *const paths[] = {
		"/run/blktap-control/nbd77.0", /* nobody answers there */
		"/var/run/blktap-control/nbd77.0", "/dev/xen/blktap-2/tapdev0",   "/run/blktap-control/nbd77",
		"/run/blktap-control/nbd77.0x",    "/run/blktap-control/nbd-1.0", "/dev/loop0",
	};

	(void)state;
	world_start();
	for (size_t i = 0; i < TD_NELEMS(paths); i++) {
		forbid(&vbd3);
		fake_set(be_path(&vbd3, "physical-device-path"), "%s", paths[i]);
		tool_add(&vbd3, "block-tap", "aio:/img");
		settle();
		live_elsewhere(&vbd3, 1);
	}
	/* Another number than it says itself. */
	forbid(&vbd3);
	fake_set(be_path(&vbd3, "physical-device-path"), "/run/blktap-control/nbd%d.4",
		 fake_disk_make("disk", "aio:/img", 5)->pid);
	tool_add(&vbd3, "block-tap", "aio:/img");
	settle();
	live_elsewhere(&vbd3, 1);
}

/* Nobody knows yet whose it is: another daemon gets its chance, and takes it. */
static void block_tap_waits_for_another_daemon(void **state)
{
	(void)state;
	world_start();
	forbid(&vbd3);
	tool_add(&vbd3, "block-tap", "aio:/img");
	settle();
	fake_set(be_path(&vbd3, "state"), "2"); /* xapi's tapback is as quick as that */
	fake_set(be_path(&vbd3, "physical-device-path"), "/run/blktap-control/nbd77.0");
	settle();
	live_elsewhere(&vbd3, 3);
}

/* The folder is made anew, after the script brought a tapdisk of somebody else. */
static void foreign_and_ours_in_turn(void **state)
{
	(void)state;
	world_start();
	for (unsigned i = 0; i < 3; i++) {
		tool_add(&vbd3, "block-tap", "aio:/img");
		wait_until(be_state(&vbd3) == 2);
		fake_set(be_path(&vbd3, "physical-device-path"), "/run/blktap-control/nbd.");
		settle();
		tool_remove(&vbd3);
		whole_connect(&vbd3, "block-tapdisk", "aio:qcow2:/img");
		tool_remove(&vbd3);
		settle();
		assert_int_equal(fake_nr_watches(), 3);
	}
}

/* And where there is no other, libxl does not wait in vain; then the script brings our tapdisk. */
static void block_tap_with_our_tapdisk(void **state)
{
	struct fake_disk *f;

	(void)state;
	world_start();
	tool_add(&vbd3, "block-tap", "aio:/img");
	wait_until(be_state(&vbd3) == 2);
	f = fake_disk_make("disk", "aio:/img", 0);
	guest_connect(&vbd3);
	settle();
	assert_int_equal(be_state(&vbd3), 2);
	fake_set(be_path(&vbd3, "physical-device-path"), "/run/blktap-control/nbd%d.0", f->pid);
	settle();
	assert_int_equal(be_state(&vbd3), 2); /* the script is not done */
	fake_set(be_path(&vbd3, "hotplug-status"), "connected");
	settle();
	assert_int_equal(be_state(&vbd3), 4);
	assert_true(f->mapped);
	guest_state(&vbd3, 4);
	tool_detach(&vbd3);
	settle();
	guest_state(&vbd3, 6);
	settle();
	assert_int_equal(be_state(&vbd3), 6);
	assert_int_equal(f->mapped, 0);
	assert_int_equal(fake_terminates, 0); /* the script's to end */
	assert_int_equal(fake_spawns, 0);
	tool_remove(&vbd3);
	settle();
	assert_int_equal(tapback->nr_devices, 0);
}

/* ... whose tapdisk is killed: then we start one. */
static void a_borrowed_tapdisk_is_replaced(void **state)
{
	struct fake_disk *f;

	(void)state;
	f = fake_disk_make("disk", "aio:/img", 0);
	fake_set(be_path(&vbd3, "physical-device-path"), "/run/blktap-control/nbd%d.0", f->pid);
	fake_set(be_path(&vbd3, "hotplug-status"), "connected");
	world_start();
	whole_connect(&vbd3, "block-tap", "aio:/img");
	fake_disk_kill(f);
	settle();
	assert_int_equal(be_state(&vbd3), 4);
	assert_non_null(disk_of(&vbd3));
	assert_string_equal(disk_of(&vbd3)->spec, "aio:/img");
	assert_int_equal(fake_recovers, 1);
}

/* Somebody writes states over ours: the ring is given back, once for all. */
static void a_second_backend_stops_us(void **state)
{
	(void)state;
	for (unsigned other = 2; other <= 9; other++) {
		if (other == 4 || other == 5 || other == 6)
			continue;
		world_start();
		whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
		assert_int_equal(fake_nr_mapped(), 1);
		fake_set(be_path(&vbd, "state"), "%u", other);
		settle();
		assert_int_equal(fake_nr_mapped(), 0);
		assert_int_equal(fake_nr_disks(), 0);
		forbid(&vbd);
		fake_set(be_path(&vbd, "state"), "4");
		settle();
		guest_state(&vbd, 3);
		settle();
		assert_int_equal(trespasses, 0);
		assert_int_equal(fake_nr_disks(), 0);
		forbidden = NULL;
		/* The disk is attached anew: that is another matter. */
		tool_remove(&vbd);
		settle();
		whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
		tool_remove(&vbd);
		settle();
		assert_int_equal(fake_nr_disks(), 0);
		world_stop();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(scripts_of_others_are_left_alone, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(what_another_serves_is_left_alone, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(a_foreign_tapdisk_is_left_alone, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(block_tap_waits_for_another_daemon, world_setup,
						world_teardown),
		cmocka_unit_test_setup_teardown(foreign_and_ours_in_turn, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(block_tap_with_our_tapdisk, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_borrowed_tapdisk_is_replaced, world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_second_backend_stops_us, world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
