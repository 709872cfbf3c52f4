// SPDX-License-Identifier: BSD-2-Clause
/*
 * Starting and ending a tapdisk from a command.
 */
#include "ctl-time.h"
#include <blktap/ctl.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_ARGS 64

/* ---- which binary ---- */

/* The directory of the running command, with a slash; empty if it cannot be known. */
static void own_dir(char *dir, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", dir, size - 1);
	char *slash;

	dir[n > 0 ? n : 0] = '\0';
	slash = strrchr(dir, '/');
	if (slash)
		slash[1] = '\0';
}

char *td_ctl_tapdisk(void)
{
	static const char *const beside[] = { "tapdisk", "../sbin/tapdisk" };
	const char *env = getenv("BLKTAP_TAPDISK");
	char dir[1024];
	char *path;

	if (env && *env)
		return strdup(env);
	own_dir(dir, sizeof(dir));
	for (size_t i = 0; dir[0] && i < TD_NELEMS(beside); i++) {
		if (asprintf(&path, "%s%s", dir, beside[i]) < 0)
			return NULL;
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return strdup(TD_SBINDIR "/tapdisk");
}

/* ---- the child ---- */

/* Only async-signal-safe calls: the caller may have threads. */
static void child_exec(const char *path, char *const *argv, int out, int err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none,
		    NULL); /* the caller may be a worker thread, which has blocked them all */
	setsid();
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(127);
	execv(path, argv);
	dprintf(2, "cannot be started: %s\n", strerrordesc_np(errno));
	_exit(127);
}

/* ---- the parent: read both pipes until "ready" or the end ---- */

struct spawn {
	pid_t pid;
	int out, err; /* read ends; -1 when at their end */
	char out_text[1024], err_text[1024];
	size_t out_len, err_len;
};

static bool is_ready(const struct spawn *s)
{
	return strncmp(s->out_text, "ready\n", 6) == 0 || strstr(s->out_text, "\nready\n");
}

/* What came last is kept, the older half is dropped when it gets too much: the child never waits for us. */
static void drain(int *fd, char *text, size_t size, size_t *len)
{
	ssize_t n;

	if (*len + 1 >= size) {
		memmove(text, text + size / 2, *len - size / 2);
		*len -= size / 2;
	}
	n = read(*fd, text + *len, size - 1 - *len);
	if (n > 0) {
		*len += (size_t)n;
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		close(*fd);
		*fd = -1;
	}
	text[*len] = '\0';
}

static int wait_ready(struct spawn *s, uint64_t deadline_ms)
{
	while (!is_ready(s)) {
		struct pollfd p[2] = { { .fd = s->out, .events = POLLIN },
				       { .fd = s->err, .events = POLLIN } };
		int n;

		if (s->out < 0 && s->err < 0)
			return -EIO;
		n = poll(p, 2, ctl_ms_left(deadline_ms));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0 && p[0].revents)
			drain(&s->out, s->out_text, sizeof(s->out_text), &s->out_len);
		if (n > 0 && p[1].revents)
			drain(&s->err, s->err_text, sizeof(s->err_text), &s->err_len);
	}
	return 0;
}

/* The last line that the child wrote, without its name in front. */
static const char *last_sentence(struct spawn *s)
{
	char *line;

	while (s->err_len > 0 && s->err_text[s->err_len - 1] == '\n')
		s->err_text[--s->err_len] = '\0';
	line = strrchr(s->err_text, '\n');
	line = line ? line + 1 : s->err_text;
	return strncmp(line, "tapdisk: ", 9) == 0 ? line + 9 : line;
}

/* It did not become ready: end it for good, and say what it said. */
static int spawn_failed(struct spawn *s, const char *path, int r, struct td_err *ret_err)
{
	const char *said = last_sentence(s);

	kill(s->pid, SIGKILL);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (r == -ETIMEDOUT)
		return td_err_set(ret_err, r, "%s: did not become ready in time", path);
	return td_err_set(ret_err, r, "%s",
			  *said ? said : "tapdisk ended before it was ready, without a word");
}

static int spawn_start(struct spawn *s, const char *path, char *const *argv, struct td_err *ret_err)
{
	int out[2], err[2];

	if (pipe2(out, O_CLOEXEC) < 0)
		return td_err_set(ret_err, -errno, "pipe: %s", strerror(errno));
	if (pipe2(err, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return td_err_set(ret_err, -errno, "pipe: %s", strerror(errno));
	}
	s->pid = fork();
	if (s->pid == 0)
		child_exec(path, argv, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	s->out = out[0];
	s->err = err[0];
	return s->pid < 0 ? td_err_set(ret_err, -errno, "fork: %s", strerror(errno)) : 0;
}

int td_ctl_spawn(const char *const *args, unsigned timeout_ms, pid_t *ret_pid, struct td_err *ret_err)
{
	const char *argv[SPAWN_ARGS] = { "tapdisk", "-f", "--syslog" };
	struct spawn s = { .pid = -1, .out = -1, .err = -1 };
	td_cleanup(free) char *path = td_ctl_tapdisk();
	unsigned n = 3;
	int r;

	for (; *args; args++) {
		if (n == SPAWN_ARGS - 1)
			return td_err_set(ret_err, -E2BIG, "too many arguments for tapdisk");
		argv[n++] = *args;
	}
	if (!path)
		return td_err_set(ret_err, -ENOMEM, "no memory to start tapdisk");
	r = spawn_start(&s, path, (char *const *)argv, ret_err);
	if (r == 0) {
		r = wait_ready(&s, ctl_now_ms() + timeout_ms);
		if (r < 0)
			r = spawn_failed(&s, path, r, ret_err);
	}
	if (s.out >= 0)
		close(s.out);
	if (s.err >= 0)
		close(s.err);
	if (r == 0)
		*ret_pid = s.pid;
	return r;
}

/* ---- the end ---- */

/* A number is reused after its process: look at the name before sending a signal to it. */
static bool is_tapdisk(pid_t pid)
{
	char path[64], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(comm, sizeof(comm), f))
		comm[0] = '\0';
	fclose(f);
	return strcmp(comm, "tapdisk\n") == 0 || td_ctl_alive(pid);
}

static int wait_gone(int pidfd, pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	uint64_t deadline = ctl_now_ms() + timeout_ms;
	int n;

	do {
		n = poll(&p, 1, ctl_ms_left(deadline));
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return td_err_set(ret_err, -ETIMEDOUT,
				  "tapdisk %d: still runs; what it waits for is in its log", pid);
	waitpid(pid, NULL, WNOHANG); /* if it is our own child */
	return 0;
}

int td_ctl_terminate(pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	int pidfd = pidfd_open(pid, 0);
	int r = 0;

	if (pidfd < 0 && errno == ESRCH)
		return 0;
	if (pidfd < 0)
		return td_err_set(ret_err, -errno, "tapdisk %d: %s", pid, strerror(errno));
	if (!is_tapdisk(pid))
		r = 0; /* ours is gone; its number is somebody else's */
	else if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
		r = td_err_set(ret_err, -errno, "tapdisk %d: %s", pid, strerror(errno));
	else
		r = wait_gone(pidfd, pid, timeout_ms, ret_err);
	close(pidfd);
	return r;
}
