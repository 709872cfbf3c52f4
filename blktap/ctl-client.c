// SPDX-License-Identifier: BSD-2-Clause
/*
 * The commands' side of the control socket: one request, one answer, each a JSON object on a line of its own.
 * Blocking, with a deadline.  What the messages say is documented in blktap-control(7).
 */
#include "ctl-time.h"
#include <blktap/ctl.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define EVENTS_TIMEOUT_MS 10000u
#define REPLY_MAX         (1u << 20) /* a deep chain with its statistics is some KiB */

struct call {
	pid_t pid;
	int fd;
	uint64_t deadline_ms;
	bool exact; /* read nothing behind the answer's line: what follows is not ours */
};

static int wait_for(const struct call *c, short events, struct td_err *ret_err)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	int n;

	do {
		n = poll(&p, 1, ctl_ms_left(c->deadline_ms));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return td_err_set(ret_err, -errno, "tapdisk %d: poll: %s", c->pid, strerror(errno));
	if (n == 0)
		return td_err_set(ret_err, -ETIMEDOUT, "tapdisk %d: no answer in time", c->pid);
	return 0;
}

static int ctl_address(pid_t pid, struct sockaddr_un *ret_sa, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	int r;

	r = td_run_path(&path, ret_err, "ctl%d", pid);
	if (r < 0)
		return r;
	if (strlen(path) >= sizeof(ret_sa->sun_path))
		return td_err_set(ret_err, -ENAMETOOLONG,
				  "%s: too long for a socket; set BLKTAP_RUN_DIR shorter", path);
	memset(ret_sa, 0, sizeof(*ret_sa));
	ret_sa->sun_family = AF_UNIX;
	memcpy(ret_sa->sun_path, path, strlen(path) + 1);
	return 0;
}

/* The listener's queue may be full (EAGAIN): then it is alive, and we try again until the deadline. */
static int call_connect(struct call *c, struct td_err *ret_err)
{
	struct sockaddr_un sa;
	int r;

	r = ctl_address(c->pid, &sa, ret_err);
	if (r < 0)
		return r;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return td_err_set(ret_err, -errno, "socket: %s", strerror(errno));
	while (connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return td_err_set(ret_err, -errno, "tapdisk %d: %s: %s", c->pid, sa.sun_path,
					  strerror(errno));
		if (ctl_ms_left(c->deadline_ms) == 0)
			return td_err_set(ret_err, -ETIMEDOUT, "tapdisk %d: takes no connection", c->pid);
		usleep(10000);
	}
	return 0;
}

static int call_send(const struct call *c, const char *text, size_t len, struct td_err *ret_err)
{
	ssize_t n;
	int r;

	while (len > 0) {
		n = send(c->fd, text, len, MSG_NOSIGNAL);
		if (n >= 0) {
			text += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			r = wait_for(c, POLLOUT, ret_err);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return td_err_set(ret_err, -errno, "tapdisk %d: send: %s", c->pid, strerror(errno));
		}
	}
	return 0;
}

/* Reads one line; the newline is dropped. *ret_line is the caller's. */
static int call_receive(const struct call *c, char **ret_line, size_t *ret_len, struct td_err *ret_err)
{
	td_cleanup(free) char *line = malloc(REPLY_MAX);
	size_t have = 0;
	ssize_t n;
	int r;

	if (!line)
		return td_err_set(ret_err, -ENOMEM, "no memory for an answer");
	for (;;) {
		r = wait_for(c, POLLIN, ret_err);
		if (r < 0)
			return r;
		n = recv(c->fd, line + have, c->exact ? 1 : REPLY_MAX - have, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return td_err_set(ret_err, n < 0 ? -errno : -EPIPE,
					  "tapdisk %d: went away without an answer", c->pid);
		have += (size_t)n;
		if (line[have - 1] == '\n')
			break;
		if (have == REPLY_MAX)
			return td_err_set(ret_err, -EMSGSIZE, "tapdisk %d: the answer is too long", c->pid);
	}
	*ret_line = line;
	*ret_len = have - 1;
	line = NULL;
	return 0;
}

/* The names that a daemon may answer with; the errno of any other is EIO. */
static int errno_by_name(const char *name)
{
	for (int e = 1; name && e < 134; e++) {
		const char *n = strerrorname_np(e);

		if (n && strcmp(n, name) == 0)
			return e;
	}
	return EIO;
}

static int parse_reply(pid_t pid, const char *line, size_t len, json_t **ret_reply, struct td_err *ret_err)
{
	json_t *reply = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const char *name = NULL, *sentence = NULL;
	int ok = 0, r;

	if (!reply ||
	    json_unpack(reply, "{s:b,s?s,s?s}", "ok", &ok, "errno", &name, "error", &sentence) < 0) {
		json_decref(reply);
		return td_err_set(ret_err, -EPROTO, "tapdisk %d: the answer is not one of ours", pid);
	}
	if (!ok) {
		r = td_err_set(ret_err, -errno_by_name(name), "%s", sentence ? sentence : "refused");
		json_decref(reply);
		return r;
	}
	if (ret_reply)
		*ret_reply = reply;
	else
		json_decref(reply);
	return 0;
}

static int call_run(struct call *c, const char *text, size_t len, json_t **ret_reply, struct td_err *ret_err)
{
	td_cleanup(free) char *line = NULL;
	size_t line_len = 0;
	int r;

	r = call_connect(c, ret_err);
	if (r == 0)
		r = call_send(c, text, len, ret_err);
	if (r == 0)
		r = call_receive(c, &line, &line_len, ret_err);
	return r < 0 ? r : parse_reply(c->pid, line, line_len, ret_reply, ret_err);
}

/* The connection stays open; the reference to request is taken. */
static int call_json(struct call *c, json_t *request, json_t **ret_reply, struct td_err *ret_err)
{
	td_cleanup(free) char *text = NULL;
	size_t len;

	text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!text)
		return td_err_set(ret_err, -ENOMEM, "no memory for a request");
	len = strlen(text);
	text[len] = '\n'; /* in place of the NUL: the length is kept beside */
	return call_run(c, text, len + 1, ret_reply, ret_err);
}

int td_ctl_call(pid_t pid, json_t *request, unsigned timeout_ms, json_t **ret_reply, struct td_err *ret_err)
{
	struct call c = { .pid = pid, .fd = -1, .deadline_ms = ctl_now_ms() + timeout_ms };
	int r = call_json(&c, request, ret_reply, ret_err);

	if (c.fd >= 0)
		close(c.fd);
	return r;
}

int td_ctl_events(pid_t pid, int *ret_fd, struct td_err *ret_err)
{
	struct call c = {
		.pid = pid, .fd = -1, .deadline_ms = ctl_now_ms() + EVENTS_TIMEOUT_MS, .exact = true
	};
	int r = call_json(&c, json_pack("{s:s}", "cmd", "events"), NULL, ret_err);

	if (r == 0)
		*ret_fd = c.fd;
	else if (c.fd >= 0)
		close(c.fd);
	return r;
}

static int compare_pids(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

/* "ctl1234" to 1234; 0 for any other name. */
static pid_t pid_of_name(const char *name)
{
	char *end;
	long pid;

	if (strncmp(name, "ctl", 3) != 0 || name[3] < '1' || name[3] > '9')
		return 0;
	errno = 0;
	pid = strtol(name + 3, &end, 10);
	return *end == '\0' && errno == 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static int collect_pids(DIR *d, pid_t **ret_pids, size_t *ret_nr)
{
	td_cleanup(free) pid_t *pids = NULL;
	size_t nr = 0, room = 0;
	struct dirent *e;

	/* cppcheck-suppress readdirCalled ; of a stream of our own */
	while ((e = readdir(d))) {
		pid_t pid = pid_of_name(e->d_name);

		if (!pid)
			continue;
		if (nr == room) {
			pid_t *more = reallocarray(pids, room = room ? room * 2 : 64, sizeof(*pids));

			if (!more)
				return -ENOMEM;
			pids = more;
		}
		pids[nr++] = pid;
	}
	if (nr > 0)
		qsort(pids, nr, sizeof(*pids), compare_pids);
	*ret_pids = pids;
	*ret_nr = nr;
	pids = NULL;
	return 0;
}

int td_ctl_pids(pid_t **ret_pids, size_t *ret_nr, struct td_err *ret_err)
{
	const char *dir;
	DIR *d;
	int r = td_run_dir_open(&dir, &d, ret_err);

	if (r < 0)
		return r;
	r = collect_pids(d, ret_pids, ret_nr);
	closedir(d);
	return r < 0 ? td_err_set(ret_err, r, "no memory for the list of daemons") : 0;
}

bool td_ctl_alive(pid_t pid)
{
	if (kill(pid, 0) < 0 && errno != EPERM)
		return false;
	return td_ctl_call(pid, json_pack("{s:s}", "cmd", "info"), 2000, NULL, NULL) == 0;
}
