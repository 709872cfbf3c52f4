// SPDX-License-Identifier: BSD-2-Clause
/*
 * Opening chains of images: which file, as which format, and what is refused.  The images are qcow2's, made here; their
 * headers are patched to say what no tool would write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testenv.h"

static struct testenv env;

/* An overlay of 1 MiB in dir/name. */
static void overlay(const char *name, const char *backing, const char *format)
{
	char opts[256];

	if (format)
		(void)snprintf(opts, sizeof(opts), "backing_file=%s,backing_fmt=%s", backing, format);
	else
		(void)snprintf(opts, sizeof(opts), "backing_file=%s", backing);
	if (test_create(&env, 1 << 20, backing ? opts : NULL, true, "qcow2:%s/%s", env.dir, name) < 0)
		fail_msg("%s", env.err.msg);
}

static void raw(const char *name, char byte)
{
	static char buf[65536];
	struct td_image *im;

	assert_int_equal(test_create(&env, 1 << 20, NULL, true, "raw:%s/%s", env.dir, name), 0);
	assert_int_equal(test_open(&env, &im, 0, "raw:%s/%s", env.dir, name), 0);
	memset(buf, byte, sizeof(buf));
	assert_int_equal(test_write(&env, im, 0, buf, sizeof(buf), 0), 0);
	assert_int_equal(test_close(&env, im), 0);
}

/* The backing format is a header extension: make it one that nobody knows. */
static void forget_format(const char *name)
{
	static const unsigned char want[4] = { 0xe2, 0x79, 0x2a, 0xca };
	int fd = open(testenv_path(&env, name), O_RDWR);
	unsigned char head[1024];
	ssize_t i, got = pread(fd, head, sizeof(head), 0);

	for (i = 0; i < got - 4 && memcmp(head + i, want, 4) != 0; i += 4)
		;
	assert_true(i < got - 4);
	assert_int_equal(pwrite(fd, "\x12\x34\x56\x78", 4, i), 4);
	close(fd);
}

static int reads(const char *spec, unsigned flags)
{
	struct td_image *im = NULL;
	unsigned char byte = 0;
	int r;

	env.err.msg[0] = 0;
	r = test_open(&env, &im, flags, "%s", spec);
	if (r < 0)
		return r;
	r = test_read(&env, im, 100, &byte, 1, 0);
	assert_int_equal(test_close(&env, im), 0);
	return r < 0 ? r : byte;
}

static const char *spec_of(const char *driver, const char *name)
{
	static char spec[256];

	(void)snprintf(spec, sizeof(spec), "%s:%s/%s", driver, env.dir, name);
	return spec;
}

static void says(const char *what)
{
	if (!strstr(env.err.msg, what))
		fail_msg("'%s' does not say '%s'", env.err.msg, what);
}

static void paths_are_taken_from_the_images_folder(void **state)
{
	(void)state;
	mkdir(testenv_path(&env, "sub"), 0755);
	raw("sub/base", 'b');
	overlay("sub/mid", "base", "raw");
	overlay("top", "sub/mid", "qcow2");
	assert_int_equal(reads(spec_of("qcow2", "top"), 0), 'b');
	assert_int_equal(reads(spec_of("fault/qcow2/fault", "top"), 0), 'b');
}

static void without_a_recorded_format_the_ways_out_are_named(void **state)
{
	(void)state;
	raw("noted", 'n');
	overlay("unnoted", "noted", "raw");
	forget_format("unnoted");
	assert_int_equal(reads(spec_of("qcow2", "unnoted"), 0), -EINVAL);
	says("backing-format=FMT");
	says("tap-img rebase -u -F FMT");
	says("probe-backing = yes");
	assert_int_equal(reads(spec_of("qcow2(backing-format=raw)", "unnoted"), 0), 'n');
	assert_int_equal(reads(spec_of("qcow2(backing-format=qcow2)", "unnoted"), 0), -EUCLEAN);
	assert_int_equal(reads(spec_of("qcow2(backing-format=vmdk9)", "unnoted"), 0), -ENOTSUP);
	assert_int_equal(reads(spec_of("qcow2(backing-format=ram)", "unnoted"), 0), -ENOTSUP);
	env.policy.probe_backing = true;
	assert_int_equal(reads(spec_of("qcow2", "unnoted"), 0), 'n');
	env.policy.probe_backing = false;
}

static void the_option_is_for_one_image_of_the_chain(void **state)
{
	(void)state;
	overlay("unnoted2", "unnoted", "qcow2");
	assert_int_equal(reads(spec_of("qcow2(backing-format=raw)", "unnoted2"), 0), 'n');
	forget_format("unnoted2");
	assert_int_equal(reads(spec_of("qcow2(backing-format=qcow2)", "unnoted2"), 0), -EINVAL);
}

static void a_recorded_raw_is_never_probed(void **state)
{
	(void)state;
	overlay("inner", NULL, NULL);
	overlay("outer", "inner", "raw");
	env.policy.probe_backing = true;
	/* The guest wrote a qcow2 header into a raw disk: these are its bytes, no more. */
	assert_int_equal(reads(spec_of("qcow2", "outer"), 0) >= 0, true);
	env.policy.probe_backing = false;
}

static void files_elsewhere_need_to_be_allowed(void **state)
{
	struct testenv other;
	char path[256], link[256];

	(void)state;
	assert_int_equal(testenv_open(&other, "sync", NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/secret", other.dir);
	assert_int_equal(test_create(&other, 1 << 20, NULL, false, "raw:%s", path), 0);
	overlay("elsewhere", path, "raw");
	assert_int_equal(reads(spec_of("qcow2", "elsewhere"), 0), -EACCES);
	says("allow");
	(void)snprintf(link, sizeof(link), "%s/link", env.dir);
	assert_int_equal(symlink(path, link), 0);
	overlay("linked", "link", "raw");
	assert_int_equal(reads(spec_of("qcow2", "linked"), 0), -EACCES);
	assert_int_equal(td_policy_allow(&env.policy, other.dir, &env.err), 0);
	assert_int_equal(reads(spec_of("qcow2", "elsewhere"), 0), 0);
	assert_int_equal(reads(spec_of("qcow2", "linked"), 0), 0);
	td_policy_done(&env.policy);
	testenv_close(&other);
}

static void names_that_are_no_files_are_refused(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(testenv_path(&env, "fifo"), 0600), 0);
	overlay("fifo-top", "fifo", "raw");
	assert_int_equal(reads(spec_of("qcow2", "fifo-top"), 0), -EACCES);
	overlay("nbd-top", "nbd://host/x", "raw");
	assert_int_equal(reads(spec_of("qcow2", "nbd-top"), 0), -ENOTSUP);
	says("nbd://host/x");
	overlay("gone-top", "gone", "raw");
	assert_int_equal(reads(spec_of("qcow2", "gone-top"), 0), -ENOENT);
	says("gone");
	says("gone-top");
}

static void a_broken_chain_can_be_looked_at_without_it(void **state)
{
	struct td_image *im;

	(void)state;
	overlay("gone-top", "gone", "raw");
	assert_int_equal(
		test_open(&env, &im, TD_OPEN_NO_CHAIN | TD_OPEN_RDONLY, "qcow2:%s/gone-top", env.dir), 0);
	assert_string_equal(im->backing_path, "gone");
	assert_string_equal(im->backing_format, "raw");
	assert_null(im->backing);
	assert_int_equal(test_close(&env, im), 0);
}

static void a_loop_of_images_is_found(void **state)
{
	(void)state;
	overlay("self", "self", "qcow2");
	assert_int_equal(reads(spec_of("qcow2", "self"), 0), -ELOOP);
	says("loop");
	overlay("ring-a", "ring-b", "qcow2");
	overlay("ring-b", "./ring-c", "qcow2");
	overlay("ring-c", "sub/../ring-a", "qcow2");
	assert_int_equal(reads(spec_of("qcow2", "ring-a"), TD_OPEN_RDONLY), -ELOOP);
	says("ring-a");
}

static void backing_images_are_shared_by_readers_and_locked_for_writers(void **state)
{
	struct td_image *a, *b, *base = NULL;

	(void)state;
	raw("shared", 's');
	overlay("user-a", "shared", "raw");
	overlay("user-b", "shared", "raw");
	assert_int_equal(test_open(&env, &a, 0, "qcow2:%s/user-a", env.dir), 0);
	assert_int_equal(test_open(&env, &b, 0, "qcow2:%s/user-b", env.dir), 0);
	assert_int_equal(test_open(&env, &base, 0, "raw:%s/shared", env.dir), -EBUSY);
	assert_true(a->backing->read_only);
	assert_int_equal(test_close(&env, a), 0);
	assert_int_equal(test_close(&env, b), 0);
	assert_int_equal(test_open(&env, &base, 0, "raw:%s/shared", env.dir), 0);
	assert_int_equal(test_open(&env, &a, 0, "qcow2:%s/user-a", env.dir), -EBUSY);
	assert_int_equal(test_close(&env, base), 0);
}

static void direct_off_holds_for_the_whole_chain(void **state)
{
	struct td_opts o = { 0 };
	struct td_image *im;

	(void)state;
	overlay("user-a", "shared", "raw");
	assert_int_equal(test_open(&env, &im, 0, "qcow2(direct=off):%s/user-a", env.dir), 0);
	assert_int_equal(im->backing->drv->info(im->backing, &o), 0);
	assert_string_equal(td_opts_get(&o, "direct"), "off");
	td_opts_done(&o);
	assert_int_equal(test_close(&env, im), 0);
}

static unsigned open_files(void)
{
	unsigned nr = 0;

	for (int fd = 0; fd < 4096; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

static void five_hundred_images_open_and_close_without_a_trace(void **state)
{
	const struct rlimit many = { 4096, 4096 };
	unsigned before = open_files();
	char name[32], below[32];
	struct td_image *im;
	unsigned depth = 0;
	unsigned char byte;

	(void)state;
	(void)setrlimit(RLIMIT_NOFILE, &many);
	raw("deep-0", 'd');
	for (unsigned i = 1; i <= 500; i++) {
		(void)snprintf(name, sizeof(name), "deep-%u", i);
		(void)snprintf(below, sizeof(below), "deep-%u", i - 1);
		overlay(name, below, i == 1 ? "raw" : "qcow2");
	}
	assert_int_equal(test_open(&env, &im, 0, "qcow2:%s/deep-500", env.dir), 0);
	for (struct td_image *at = im; at->backing; at = at->backing)
		depth++;
	assert_int_equal(depth, 500);
	assert_int_equal(test_read(&env, im, 5, &byte, 1, 0), 0);
	assert_int_equal(byte, 'd');
	assert_int_equal(test_write(&env, im, 6, "x", 1, 0), 0);
	assert_int_equal(test_read(&env, im, 5, &byte, 1, 0), 0);
	assert_int_equal(byte, 'd');
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(open_files(), before);
	/* Half way down something is wrong: all that was open is closed. */
	assert_int_equal(unlink(testenv_path(&env, "deep-250")), 0);
	assert_int_equal(reads(spec_of("qcow2", "deep-500"), 0), -ENOENT);
	says("deep-250");
	assert_int_equal(open_files(), before);
}

static int setup(void **state)
{
	(void)state;
	return testenv_open(&env, "sync", NULL);
}

static int teardown(void **state)
{
	(void)state;
	testenv_close(&env);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_taken_from_the_images_folder),
		cmocka_unit_test(without_a_recorded_format_the_ways_out_are_named),
		cmocka_unit_test(the_option_is_for_one_image_of_the_chain),
		cmocka_unit_test(a_recorded_raw_is_never_probed),
		cmocka_unit_test(files_elsewhere_need_to_be_allowed),
		cmocka_unit_test(names_that_are_no_files_are_refused),
		cmocka_unit_test(a_broken_chain_can_be_looked_at_without_it),
		cmocka_unit_test(a_loop_of_images_is_found),
		cmocka_unit_test(backing_images_are_shared_by_readers_and_locked_for_writers),
		cmocka_unit_test(direct_off_holds_for_the_whole_chain),
		cmocka_unit_test(five_hundred_images_open_and_close_without_a_trace),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
