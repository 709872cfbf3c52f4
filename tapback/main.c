// SPDX-License-Identifier: BSD-2-Clause
/*
 * tapback(8): the command line, the lock, the process.
 *
 * Without -f the work is done by a child that is forked before anything else exists; the parent waits until the child
 * is ready or has said what is wrong, and exits with its status.
 */
#include "backend.h"
#include <blktap/background.h>
#include <blktap/ctl.h>
#include <blktap/pool.h>
#include <config.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define POOL_THREADS 64       /* one a disk that something is being waited for */
#define POLL_US_MAX  1000000u /* what a tapdisk takes */
#define STOP_NS      3000000000ull

struct options {
	const char *classes[BACKEND_CLASSES];
	unsigned nr_classes;
	enum phy phy;
	unsigned poll_us;
	bool foreground;
};

static const char help[] =
	"Usage: tapback [OPTION]...\n"
	"Serves the disks of Xen guests: opens the image of each backend folder in xenstore with a\n"
	"tapdisk of its own, and connects the guest's ring to it.\n"
	"\n"
	"  -f, --foreground      stay in the foreground, log to standard error\n"
	"  -n, --name CLASS      serve this class (may be repeated; default: vbd3, vbd and qdisk)\n"
	"      --phy WHO         who serves plain block devices of class vbd: kernel (xen-blkback),\n"
	"                        tapback, or auto (the kernel, if xen-blkback is loaded; the default)\n"
	"      --poll-us N       let tapdisks look at a busy ring for up to N microseconds\n"
	"                        before they sleep (default: 0, never)\n"
	"      --log-level L     error, warning, info or debug (default: info)\n"
	"  -h, --help            print this text\n"
	"  -V, --version         print the version\n"
	"\n"
	"See tapback(8).\n";

enum { OPT_PHY = 256, OPT_POLL_US, OPT_LOG_LEVEL };

static const struct option long_options[] = {
	{ "foreground", no_argument, NULL, 'f' },
	{ "name", required_argument, NULL, 'n' },
	{ "phy", required_argument, NULL, OPT_PHY },
	{ "poll-us", required_argument, NULL, OPT_POLL_US },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

/* ---- the command line ---- */

/* The index of text in names, which NULL ends; -1: not there. */
static int find(const char *const *names, const char *text)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], text) == 0)
			return i;
	return -1;
}

static int add_class(struct options *o, const char *name, struct td_err *err)
{
	size_t len = strlen(name);

	if (o->nr_classes == BACKEND_CLASSES)
		return td_err_set(err, -EINVAL, "at most %d of --name", BACKEND_CLASSES);
	if (len == 0 || len > 32 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
		return td_err_set(err, -EINVAL, "--name %s: is no class of xenstore's backend folder", name);
	for (unsigned i = 0; i < o->nr_classes; i++)
		if (strcmp(o->classes[i], name) == 0)
			return 0;
	o->classes[o->nr_classes++] = name;
	return 0;
}

static int parse_poll(const char *text, unsigned *ret_us, struct td_err *err)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *end || strchr(text, '-') || n > POLL_US_MAX)
		return td_err_set(err, -EINVAL, "--poll-us %s: should be a number from 0 to %u", text,
				  POLL_US_MAX);
	*ret_us = (unsigned)n;
	return 0;
}

static int parse_one(int c, struct options *o, struct td_err *err)
{
	static const char *const servers[] = { "auto", "kernel", "tapback", NULL };
	static const char *const levels[] = { "error", "warning", "info", "debug", NULL };
	int i;

	switch (c) {
	case 'f':
		o->foreground = true;
		return 0;
	case 'n':
		return add_class(o, optarg, err);
	case OPT_PHY:
		i = find(servers, optarg);
		o->phy = (enum phy)i;
		return i < 0 ? td_err_set(err, -EINVAL, "--phy %s: should be auto, kernel or tapback", optarg)
			     : 0;
	case OPT_POLL_US:
		return parse_poll(optarg, &o->poll_us, err);
	case OPT_LOG_LEVEL:
		i = find(levels, optarg);
		if (i < 0)
			return td_err_set(err, -EINVAL,
					  "--log-level %s: should be error, warning, info or debug", optarg);
		td_log_level((enum td_log_level)i);
		return 0;
	default:
		return td_err_set(err, -EINVAL, "see tapback --help");
	}
}

/* May exit: --help, --version. */
static int parse(int argc, char **argv, struct options *o, struct td_err *err)
{
	static const char *const usual[] = { "vbd3", "vbd", "qdisk" };
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "fn:hV", long_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			exit(0);
		}
		if (c == 'V') {
			puts("tapback " PACKAGE_VERSION);
			exit(0);
		}
		r = parse_one(c, o, err);
	}
	if (r == 0 && optind < argc)
		r = td_err_set(err, -EINVAL, "%s: takes no operands; see tapback --help", argv[optind]);
	for (unsigned i = 0; r == 0 && o->nr_classes < TD_NELEMS(usual) && i < TD_NELEMS(usual); i++)
		if (o->nr_classes == i)
			o->classes[o->nr_classes++] = usual[i];
	return r;
}

/* ---- the lock ---- */

/*
 * One tapback a machine: two would fight for the same folders.  What the file says is for the tools and our hotplug
 * script; that it is locked says that it is true.
 */
static int lock(const struct options *o, int *ret_fd, struct td_err *err)
{
	td_cleanup(free) char *path = NULL;
	int fd, r;

	r = td_run_path(&path, err, "tapback");
	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return td_err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK ? td_err_set(err, -EBUSY, "%s: another tapback runs", path)
					 : td_err_set(err, -errno, "%s: %s", path, strerror(errno));
		close(fd);
		return r;
	}
	if (ftruncate(fd, 0) < 0)
		td_warn("%s: %s", path, strerror(errno));
	dprintf(fd, "%d", getpid());
	for (unsigned i = 0; i < o->nr_classes; i++)
		dprintf(fd, " %s", o->classes[i]);
	dprintf(fd, "\n");
	*ret_fd = fd;
	return 0;
}

/* ---- the process ---- */

struct process {
	struct backend backend;
	struct td_timer kill;
	int result;
	struct td_err *err;
};

static void on_signal(void *arg, int signo)
{
	struct process *p = arg;

	(void)signo;
	td_loop_stop(p->backend.env.loop);
}

/* systemd, or whoever watches us, starts another: everything is found again, if xenstored is. */
static void xenstore_lost(struct backend *b, int r)
{
	struct process *p = td_container_of(b, struct process, backend);

	p->result = td_err_set(p->err, r, "xenstored is gone: %s", strerror(-r));
	td_loop_stop(b->env.loop);
}

static int start(void *arg)
{
	struct process *p = arg;

	return backend_start(&p->backend, p->err);
}

static void say_ready(const struct options *o, int parent)
{
	puts("ready");
	fflush(stdout);
	if (o->foreground)
		return;
	td_log_syslog("tapback");
	td_background_ready(parent);
}

/* What is under way is given a moment; whatever is left is found again by the next tapback. */
static void finish(struct backend *b)
{
	uint64_t end = td_loop_now(b->env.loop) + STOP_NS;

	backend_stop(b);
	while (!backend_idle(b) && td_loop_now(b->env.loop) < end) {
		td_loop_turn(b->env.loop, false);
		usleep(1000);
	}
	if (!backend_idle(b))
		_exit(0);
	backend_free(b);
}

static int prepare(struct process *p, const struct options *o, struct td_err *err)
{
	struct device_env *env = &p->backend.env;
	int r;

	p->err = err;
	p->backend.lost = xenstore_lost;
	p->backend.probe.root = AUTOPROBE_ROOT;
	p->backend.nr_classes = o->nr_classes;
	memcpy(p->backend.classes, o->classes, sizeof(o->classes));
	env->phy = o->phy;
	env->disk.poll_us = o->poll_us;
	env->max_passes = DEVICE_PASSES;
	env->late_ns = DEVICE_LATE_NS;
	env->disk.ops = &disk_ops_real;
	env->loop = td_loop_new();
	r = env->loop ? 0 : -errno;
	if (r == 0)
		r = td_loop_signal(env->loop, SIGTERM, on_signal, p);
	if (r == 0)
		r = td_loop_signal(env->loop, SIGINT, on_signal, p);
	if (r < 0)
		return td_err_set(err, r, "cannot start: %s", strerror(-r));
	env->disk.pool = td_pool_new(env->loop, POOL_THREADS);
	return env->disk.pool ? 0 : td_err_set(err, -errno, "cannot start: %s", strerror(errno));
}

static int serve(const struct options *o, int parent, struct td_err *err)
{
	struct process p = { 0 };
	int lock_fd = -1, r;

	r = td_xs_connect(&p.backend.env.xs, err);
	if (r == 0 && !td_xs_is_dom0())
		r = td_err_set(err, -ENODEV,
			       "this is not the control domain of a Xen: nobody's disks to serve");
	if (r == 0)
		r = td_run_dir(&p.backend.env.run_dir, err);
	if (r == 0)
		r = lock(o, &lock_fd, err);
	if (r == 0)
		r = prepare(&p, o, err);
	if (r == 0)
		r = td_loop_call(p.backend.env.loop, start, &p);
	if (r == 0) {
		say_ready(o, parent);
		td_loop_run(p.backend.env.loop);
		finish(&p.backend);
		r = p.result;
	}
	td_pool_free(p.backend.env.disk.pool);
	td_loop_free(p.backend.env.loop);
	td_xs_close(p.backend.env.xs);
	if (lock_fd >= 0)
		close(lock_fd);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	struct td_err err = { "" };
	int parent = -1, r;

	td_log_level(TD_LOG_INFO);
	r = parse(argc, argv, &o, &err);
	if (r == 0 && !o.foreground)
		r = td_background_start(&parent, &err);
	if (r == 0) {
		signal(SIGPIPE, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		r = serve(&o, parent, &err);
	}
	if (r == 0)
		return 0;
	fprintf(stderr, "tapback: %s\n", err.msg);
	return 1;
}
