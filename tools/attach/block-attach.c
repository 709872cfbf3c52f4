// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-attach DOM SPEC VDEV [r|w]: a disk image becomes a block device of a domain.  This file is its command line;
 * ring-attach.c and loop-attach.c do it.
 */
#include "attach.h"
#include "ring.h"
#include "tools/common/cli.h"
#include "tools/common/diskspec.h"
#include <blktap/xs.h>
#include <stdio.h>

enum way { WAY_AUTO, WAY_RING, WAY_LOOP };

struct args {
	struct cli_common common;
	const char *via, *direct, *block_size, *timeout;
	bool no_wait;
	/* what they mean */
	enum way way;
	struct attach_request q;
};

static int parse_via(struct args *a, struct td_err *ret_err)
{
	if (!a->via || strcmp(a->via, "auto") == 0)
		a->way = WAY_AUTO;
	else if (strcmp(a->via, "xen") == 0)
		a->way = WAY_RING;
	else if (strcmp(a->via, "loop") == 0 || strcmp(a->via, "fuse") == 0)
		a->way = WAY_LOOP;
	else
		return td_err_set(
			ret_err, -ENOTSUP,
			"--via %s: there are xen, a ring of Xen's, and loop, a loop device over a FUSE file",
			a->via);
	if (a->way == WAY_AUTO)
		a->way = td_xs_is_dom0() ? WAY_RING : WAY_LOOP;
	if (a->way == WAY_RING && !td_xs_is_dom0())
		return td_err_set(ret_err, -ENOTSUP, "--via xen: this is not domain 0 of a running Xen");
	return 0;
}

static int parse_direct(struct args *a, struct td_err *ret_err)
{
	a->q.direct = ATTACH_DIRECT_AUTO;
	if (!a->direct || strcmp(a->direct, "auto") == 0)
		return 0;
	if (strcmp(a->direct, "on") == 0)
		a->q.direct = ATTACH_DIRECT_ON;
	else if (strcmp(a->direct, "off") == 0)
		a->q.direct = ATTACH_DIRECT_OFF;
	else
		return td_err_set(ret_err, -EINVAL, "--direct-io %s: wants on, off or auto", a->direct);
	return 0;
}

static int parse_block_size(struct args *a, struct td_err *ret_err)
{
	char *end;
	unsigned long n;

	a->q.block_size = 512;
	if (!a->block_size)
		return 0;
	n = strtoul(a->block_size, &end, 10);
	if (end == a->block_size || *end || n < 512 || n > 4096 || !td_is_pow2(n))
		return td_err_set(ret_err, -EINVAL, "--block-size %s: wants 512, 1024, 2048 or 4096",
				  a->block_size);
	a->q.block_size = (unsigned)n;
	return 0;
}

static int parse_mode(struct args *a, const char *mode, struct td_err *ret_err)
{
	if (strcmp(mode, "r") == 0 || strcmp(mode, "ro") == 0)
		a->q.read_only = true;
	else if (strcmp(mode, "w") != 0 && strcmp(mode, "rw") != 0)
		return td_err_set(ret_err, -EINVAL, "mode %s: wants r or w", mode);
	return 0;
}

/* What belongs to the other way is refused, not ignored. */
static int check_way(const struct args *a, struct td_err *ret_err)
{
	if (a->way == WAY_RING && (a->direct || a->block_size))
		return td_err_set(ret_err, -EINVAL, "%s is for --via loop",
				  a->direct ? "--direct-io" : "--block-size");
	if (a->way == WAY_LOOP && a->no_wait)
		return td_err_set(ret_err, -EINVAL, "--no-wait is for --via xen");
	return 0;
}

/* All of the command line, and which way, before anything is touched. */
static int check(void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	struct args *a = arg;
	int r;

	a->q.timeout_ms = 30000;
	a->q.json = a->common.json;
	a->q.no_wait = a->no_wait;
	a->q.domain = operands[0];
	r = attach_parse_domain(operands[0], ret_err);
	if (r == 0)
		r = attach_parse_vdev(operands[2], a->q.vdev, ret_err);
	if (r == 0)
		r = parse_mode(a, nr == 4 ? operands[3] : "w", ret_err);
	if (r == 0)
		r = parse_via(a, ret_err);
	if (r == 0)
		r = parse_direct(a, ret_err);
	if (r == 0)
		r = parse_block_size(a, ret_err);
	if (r == 0)
		r = check_way(a, ret_err);
	return r < 0 ? r : attach_parse_timeout(a->timeout, &a->q.timeout_ms, ret_err);
}

static int run(const void *arg, char *const *operands, unsigned nr, struct td_err *ret_err)
{
	const struct args *a = arg;
	struct attach_request q = a->q;
	td_cleanup(free) char *spec = NULL;
	int r;

	(void)nr;
	r = attach_need_root(ret_err);
	if (r == 0)
		r = diskspec_absolute(operands[1], &spec, ret_err);
	if (r == 0 && a->way == WAY_LOOP)
		r = ring_refuse_twice(q.vdev, ret_err);
	if (r < 0)
		return r;
	q.spec = spec;
	return a->way == WAY_RING ? ring_attach(&q, ret_err) : attach_loop(&q, ret_err);
}

static const struct cli_opt opts[] = {
	{ 0, "via", CLI_TEXT, offsetof(struct args, via), "WAY",
	  "how: xen, a ring (default in domain 0 of Xen); loop, a loop device over a FUSE file" },
	{ 0, "no-wait", CLI_FLAG, offsetof(struct args, no_wait), NULL,
	  "with a ring: do not wait until the domain has the disk" },
	{ 0, "direct-io", CLI_TEXT, offsetof(struct args, direct), "HOW",
	  "with loop: past the page cache: on, off, auto (default)" },
	{ 0, "block-size", CLI_TEXT, offsetof(struct args, block_size), "N",
	  "with loop: sector size of the device: 512 (default), 1024, 2048, 4096" },
	{ 0, "timeout", CLI_TEXT, offsetof(struct args, timeout), "SECONDS",
	  "wait so long for the daemon, or for the domain (default 30)" },
};

static const struct cli_cmd cmd = {
	.synopsis = "[OPTION]... DOMAIN SPEC VDEV [r|w]",
	.summary = "Make the disk image SPEC a block device of a domain (0: this machine), and print the "
		   "device.\n"
		   "\n"
		   "  block-attach 0 tap:qcow2:/srv/disk.qcow2 xvda w",
	.opts = opts,
	.nr_opts = TD_NELEMS(opts),
	.args_size = sizeof(struct args),
	.min_operands = 3,
	.max_operands = 4,
	.check = check,
	.run = run,
};

int main(int argc, char **argv)
{
	static const struct cli_prog prog = { .name = "block-attach", .only = &cmd };

	return cli_main(&prog, argc, argv);
}
