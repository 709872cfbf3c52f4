// SPDX-License-Identifier: BSD-2-Clause
/* Which files an image may make us open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers.h"
#include "testenv.h"

static struct testenv env;
static struct td_policy policy;
static struct td_err err;

static const char *path(const char *name)
{
	return testenv_path(&env, name);
}

static void make_file(const char *name, const char *text)
{
	FILE *f = fopen(path(name), "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
	(void)state;
	if (testenv_open(&env, "sync", NULL) < 0)
		return -1;
	mkdir(path("in"), 0755);
	mkdir(path("in/deep"), 0755);
	mkdir(path("inside"), 0755);
	mkdir(path("out"), 0755);
	make_file("in/a", "a");
	make_file("in/deep/b", "b");
	make_file("inside/c", "c");
	make_file("out/secret", "s");
	policy = (struct td_policy){ 0 };
	return td_policy_allow(&policy, path("in"), &err);
}

static int teardown(void **state)
{
	(void)state;
	td_policy_done(&policy);
	testenv_close(&env);
	return 0;
}

static void opens(const char *name)
{
	int fd = td_policy_open(&policy, path(name), O_RDONLY, &err);

	if (fd < 0)
		fail_msg("%s", err.msg);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void refuses(const char *name, const char *because)
{
	err.msg[0] = 0;
	assert_int_equal(td_policy_open(&policy, path(name), O_RDONLY, &err), -EACCES);
	if (!strstr(err.msg, because))
		fail_msg("'%s' does not say '%s'", err.msg, because);
}

static void files_below_an_allowed_directory_open(void **state)
{
	(void)state;
	opens("in/a");
	opens("in/deep/b");
	opens("in/deep/../a");
	opens("out/../in/a");
}

static void files_elsewhere_are_refused_and_the_way_out_is_named(void **state)
{
	char want[128];

	(void)state;
	(void)snprintf(want, sizeof(want), "\"allow %s/out\"", env.dir);
	refuses("out/secret", want);
	refuses("in/../out/secret", want);
	refuses("inside/c", "no allowed directory"); /* the same first letters are not the same directory */
}

static void symbolic_links_are_judged_by_where_they_lead(void **state)
{
	(void)state;
	assert_int_equal(symlink(path("out/secret"), path("in/link-out")), 0);
	assert_int_equal(symlink("../out", path("in/dir-out")), 0);
	assert_int_equal(symlink(path("in/a"), path("out/link-in")), 0);
	refuses("in/link-out", "no allowed directory");
	refuses("in/dir-out/secret", "no allowed directory");
	opens("out/link-in");
}

static void only_files_and_block_devices_are_opened(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(path("in/fifo"), 0644), 0);
	refuses("in/fifo", "neither a regular file nor a block device"); /* and does not hang */
	refuses("in/deep", "neither a regular file nor a block device");
	assert_int_equal(td_policy_allow(&policy, "/dev", &err), 0);
	assert_int_equal(td_policy_open(&policy, "/dev/null", O_RDONLY, &err), -EACCES);
}

static void a_missing_file_says_so(void **state)
{
	(void)state;
	assert_int_equal(td_policy_open(&policy, path("in/none"), O_RDONLY, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "in/none"));
	assert_int_equal(td_policy_allow_file(&policy, path("none/a"), &err), -ENOENT);
	assert_non_null(strstr(err.msg, "none/a: cannot look into its directory"));
}

static void no_policy_allows_nothing_and_slash_allows_all(void **state)
{
	struct td_policy all = { 0 };
	int fd;

	(void)state;
	assert_int_equal(td_policy_open(NULL, path("in/a"), O_RDONLY, &err), -EACCES);
	assert_int_equal(td_policy_allow(&all, "/", &err), 0);
	fd = td_policy_open(&all, path("out/secret"), O_RDONLY, &err);
	assert_true(fd >= 0);
	close(fd);
	td_policy_done(&all);
}

static void a_file_the_user_named_allows_its_directories(void **state)
{
	struct td_policy p = { 0 };
	int fd;

	(void)state;
	/* Through a link: where the link is, and where it leads. */
	assert_int_equal(symlink(path("out/secret"), path("inside/named")), 0);
	assert_int_equal(td_policy_allow_file(&p, path("inside/named"), &err), 0);
	assert_int_equal(p.nr_dirs, 2);
	fd = td_policy_open(&p, path("inside/c"), O_RDONLY, &err);
	assert_true(fd >= 0);
	close(fd);
	fd = td_policy_open(&p, path("out/secret"), O_RDONLY, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(td_policy_open(&p, path("in/a"), O_RDONLY, &err), -EACCES);
	td_policy_done(&p);
}

static int read_conf(struct td_policy *p, const char *text)
{
	make_file("conf", text);
	return td_policy_read(p, path("conf"), &err);
}

static void the_configuration_file_is_read(void **state)
{
	struct td_policy p = { 0 };
	char text[256];

	(void)state;
	(void)snprintf(text, sizeof(text),
		       "# comment\n\n  allow %s/in  \nprobe-backing = yes\nallow\t%s/out\n", env.dir,
		       env.dir);
	assert_int_equal(read_conf(&p, text), 0);
	assert_int_equal(p.nr_dirs, 2);
	assert_true(p.probe_backing);
	assert_false(p.no_sandbox);
	assert_false(p.dirs[0].write || p.dirs[1].write);
	(void)snprintf(text, sizeof(text), "probe-backing=no\nsandbox = off\nallow-write %s/out", env.dir);
	assert_int_equal(read_conf(&p, text), 0);
	assert_false(p.probe_backing);
	assert_true(p.no_sandbox);
	assert_int_equal(p.nr_dirs, 2); /* the same, for writing too now */
	assert_true(!p.dirs[0].write && p.dirs[1].write);
	assert_int_equal(read_conf(&p, "sandbox=on"), 0);
	assert_false(p.no_sandbox);
	assert_int_equal(read_conf(&p, "on-enospc = pause\nrequest-timeout=60\n"), 0);
	assert_true(p.pause_on_enospc);
	assert_int_equal(p.request_timeout, 60);
	assert_int_equal(read_conf(&p, "on-enospc=report\nrequest-timeout = 0\n"), 0);
	assert_false(p.pause_on_enospc);
	assert_int_equal(p.request_timeout, 0);
	td_policy_done(&p);
}

static void a_line_it_does_not_know_is_an_error_with_its_number(void **state)
{
	static const char *const lines[] = { "allow",
					     "allowed /",
					     "probe-backing yes",
					     "probe-backing = maybe",
					     "on-enospc = yes",
					     "on-enospc pause",
					     "request-timeout = ",
					     "request-timeout = 1M",
					     "request-timeout = -1",
					     "request-timeout = 86401",
					     "allow-write",
					     "allow-writes /",
					     "sandbox",
					     "sandbox = no",
					     "x" };
	struct td_policy p = { 0 };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(lines); i++) {
		char text[128];

		(void)snprintf(text, sizeof(text), "\n%s\n", lines[i]);
		assert_int_equal(read_conf(&p, text), -EINVAL);
		assert_non_null(strstr(err.msg, "conf:2"));
	}
	assert_int_equal(read_conf(&p, "allow /nowhere/at/all"), -ENOENT);
	assert_int_equal(td_policy_read(&p, path("no-conf"), &err), 0);
	td_policy_done(&p);
}

static struct td_image overlay(const char *image, const char *backing)
{
	return (struct td_image){ .path = (char *)(uintptr_t)image,
				  .name = (char *)(uintptr_t)image,
				  .backing_path = (char *)(uintptr_t)backing };
}

static void backing_path_is(const char *image, const char *backing, const char *want)
{
	struct td_image im = overlay(image, backing);
	char *got = NULL;

	assert_int_equal(td_image_backing_path(&im, im.backing_path, &got, &err), 0);
	assert_string_equal(got, want);
	free(got);
}

static void backing_paths_are_relative_to_the_image(void **state)
{
	(void)state;
	backing_path_is("/srv/a/top", "base", "/srv/a/base");
	backing_path_is("/srv/a/top", "../base", "/srv/a/../base");
	backing_path_is("/srv/a/top", "/other/base", "/other/base");
	backing_path_is("top", "base", "base");
	backing_path_is("/srv/top", "./a:b", "/srv/./a:b");
	backing_path_is("/srv/top", "d/a:b", "/srv/d/a:b");
	backing_path_is("/srv/top", "file:/x", "/x");
}

static void backing_names_that_are_no_paths_are_refused(void **state)
{
	static const char *const names[] = { "json:{\"driver\":\"nbd\"}", "nbd://host/x", "ssh:x", "file:x",
					     "a:b" };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(names); i++) {
		struct td_image im = overlay("/srv/top", names[i]);
		char *got = NULL;

		assert_int_equal(td_image_backing_path(&im, im.backing_path, &got, &err), -ENOTSUP);
		assert_non_null(strstr(err.msg, names[i]));
		assert_null(got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_below_an_allowed_directory_open),
		cmocka_unit_test(files_elsewhere_are_refused_and_the_way_out_is_named),
		cmocka_unit_test(symbolic_links_are_judged_by_where_they_lead),
		cmocka_unit_test(only_files_and_block_devices_are_opened),
		cmocka_unit_test(a_missing_file_says_so),
		cmocka_unit_test(no_policy_allows_nothing_and_slash_allows_all),
		cmocka_unit_test(a_file_the_user_named_allows_its_directories),
		cmocka_unit_test(the_configuration_file_is_read),
		cmocka_unit_test(a_line_it_does_not_know_is_an_error_with_its_number),
		cmocka_unit_test(backing_paths_are_relative_to_the_image),
		cmocka_unit_test(backing_names_that_are_no_paths_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
