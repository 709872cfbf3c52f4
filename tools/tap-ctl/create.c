// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl create: allocate a minor, spawn a daemon, attach the one to the other, open the disk.  All of it or
 * nothing: what was done before a step fails is undone.
 */
#include <blktap/ctl.h>
#include <blktap/log.h>

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "minor.h"
#include "open.h"
#include "tools/common/print.h"
#include "verbs.h"

struct create_args {
	struct cli_common common;
	struct disk_args disk;
	const char *device, *slice;
};

struct creation {
	int minor;
	char *marker;
	pid_t pid;
};

/* ---- the way back ---- */

/* What a signal has to undo: written before it is there. */
static const char *volatile undo_marker;
static volatile pid_t undo_pid;

/*
 * Interrupted: the daemon ends by itself, after what it is about.  It may still hold its minor when that is free again,
 * which does no harm: its sockets have its own pid in their names.
 */
static void on_interrupt(int signo)
{
	const char *marker = undo_marker;

	if (undo_pid > 0)
		kill(undo_pid, SIGTERM);
	if (marker)
		unlink(marker);
	_exit(128 + signo);
}

static void undo_when_interrupted(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_interrupt };

	for (unsigned i = 0; i < TD_NELEMS(signals); i++)
		sigaction(signals[i], &sa, NULL);
}

/* The daemon first: a marker must not be given back while a daemon still has the minor. */
static void undo(const struct creation *c)
{
	struct td_err err = { .msg = "" };

	if (c->pid > 0 && td_ctl_terminate(c->pid, CLOSE_TIMEOUT_MS, &err) < 0)
		td_error("tapdisk %d is left behind: %s", (int)c->pid, err.msg);
	else if (c->minor >= 0 && minor_free(c->minor, MINOR_ANYBODYS, &err) < 0)
		td_error("minor %d is left behind: %s", c->minor, err.msg);
}

/* ---- the verb ---- */

static int create(struct creation *c, const struct disk_request *q, struct td_err *ret_err)
{
	static const char *const no_args[] = { NULL };
	int r;

	r = minor_alloc(&c->minor, &c->marker, ret_err);
	if (r < 0)
		return r;
	undo_marker = c->marker;
	r = td_ctl_spawn(no_args, SPAWN_TIMEOUT_MS, &c->pid, ret_err);
	if (r < 0)
		return r;
	undo_pid = c->pid;
	td_debug("tapdisk %d spawned for minor %d", (int)c->pid, c->minor);
	r = step_attach(c->pid, c->minor, ret_err);
	if (r == 0)
		r = step_open(c->pid, c->minor, q, ret_err);
	return r;
}

static int print_creation(const struct creation *c, bool json)
{
	if (json)
		return print_json(json_pack("{s:i, s:i, s:s}", "pid", (int)c->pid, "minor", c->minor, "path",
					    c->marker));
	printf("%s\n", c->marker);
	return fflush(stdout) == EOF ? -errno : 0; /* unread it would be a disk that nobody knows of */
}

static int refuse(const struct create_args *args, struct td_err *ret_err)
{
	if (args->device)
		return td_err_set(ret_err, -ENOTSUP, "%s", NO_DEVICE);
	return args->slice ? td_err_set(ret_err, -ENOTSUP, "%s", NO_SLICE) : 0;
}

static int create_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct create_args *args = arg;
	struct creation c = { .minor = -1, .pid = -1 };
	td_cleanup(free) char *spec = NULL;
	struct disk_request q;
	int r;

	(void)operands, (void)nr;
	r = refuse(args, ret_err);
	if (r == 0)
		r = disk_request(&args->disk, &q, &spec, ret_err);
	if (r < 0)
		return r;
	undo_when_interrupted();
	r = create(&c, &q, ret_err);
	if (r == 0)
		r = print_creation(&c, args->common.json);
	if (r < 0)
		undo(&c);
	free(c.marker);
	return r;
}

static const struct cli_opt create_opts[] = {
	OPT_DISK(struct create_args),
	OPT_DEVICE(struct create_args),
	OPT_SLICE(struct create_args),
};

const struct cli_cmd create_cmd = {
	.name = "create",
	.synopsis = "-a TYPE:PATH [-R] [-D] [-r] [-t SECONDS] [--on-enospc DO] [--json]",
	.summary = "start a tapdisk that serves a disk; print its marker file",
	.opts = create_opts,
	.nr_opts = TD_NELEMS(create_opts),
	.args_size = sizeof(struct create_args),
	.run = create_run,
};
