// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-detach DOM VDEV: the way back, from whatever state a disk is in; see undo.c and ring-detach.c.
 */
#include "attach.h"
#include "ring.h"
#include "tools/common/cli.h"
#include <blktap/xs.h>
#include <stdio.h>
#include <unistd.h>

#define NAME "block-detach"

struct args {
	struct cli_common common;
	const char *timeout;
	bool force;
	/* what they mean */
	char vdev[ATTACH_VDEV_MAX];
	unsigned timeout_ms; /* 0: not given */
};

static char reporting_for[ATTACH_VDEV_MAX];

static void report(const char *line)
{
	attach_complain(NAME, "%s: %s", reporting_for, line);
}

static int check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	struct args *a = arg;
	int r;

	(void)nr;
	r = attach_parse_domain(operands[0], ret_err);
	if (r == 0)
		r = attach_parse_vdev(operands[1], a->vdev, ret_err);
	return r < 0 ? r : attach_parse_timeout(a->timeout, &a->timeout_ms, ret_err);
}

static void print(const struct args *a, bool was_attached)
{
	json_t *o;

	if (!a->common.json) {
		if (!was_attached)
			attach_complain(NAME, "%s: not attached", a->vdev);
		return;
	}
	o = json_pack("{s:s,s:b}", "vdev", a->vdev, "was_attached", was_attached);
	if (o && json_dumpf(o, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	json_decref(o);
}

/* An unreadable record still says that there is something: it is found by the paths that follow from the name. */
static int detach_loop(const struct args *a, bool *ret_was, struct td_err *ret_err)
{
	const struct attach_undo u = { .force = a->force,
				       .timeout_ms = a->timeout_ms ? a->timeout_ms : 60000,
				       .report = report };
	struct attach *at = NULL;
	int r;

	r = attach_load(a->vdev, &at, ret_err);
	if (r == -EUCLEAN)
		report(ret_err->msg);
	if (r == 0 || r == -EUCLEAN) {
		*ret_was = true;
		r = attach_undo(at, &u, ret_err);
	} else if (r == -ENOENT) {
		r = attach_remove(a->vdev, ret_err);
	}
	attach_free(at);
	return r;
}

/* Domain 0 may have it by a loop device or by a ring; never by both. */
static int detach(const struct args *a, struct ring_domain *dom, bool *ret_was, struct td_err *ret_err)
{
	const struct ring_release rel = { .force = a->force,
					  .timeout_ms = a->timeout_ms ? a->timeout_ms : 10000,
					  .report = report };
	int r = 0;

	if (dom->id == 0)
		r = detach_loop(a, ret_was, ret_err);
	if (r == 0 && !*ret_was && dom->xs)
		r = ring_detach(dom, a->vdev, &rel, ret_was, ret_err);
	return r;
}

static int run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct args *a = arg;
	struct ring_domain dom = { 0 };
	char lock_name[ATTACH_LOCK_MAX];
	bool was = false;
	int lock = -1, r;

	(void)nr;
	memcpy(reporting_for, a->vdev, sizeof(reporting_for));
	r = attach_need_root(ret_err);
	if (r == 0)
		r = ring_domain_open(&dom, operands[0], ret_err);
	if (r < 0)
		return r;
	ring_lock_name(dom.id, a->vdev, lock_name);
	r = attach_lock(lock_name, a->timeout_ms ? a->timeout_ms : 60000, &lock, ret_err);
	if (r == 0)
		r = detach(a, &dom, &was, ret_err);
	if (r == 0) {
		print(a, was);
		attach_lock_drop(lock_name);
	}
	if (lock >= 0)
		close(lock);
	ring_domain_close(&dom);
	return r;
}

static const struct cli_opt opts[] = {
	{ 0, "force", CLI_FLAG, offsetof(struct args, force), NULL,
	  "also while it is in use: what is not written back is lost" },
	{ 0, "timeout", CLI_TEXT, offsetof(struct args, timeout), "SECONDS",
	  "wait so long for the device, and again for the daemon (default 60; of a ring 10)" },
};

static const struct cli_cmd cmd = {
	.synopsis = "[OPTION]... DOMAIN VDEV",
	.summary = "Take a block device away that block-attach made.  May be repeated, also after a crash.\n"
		   "\n"
		   "  block-detach 0 xvda",
	.opts = opts,
	.nr_opts = TD_NELEMS(opts),
	.args_size = sizeof(struct args),
	.min_operands = 2,
	.max_operands = 2,
	.check = check,
	.run = run,
};

int main(int argc, char **argv)
{
	static const struct cli_prog prog = { .name = NAME, .only = &cmd };

	return cli_main(&prog, argc, argv);
}
