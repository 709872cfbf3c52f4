// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-detach DOM VDEV: the way back, from whatever state a disk is in; see undo.c.
 */
#include "attach.h"
#include "config.h"
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#define NAME "block-detach"

struct request {
	char vdev[ATTACH_VDEV_MAX];
	bool force, json;
	unsigned timeout_ms;
};

static char reporting_for[ATTACH_VDEV_MAX];

static void report(const char *line)
{
	attach_complain(NAME, "%s: %s", reporting_for, line);
}

static void usage(FILE *f)
{
	fputs("usage: block-detach [OPTION]... DOMAIN VDEV\n"
	      "Take a block device away that block-attach made.  May be repeated, also after a crash.\n"
	      "\n"
	      "  block-detach 0 xvda\n"
	      "\n"
	      "      --force            also while it is in use: file systems on it are unmounted lazily, "
	      "what cannot\n"
	      "                         be written back is lost, a daemon that does not end is killed\n"
	      "      --timeout SECONDS  wait so long for the device, and again for the daemon (default 60)\n"
	      "      --json             print the result as JSON\n"
	      "  -h, --help             print this\n"
	      "  -V, --version          print the version\n",
	      f);
}

enum { OPT_FORCE = 256, OPT_TIMEOUT, OPT_JSON };

static int parse_option(struct request *q, int c, struct td_err *ret_err)
{
	switch (c) {
	case 'h':
		usage(stdout);
		exit(0);
	case 'V':
		puts(NAME " (blktap) " PACKAGE_VERSION);
		exit(0);
	case OPT_FORCE:
		q->force = true;
		return 0;
	case OPT_TIMEOUT:
		return attach_parse_timeout(optarg, &q->timeout_ms, ret_err);
	case OPT_JSON:
		q->json = true;
		return 0;
	default:
		return td_err_set(ret_err, -EINVAL, "see block-detach --help");
	}
}

static int parse_args(struct request *q, int argc, char **argv, struct td_err *ret_err)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, OPT_FORCE },
		{ "timeout", required_argument, NULL, OPT_TIMEOUT },
		{ "json", no_argument, NULL, OPT_JSON },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "hV", options, NULL)) != -1)
		r = parse_option(q, c, ret_err);
	if (r < 0)
		return r;
	if (argc - optind != 2)
		return td_err_set(ret_err, -EINVAL, "wants DOMAIN VDEV; see block-detach --help");
	r = attach_parse_domain(argv[optind], ret_err);
	return r < 0 ? r : attach_parse_vdev(argv[optind + 1], q->vdev, ret_err);
}

static void print(const struct request *q, bool was_attached)
{
	json_t *o;

	if (!q->json) {
		if (!was_attached)
			attach_complain(NAME, "%s: not attached", q->vdev);
		return;
	}
	o = json_pack("{s:s,s:b}", "vdev", q->vdev, "was_attached", was_attached);
	if (o && json_dumpf(o, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	json_decref(o);
}

/* An unreadable record still says that there is something: it is found by the paths that follow from the name. */
static int detach(const struct request *q, struct td_err *ret_err)
{
	const struct attach_undo u = { .force = q->force, .timeout_ms = q->timeout_ms, .report = report };
	struct attach *a = NULL;
	int lock = -1, r;

	r = attach_lock(q->vdev, q->timeout_ms, &lock, ret_err);
	if (r < 0)
		return r;
	memcpy(reporting_for, q->vdev, sizeof(reporting_for));
	r = attach_load(q->vdev, &a, ret_err);
	if (r == -EUCLEAN)
		report(ret_err->msg);
	if (r == 0 || r == -EUCLEAN) {
		r = attach_undo(a, &u, ret_err);
		if (r == 0)
			print(q, true);
	} else if (r == -ENOENT) {
		r = attach_remove(q->vdev, ret_err);
		if (r == 0)
			print(q, false);
	}
	if (r == 0)
		attach_lock_drop(q->vdev);
	attach_free(a);
	close(lock);
	return r;
}

int main(int argc, char **argv)
{
	struct request q = { .timeout_ms = 60000 };
	struct td_err err = { "" };
	int r;

	if (parse_args(&q, argc, argv, &err) < 0) {
		attach_complain(NAME, "%s", err.msg);
		return 2;
	}
	r = attach_need_root(&err);
	if (r == 0)
		r = detach(&q, &err);
	if (r < 0)
		attach_complain(NAME, "%s", err.msg);
	return r < 0 || fflush(stdout) != 0 ? 1 : 0;
}
