// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk that is put onto another image while its guest runs (tap-ctl pause, unpause -a): after any kill that one is
 * opened again.
 */
#include "world.h"

#include <stdio.h>

/* As libxl takes a disk away: with the empty folders above. */
static void remove_all(void)
{
	fake_rm("/local/domain/0/backend");
	fake_rm("/local/domain/3/device");
	settle();
}

/* The size has changed, and the image, since the folder was made. */
static void another_image_is_remembered(void **state)
{
	(void)state;
	world_start();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/base");
	strcpy(disk_of(&vbd)->spec, "qcow2:/overlay");
	fake_disk_event(disk_of(&vbd), "{\"event\":\"state\",\"state\":\"running\"}\n");
	settle();
	fake_disk_kill(disk_of(&vbd));
	settle();
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/overlay");
	world_kill();
	fake_disk_kill(disk_of(&vbd));
	world_start();
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/overlay");
	assert_int_equal(fake_recovers, 2);
	/* A new life begins with what the toolstack says. */
	remove_all();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/base");
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/base");
}

static void note(const char *spec)
{
	char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/spec3.51712", world_sysfs);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(spec, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Both are killed, or the tapdisk is, before tapback has heard what it opened. */
static void another_image_that_was_noted_is_opened(void **state)
{
	(void)state;
	world_start();
	note("qcow2:/somebody-else");
	whole_connect(&vbd, "block-tapdisk", "qcow2:/base");
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/base");
	note("qcow2:/overlay");
	fake_disk_kill(disk_of(&vbd));
	settle();
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/overlay");
	assert_string_equal(be_get(&vbd, "tapdisk-spec"), "qcow2:/overlay");
	note("qcow2:/another overlay");
	world_kill();
	fake_disk_kill(disk_of(&vbd));
	world_start();
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/another overlay");
	remove_all();
	whole_connect(&vbd, "block-tapdisk", "qcow2:/base");
	fake_disk_kill(disk_of(&vbd));
	settle();
	assert_string_equal(disk_of(&vbd)->spec, "qcow2:/base");
}

int main(void)
{
#define OVERLAY(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		OVERLAY(another_image_is_remembered),
		OVERLAY(another_image_that_was_noted_is_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
