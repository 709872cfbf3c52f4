// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a daemon that somebody has taken over can do in its sandbox: nothing of what attack.c tries; and that what it
 * needs to serve is left to it.
 *
 * Each attempt runs in a process of its own, which starts a daemon exactly as tapdisk's main() does, up to the line
 * `ready`, and then runs the attacker's code in place of the daemon's: this hook is in this program alone.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "attack.h"
#include "control.h"
#include "rt/sanitize.h"
#include "testenv.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define BROKEN 2000 /* the daemon did not come as far as `ready` */

static struct testenv t;

/* ---- a daemon in its sandbox ---- */

static struct {
	struct daemon d;
	struct control *control;
	struct td_err err;
} tapdisk;

/* main()'s way. */
static int become_tapdisk(const struct daemon_options *o)
{
	int r = daemon_start(&tapdisk.d, o, &tapdisk.err);

	if (r == 0)
		r = control_start(&tapdisk.d, &tapdisk.control, &tapdisk.err);
	return r < 0 || !o->spec ? r : daemon_sandbox(&tapdisk.d, &tapdisk.err);
}

static const struct daemon_options usual = { .name = "disk", .engine = "auto", .depth = 8, .minor = -1 };

/* As the value of exit() is a byte, the result comes by a pipe. */
static int try_as(const struct daemon_options *o, int (*fn)(void))
{
	int fd[2], result = BROKEN, status;
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(600);
		if (become_tapdisk(o) < 0)
			fprintf(stderr, "the daemon: %s\n", tapdisk.err.msg);
		else
			result = fn();
		if (write(fd[1], &result, sizeof(result)) < 0)
			_exit(1);
		_exit(0);
	}
	close(fd[1]);
	if (read(fd[0], &result, sizeof(result)) != (ssize_t)sizeof(result))
		result = BROKEN;
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? KILLED : result;
}

static struct daemon_options serving(char *spec, size_t size, const char *format, const char *name)
{
	struct daemon_options o = usual;

	(void)snprintf(spec, size, "%s:%s", format, testenv_path(&t, name));
	o.spec = spec;
	return o;
}

static int try(int (*fn)(void))
{
	char spec[256];
	struct daemon_options o = serving(spec, sizeof(spec), "qcow2", "images/disk");

	return try_as(&o, fn);
}

static int try_read_only(int (*fn)(void))
{
	char spec[256];
	struct daemon_options o = serving(spec, sizeof(spec), "qcow2", "images/disk");

	o.read_only = true;
	return try_as(&o, fn);
}

/* ---- attempts ---- */

static int read_shadow_here(void *arg)
{
	(void)arg;
	return attack_read_shadow();
}

static int read_shadow_in_a_worker(void *arg)
{
	return td_pool_run(tapdisk.d.env.pool, read_shadow_here, arg);
}

static int read_shadow_by_the_pool(void)
{
	return td_loop_call(tapdisk.d.env.loop, read_shadow_in_a_worker, NULL);
}

static void check_attempts(const struct attempt *a)
{
	for (; a->what; a++) {
		int got = try(a->fn);

		if (got != a->want)
			fail_msg("%s: %d, not %d", a->what, got, a->want);
	}
}

static int has_landlock(void)
{
	return tapdisk.d.sandbox.landlock > 0 ? 0 : ENOSYS;
}

static int has_seccomp(void)
{
	return tapdisk.d.sandbox.seccomp ? 0 : ENOSYS;
}

/* ---- the tests ---- */

static void no_file_can_be_reached_but_those_of_the_disk(void **state)
{
	(void)state;
	if (try(has_landlock) != 0)
		skip();
	check_attempts(attack_files);
	assert_int_equal(try(read_shadow_by_the_pool), EACCES);
}

static void nothing_can_be_run_and_nobody_be_asked_to(void **state)
{
	(void)state;
	if (try(has_seccomp) != 0)
		skip();
	check_attempts(attack_calls);
#ifdef __x86_64__
	assert_int_not_equal(try(attack_call_as_an_older_machine), 0);
#endif
}

/* That the attempts above fail because of the sandbox. */
static void without_it_the_same_attempts_succeed(void **state)
{
	char spec[256];
	struct daemon_options o = serving(spec, sizeof(spec), "qcow2", "images/disk");

	(void)state;
	o.sandbox = "off";
	assert_int_equal(try_as(&o, attack_read_another_disk), 0);
	assert_int_equal(try_as(&o, attack_read_by_a_link), 0);
	assert_int_equal(try_as(&o, attack_list_a_folder), 0);
	assert_int_equal(try_as(&o, attack_fork_a_process), 0);
	assert_int_equal(try_as(&o, attack_run_what_was_written), 0);
	assert_int_equal(try_as(&o, attack_connect_to_a_service), 0);
	assert_int_equal(try_as(&o, attack_kill_the_parent), 0);
	assert_int_equal(try_as(&o, attack_make_a_file), 0);
	assert_int_equal(unlink(testenv_path(&t, "images/new")), 0);
}

/* A disk that is read-only is no way to write another. */
static void the_folder_of_a_disk_is_written_only_if_the_disk_is(void **state)
{
	(void)state;
	if (try(has_landlock) != 0)
		skip();
	assert_int_equal(try(attack_write_a_neighbour), 0);
	assert_int_equal(try_read_only(attack_write_a_neighbour), EACCES);
}

/* ---- what it needs ---- */

static int move_to(const char *name)
{
	char spec[256];
	int r = td_vbd_pause(tapdisk.d.vbd, &tapdisk.err);

	(void)snprintf(spec, sizeof(spec), "qcow2:%s", testenv_path(&t, name));
	if (r == 0)
		r = daemon_may_open(&tapdisk.d, spec, false, &tapdisk.err);
	return r < 0 ? r : td_vbd_unpause(tapdisk.d.vbd, spec, &tapdisk.err);
}

/* What a process keeps for the next one lies in the run-time directory as long as the disk is open. */
static bool something_is_kept(void)
{
	const struct td_image *im = td_vbd_image(tapdisk.d.vbd);
	char path[256];
	struct stat st;

	while (im->child)
		im = im->child;
	if (stat(im->path, &st) < 0)
		return false;
	(void)snprintf(path, sizeof(path), "%s/keep%llx.%llx", testenv_path(&t, "run"),
		       (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return access(path, F_OK) == 0;
}

static int live_snapshot(void *arg)
{
	struct td_image *im;
	char data[512];
	int r = move_to("images/overlay");

	(void)arg;
	if (r < 0)
		return r;
	im = (struct td_image *)(uintptr_t)td_vbd_image(tapdisk.d.vbd);
	memset(data, 'o', sizeof(data));
	r = td_image_pwrite(im, 0, data, sizeof(data), 0);
	if (r == 0 && !something_is_kept())
		r = -ENODATA;
	return r < 0 ? r : td_image_flush(im);
}

static int close_all(void *arg)
{
	(void)arg;
	return daemon_close(&tapdisk.d, &tapdisk.err);
}

static int open_spec(void *arg)
{
	return daemon_open(&tapdisk.d, arg, 0, NULL, NULL, 0, &tapdisk.err);
}

/* A new socket, a new file to keep, threads that come later; an end that leaves nothing. */
static int serve_on(void)
{
	char spec[256];
	int r = td_loop_call(tapdisk.d.env.loop, live_snapshot, NULL);

	if (r == 0)
		r = td_loop_call(tapdisk.d.env.loop, close_all, NULL);
	(void)snprintf(spec, sizeof(spec), "raw:%s", testenv_path(&t, "images/sibling"));
	if (r == 0)
		r = td_loop_call(tapdisk.d.env.loop, open_spec, spec);
	if (r == 0)
		daemon_end(&tapdisk.d);
	if (r == 0)
		r = daemon_run(&tapdisk.d);
	if (r < 0)
		fprintf(stderr, "%s\n", tapdisk.err.msg);
	control_free(tapdisk.control);
	daemon_free(&tapdisk.d);
	return -r;
}

static void what_a_disk_needs_is_left_to_it(void **state)
{
	char before[256];

	(void)state;
	/* What the attempts above left there. */
	(void)snprintf(before, sizeof(before), "%s", testenv_path(&t, "before"));
	assert_int_equal(rename(testenv_path(&t, "run"), before), 0);
	assert_int_equal(mkdir(testenv_path(&t, "run"), 0755), 0);
	assert_int_equal(try(serve_on), 0);
	assert_int_equal(rmdir(testenv_path(&t, "run")), 0); /* nothing is left in it */
	assert_int_equal(rename(before, testenv_path(&t, "run")), 0);
}

/* ---- what is refused with a sentence ---- */

static int move_elsewhere(void *arg)
{
	int r = move_to("elsewhere/disk");

	(void)arg;
	return r == -EACCES && strstr(tapdisk.err.msg, "elsewhere/disk") &&
			       strstr(tapdisk.err.msg, "--allow-write") &&
			       strstr(tapdisk.err.msg, TD_POLICY_CONF)
		       ? 0
		       : -EBADMSG;
}

static int ask_for_the_impossible(void)
{
	const struct daemon *d = &tapdisk.d;
	struct td_err *err = &tapdisk.err;
	int r;

	if (td_loop_call(d->env.loop, move_elsewhere, NULL) != 0)
		return 1;
	r = daemon_may_listen(d, "tcp::0", err);
	if (r != -EACCES || !strstr(err->msg, "--sandbox=off"))
		return 2;
	r = daemon_may_listen(d, "unix:/var/tmp/s", err);
	if (r != -EACCES || !strstr(err->msg, "unix:/var/tmp/s"))
		return 3;
	return 0;
}

static int move_where_it_is_allowed(void *arg)
{
	(void)arg;
	return move_to("elsewhere/disk");
}

static int move_once(void)
{
	return -td_loop_call(tapdisk.d.env.loop, move_where_it_is_allowed, NULL);
}

static void another_folder_is_refused_by_name_unless_it_is_allowed(void **state)
{
	char spec[256], dir[256];
	struct daemon_options o = serving(spec, sizeof(spec), "qcow2", "images/disk");

	(void)state;
	if (try(has_landlock) != 0)
		skip();
	assert_int_equal(try(ask_for_the_impossible), 0);
	(void)snprintf(dir, sizeof(dir), "%s", testenv_path(&t, "elsewhere"));
	o.allow[0] = dir;
	o.nr_allow = 1;
	assert_int_equal(try_as(&o, move_once), EACCES);
	assert_int_equal(try_as(&o, attack_read_another_disk), 0);
	o.allow_write[0] = true;
	assert_int_equal(try_as(&o, move_once), 0);
}

/* ---- when it is entered, and as whom ---- */

static int open_first_disk(void)
{
	char spec[256];

	if (attack_fork_a_process() != 0)
		return 1;
	(void)snprintf(spec, sizeof(spec), "qcow2:%s", testenv_path(&t, "images/disk"));
	if (td_loop_call(tapdisk.d.env.loop, open_spec, spec) != 0)
		return 2;
	return tapdisk.d.sandbox.on ? attack_fork_a_process() : 3;
}

static void a_daemon_without_a_disk_enters_it_with_the_first(void **state)
{
	(void)state;
	if (try(has_seccomp) != 0)
		skip();
	assert_int_equal(try_as(&usual, open_first_disk), KILLED);
}

static int who_am_i(void)
{
	struct stat st;

	if (getuid() != 65534 || geteuid() != 65534 || getgid() != 65534)
		return 1;
	/* Who talks to it is this user alone. */
	return stat(tapdisk.d.exports[0]->address + 5, &st) == 0 && st.st_uid == 65534 ? 0 : 2;
}

static void another_user_is_had_for_good(void **state)
{
	char spec[256];
	struct daemon_options o = serving(spec, sizeof(spec), "qcow2", "images/disk");

	(void)state;
	if (geteuid() != 0)
		skip();
	o.user = "65534:65534";
	assert_int_equal(try_as(&o, who_am_i), BROKEN); /* the run-time directory is root's */
	assert_int_equal(chown(testenv_path(&t, "run"), 65534, 65534), 0);
	assert_int_equal(try_as(&o, who_am_i), 0);
	assert_int_equal(try_as(&o, attack_read_shadow), EACCES);
	assert_int_equal(try_as(&o, serve_on), EACCES); /* another file of root's */
	assert_int_equal(chown(testenv_path(&t, "images/overlay"), 65534, 65534), 0);
	assert_int_equal(chown(testenv_path(&t, "images/sibling"), 65534, 65534), 0);
	assert_int_equal(try_as(&o, serve_on), 0);
	assert_int_equal(chown(testenv_path(&t, "run"), 0, 0), 0);
}

/* ---- the scene ---- */

static int listen_as_a_service(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	return fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1) < 0 ? -errno : 0;
}

static int make_scene(void **state)
{
	static const char *const folders[] = { "images", "elsewhere", "run" };
	int r = testenv_open(&t, "sync", "/tmp");

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(folders) && r == 0; i++)
		r = mkdir(testenv_path(&t, folders[i]), 0755) < 0 ? -errno : 0;
	if (r == 0)
		r = chmod(t.dir, 0755) < 0 ? -errno : 0;
	if (r == 0)
		r = test_create(&t, 1 << 20, NULL, false, "qcow2:%s", testenv_path(&t, "images/disk"));
	if (r == 0)
		r = test_create(&t, 1 << 20, NULL, false, "qcow2:%s", testenv_path(&t, "images/overlay"));
	if (r == 0)
		r = test_create(&t, 1 << 20, NULL, false, "raw:%s", testenv_path(&t, "images/sibling"));
	if (r == 0)
		r = test_create(&t, 1 << 20, NULL, false, "qcow2:%s", testenv_path(&t, "elsewhere/disk"));
	if (r == 0)
		r = symlink(testenv_path(&t, "elsewhere/disk"), testenv_path(&t, "images/way-out")) < 0
			    ? -errno
			    : 0;
	if (r == 0)
		r = listen_as_a_service(testenv_path(&t, "service"));
	attack_scene(t.dir, getpid());
	setenv("BLKTAP_RUN_DIR", testenv_path(&t, "run"), 1);
	setenv("BLKTAP_CONF", "/dev/null", 1);
	if (r < 0)
		fprintf(stderr, "%s\n", t.err.msg);
	return r;
}

static int clear_scene(void **state)
{
	(void)state;
	testenv_close(&t);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_it_the_same_attempts_succeed),
		cmocka_unit_test(no_file_can_be_reached_but_those_of_the_disk),
		cmocka_unit_test(nothing_can_be_run_and_nobody_be_asked_to),
		cmocka_unit_test(the_folder_of_a_disk_is_written_only_if_the_disk_is),
		cmocka_unit_test(what_a_disk_needs_is_left_to_it),
		cmocka_unit_test(another_folder_is_refused_by_name_unless_it_is_allowed),
		cmocka_unit_test(a_daemon_without_a_disk_enters_it_with_the_first),
		cmocka_unit_test(another_user_is_had_for_good),
	};

	if (TD_ANY_SANITIZER || RUNNING_ON_VALGRIND) {
		fprintf(stderr, "skipped: what looks at this process needs more than a sandbox leaves\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_scene, clear_scene);
}
