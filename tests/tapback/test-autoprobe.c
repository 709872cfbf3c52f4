// SPDX-License-Identifier: BSD-2-Clause
/*
 * Beside the kernel's own backends, on a folder in place of /sys/bus/xen-backend: which devices are offered to its
 * drivers, which are kept from them, and who is told if they were taken all the same.
 */
#include "world.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *at(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", world_sysfs, name);
	return path;
}

static void put(const char *name, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static const char *get(const char *name)
{
	static char text[256];
	int fd = open(at(name), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* The bus as the kernel makes it: writing a file of ours only leaves what was written last. */
static int setup(void **state)
{
	if (world_setup(state) < 0)
		return -1;
	assert_int_equal(mkdir(at("devices"), 0755), 0);
	assert_int_equal(mkdir(at("drivers"), 0755), 0);
	put("drivers_autoprobe", "1\n");
	put("drivers_probe", "");
	return 0;
}

static void device(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "devices/%s", name);
	assert_int_equal(mkdir(at(path), 0755), 0);
}

static void bind_it(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "devices/%s/driver", name);
	put(path, "");
}

static void the_bus_is_switched(void **state)
{
	(void)state;
	world_start();
	assert_string_equal(get("drivers_autoprobe"),
			    "0\n"); /* the file's old newline is beyond what was written */
	world_stop();
	assert_string_equal(get("drivers_autoprobe"), "1\n");
	world_start();
	whole_connect(&vbd, "block-tapdisk", "aio:/a");
	world_stop(); /* a disk of ours would be taken when xen-blkback is loaded */
	assert_string_equal(get("drivers_autoprobe"), "0\n");
	assert_int_equal(mkdir(at("drivers/vbd"), 0755), 0);
	world_start();
	world_stop(); /* it is loaded already: what is there is not offered again */
	assert_string_equal(get("drivers_autoprobe"), "1\n");
	world_classes((const char *const[]){ "qdisk", NULL });
	world_start(); /* nothing that the kernel would take */
	assert_string_equal(get("drivers_autoprobe"), "1\n");
}

static void others_are_offered(void **state)
{
	static const char *const types[] = { "vif", "9pfs", "a-b", "vbd" };
	char name[64];

	(void)state;
	world_start();
	for (size_t i = 0; i < TD_NELEMS(types); i++) {
		put("drivers_probe", "");
		td_timer_cancel(&tapback->probe.timer); /* the looks for what was there before */
		snprintf(name, sizeof(name), "/local/domain/0/backend/%s/3/%zu/state", types[i], i);
		fake_set(name, "1");
		fake_set("/local/domain/0/backend/vbd/3/3/script", "/etc/xen/scripts/block-nbd");
		fake_set("/local/domain/0/backend/vbd/3/3/frontend", "/local/domain/3/device/vbd/3");
		settle();
		snprintf(name, sizeof(name), "%s-3-%zu", types[i], i);
		device(name); /* some time after its folder */
		wait_until(strcmp(get("drivers_probe"), name) == 0);
		put("drivers_probe", "");
		wait_until(strcmp(get("drivers_probe"), name) ==
			   0); /* its driver is still to be loaded: again */
		bind_it(name);
	}
	settle();
	put("drivers_probe", "");
	for (unsigned i = 0; i < 200; i++)
		world_turn();
	assert_string_equal(get("drivers_probe"), ""); /* all have a driver */
}

static void ours_are_kept(void **state)
{
	static const struct guest_disk qdisk = { "qdisk", 3, 51728 };

	(void)state;
	world_start();
	device("vbd-3-51712");
	device("qdisk-3-51728");
	device("vbd-9-1"); /* no folder: not decided */
	whole_connect(&vbd, "block-tapdisk", "aio:/a");
	whole_connect(&qdisk, NULL, "aio:/b");
	autoprobe_kick(&tapback->probe);
	for (unsigned i = 0; i < 300; i++)
		world_turn();
	assert_string_equal(get("drivers_probe"), "");
}

static void block_devices_go_to_blkback(void **state)
{
	(void)state;
	assert_int_equal(mkdir(at("drivers/vbd"), 0755), 0);
	world_start();
	device("vbd-3-51712");
	tool_add(&vbd, "block", "/dev/loop0"); /* in this machine: hopefully a block device */
	if (access("/dev/loop0", F_OK) < 0) {
		print_message("no /dev/loop0 here: not run\n");
		return;
	}
	wait_until(strcmp(get("drivers_probe"), "vbd-3-51712") == 0);
	assert_int_equal(be_state(&vbd), 1);
	assert_int_equal(fake_spawns, 0);
	world_stop();
	/* Unless we are told to serve them. */
	tool_remove(&vbd);
	world_phy = PHY_TAPBACK;
	world_start();
	put("drivers_probe", "");
	tool_add(&vbd, "block", "/dev/loop0");
	settle();
	assert_int_equal(be_state(&vbd), 2);
	assert_string_equal(disk_of(&vbd)->spec, "aio:/dev/loop0");
	assert_string_equal(get("drivers_probe"), "");
}

/* It was quicker: its user is told, and we do not fight. */
static void taken_by_the_kernel(void **state)
{
	(void)state;
	world_start();
	device("vbd-3-51712");
	bind_it("vbd-3-51712");
	tool_add(&vbd, "block-tapdisk", "aio:/a");
	settle();
	assert_int_equal(be_state(&vbd), 1);
	assert_int_equal(fake_spawns, 0);
	assert_string_equal(be_get(&vbd, "hotplug-status"), "error");
	assert_non_null(strstr(be_get(&vbd, "hotplug-error"), "rmmod xen-blkback"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_bus_is_switched, setup, world_teardown),
		cmocka_unit_test_setup_teardown(others_are_offered, setup, world_teardown),
		cmocka_unit_test_setup_teardown(ours_are_kept, setup, world_teardown),
		cmocka_unit_test_setup_teardown(block_devices_go_to_blkback, setup, world_teardown),
		cmocka_unit_test_setup_teardown(taken_by_the_kernel, setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
