// SPDX-License-Identifier: BSD-2-Clause
/*
 * Whole lives of disks: attached, connected, resized, detached, destroyed, crashed, found again.
 */
#include "world.h"

#include <stdio.h>
#include <sys/socket.h>

static const struct guest_disk vbd3 = { "vbd3", 3, 51728 };
static const struct guest_disk qdisk = { "qdisk", 3, 51744 };
static const struct guest_disk second = { "vbd", 3, 51760 };

static void all_gone(void)
{
	assert_int_equal(fake_nr_disks(), 0);
	assert_int_equal(tapback->nr_devices, 0);
	assert_int_equal(fake_nr_watches(), 3); /* the classes' */
	assert_int_equal(fake_nr_below("/local/domain/0/backend"), 0);
	assert_int_equal(fake_nr_below("/local/domain/0/error/backend"), 0);
}

/* As libxl takes a disk away: with the empty folders above. */
static void remove_all(void)
{
	fake_rm("/local/domain/0/backend");
	fake_rm("/local/domain/3/device");
	settle();
}

static void attach_use_detach(void **state)
{
	(void)state;
	world_start();
	tool_add(&vbd, "block-tapdisk", "qcow2:/img");
	settle();
	assert_int_equal(be_state(&vbd), 2);
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/img");
	assert_int_equal(atoi(be_get(&vbd, "tapdisk-pid")), disk_of(&vbd)->pid);
	assert_string_equal(be_get(&vbd, "hotplug-status"), "connected");
	assert_string_equal(be_get(&vbd, "max-ring-page-order"), "4");
	assert_string_equal(be_get(&vbd, "max-ring-pages"), "16");
	assert_string_equal(be_get(&vbd, "multi-queue-max-queues"), "4");
	assert_string_equal(be_get(&vbd, "feature-max-indirect-segments"), "63");
	assert_string_equal(be_get(&vbd, "feature-persistent"), "1");
	assert_string_equal(be_get(&vbd, "sectors"), "");
	assert_int_equal(fake_nr_mapped(), 0);
	guest_connect(&vbd);
	settle();
	assert_int_equal(be_state(&vbd), 4);
	assert_int_equal(fake_nr_mapped(), 1);
	assert_int_equal(json_integer_value(json_object_get(disk_of(&vbd)->request, "poll_us")), 0);
	assert_string_equal(be_get(&vbd, "sectors"), "2048");
	assert_string_equal(be_get(&vbd, "sector-size"), "512");
	assert_string_equal(be_get(&vbd, "info"), "0");
	assert_string_equal(be_get(&vbd, "feature-max-indirect-segments"), "256"); /* one queue of one page */
	assert_string_equal(be_get(&vbd, "feature-discard"), "1");
	assert_string_equal(be_get(&vbd, "discard-granularity"), "4096");
	guest_state(&vbd, 4);
	settle();
	tool_detach(&vbd);
	settle();
	assert_int_equal(be_state(&vbd), 5);
	assert_int_equal(fake_nr_mapped(), 1); /* until the guest lets go */
	guest_state(&vbd, 6);
	settle();
	assert_int_equal(be_state(&vbd), 6);
	assert_int_equal(fake_nr_disks(), 0);
	assert_null(fake_get(be_path(&vbd, "tapdisk-pid")));
	assert_null(fake_get(be_path(&vbd, "ring-cookie")));
	remove_all();
	all_gone();
	/* The folder of the class comes back; another tapback lets tapdisks poll. */
	tapback->env.disk.poll_us = 50;
	whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
	assert_int_equal(fake_nr_mapped(), 1);
	assert_int_equal(json_integer_value(json_object_get(disk_of(&vbd)->request, "poll_us")), 50);
}

static void power_off(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
	guest_state(&vbd, 5);
	settle();
	assert_int_equal(be_state(&vbd), 5);
	guest_state(&vbd, 6);
	settle();
	assert_int_equal(be_state(&vbd), 6);
	assert_int_equal(fake_nr_mapped(), 0);
	assert_int_equal(fake_nr_disks(), 1); /* it may come back */
	fake_set(be_path(&vbd, "online"), "0");
	settle();
	assert_int_equal(fake_nr_disks(), 0);
	assert_null(fake_get(be_path(&vbd, "tapdisk-pid")));
	remove_all();
	all_gone();
}

/* kexec, save and restore: Closed, then Initialising again. */
static void reconnect(void **state)
{
	pid_t pid;

	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
	pid = disk_of(&vbd)->pid;
	for (unsigned i = 0; i < 5; i++) {
		guest_state(&vbd, 5);
		settle();
		guest_state(&vbd, 6);
		settle();
		assert_int_equal(be_state(&vbd), 6);
		guest_state(&vbd, 1);
		settle();
		assert_int_equal(be_state(&vbd), 2);
		guest_connect(&vbd);
		settle();
		assert_int_equal(be_state(&vbd), 4);
	}
	assert_int_equal(disk_of(&vbd)->pid, pid);
	assert_int_equal(fake_connects, 6);
	/* Without closing first, as after a crash of the guest's kernel. */
	guest_state(&vbd, 1);
	settle();
	assert_int_equal(be_state(&vbd), 2);
	assert_int_equal(fake_nr_mapped(), 0);
}

static void destroy(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
	fake_rm("/local/domain/3");
	settle();
	assert_int_equal(be_state(&vbd), 6);
	assert_int_equal(fake_nr_mapped(), 0);
	tool_detach(&vbd); /* libxl's order of the two is not fixed */
	settle();
	assert_int_equal(be_state(&vbd), 6);
	assert_int_equal(fake_nr_disks(), 0);
	remove_all();
	all_gone();
	/* The folders simply vanish. */
	fake_set("/local/domain/3/memory/target", "4194304");
	whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
	remove_all();
	all_gone();
	/* ... in the middle of something: a write must not bring them back. */
	tool_add(&vbd, "block-tapdisk", "qcow2:/img");
	remove_all();
	all_gone();
}

/* A node is removed and made again before anybody has looked. */
static void attached_anew_in_one_go(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/img");
	tool_remove(&vbd);
	tool_add(&vbd, "block-tapdisk", "qcow2:/other");
	settle();
	assert_int_equal(be_state(&vbd), 2);
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/other");
	assert_int_equal(fake_nr_disks(), 1);
	assert_int_equal(fake_nr_mapped(), 0);
}

static void never_connected(void **state)
{
	(void)state;
	world_start();
	tool_add(&vbd, "block-tapdisk", "qcow2:/img");
	settle();
	tool_detach(&vbd);
	settle();
	assert_int_equal(be_state(&vbd), 6); /* there is no frontend that would answer */
	remove_all();
	all_gone();
}

static void an_image_that_cannot_be_opened(void **state)
{
	(void)state;
	world_start();
	fake_spawn_error = "No such file or directory";
	tool_add(&vbd, "block-tapdisk", "qcow2:/none");
	settle();
	assert_int_equal(be_state(&vbd), 2); /* so that the script runs, and tells */
	assert_string_equal(be_get(&vbd, "hotplug-status"), "error");
	assert_string_equal(be_get(&vbd, "hotplug-error"), "qcow2:/none: No such file or directory");
	assert_string_equal(fake_get("/local/domain/0/error/backend/vbd/3/51712/error"),
			    "2 qcow2:/none: No such file or directory");
	guest_connect(&vbd);
	settle();
	assert_int_equal(be_state(&vbd), 2);
	tool_detach(&vbd);
	guest_state(&vbd, 6);
	settle();
	assert_int_equal(be_state(&vbd), 6);
	remove_all();
	all_gone();
	/* Where no script of ours tells it. */
	tool_add(&qdisk, NULL, "qcow2:/none");
	settle();
	assert_int_equal(be_state(&qdisk), 6);
	assert_string_equal(be_get(&qdisk, "hotplug-status"), "");
	tool_remove(&qdisk);
	settle();
	/* And an empty drive. */
	tool_add(&qdisk, NULL, "aio:");
	settle();
	assert_int_equal(be_state(&qdisk), 6);
	assert_int_equal(fake_spawns, 0);
	remove_all();
	all_gone();
}

/* Xen's own block script: connected only when it is done, whichever of the two comes last. */
static void the_stock_script(void **state)
{
	(void)state;
	world_start();
	for (unsigned script_first = 0; script_first < 2; script_first++) {
		tool_add(&vbd, "block", "/img");
		settle();
		assert_int_equal(be_state(&vbd), 2);
		assert_string_equal(disk_of(&vbd)->spec, "aio:/img");
		if (script_first)
			fake_set(be_path(&vbd, "hotplug-status"), "connected");
		else
			guest_connect(&vbd);
		settle();
		assert_int_equal(be_state(&vbd), 2);
		if (script_first)
			guest_connect(&vbd);
		else
			fake_set(be_path(&vbd, "hotplug-status"), "connected");
		settle();
		assert_int_equal(be_state(&vbd), 4);
		remove_all();
		all_gone();
	}
}

static void classes(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd3, "block-tapdisk", "aio:qcow2:/a");
	whole_connect(&qdisk, NULL, "qcow2:/b");
	whole_connect(&vbd, "block-tapdisk", "aio:/c");
	assert_int_equal(fake_nr_mapped(), 3);
	assert_string_equal(disk_of(&vbd3)->spec, "qcow2:/a");
	assert_string_equal(be_get(&qdisk, "hotplug-status"), "");
	world_stop();
	world_classes((const char *const[]){ "qdisk", NULL });
	assert_int_equal(fake_nr_mapped(), 3); /* the guests do not notice */
	world_start();
	assert_int_equal(fake_nr_mapped(), 3); /* nor that tapback serves less now */
	assert_int_equal(tapback->nr_devices, 1);
}

static void flags(void **state)
{
	(void)state;
	world_start();
	tool_add(&vbd, "block-tapdisk", "aio:/cd");
	fake_set(be_path(&vbd, "mode"), "r");
	fake_set(be_path(&vbd, "device-type"), "cdrom");
	fake_set(be_path(&vbd, "removable"), "1");
	fake_set(be_path(&vbd, "discard-enable"), "0");
	settle();
	guest_connect(&vbd);
	settle();
	assert_string_equal(be_get(&vbd, "info"), "7");
	assert_string_equal(be_get(&vbd, "feature-discard"), "0");
	assert_string_equal(be_get(&vbd, "discard-granularity"), "");
	assert_true(disk_of(&vbd)->read_only);
}

static void several_queues_and_pages(void **state)
{
	json_t *queues;

	(void)state;
	world_start();
	tool_add(&vbd, "block-tapdisk", "aio:/a");
	settle();
	fake_set(fe_path(&vbd, "ring-page-order"), "2");
	fake_set(fe_path(&vbd, "multi-queue-num-queues"), "2");
	for (unsigned q = 0; q < 2; q++) {
		for (unsigned i = 0; i < 4; i++) {
			char key[64];

			snprintf(key, sizeof(key), "queue-%u/ring-ref%u", q, i);
			fake_set(fe_path(&vbd, key), "%u", 100 * q + i);
			snprintf(key, sizeof(key), "queue-%u/event-channel", q);
			fake_set(fe_path(&vbd, key), "%u", 7 + q);
		}
	}
	fake_set(fe_path(&vbd, "feature-persistent"), "1");
	guest_state(&vbd, 3);
	settle();
	assert_int_equal(be_state(&vbd), 4);
	queues = json_object_get(disk_of(&vbd)->request, "queues");
	assert_int_equal(json_array_size(queues), 2);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(queues, 1), "port")), 8);
	assert_int_equal(
		json_integer_value(json_array_get(json_object_get(json_array_get(queues, 1), "refs"), 3)),
		103);
	assert_true(json_is_true(json_object_get(disk_of(&vbd)->request, "persistent")));
	assert_null(json_object_get(disk_of(&vbd)->request, "protocol"));
	assert_string_equal(be_get(&vbd, "feature-persistent"), "1");
	assert_string_equal(be_get(&vbd, "feature-max-indirect-segments"), "256");
}

/* A guest that has little gets several queues only without persistent grants. */
static void a_small_guest(void **state)
{
	(void)state;
	fake_set("/local/domain/3/memory/target", "98304");
	world_start();
	whole_connect(&vbd, "block-tapdisk", "aio:/a");
	assert_string_equal(be_get(&vbd, "max-ring-page-order"), "0");
	assert_string_equal(be_get(&vbd, "feature-persistent"), "1");
	assert_string_equal(be_get(&vbd, "feature-max-indirect-segments"), "95");
	fake_set("/local/domain/3/memory/target", "16384");
	guest_reconnect(&vbd);
	assert_string_equal(be_get(&vbd, "feature-persistent"), "0");
	assert_true(json_is_false(json_object_get(disk_of(&vbd)->request, "persistent")));
}

static unsigned state_writes;

static void count_state_writes(const char *path, const char *value)
{
	(void)value;
	state_writes += strcmp(path, be_path(&vbd, "state")) == 0;
}

static void resize(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "aio:/a");
	state_writes = 0;
	fake_on_write = count_state_writes;
	fake_sectors = 4096;
	fake_disk_event(disk_of(&vbd), "{\"event\":\"size\",\"size\":2097152}\n");
	settle();
	assert_string_equal(be_get(&vbd, "sectors"), "4096");
	assert_int_equal(be_state(&vbd), 4);
	assert_int_equal(state_writes, 1); /* the same once more: the frontend's watch has to fire */
	fake_disk_event(disk_of(&vbd), "{\"event\":\"size\",\"size\":2097152}\n");
	settle();
	assert_int_equal(state_writes, 1);
	fake_disk_event(disk_of(&vbd), "not JSON\n{}\n[1]\n{\"event\":5}\n{\"event\":\"unheard-of\"}\n");
	settle();
	assert_int_equal(be_state(&vbd), 4);
}

static void the_guest_breaks_the_ring(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "aio:/a");
	fake_disk_event(disk_of(&vbd),
			"{\"event\":\"ring-stopped\",\"domid\":3,\"devid\":51712,\"reason\":\"req_prod\"}\n");
	settle();
	assert_int_equal(be_state(&vbd), 5);
	assert_int_equal(fake_nr_mapped(), 0);
	assert_non_null(strstr(fake_get("/local/domain/0/error/backend/vbd/3/51712/error"), "req_prod"));
	guest_state(&vbd, 6);
	settle();
	assert_int_equal(be_state(&vbd), 6);
	guest_state(&vbd, 1); /* it has been rebooted */
	settle();
	guest_connect(&vbd);
	settle();
	assert_int_equal(be_state(&vbd), 4);
}

/* ---- crashes ---- */

static void tapdisk_is_killed(void **state)
{
	(void)state;
	world_start();
	tool_add(&vbd, "block-tapdisk", "qcow2:/a");
	fake_set(be_path(&vbd, "mode"), "r");
	settle();
	fake_disk_kill(disk_of(&vbd)); /* before anybody was connected */
	settle();
	assert_int_equal(be_state(&vbd), 2);
	assert_int_equal(fake_nr_disks(), 1);
	guest_connect(&vbd);
	settle();
	for (unsigned i = 0; i < 9; i++) {
		fake_disk_kill(disk_of(&vbd));
		settle();
		assert_int_equal(be_state(&vbd), 4);
		assert_int_equal(fake_recovers, i + 1);
		assert_int_equal(fake_nr_mapped(), 1);
		assert_true(disk_of(&vbd)->read_only);
		assert_int_equal(atoi(be_get(&vbd, "tapdisk-pid")), disk_of(&vbd)->pid);
	}
	fake_disk_kill(disk_of(&vbd)); /* that was ten at once: now with a delay */
	settle();
	assert_int_equal(fake_nr_disks(), 0);
	wait_until(fake_nr_mapped() == 1);
	assert_int_equal(be_state(&vbd), 4);
}

static void tapback_is_killed(void **state)
{
	unsigned calls;
	pid_t pid;

	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	whole_connect(&qdisk, NULL, "qcow2:/b");
	tool_add(&second, "block-tapdisk", "qcow2:/c");
	settle();
	pid = disk_of(&vbd)->pid;
	for (unsigned i = 0; i < 10; i++) {
		world_kill();
		world_start();
	}
	assert_int_equal(disk_of(&vbd)->pid, pid);
	assert_int_equal(fake_spawns, 3);
	assert_int_equal(fake_connects, 2);
	assert_int_equal(fake_recovers, 0);
	calls = fake_disconnects;
	guest_connect(&second); /* what it was offered by the last one */
	settle();
	assert_int_equal(be_state(&second), 4);
	tool_detach(&vbd);
	guest_state(&vbd, 6);
	settle();
	assert_int_equal(be_state(&vbd), 6);
	assert_int_equal(fake_disconnects, calls + 1);
	fake_disk_event(disk_of(&qdisk), "{\"event\":\"size\"}\n"); /* it listens again */
	fake_sectors = 8192;
	settle();
	assert_string_equal(be_get(&qdisk, "sectors"), "8192");
}

static void both_are_killed(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	for (unsigned i = 1; i <= 10; i++) {
		world_kill();
		fake_disk_kill(disk_of(&vbd));
		world_start();
		assert_int_equal(be_state(&vbd), 4);
		assert_int_equal(fake_recovers, i);
		assert_int_equal(fake_nr_mapped(), 1);
		assert_string_equal(disk_of(&vbd)->spec, "qcow2:/a");
	}
}

/* The number of a killed tapdisk is another disk's by now: that one is left alone. */
static void a_number_is_used_again(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	whole_connect(&qdisk, NULL, "qcow2:/b");
	world_kill();
	fake_set(be_path(&vbd, "tapdisk-pid"), "%d", disk_of(&qdisk)->pid);
	fake_disk_kill(disk_of(&vbd));
	world_start();
	assert_int_equal(fake_nr_mapped(), 2);
	assert_int_equal(fake_buried, 0);
	assert_int_equal(fake_recovers, 1);
}

/* What happened while there was no tapback. */
static void meanwhile(void **state)
{
	(void)state;
	/* Detached: libxl waits for the 6. */
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	world_kill();
	tool_detach(&vbd);
	guest_state(&vbd, 6);
	world_start();
	assert_int_equal(be_state(&vbd), 6);
	assert_int_equal(fake_nr_disks(), 0);
	remove_all();
	all_gone();
	/* ... with nothing left of it but the folder, and no tapback that had ever seen it. */
	world_kill();
	tool_add(&vbd, "block-tapdisk", "qcow2:/a");
	tool_detach(&vbd);
	guest_state(&vbd, 6);
	world_start();
	assert_int_equal(be_state(&vbd), 6);
	assert_int_equal(fake_spawns, 1);
	remove_all();
	/* Destroyed: its tapdisk is nobody's. */
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	world_kill();
	disk_of(&vbd)->mapped = false; /* as the real one finds out by itself */
	tool_remove(&vbd);
	world_start();
	assert_int_equal(fake_nr_disks(), 0);
	/* Attached and connected. */
	world_kill();
	tool_add(&vbd, "block-tapdisk", "qcow2:/a");
	guest_connect(&vbd);
	world_start();
	assert_int_equal(be_state(&vbd), 4);
	/* Other people's tapdisks are left alone, whatever they are called. */
	world_kill();
	fake_disk_make("disk", "aio:/x", 1);
	fake_disk_make("vbd-03-51712", "aio:/y", 2);
	fake_disk_make("vbd-3-51712-", "aio:/z", 3);
	world_start();
	assert_int_equal(fake_nr_disks(), 4);
}

/* Killed between any two changes of xenstore that we make. */
static unsigned writes_left;

static void kill_in_time(const char *path, const char *value)
{
	(void)path;
	(void)value;
	if (writes_left > 0)
		writes_left--;
}

static void killed_while_it_connected(void **state)
{
	(void)state;
	/* After the spawn, after tapdisk-pid, after 2, after the cookie, after the ring, after 4. */
	for (unsigned steps = 0; steps < 40; steps++) {
		world_start();
		tool_add(&vbd, "block-tapdisk", "qcow2:/a");
		guest_connect(&vbd);
		fake_on_write = kill_in_time;
		writes_left = steps;
		for (unsigned i = 0; i < 200 && writes_left > 0; i++)
			world_turn();
		world_kill(); /* at the end of a step */
		world_start();
		assert_int_equal(be_state(&vbd), 4);
		assert_int_equal(fake_nr_disks(), 1);
		assert_int_equal(fake_nr_mapped(), 1);
		remove_all();
		all_gone();
		world_stop();
	}
}

/* A tapdisk that dies of what the guest asks, again and again. */
static void given_up(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	backend_find(tapback, "vbd", 3, 51712)->crashes = 17; /* three more: the delays are another test's */
	fake_spawn_crashes = 100;
	fake_disk_kill(disk_of(&vbd));
	for (unsigned i = 0; i < 3; i++) {
		settle();
		backend_find(tapback, "vbd", 3, 51712)->not_before_ns = 0;
		device_kick(backend_find(tapback, "vbd", 3, 51712));
	}
	settle();
	assert_int_equal(be_state(&vbd), 5);
	assert_non_null(
		strstr(fake_get("/local/domain/0/error/backend/vbd/3/51712/error"), "times in a row"));
	guest_state(&vbd, 6);
	settle();
	assert_int_equal(be_state(&vbd), 6);
	tool_detach(&vbd);
	settle();
	assert_int_equal(be_state(&vbd), 6);
	remove_all();
	all_gone();
}

/* The storage is away for a while: that is no reason to give a guest up. */
static void the_image_is_away(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	fake_spawn_error = "Stale file handle";
	fake_disk_kill(disk_of(&vbd));
	settle();
	assert_int_equal(be_state(&vbd), 4);
	for (unsigned i = 0; i < 50; i++) {
		backend_find(tapback, "vbd", 3, 51712)->not_before_ns = 0;
		device_kick(backend_find(tapback, "vbd", 3, 51712));
		for (unsigned t = 0; t < 30; t++)
			settle();
		assert_int_equal(be_state(&vbd), 4);
		backend_find(tapback, "vbd", 3, 51712)->in_window = 0;
	}
	fake_spawn_error = NULL;
	backend_find(tapback, "vbd", 3, 51712)->not_before_ns = 0;
	device_kick(backend_find(tapback, "vbd", 3, 51712));
	wait_until(fake_nr_mapped() == 1);
	assert_int_equal(be_state(&vbd), 4);
}

/* An event connection that broke although the tapdisk lives: it is not replaced. */
static void only_hung_up(void **state)
{
	struct fake_disk *f;

	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/a");
	f = disk_of(&vbd);
	shutdown(f->events, SHUT_RDWR);
	settle();
	assert_ptr_equal(disk_of(&vbd), f);
	assert_int_equal(fake_spawns, 1);
	assert_int_equal(fake_buried, 0);
	assert_int_equal(be_state(&vbd), 4);
	fake_sectors = 99;
	fake_disk_event(f, "{\"event\":\"size\"}\n");
	settle();
	assert_string_equal(be_get(&vbd, "sectors"), "99");
}

int main(void)
{
#define LIFE(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		LIFE(attach_use_detach),
		LIFE(power_off),
		LIFE(reconnect),
		LIFE(destroy),
		LIFE(attached_anew_in_one_go),
		LIFE(never_connected),
		LIFE(an_image_that_cannot_be_opened),
		LIFE(the_stock_script),
		LIFE(classes),
		LIFE(flags),
		LIFE(several_queues_and_pages),
		LIFE(a_small_guest),
		LIFE(resize),
		LIFE(the_guest_breaks_the_ring),
		LIFE(tapdisk_is_killed),
		LIFE(tapback_is_killed),
		LIFE(both_are_killed),
		LIFE(a_number_is_used_again),
		LIFE(meanwhile),
		LIFE(killed_while_it_connected),
		LIFE(given_up),
		LIFE(the_image_is_away),
		LIFE(only_hung_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
