// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl set and throttle: options of a driver in a running disk's stack.
 */
#include "steps.h"
#include "taps.h"
#include "verbs.h"

#include <stdio.h>

struct set_args {
	struct cli_common common;
	int pid, minor;
};

struct throttle_args {
	struct cli_common common;
	int pid, minor;
	const char *iops, *iops_read, *iops_write, *bps, *bps_read, *bps_write, *burst_ms;
};

static int set(const struct cli_common *common, int pid_arg, int minor_arg, const char *driver,
	       const char *options, struct td_err *ret_err)
{
	pid_t pid;
	int minor, r;

	r = tap_resolve(pid_arg, minor_arg, &pid, &minor, ret_err);
	if (r == 0)
		r = step_set(pid, driver, options, ret_err);
	return r < 0 ? r : verb_done(common, pid, minor);
}

/* "," between what is there and the next; *text is freed and made anew.  NULL: no memory. */
static void join(char **text, const char *name, const char *value)
{
	char *longer = NULL;

	if (*text &&
	    asprintf(&longer, "%s%s%s%s%s", *text, **text ? "," : "", name, *name ? "=" : "", value) < 0)
		longer = NULL;
	free(*text);
	*text = longer;
}

static int set_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct set_args *args = arg;
	td_cleanup(free) char *options = strdup("");

	for (unsigned i = 1; i < nr; i++)
		join(&options, "", operands[i]);
	if (!options)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	return set(&args->common, args->pid, args->minor, operands[0], options, ret_err);
}

static int throttle_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct throttle_args *a = arg;
	const struct {
		const char *name, *value;
	} limits[] = {
		{ "iops", a->iops },         { "iops-read", a->iops_read }, { "iops-write", a->iops_write },
		{ "bps", a->bps },           { "bps-read", a->bps_read },   { "bps-write", a->bps_write },
		{ "burst-ms", a->burst_ms },
	};
	td_cleanup(free) char *options = strdup("");

	(void)operands, (void)nr;
	for (unsigned i = 0; i < TD_NELEMS(limits); i++)
		if (limits[i].value)
			join(&options, limits[i].name, limits[i].value);
	if (!options)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	if (!*options)
		return td_err_set(ret_err, -EINVAL, "say which limit: --iops=N, --bps=SIZE ...; 0 lifts it");
	return set(&a->common, a->pid, a->minor, "throttle", options, ret_err);
}

static const struct cli_opt set_opts[] = {
	OPT_PID(struct set_args),
	OPT_MINOR(struct set_args),
};

#define LIMIT(NAME, FIELD, ARG, HELP)                                                                        \
	{                                                                                                    \
		0, NAME, CLI_TEXT, offsetof(struct throttle_args, FIELD), ARG, HELP                          \
	}

static const struct cli_opt throttle_opts[] = {
	OPT_PID(struct throttle_args),
	OPT_MINOR(struct throttle_args),
	LIMIT("iops", iops, "N", "requests a second; 0: no limit"),
	LIMIT("iops-read", iops_read, "N", "those that read"),
	LIMIT("iops-write", iops_write, "N", "those that write"),
	LIMIT("bps", bps, "SIZE", "bytes a second; 0: no limit"),
	LIMIT("bps-read", bps_read, "SIZE", "those that are read"),
	LIMIT("bps-write", bps_write, "SIZE", "those that are written"),
	LIMIT("burst-ms", burst_ms, "N", "save for so long what was not used"),
};

const struct cli_cmd set_cmd = {
	.name = "set",
	.synopsis = "[-p PID] [-m MINOR] DRIVER OPTION=VALUE... [--json]",
	.summary = "change options of a driver in a disk's stack",
	.opts = set_opts,
	.nr_opts = TD_NELEMS(set_opts),
	.args_size = sizeof(struct set_args),
	.min_operands = 2,
	.max_operands = 17,
	.run = set_run,
};

const struct cli_cmd throttle_cmd = {
	.name = "throttle",
	.synopsis = "[-p PID] [-m MINOR] [--iops N] [--bps SIZE] [LIMIT]... [--json]",
	.summary = "change the limits of a disk with a throttle",
	.opts = throttle_opts,
	.nr_opts = TD_NELEMS(throttle_opts),
	.args_size = sizeof(struct throttle_args),
	.run = throttle_run,
};
