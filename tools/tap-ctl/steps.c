// SPDX-License-Identifier: BSD-2-Clause
/*
 * Control messages as functions; see steps.h and blktap-control(7).
 */
#include <blktap/ctl.h>
#include <blktap/log.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "steps.h"

unsigned step_timeout_ms(int seconds, unsigned otherwise_ms)
{
	if (seconds < 0)
		return otherwise_ms;
	return seconds > INT_MAX / 1000 ? (unsigned)INT_MAX : (unsigned)seconds * 1000u;
}

uint64_t step_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int call(pid_t pid, json_t *msg, unsigned timeout_ms, struct td_err *ret_err)
{
	const char *cmd = json_string_value(json_object_get(msg, "cmd"));

	if (!msg)
		return td_err_set(ret_err, -EINVAL,
				  "tapdisk %d: a name that is not UTF-8 cannot be sent, "
				  "or there is no memory",
				  (int)pid);
	td_debug("tapdisk %d: %s", (int)pid, cmd ? cmd : "");
	return td_ctl_call(pid, msg, timeout_ms, NULL, ret_err);
}

int step_attach(pid_t pid, int minor, struct td_err *ret_err)
{
	return call(pid, json_pack("{s:s, s:i}", "cmd", "attach", "minor", minor), QUICK_TIMEOUT_MS, ret_err);
}

int step_detach(pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	return call(pid, json_pack("{s:s}", "cmd", "detach"), timeout_ms, ret_err);
}

/* What is not given is not said.  Takes msg; NULL: no memory. */
static json_t *add_policy(json_t *msg, const struct policy_request *q)
{
	int r = msg ? 0 : -1;

	if (r == 0 && q->on_enospc)
		r = json_object_set_new(msg, "on_enospc", json_string(q->on_enospc));
	if (r == 0 && q->request_timeout >= 0)
		r = json_object_set_new(msg, "request_timeout", json_integer(q->request_timeout));
	if (r == 0)
		return msg;
	json_decref(msg);
	return NULL;
}

/* What is not said is the daemon's to choose: an option in the specification, or its default. */
static json_t *open_message(const struct disk_request *q, const char *nbd)
{
	json_t *msg = json_pack("{s:s, s:s, s:b, s:[s]}", "cmd", "open", "spec", q->spec, "read_only",
				q->read_only, "nbd", nbd);

	if (msg && q->no_direct && json_object_set_new(msg, "direct", json_false()) < 0) {
		json_decref(msg);
		return NULL;
	}
	return msg;
}

int step_open(pid_t pid, int minor, const struct disk_request *q, struct td_err *ret_err)
{
	td_cleanup(free) char *socket = NULL, *address = NULL;
	int r;

	r = td_run_path(&socket, ret_err, "nbd%d.%d", (int)pid, minor);
	if (r < 0)
		return r;
	if (asprintf(&address, "unix:%s", socket) < 0) {
		address = NULL;
		return -ENOMEM;
	}
	return call(pid, add_policy(open_message(q, address), &q->policy), OPEN_TIMEOUT_MS, ret_err);
}

int step_close(pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	return call(pid, json_pack("{s:s}", "cmd", "close"), timeout_ms, ret_err);
}

int step_pause(pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	return call(pid, json_pack("{s:s}", "cmd", "pause"), timeout_ms, ret_err);
}

int step_unpause(pid_t pid, const char *spec, struct td_err *ret_err)
{
	json_t *msg = spec ? json_pack("{s:s, s:s}", "cmd", "unpause", "spec", spec)
			   : json_pack("{s:s}", "cmd", "unpause");

	return call(pid, msg, OPEN_TIMEOUT_MS, ret_err);
}

int step_resize(pid_t pid, uint64_t size, unsigned timeout_ms, struct td_err *ret_err)
{
	return call(pid, json_pack("{s:s, s:I}", "cmd", "resize", "size", (json_int_t)size), timeout_ms,
		    ret_err);
}

int step_set(pid_t pid, const char *driver, const char *options, struct td_err *ret_err)
{
	return call(pid, json_pack("{s:s, s:s, s:s}", "cmd", "set", "driver", driver, "options", options),
		    QUICK_TIMEOUT_MS, ret_err);
}

int step_policy(pid_t pid, const struct policy_request *q, struct td_err *ret_err)
{
	return call(pid, add_policy(json_pack("{s:s}", "cmd", "policy"), q), QUICK_TIMEOUT_MS, ret_err);
}

/* ---- what a dead daemon leaves ---- */

/* ctl<pid>, nbd<pid>, nbd<pid>.<minor>: and nothing of pid 12 when the pid is 1. */
static bool is_socket_of(const char *name, pid_t pid)
{
	char *end;
	long of;

	if (strncmp(name, "ctl", 3) != 0 && strncmp(name, "nbd", 3) != 0)
		return false;
	of = strtol(name + 3, &end, 10);
	return end > name + 3 && of == pid && (*end == '\0' || *end == '.');
}

int step_sweep(pid_t pid, struct td_err *ret_err)
{
	const char *dir;
	struct dirent *e;
	DIR *d;
	int r = td_run_dir_open(&dir, &d, ret_err);

	if (r < 0)
		return r;
	while ((e = readdir(d)))
		if (is_socket_of(e->d_name, pid) && unlinkat(dirfd(d), e->d_name, 0) < 0 && errno != ENOENT)
			r = td_err_set(ret_err, -errno, "%s/%s: %s", dir, e->d_name, strerror(errno));
	closedir(d);
	return r;
}
