// SPDX-License-Identifier: BSD-2-Clause
/* Two writers never have one disk: among ourselves, and against QEMU's tools, in both directions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "testenv.h"

static struct testenv env;

static bool have(const char *program)
{
	char cmd[96];

	(void)snprintf(cmd, sizeof(cmd), "command -v %s >/dev/null 2>&1", program);
	return system(cmd) == 0; /* NOLINT(cert-env33-c): a fixed word */
}

static void need(const char *program)
{
	if (!have(program)) {
		printf("# %s is not installed (Debian: qemu-utils)\n", program);
		skip();
	}
}

/* A command; "@" stands for the test's folder.  Its exit code. */
static int sh(const char *text)
{
	char cmd[1024], *out = cmd;

	for (; *text && out < cmd + sizeof(cmd) - 128; text++) {
		if (*text == '@')
			out = stpcpy(out, env.dir);
		else
			*out++ = *text;
	}
	(void)strcpy(out, " >/dev/null 2>&1");
	return WEXITSTATUS(system(cmd)); /* NOLINT(cert-env33-c): a test's own text */
}

/* qemu-io with the file open, until holder_end. */
struct holder {
	pid_t pid;
	int in;
};

/* It has opened the file when its prompt comes. */
static void wait_for_prompt(int fd)
{
	char text[256] = "";
	size_t have_len = 0;

	while (!strstr(text, "qemu-io>") && have_len < sizeof(text) - 1) {
		ssize_t got = read(fd, text + have_len, sizeof(text) - 1 - have_len);

		if (got <= 0)
			fail_msg("qemu-io did not open the file: %s", text);
		have_len += (size_t)got;
	}
}

static struct holder hold(const char *format, const char *name, bool read_only)
{
	const char *path = testenv_path(&env, name);
	int in[2], out[2];
	struct holder h;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	h.pid = fork();
	assert_true(h.pid >= 0);
	if (h.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		if (read_only)
			execlp("qemu-io", "qemu-io", "-r", "-f", format, path, NULL);
		else
			execlp("qemu-io", "qemu-io", "-f", format, path, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	h.in = in[1];
	wait_for_prompt(out[0]);
	close(out[0]);
	return h;
}

static void let_go(struct holder h)
{
	close(h.in); /* end of input ends it */
	assert_int_equal(waitpid(h.pid, NULL, 0), h.pid);
}

/* Try to open; the result. */
static int try_open(unsigned flags, const char *name)
{
	struct td_image *im = NULL;
	int r;

	env.err.msg[0] = 0;
	r = test_open(&env, &im, flags, "aio:%s/%s", env.dir, name);
	if (r == 0)
		assert_int_equal(test_close(&env, im), 0);
	if (r == -EBUSY)
		assert_non_null(strstr(env.err.msg, name));
	return r;
}

/* As the file below a format. */
#define FILE_RW TD_OPEN_GROW
#define FILE_RO (TD_OPEN_GROW | TD_OPEN_RDONLY)

static void many_readers_or_one_writer(void **state)
{
	struct td_image *a, *b;

	(void)state;
	assert_int_equal(test_open(&env, &a, 0, "aio:%s/raw", env.dir), 0);
	assert_int_equal(try_open(0, "raw"), -EBUSY);
	assert_int_equal(try_open(FILE_RW, "raw"), -EBUSY);
	assert_int_equal(try_open(TD_OPEN_RDONLY, "raw"), -EBUSY);
	assert_int_equal(try_open(TD_OPEN_BACKING, "raw"), -EBUSY);
	assert_int_equal(try_open(TD_OPEN_RDONLY | TD_OPEN_NO_LOCK, "raw"), 0);
	assert_int_equal(test_close(&env, a), 0);

	assert_int_equal(test_open(&env, &a, TD_OPEN_RDONLY, "aio:%s/raw", env.dir), 0);
	assert_int_equal(test_open(&env, &b, TD_OPEN_BACKING, "aio:%s/raw", env.dir), 0);
	assert_int_equal(try_open(TD_OPEN_RDONLY, "raw"), 0);
	assert_int_equal(try_open(0, "raw"), -EBUSY);
	assert_int_equal(test_close(&env, a), 0);
	assert_int_equal(try_open(0, "raw"), -EBUSY); /* the other is still there */
	assert_int_equal(test_close(&env, b), 0);
	assert_int_equal(try_open(0, "raw"), 0);
}

static void the_lock_outlives_other_descriptors_of_the_file(void **state)
{
	struct td_image *im;

	(void)state;
	assert_int_equal(test_open(&env, &im, 0, "aio:%s/raw", env.dir), 0);
	close(open(testenv_path(&env, "raw"), O_RDWR)); /* would drop a process's POSIX locks */
	assert_int_equal(try_open(0, "raw"), -EBUSY);
	assert_int_equal(test_close(&env, im), 0);
}

static void lock_off_goes_without(void **state)
{
	struct td_image *a, *b;

	(void)state;
	assert_int_equal(test_open(&env, &a, 0, "aio:%s/raw", env.dir), 0);
	assert_int_equal(test_open(&env, &b, 0, "aio(lock=off):%s/raw", env.dir), 0);
	assert_int_equal(test_close(&env, b), 0);
	assert_int_equal(try_open(0, "raw"), -EBUSY);
	assert_int_equal(test_close(&env, a), 0);
}

static void qemu_is_refused_what_we_write(void **state)
{
	struct td_image *im;

	(void)state;
	need("qemu-io");
	assert_int_equal(sh("qemu-io -f raw -c 'write 0 512' @/raw"), 0);
	assert_int_equal(test_open(&env, &im, 0, "aio:%s/raw", env.dir), 0);
	assert_int_not_equal(sh("qemu-io -f raw -c 'write 0 512' @/raw"), 0);
	assert_int_not_equal(sh("timeout 5 qemu-nbd -f raw -k @/socket @/raw"), 0);
	assert_int_equal(sh("qemu-io -U -r -f raw -c 'read 0 512' @/raw"), 0);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(sh("qemu-io -f raw -c 'write 0 512' @/raw"), 0);

	assert_int_equal(test_open(&env, &im, FILE_RW, "aio:%s/q", env.dir), 0);
	assert_int_not_equal(sh("qemu-io -f qcow2 -c 'write 0 512' @/q"), 0);
	assert_int_not_equal(sh("qemu-io -r -f qcow2 -c 'read 0 512' @/q"), 0);
	assert_int_not_equal(sh("qemu-img info @/q"), 0);
	assert_int_equal(sh("qemu-img info -U @/q"), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void qemu_may_read_what_we_read_and_not_write_it(void **state)
{
	struct td_image *im;

	(void)state;
	need("qemu-io");
	assert_int_equal(test_open(&env, &im, TD_OPEN_RDONLY, "aio:%s/raw", env.dir), 0);
	assert_int_equal(sh("qemu-io -r -f raw -c 'read 0 512' @/raw"), 0);
	assert_int_not_equal(sh("qemu-io -f raw -c 'write 0 512' @/raw"), 0);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(test_open(&env, &im, FILE_RO, "aio:%s/q", env.dir), 0);
	assert_int_equal(sh("qemu-io -r -f qcow2 -c 'read 0 512' @/q"), 0);
	assert_int_not_equal(sh("qemu-io -f qcow2 -c 'write 0 512' @/q"), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static void we_are_refused_what_qemu_writes(void **state)
{
	static const char *const names[][2] = { { "raw", "raw" }, { "qcow2", "q" } };

	(void)state;
	need("qemu-io");
	for (unsigned i = 0; i < 2; i++) {
		struct holder h = hold(names[i][0], names[i][1], false);

		assert_int_equal(try_open(0, names[i][1]), -EBUSY);
		assert_int_equal(try_open(FILE_RW, names[i][1]), -EBUSY);
		assert_int_equal(try_open(TD_OPEN_RDONLY, names[i][1]), -EBUSY);
		assert_int_equal(try_open(FILE_RO | TD_OPEN_BACKING, names[i][1]), -EBUSY);
		assert_int_equal(try_open(FILE_RO | TD_OPEN_NO_LOCK, names[i][1]), 0);
		let_go(h);
		assert_int_equal(try_open(0, names[i][1]), 0);
	}
}

static void we_read_beside_qemu_readers(void **state)
{
	struct holder h;

	(void)state;
	need("qemu-io");
	h = hold("qcow2", "q", true);
	assert_int_equal(try_open(FILE_RO, "q"), 0);
	assert_int_equal(try_open(FILE_RW, "q"), -EBUSY); /* it does not bear changes of its metadata */
	let_go(h);
	h = hold("raw", "raw", true);
	assert_int_equal(try_open(TD_OPEN_RDONLY, "raw"), 0);
	assert_int_equal(try_open(0, "raw"), 0); /* a reader of a raw disk does */
	let_go(h);
}

/* Until a server there says its first word: the socket is older than the lock. */
static void wait_for_greeting(const char *path)
{
	const struct timespec tick = { .tv_nsec = 20000000 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char word;

	assert_true(fd >= 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	for (unsigned i = 0; i < 10000 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0; i++)
		nanosleep(&tick, NULL);
	assert_int_equal(read(fd, &word, 1), 1);
	close(fd);
}

static void we_are_refused_what_qemu_nbd_serves(void **state)
{
	const char *path = testenv_path(&env, "raw"), *served = testenv_path(&env, "served");
	pid_t pid;

	(void)state;
	need("qemu-nbd");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execlp("qemu-nbd", "qemu-nbd", "-t", "-f", "raw", "-k", served, path, NULL);
		_exit(127);
	}
	wait_for_greeting(served);
	assert_int_equal(try_open(0, "raw"), -EBUSY);
	assert_int_equal(try_open(TD_OPEN_RDONLY, "raw"), -EBUSY);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(try_open(0, "raw"), 0);
}

static int setup(void **state)
{
	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	if (testenv_open(&env, "sync", NULL) < 0 || sh("truncate -s 1M @/raw") != 0)
		return -1;
	if (have("qemu-img"))
		return sh("qemu-img create -f qcow2 @/q 1M");
	return 0;
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
		cmocka_unit_test(many_readers_or_one_writer),
		cmocka_unit_test(the_lock_outlives_other_descriptors_of_the_file),
		cmocka_unit_test(lock_off_goes_without),
		cmocka_unit_test(qemu_is_refused_what_we_write),
		cmocka_unit_test(qemu_may_read_what_we_read_and_not_write_it),
		cmocka_unit_test(we_are_refused_what_qemu_writes),
		cmocka_unit_test(we_read_beside_qemu_readers),
		cmocka_unit_test(we_are_refused_what_qemu_nbd_serves),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
