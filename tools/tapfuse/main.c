// SPDX-License-Identifier: BSD-2-Clause
/*
 * tapfuse IMAGE DIR: the command line of FUSE programs in front of tapdisk's directory export, which does all of it.
 * What is asked for becomes tapdisk's options, and this process becomes the tapdisk.
 */
#include "config.h"

#include <blktap/ctl.h>

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/common/diskspec.h"
#include "tools/common/operand.h"

#define ARGS_MAX  64
#define ALLOW_MAX 24

static const char help[] =
	"usage: tapfuse [OPTION]... IMAGE DIR\n"
	"Mount a disk image: DIR/disk is the whole disk as a file, DIR/part1 ... its partitions.\n"
	"IMAGE is a specification (blktap-spec(7)) or a file, whose format is found out.\n"
	"fusermount3 -u DIR ends it.\n"
	"\n"
	"  -o OPTION,...         ro, rw, allow_root, allow_other\n"
	"  -f, --foreground      stay in the foreground\n"
	"      --format FMT      IMAGE is a file in this format\n"
	"      --allow DIR       the image may name files in this directory too (may be repeated)\n"
	"  -h, --help            print this text\n"
	"  -V, --version         print the version\n";

enum { OPT_FORMAT = 256, OPT_ALLOW };

static const struct option long_options[] = {
	{ "foreground", no_argument, NULL, 'f' },        { "format", required_argument, NULL, OPT_FORMAT },
	{ "allow", required_argument, NULL, OPT_ALLOW }, { "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },           { 0 },
};

struct request {
	const char *image, *dir, *format;
	const char *access; /* NULL: the owner alone */
	bool foreground, read_only;
	const char *allow[ALLOW_MAX];
	unsigned nr_allow;
};

/* ---- -o ---- */

/* What mount(8) passes on, and what is so in any case: nothing here can be executed or is a device. */
static bool means_nothing(const char *name)
{
	static const char *const names[] = { "rw",      "default_permissions",
					     "nosuid",  "nodev",
					     "noexec",  "noatime",
					     "async",   "defaults",
					     "noauto",  "user",
					     "nofail",  "_netdev",
					     "relatime" };

	for (unsigned i = 0; i < TD_NELEMS(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static int mount_option(struct request *q, const char *name, struct td_err *ret_err)
{
	if (strcmp(name, "ro") == 0) {
		q->read_only = true;
	} else if (strcmp(name, "rw") == 0) {
		q->read_only = false;
	} else if (strcmp(name, "allow_other") == 0) {
		q->access = "all";
	} else if (strcmp(name, "allow_root") == 0) {
		q->access = "root";
	} else if (*name && !means_nothing(name)) {
		return td_err_set(ret_err, -EINVAL, "-o %s: not possible; see tapfuse(1) for what is", name);
	}
	return 0;
}

static int mount_options(struct request *q, char *list, struct td_err *ret_err)
{
	char *rest = NULL;
	int r = 0;

	for (char *name = strtok_r(list, ",", &rest); name && r == 0; name = strtok_r(NULL, ",", &rest))
		r = mount_option(q, name, ret_err);
	return r;
}

/* ---- the command line ---- */

static int bad_option(int c, char *const *argv, struct td_err *ret_err)
{
	if (c == ':')
		return td_err_set(ret_err, -EINVAL, "%s: wants a value", argv[optind - 1]);
	return td_err_set(ret_err, -EINVAL, "%s: no such option (see --help)", argv[optind - 1]);
}

/* May exit: --help, --version. */
static int one_option(struct request *q, int c, char *const *argv, struct td_err *ret_err)
{
	switch (c) {
	case 'f':
		q->foreground = true;
		return 0;
	case 'o':
		return mount_options(q, optarg, ret_err);
	case OPT_FORMAT:
		q->format = optarg;
		return 0;
	case OPT_ALLOW:
		if (q->nr_allow == ALLOW_MAX)
			return td_err_set(ret_err, -E2BIG, "at most %d of --allow", ALLOW_MAX);
		q->allow[q->nr_allow++] = optarg;
		return 0;
	case 'h':
		fputs(help, stdout);
		exit(fflush(stdout) == EOF);
	case 'V':
		puts("tapfuse (blktap) " PACKAGE_VERSION);
		exit(fflush(stdout) == EOF);
	default:
		return bad_option(c, argv, ret_err);
	}
}

/* mount(8) puts its options behind the operands: getopt_long takes them from there too. */
static int parse(struct request *q, int argc, char **argv, struct td_err *ret_err)
{
	int c, r = 0;

	opterr = 0;
	while (r == 0 && (c = getopt_long(argc, argv, ":fo:hV", long_options, NULL)) != -1)
		r = one_option(q, c, argv, ret_err);
	if (r < 0)
		return r;
	if (argc - optind != 2)
		return td_err_set(ret_err, -EINVAL, "wants an IMAGE and a DIR (see --help)");
	q->image = argv[optind];
	q->dir = argv[optind + 1];
	return 0;
}

/* ---- tapdisk ---- */

struct argv {
	unsigned nr;
	const char *arg[ARGS_MAX];
};

static void add(struct argv *a, const char *option, const char *value)
{
	a->arg[a->nr++] = option;
	if (value)
		a->arg[a->nr++] = value;
}

/* "ready" is for whoever started a tapdisk; of this command nobody expects a line. */
static void silence(void)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		dup2(fd, STDOUT_FILENO);
}

/* Without a place for what a kill would leave there is no control socket either. */
static bool has_run_dir(void)
{
	struct td_err err = { .msg = "" };
	const char *dir;

	if (td_run_dir(&dir, &err) == 0)
		return true;
	fprintf(stderr, "tapfuse: %s; if it is killed, what was not flushed is lost\n", err.msg);
	return false;
}

/* Returns only if it failed. */
static int become_tapdisk(const struct request *q, const char *spec, struct td_err *ret_err)
{
	td_cleanup(free) char *path = td_ctl_tapdisk();
	struct argv a = { 0 };

	if (!path)
		return td_err_set(ret_err, -ENOMEM, "no memory to start tapdisk");
	add(&a, "tapfuse", NULL);
	if (q->foreground)
		add(&a, "-f", NULL);
	if (q->read_only)
		add(&a, "-R", NULL);
	if (q->access)
		add(&a, "--fuse-access", q->access);
	for (unsigned i = 0; i < q->nr_allow; i++)
		add(&a, "--allow", q->allow[i]);
	if (!has_run_dir())
		add(&a, "--no-control", NULL);
	add(&a, "--fuse-dir", q->dir);
	add(&a, "--", spec);
	if (!q->foreground)
		silence();
	execv(path, (char *const *)(uintptr_t)a.arg);
	return td_err_set(ret_err, -errno, "%s: cannot be started: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
	struct td_err err = { .msg = "" };
	struct td_spec *spec = NULL;
	struct request q = { 0 };
	char *text = NULL;
	int r;

	r = parse(&q, argc, argv, &err);
	if (r < 0) {
		fprintf(stderr, "tapfuse: %s\n", err.msg);
		return 2;
	}
	r = operand_parse(q.image, q.format, true, &spec, &err);
	if (r == 0)
		r = diskspec_absolute(spec->text, &text, &err);
	if (r == 0)
		r = become_tapdisk(&q, text, &err);
	fprintf(stderr, "tapfuse: %s\n", err.msg[0] ? err.msg : strerror(-r));
	td_spec_free(spec);
	free(text);
	return 1;
}
