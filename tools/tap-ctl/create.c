// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl create: allocate a minor, spawn a daemon, attach the one to the other, open the disk.  All of it or
 * nothing: what was done before a step fails is undone.
 */
#include <blktap/ctl.h>
#include <blktap/log.h>

#include <stdio.h>

#include "minor.h"
#include "steps.h"
#include "tools/common/diskspec.h"
#include "tools/common/print.h"
#include "verbs.h"

struct create_args {
	struct cli_common common;
	const char *spec;
	bool read_only, no_direct;
};

struct creation {
	int minor;
	char *marker;
	pid_t pid, marked; /* the daemon; what the marker holds */
};

/* The daemon first: a marker must not be given back while a daemon still has the minor. */
static void undo(const struct creation *c)
{
	struct td_err err = { .msg = "" };

	if (c->pid > 0 && td_ctl_terminate(c->pid, CLOSE_TIMEOUT_MS, &err) < 0)
		td_error("tapdisk %d is left behind: %s", (int)c->pid, err.msg);
	else if (c->minor >= 0 && minor_free(c->minor, c->marked, &err) < 0)
		td_error("minor %d is left behind: %s", c->minor, err.msg);
}

static int create(struct creation *c, const struct create_args *args, const char *spec,
		  struct td_err *ret_err)
{
	static const char *const no_args[] = { NULL };
	int r;

	r = minor_alloc(&c->minor, &c->marker, ret_err);
	if (r < 0)
		return r;
	r = td_ctl_spawn(no_args, SPAWN_TIMEOUT_MS, &c->pid, ret_err);
	if (r < 0)
		return r;
	td_debug("tapdisk %d spawned for minor %d", (int)c->pid, c->minor);
	r = minor_record(c->minor, c->pid, ret_err);
	if (r < 0)
		return r;
	c->marked = c->pid;
	r = step_attach(c->pid, c->minor, ret_err);
	if (r == 0)
		r = step_open(c->pid, c->minor, spec, args->read_only, args->no_direct, ret_err);
	return r;
}

static int print_creation(const struct creation *c, bool json)
{
	if (json)
		return print_json(json_pack("{s:i, s:i, s:s}", "pid", (int)c->pid, "minor", c->minor, "path",
					    c->marker));
	printf("%s\n", c->marker);
	return 0;
}

static int create_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct create_args *args = arg;
	struct creation c = { .minor = -1, .pid = -1, .marked = -1 };
	td_cleanup(free) char *spec = NULL;
	int r;

	(void)operands, (void)nr;
	if (!args->spec)
		return td_err_set(ret_err, -EINVAL, "say which disk: -a TYPE:PATH");
	r = diskspec_absolute(args->spec, &spec, ret_err);
	if (r < 0)
		return r;
	r = create(&c, args, spec, ret_err);
	if (r == 0)
		r = print_creation(&c, args->common.json);
	if (r < 0)
		undo(&c);
	free(c.marker);
	return r;
}

static const struct cli_opt create_opts[] = {
	{ 'a', "args", CLI_TEXT, offsetof(struct create_args, spec), "TYPE:PATH",
	  "the disk, see blktap-spec(7)" },
	{ 'R', "read-only", CLI_FLAG, offsetof(struct create_args, read_only), NULL, "refuse writes" },
	{ 'D', "no-direct", CLI_FLAG, offsetof(struct create_args, no_direct), NULL,
	  "go through the page cache instead of O_DIRECT" },
};

const struct cli_cmd create_cmd = {
	.name = "create",
	.synopsis = "-a TYPE:PATH [-R] [-D] [--json]",
	.summary = "start a tapdisk that serves a disk; print its marker file",
	.opts = create_opts,
	.nr_opts = TD_NELEMS(create_opts),
	.args_size = sizeof(struct create_args),
	.run = create_run,
};
