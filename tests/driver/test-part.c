// SPDX-License-Identifier: BSD-2-Clause
/* Further files of an image: where they may lie, how they are opened, and what is left when a create fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers.h"
#include "testenv.h"

static struct testenv env;
static struct td_policy policy;
static struct td_opts leaf_opts;

/* One call, made in a coroutine as if from the image's open() or create(). */
struct call {
	const char *name;
	struct td_image im, *part;
	unsigned flags;
	struct td_create c;
	struct td_made made;
	uint64_t size;
	bool create;
};

static int call_co(void *arg)
{
	struct call *c = arg;

	env.err.msg[0] = '\0';
	if (c->create)
		return td_image_create_part(&c->c, c->name, c->size, &c->part, &env.err);
	c->im.env = &env.env;
	c->im.policy = &policy;
	c->im.leaf_opts = &leaf_opts;
	c->im.name = c->im.path = (char *)(uintptr_t)testenv_path(&env, "in/disk");
	return td_image_open_part(&c->im, c->name, NULL, NULL, c->flags, &c->part, &env.err);
}

static int close_co(void *arg)
{
	struct call *c = arg;

	return c->create ? td_image_close(c->part) : td_image_close_part(&c->im, c->part);
}

static void make_file(const char *name, size_t size)
{
	FILE *f = fopen(testenv_path(&env, name), "w");

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), (off_t)size), 0);
	assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
	(void)state;
	if (testenv_open(&env, "sync", NULL) < 0)
		return -1;
	mkdir(testenv_path(&env, "in"), 0755);
	mkdir(testenv_path(&env, "in/deep"), 0755);
	mkdir(testenv_path(&env, "out"), 0755);
	make_file("in/disk", 512);
	make_file("in/part", 1000);
	make_file("in/deep/part", 512);
	make_file("out/secret", 512);
	policy = (struct td_policy){ 0 };
	return td_policy_allow(&policy, testenv_path(&env, "in"), &env.err);
}

static int teardown(void **state)
{
	(void)state;
	td_policy_done(&policy);
	testenv_close(&env);
	return 0;
}

static void opens(struct call *c)
{
	if (testenv_run(&env, call_co, c) < 0)
		fail_msg("%s", env.err.msg);
	assert_int_equal(testenv_run(&env, close_co, c), 0);
	assert_null(c->im.parts);
}

static void refuses(const char *name, int error, const char *because)
{
	struct call c = { .name = name };

	assert_int_equal(testenv_run(&env, call_co, &c), error);
	assert_null(c.im.parts);
	if (!strstr(env.err.msg, because))
		fail_msg("'%s' does not say '%s'", env.err.msg, because);
}

static void a_name_is_relative_to_the_images_folder(void **state)
{
	char absolute[128];

	(void)state;
	opens(&(struct call){ .name = "part" });
	opens(&(struct call){ .name = "deep/part" });
	opens(&(struct call){ .name = "../in/part" });
	(void)snprintf(absolute, sizeof(absolute), "%s", testenv_path(&env, "in/part"));
	opens(&(struct call){ .name = absolute });
}

static void what_is_not_allowed_is_refused(void **state)
{
	(void)state;
	refuses("../out/secret", -EACCES, "no allowed directory");
	refuses("/etc/passwd", -EACCES, "no allowed directory");
	refuses("", -EUCLEAN, "without a name");
	refuses("absent", -ENOENT, "absent");
	assert_int_equal(symlink("../out/secret", testenv_path(&env, "in/link")), 0);
	refuses("link", -EACCES, "no allowed directory");
	assert_int_equal(mkfifo(testenv_path(&env, "in/fifo"), 0600), 0);
	refuses("fifo", -EACCES, "neither a regular file");
	refuses("deep", -EACCES, "neither a regular file");
	refuses("/dev/null", -EACCES, "no allowed directory");
}

static void an_image_is_no_part_of_itself(void **state)
{
	struct call c = { .name = "part" };

	(void)state;
	refuses("deep/../disk", -EUCLEAN, "itself");
	assert_int_equal(testenv_run(&env, call_co, &c), 0);
	c.name = "deep/../part";
	assert_int_equal(testenv_run(&env, call_co, &c), -EUCLEAN);
	assert_non_null(strstr(env.err.msg, "twice"));
	assert_int_equal(testenv_run(&env, close_co, &c), 0);
}

static void it_is_read_only_if_the_image_is(void **state)
{
	struct call ro = { .name = "part", .im.read_only = true }, rw = { .name = "part" };

	(void)state;
	assert_int_equal(testenv_run(&env, call_co, &ro), 0);
	assert_true(ro.part->read_only);
	/* Its lock is an image's: who reads does not bear one who writes. */
	assert_int_equal(testenv_run(&env, call_co, &rw), -EBUSY);
	assert_int_equal(testenv_run(&env, close_co, &ro), 0);
	assert_int_equal(testenv_run(&env, call_co, &rw), 0);
	assert_false(rw.part->read_only);
	assert_int_equal(testenv_run(&env, close_co, &rw), 0);
}

static void a_length_is_a_disks_or_to_the_byte(void **state)
{
	struct call c = { .name = "part" };

	(void)state;
	assert_int_equal(testenv_run(&env, call_co, &c), 0);
	assert_int_equal(c.part->size, 1024);
	assert_int_equal(testenv_run(&env, close_co, &c), 0);
	c.flags = TD_OPEN_GROW;
	assert_int_equal(testenv_run(&env, call_co, &c), 0);
	assert_int_equal(c.part->size, 1000);
	assert_int_equal(testenv_run(&env, close_co, &c), 0);
}

static void the_options_of_the_images_leaf_hold(void **state)
{
	struct call c = { .name = "part" };
	struct td_opts facts = { 0 };

	(void)state;
	assert_int_equal(td_opts_add(&leaf_opts, "direct", "off", NULL), 0);
	assert_int_equal(testenv_run(&env, call_co, &c), 0);
	assert_int_equal(c.part->drv->info(c.part, &facts), 0);
	assert_string_equal(td_opts_get(&facts, "direct"), "off");
	td_opts_done(&facts);
	assert_int_equal(testenv_run(&env, close_co, &c), 0);
	td_opts_done(&leaf_opts);
}

/* ---- making ---- */

static void begin_create(struct call *c, struct td_opts *opts, const char *path, bool force)
{
	c->create = true;
	c->made = (struct td_made){ .policy = &policy };
	c->c = (struct td_create){
		.env = &env.env, .path = path, .opts = opts, .force = force, .made = &c->made
	};
}

static bool exists(const char *name)
{
	return access(testenv_path(&env, name), F_OK) == 0;
}

static void what_was_made_goes_if_the_image_does_not_come_to_be(void **state)
{
	struct call c = { .name = "new", .size = 4096 };
	struct td_opts opts = { 0 };
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s", testenv_path(&env, "in/disk"));
	begin_create(&c, &opts, path, false);
	assert_int_equal(testenv_run(&env, call_co, &c), 0);
	assert_int_equal(c.part->size, 4096);
	assert_false(c.part->read_only);
	assert_int_equal(testenv_run(&env, close_co, &c), 0);
	/* Somebody's bytes stay. */
	c.name = "part";
	assert_int_equal(testenv_run(&env, call_co, &c), -EEXIST);
	td_made_done(&c.made, true);
	assert_false(exists("in/new"));
	assert_true(exists("in/part"));
	/* With force they go, the file does not. */
	begin_create(&c, &opts, path, true);
	assert_int_equal(testenv_run(&env, call_co, &c), 0);
	assert_int_equal(testenv_run(&env, close_co, &c), 0);
	td_made_done(&c.made, true);
	assert_true(exists("in/part"));
}

static void nothing_is_made_through_a_link(void **state)
{
	struct call c = { .name = "link" };
	struct td_opts opts = { 0 };
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s", testenv_path(&env, "in/disk"));
	assert_int_equal(symlink("../out/secret", testenv_path(&env, "in/link")), 0);
	begin_create(&c, &opts, path, true);
	assert_int_equal(testenv_run(&env, call_co, &c), -EEXIST);
	td_made_done(&c.made, true);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	static const struct CMUnitTest tests[] = {
		TEST(a_name_is_relative_to_the_images_folder),
		TEST(what_is_not_allowed_is_refused),
		TEST(an_image_is_no_part_of_itself),
		TEST(it_is_read_only_if_the_image_is),
		TEST(a_length_is_a_disks_or_to_the_byte),
		TEST(the_options_of_the_images_leaf_hold),
		TEST(what_was_made_goes_if_the_image_does_not_come_to_be),
		TEST(nothing_is_made_through_a_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
