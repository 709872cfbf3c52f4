// SPDX-License-Identifier: BSD-2-Clause
/*
 * td_ctl_events: what comes behind the answer on the same connection is the caller's, however it is cut up.  The
 * daemon is played by a thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <blktap/ctl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct test {
	char dir[64], path[108];
	int listener;
	pthread_t thread;
	const char *answer; /* all of it, in one piece */
	char request[256];
};

static void *play(void *arg)
{
	struct test *x = arg;
	/* cppcheck-suppress nullPointer ; no address is wanted */
	int fd = accept(x->listener, NULL, NULL);
	size_t have = 0;

	while (have < sizeof(x->request) - 1 && !memchr(x->request, '\n', have)) {
		ssize_t n = recv(fd, x->request + have, sizeof(x->request) - 1 - have, 0);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	td_ignore((int)send(fd, x->answer, strlen(x->answer), MSG_NOSIGNAL));
	close(fd);
	return NULL;
}

static struct test *setup(const char *answer)
{
	struct test *x = calloc(1, sizeof(*x));
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	assert_non_null(x);
	x->answer = answer;
	strcpy(x->dir, "/tmp/bt.events.XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	assert_int_equal(setenv("BLKTAP_RUN_DIR", x->dir, 1), 0);
	snprintf(x->path, sizeof(x->path), "%s/ctl%d", x->dir, getpid());
	strcpy(sa.sun_path, x->path);
	x->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(x->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(x->listener, 1), 0);
	assert_int_equal(pthread_create(&x->thread, NULL, play, x), 0);
	return x;
}

static void teardown(struct test *x)
{
	pthread_join(x->thread, NULL);
	close(x->listener);
	unlink(x->path);
	rmdir(x->dir);
	free(x);
}

static void events_behind_the_answer_are_the_callers(void **state)
{
	static const char event[] = "{\"event\":\"size\",\"size\":512}\n";
	struct test *x = setup("{\"ok\":true}\n{\"event\":\"size\",\"size\":512}\n");
	struct pollfd p = { .events = POLLIN };
	char got[256];
	ssize_t n;

	(void)state;
	assert_int_equal(td_ctl_events(getpid(), &p.fd, NULL), 0);
	assert_string_equal(x->request, "{\"cmd\":\"events\"}\n");
	assert_int_equal(poll(&p, 1, 10000), 1);
	n = read(p.fd, got, sizeof(got));
	assert_int_equal(n, sizeof(event) - 1);
	assert_memory_equal(got, event, sizeof(event) - 1);
	pthread_join(x->thread, NULL);
	assert_int_equal(read(p.fd, got, sizeof(got)), 0); /* the daemon's end */
	assert_int_equal(close(p.fd), 0);
	assert_int_equal(pthread_create(&x->thread, NULL, play, x), 0);
	assert_int_equal(td_ctl_events(getpid(), &p.fd, NULL), 0);
	assert_true(read(p.fd, got, sizeof(got)) > 0 || errno == EAGAIN);
	close(p.fd);
	teardown(x);
}

static void a_refusal_is_an_error(void **state)
{
	struct test *x = setup("{\"ok\":false,\"errno\":\"ENOSYS\",\"error\":\"too old\"}\n");
	struct td_err err = { "" };
	int fd = -1;

	(void)state;
	assert_int_equal(td_ctl_events(getpid(), &fd, &err), -ENOSYS);
	assert_non_null(strstr(err.msg, "too old"));
	assert_int_equal(fd, -1);
	teardown(x);
}

static void nobody_there_is_an_error(void **state)
{
	struct test *x = setup("");
	int fd = -1;

	(void)state;
	assert_int_equal(td_ctl_events(getpid(), &fd, NULL), -EPIPE);
	assert_int_equal(fd, -1);
	teardown(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_behind_the_answer_are_the_callers),
		cmocka_unit_test(a_refusal_is_an_error),
		cmocka_unit_test(nobody_there_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
