// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-attach DOM SPEC VDEV [r|w]: a disk image becomes a block device of this machine.
 *
 * Each step is preceded by a record of it; a step that fails undoes all before it.
 */
#include "attach.h"
#include "config.h"
#include "tools/common/diskspec.h"
#include <fcntl.h>
#include <getopt.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "block-attach"

struct request {
	const char *domain, *spec, *device, *mode;
	char vdev[ATTACH_VDEV_MAX];
	bool read_only, json;
	enum attach_direct direct;
	unsigned block_size, timeout_ms;
};

static void usage(FILE *f)
{
	fputs("usage: block-attach [OPTION]... DOMAIN SPEC VDEV [r|w]\n"
	      "Make the disk image SPEC a block device of domain 0, this machine, and print the device.\n"
	      "\n"
	      "  block-attach 0 tap:qcow2:/srv/disk.qcow2 xvda w\n"
	      "\n"
	      "      --via WAY          how: fuse, a loop device over a FUSE file (default)\n"
	      "      --direct-io HOW    past the page cache: on, off, auto (default)\n"
	      "      --block-size N     sector size of the device: 512 (default), 1024, 2048, 4096\n"
	      "      --timeout SECONDS  wait so long for the daemon (default 30)\n"
	      "      --json             print what was made as JSON\n"
	      "  -h, --help             print this\n"
	      "  -V, --version          print the version\n",
	      f);
}

/* ---- the command line ---- */

static int parse_direct(struct request *q, const char *text, struct td_err *ret_err)
{
	if (strcmp(text, "on") == 0)
		q->direct = ATTACH_DIRECT_ON;
	else if (strcmp(text, "off") == 0)
		q->direct = ATTACH_DIRECT_OFF;
	else if (strcmp(text, "auto") == 0)
		q->direct = ATTACH_DIRECT_AUTO;
	else
		return td_err_set(ret_err, -EINVAL, "--direct-io %s: wants on, off or auto", text);
	return 0;
}

static int parse_block_size(struct request *q, const char *text, struct td_err *ret_err)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || *end || n < 512 || n > 4096 || !td_is_pow2(n))
		return td_err_set(ret_err, -EINVAL, "--block-size %s: wants 512, 1024, 2048 or 4096", text);
	q->block_size = (unsigned)n;
	return 0;
}

static int parse_mode(struct request *q, struct td_err *ret_err)
{
	if (strcmp(q->mode, "r") == 0 || strcmp(q->mode, "ro") == 0)
		q->read_only = true;
	else if (strcmp(q->mode, "w") != 0 && strcmp(q->mode, "rw") != 0)
		return td_err_set(ret_err, -EINVAL, "mode %s: wants r or w", q->mode);
	return 0;
}

enum { OPT_VIA = 256, OPT_DIRECT, OPT_BLOCK_SIZE, OPT_TIMEOUT, OPT_JSON };

static int parse_option(struct request *q, int c, struct td_err *ret_err)
{
	switch (c) {
	case OPT_VIA:
		if (strcmp(optarg, "fuse") == 0 || strcmp(optarg, "auto") == 0)
			return 0;
		return td_err_set(ret_err, -ENOTSUP,
				  "--via %s: there is only fuse, a loop device over a FUSE file", optarg);
	case OPT_DIRECT:
		return parse_direct(q, optarg, ret_err);
	case OPT_BLOCK_SIZE:
		return parse_block_size(q, optarg, ret_err);
	case OPT_TIMEOUT:
		return attach_parse_timeout(optarg, &q->timeout_ms, ret_err);
	case OPT_JSON:
		q->json = true;
		return 0;
	default:
		return td_err_set(ret_err, -EINVAL, "see block-attach --help");
	}
}

static int parse_args(struct request *q, int argc, char **argv, struct td_err *ret_err)
{
	static const struct option options[] = {
		{ "via", required_argument, NULL, OPT_VIA },
		{ "direct-io", required_argument, NULL, OPT_DIRECT },
		{ "block-size", required_argument, NULL, OPT_BLOCK_SIZE },
		{ "timeout", required_argument, NULL, OPT_TIMEOUT },
		{ "json", no_argument, NULL, OPT_JSON },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
		if (c == 'h') {
			usage(stdout);
			exit(0);
		}
		if (c == 'V') {
			puts(NAME " (blktap) " PACKAGE_VERSION);
			exit(0);
		}
		r = parse_option(q, c, ret_err);
	}
	if (r < 0)
		return r;
	if (argc - optind < 3 || argc - optind > 4)
		return td_err_set(ret_err, -EINVAL, "wants DOMAIN SPEC VDEV [r|w]; see block-attach --help");
	q->domain = argv[optind];
	q->spec = argv[optind + 1];
	q->device = argv[optind + 2];
	q->mode = argc - optind == 4 ? argv[optind + 3] : "w";
	r = attach_parse_domain(q->domain, ret_err);
	if (r == 0)
		r = attach_parse_vdev(q->device, q->vdev, ret_err);
	return r < 0 ? r : parse_mode(q, ret_err);
}

/* ---- the steps ---- */

static int start_daemon(struct attach *a, const struct request *q, struct td_err *ret_err)
{
	const char *args[8] = { "--name", a->vdev, "--fuse", a->fuse_file };
	unsigned n = 4;
	int r;

	if (a->read_only)
		args[n++] = "-R";
	args[n++] = "--";
	args[n++] = a->spec;
	a->phase = ATTACH_DAEMON;
	r = attach_save(a, ret_err);
	if (r == 0)
		r = td_ctl_spawn(args, q->timeout_ms, &a->pid, ret_err);
	if (r == 0)
		a->pid_start = attach_pid_start(a->pid);
	return r;
}

static int make_loop(struct attach *a, const struct request *q, struct td_err *ret_err)
{
	int r;

	a->phase = ATTACH_LOOP;
	r = attach_save(a, ret_err);
	return r < 0 ? r : attach_loop_make(a, q->direct, q->block_size, &a->loop, ret_err);
}

/* udev, where it runs, makes the nodes and looks at the device first; without it they are there already. */
static void settle(void)
{
	const char *argv[] = { "udevadm", "settle", "--timeout=10", NULL };
	extern char **environ;
	pid_t pid;

	if (access("/run/udev/control", F_OK) < 0)
		return;
	if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) == 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
}

/* A damaged table is the user's to repair, on the device: said, not refused. */
static void find_partitions(const struct attach *a)
{
	int r = attach_count_partitions(a->loop) > 0 ? 0 : attach_add_partitions(a->loop);

	if (r < 0 && r != -ENOTSUP)
		attach_complain(NAME, "%s: not all of its partitions could be added: %s", a->vdev,
				strerror(-r));
}

static int make_names(struct attach *a, struct td_err *ret_err)
{
	int r;

	settle();
	find_partitions(a);
	settle();
	r = attach_plan_names(a, ret_err);
	if (r < 0)
		return r;
	a->phase = ATTACH_NAMES;
	r = attach_save(a, ret_err);
	return r < 0 ? r : attach_make_names(a, ret_err);
}

static int steps(struct attach *a, const struct request *q, struct td_err *ret_err)
{
	int r;

	r = start_daemon(a, q, ret_err);
	if (r == 0)
		r = make_loop(a, q, ret_err);
	if (r == 0)
		r = make_names(a, ret_err);
	if (r < 0)
		return r;
	a->phase = ATTACH_DONE;
	return attach_save(a, ret_err);
}

static void roll_back(struct attach *a, const struct request *q)
{
	const struct attach_undo u = { .force = true, .timeout_ms = q->timeout_ms };
	struct td_err err;

	if (attach_undo(a, &u, &err) < 0)
		attach_complain(NAME, "%s: undoing it: %s; run: block-detach 0 %s", a->vdev, err.msg,
				a->vdev);
	else
		attach_lock_drop(a->vdev);
}

static int refuse_if_attached(const char *vdev, struct td_err *ret_err)
{
	struct attach *a = NULL;
	int r = attach_load(vdev, &a, ret_err);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = td_err_set(ret_err, -EBUSY, "%s: in use: %s of %s; block-detach 0 %s frees it", vdev,
			       a->phase == ATTACH_DONE ? "a device" : "what is left of an attach or detach",
			       a->spec, vdev);
	attach_free(a);
	return r;
}

static void print(const struct attach *a, bool json)
{
	char device[64];
	json_t *o;

	attach_device(a, device, sizeof(device));
	if (!json) {
		puts(device);
		return;
	}
	o = json_pack("{s:s,s:s,s:i,s:s,s:i,s:b,s:o}", "vdev", a->vdev, "device", device, "loop", a->loop,
		      "mode", a->read_only ? "r" : "w", "pid", (int)a->pid, "direct_io",
		      attach_loop_direct(a->loop), "partitions", attach_partitions(a));
	if (o && json_dumpf(o, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	json_decref(o);
}

static int attach(const struct request *q, struct td_err *ret_err)
{
	struct attach *a = NULL;
	int lock = -1, r;

	r = attach_lock(q->vdev, 0, &lock, ret_err);
	if (r == 0)
		r = refuse_if_attached(q->vdev, ret_err);
	if (r == 0)
		r = attach_new(q->vdev, &a, ret_err);
	if (r < 0 || !a)
		goto out;
	a->read_only = q->read_only;
	r = diskspec_absolute(q->spec, &a->spec, ret_err);
	if (r < 0)
		goto out;
	r = steps(a, q, ret_err);
	if (r < 0)
		roll_back(a, q);
	else
		print(a, q->json);
out:
	attach_free(a);
	if (lock >= 0)
		close(lock);
	return r;
}

int main(int argc, char **argv)
{
	struct request q = { .block_size = 512, .timeout_ms = 30000 };
	struct td_err err = { "" };
	int r;

	if (parse_args(&q, argc, argv, &err) < 0) {
		attach_complain(NAME, "%s", err.msg);
		return 2;
	}
	r = attach_need_root(&err);
	if (r == 0)
		r = attach(&q, &err);
	if (r < 0)
		attach_complain(NAME, "%s", err.msg);
	return r < 0 || fflush(stdout) != 0 ? 1 : 0;
}
