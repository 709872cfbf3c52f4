// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl pause and unpause: the pair by which scripts change what is under a running disk.
 */
#include "open.h"
#include "taps.h"
#include "tools/common/diskspec.h"
#include "verbs.h"

struct pause_args {
	struct cli_common common;
	int pid, minor, timeout;
};

struct unpause_args {
	struct cli_common common;
	int pid, minor;
	const char *spec, *secondary, *log;
};

static int pause_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct pause_args *args = arg;
	pid_t pid;
	int minor, r;

	(void)operands, (void)nr;
	r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	r = step_pause(pid, step_timeout_ms(args->timeout, CLOSE_TIMEOUT_MS), ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, minor);
}

static int unpause_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct unpause_args *args = arg;
	td_cleanup(free) char *spec = NULL;
	pid_t pid;
	int minor, r;

	(void)operands, (void)nr;
	r = refuse_secondary(args->secondary, ret_err);
	if (r == 0)
		r = refuse_log('c', args->log, ret_err);
	if (r == 0 && args->spec)
		r = diskspec_absolute(args->spec, &spec, ret_err);
	if (r < 0)
		return r;
	r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	r = step_unpause(pid, spec, ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, minor);
}

static const struct cli_opt pause_opts[] = {
	OPT_PID(struct pause_args),
	OPT_MINOR(struct pause_args),
	OPT_TIMEOUT(struct pause_args),
};

static const struct cli_opt unpause_opts[] = {
	OPT_PID(struct unpause_args),
	OPT_MINOR(struct unpause_args),
	{ 'a', "args", CLI_TEXT, offsetof(struct unpause_args, spec), "TYPE:PATH",
	  "go on with this image instead" },
	{ '2', NULL, CLI_TEXT, offsetof(struct unpause_args, secondary), "TYPE:PATH", "not possible here" },
	{ 'c', NULL, CLI_TEXT, offsetof(struct unpause_args, log), "FILE", "not possible here" },
};

const struct cli_cmd pause_cmd = {
	.name = "pause",
	.synopsis = "[-p PID] [-m MINOR] [-t SECONDS] [--json]",
	.summary = "hold back requests, flush and close the image",
	.opts = pause_opts,
	.nr_opts = TD_NELEMS(pause_opts),
	.args_size = sizeof(struct pause_args),
	.run = pause_run,
};

const struct cli_cmd unpause_cmd = {
	.name = "unpause",
	.synopsis = "[-p PID] [-m MINOR] [-a TYPE:PATH] [--json]",
	.summary = "open the image again, or another, and go on",
	.opts = unpause_opts,
	.nr_opts = TD_NELEMS(unpause_opts),
	.args_size = sizeof(struct unpause_args),
	.run = unpause_run,
};
