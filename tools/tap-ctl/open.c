// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl open and close: a disk in a daemon that has a minor.
 */
#include "open.h"
#include "taps.h"
#include "tools/common/diskspec.h"
#include "verbs.h"

struct open_args {
	struct cli_common common;
	int pid, minor;
	struct disk_args disk;
};

struct close_args {
	struct cli_common common;
	int pid, minor, timeout;
	bool force;
};

/* ---- what is not possible ---- */

int refuse_secondary(const char *secondary, struct td_err *ret_err)
{
	return secondary ? td_err_set(ret_err, -ENOTSUP, "-2: mirroring to a second image is not possible")
			 : 0;
}

int refuse_log(char letter, const char *log, struct td_err *ret_err)
{
	return log ? td_err_set(ret_err, -ENOTSUP, "-%c: a log of changed blocks is not possible", letter)
		   : 0;
}

static int refuse_rest(const struct disk_args *args, struct td_err *ret_err)
{
	if (args->standby)
		return td_err_set(ret_err, -ENOTSUP,
				  "-s: going on with a second image when space runs out is not possible");
	if (args->parent)
		return td_err_set(ret_err, -ENOTSUP,
				  "-e: a disk cannot share another's parent images; it opens its own");
	if (args->key)
		return td_err_set(ret_err, -ENOTSUP,
				  "-E: encrypted images are not possible, nor a key on standard input");
	return 0;
}

int disk_request(const struct disk_args *args, struct disk_request *ret, char **ret_spec,
		 struct td_err *ret_err)
{
	int r;

	if (!args->spec)
		return td_err_set(ret_err, -EINVAL, "say which disk: -a TYPE:PATH");
	r = refuse_secondary(args->secondary, ret_err);
	if (r == 0)
		r = refuse_log('C', args->log, ret_err);
	if (r == 0)
		r = refuse_rest(args, ret_err);
	if (r == 0)
		r = diskspec_absolute(args->spec, ret_spec, ret_err);
	if (r == 0)
		*ret = (struct disk_request){ .spec = *ret_spec,
					      .read_only = args->read_only,
					      .policy = { args->on_enospc, args->request_timeout },
					      .no_direct = args->no_direct || args->cache_reads };
	return r;
}

/* ---- open ---- */

static int open_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct open_args *args = arg;
	td_cleanup(free) char *spec = NULL;
	struct disk_request q;
	int minor = -1, r;
	pid_t pid = 0;

	(void)operands, (void)nr;
	r = disk_request(&args->disk, &q, &spec, ret_err);
	if (r == 0)
		r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	if (minor < 0)
		return td_err_set(ret_err, -ENODEV, "tapdisk %d has no minor; tap-ctl attach gives it one",
				  (int)pid);
	r = step_open(pid, minor, &q, ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, minor);
}

static const struct cli_opt open_opts[] = {
	OPT_PID(struct open_args),
	OPT_MINOR(struct open_args),
	OPT_DISK(struct open_args),
	{ 'E', NULL, CLI_FLAG, offsetof(struct open_args, disk.key), NULL, "not possible here" },
};

const struct cli_cmd open_cmd = {
	.name = "open",
	.synopsis = "[-p PID] [-m MINOR] -a TYPE:PATH [-R] [-D] [-r] [-t SECONDS] [--on-enospc DO] [--json]",
	.summary = "open a disk in a tapdisk that has a minor",
	.opts = open_opts,
	.nr_opts = TD_NELEMS(open_opts),
	.args_size = sizeof(struct open_args),
	.run = open_run,
};

/* ---- close ---- */

static int close_run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct close_args *args = arg;
	pid_t pid;
	int minor, r;

	(void)operands, (void)nr;
	r = tap_resolve(args->pid, args->minor, &pid, &minor, ret_err);
	if (r < 0)
		return r;
	r = step_close(pid, step_timeout_ms(args->timeout, CLOSE_TIMEOUT_MS), ret_err);
	return r < 0 ? r : verb_done(&args->common, pid, minor);
}

static const struct cli_opt close_opts[] = {
	OPT_PID(struct close_args),
	OPT_MINOR(struct close_args),
	OPT_TIMEOUT(struct close_args),
	{ 'f', "force", CLI_FLAG, offsetof(struct close_args, force), NULL,
	  "do not wait for rings whose guest is dead: never done anyway" },
};

const struct cli_cmd close_cmd = {
	.name = "close",
	.synopsis = "[-p PID] [-m MINOR] [-f] [-t SECONDS] [--json]",
	.summary = "stop serving a disk, flush and close it; its tapdisk stays",
	.opts = close_opts,
	.nr_opts = TD_NELEMS(close_opts),
	.args_size = sizeof(struct close_args),
	.run = close_run,
};
