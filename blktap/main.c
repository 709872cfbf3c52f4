// SPDX-License-Identifier: BSD-2-Clause
/*
 * tapdisk(8): the command line, the process's own settings, and going to the background.
 *
 * Without -f the work is done by a child that is forked before anything else exists (no loop, no thread, no file);
 * the parent waits until the child is ready or has said what is wrong, and exits with its status.
 */
#include "control.h"
#include "fuse-unmount.h"
#include <blktap/background.h>
#include <blktap/log.h>
#include <config.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

struct options {
	struct daemon_options daemon;
	bool foreground, syslog, no_control;
};

static const char help[] =
	"Usage: tapdisk [OPTION]... [SPEC]\n"
	"Serves one virtual disk until SIGTERM.  SPEC is [FILTER/]...DRIVER[(OPTION=VALUE,...)]:PATH,\n"
	"for instance qcow2:/srv/a.qcow2.  Without SPEC: waits for tap-ctl.\n"
	"\n"
	"  -f, --foreground      stay in the foreground\n"
	"  -R, --read-only       open the image read-only\n"
	"      --nbd ADDRESS     serve NBD on unix:PATH or tcp:[HOST]:PORT (may be repeated)\n"
	"      --fuse FILE       show the disk as this file (may be repeated)\n"
	"      --fuse-dir DIR    show the disk and its partitions in this directory (may be repeated)\n"
	"      --fuse-access WHO owner, root or all: who may use these files (default: owner)\n"
	"      --ring ADDRESS    serve a ring in shared memory on unix:PATH (may be repeated)\n"
	"      --name NAME       the disk's name for NBD clients (default: disk)\n"
	"      --engine NAME     auto, io_uring, libaio, sync or threads (default: auto)\n"
	"      --depth N         requests in the kernel at once, 1..4096 (default: 256)\n"
	"      --allow DIR       images may name files in this directory too (may be repeated)\n"
	"      --allow-write DIR the same, and unpause may move the disk to an image there\n"
	"      --sandbox on|off  keep only what serving the disk needs (default: on)\n"
	"      --user NAME[:GROUP]  in the sandbox, be this user\n"
	"      --minor N         the disk's number, for nbd<pid>.<N> in the run-time directory\n"
	"      --on-enospc DO    report (an error to whoever wrote) or pause (wait for space)\n"
	"      --request-timeout SECONDS\n"
	"                        tell of requests that take longer (default: 0, never)\n"
	"      --log-level L     error, warning, info or debug (default: warning)\n"
	"      --syslog          with -f: log to syslog once ready\n"
	"      --no-control      no control socket: tap-ctl does not see this disk\n"
	"  -h, --help            print this text\n"
	"  -V, --version         print the version\n"
	"\n"
	"The line `ready' on standard output says that the disk can be used.  See tapdisk(8).\n";

enum {
	OPT_NBD = 256,
	OPT_FUSE,
	OPT_FUSE_DIR,
	OPT_FUSE_ACCESS,
	OPT_RING,
	OPT_NAME,
	OPT_ENGINE,
	OPT_DEPTH,
	OPT_ALLOW,
	OPT_ALLOW_WRITE,
	OPT_SANDBOX,
	OPT_USER,
	OPT_MINOR,
	OPT_ON_ENOSPC,
	OPT_REQUEST_TIMEOUT,
	OPT_LOG_LEVEL,
	OPT_SYSLOG,
	OPT_NO_CONTROL
};

static const struct option long_options[] = {
	{ "foreground", no_argument, NULL, 'f' },
	{ "read-only", no_argument, NULL, 'R' },
	{ "nbd", required_argument, NULL, OPT_NBD },
	{ "fuse", required_argument, NULL, OPT_FUSE },
	{ "fuse-dir", required_argument, NULL, OPT_FUSE_DIR },
	{ "fuse-access", required_argument, NULL, OPT_FUSE_ACCESS },
	{ "ring", required_argument, NULL, OPT_RING },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "engine", required_argument, NULL, OPT_ENGINE },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "allow", required_argument, NULL, OPT_ALLOW },
	{ "allow-write", required_argument, NULL, OPT_ALLOW_WRITE },
	{ "sandbox", required_argument, NULL, OPT_SANDBOX },
	{ "user", required_argument, NULL, OPT_USER },
	{ "minor", required_argument, NULL, OPT_MINOR },
	{ "on-enospc", required_argument, NULL, OPT_ON_ENOSPC },
	{ "request-timeout", required_argument, NULL, OPT_REQUEST_TIMEOUT },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "syslog", no_argument, NULL, OPT_SYSLOG },
	{ "no-control", no_argument, NULL, OPT_NO_CONTROL },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

/* ---- the command line ---- */

static bool on_syslog; /* nobody reads our stderr any more */

static void complain(const char *sentence)
{
	if (on_syslog)
		td_error("%s", sentence);
	else
		fprintf(stderr, "%s: %s\n", program_invocation_short_name, sentence); /* or tapfuse */
}

static int parse_number(const char *what, const char *text, long min, long max, long *ret, struct td_err *err)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < min || n > max)
		return td_err_set(err, -EINVAL, "--%s %s: should be a number from %ld to %ld", what, text,
				  min, max);
	*ret = n;
	return 0;
}

static int parse_level(const char *text, struct td_err *err)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	for (unsigned i = 0; i < TD_NELEMS(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			td_log_level((enum td_log_level)i);
			return 0;
		}
	}
	return td_err_set(err, -EINVAL, "--log-level %s: should be error, warning, info or debug", text);
}

static int parse_on_enospc(const char *text, int *ret, struct td_err *err)
{
	*ret = strcmp(text, "pause") == 0;
	if (*ret || strcmp(text, "report") == 0)
		return 0;
	return td_err_set(err, -EINVAL, "--on-enospc %s: should be report or pause", text);
}

static int parse_access(const char *text, struct td_err *err)
{
	static const char *const names[] = {
		[TD_FUSE_OWNER] = "owner", [TD_FUSE_ROOT] = "root", [TD_FUSE_ALL] = "all"
	};

	for (unsigned i = 0; i < TD_NELEMS(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			td_fuse_access((enum td_fuse_access)i);
			return 0;
		}
	}
	return td_err_set(err, -EINVAL, "--fuse-access %s: should be owner, root or all", text);
}

static int add_export(struct daemon_options *o, const struct td_export_ops *ops, const char *address,
		      struct td_err *err)
{
	if (o->nr_exports == DAEMON_MAX_EXPORTS)
		return td_err_set(err, -EINVAL, "at most %d of --nbd, --fuse, --fuse-dir and --ring",
				  DAEMON_MAX_EXPORTS);
	o->exports[o->nr_exports++] = (struct export_request){ ops, address };
	return 0;
}

static int add_allow(struct daemon_options *o, const char *dir, bool write, struct td_err *err)
{
	if (o->nr_allow == TD_NELEMS(o->allow))
		return td_err_set(err, -EINVAL, "at most %zu of --allow and --allow-write",
				  TD_NELEMS(o->allow));
	o->allow[o->nr_allow] = dir;
	o->allow_write[o->nr_allow++] = write;
	return 0;
}

/* A name goes over the wire, and into listings that scripts read. */
static int check_name(const char *name, struct td_err *err)
{
	if (!*name || strlen(name) > 255)
		return td_err_set(err, -EINVAL, "--name: should have 1 to 255 bytes");
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return td_err_set(err, -EINVAL, "--name: holds a control character");
	return 0;
}

/* Options without a letter.  What they name is looked up later, in the child. */
static int parse_long(int c, struct options *o, struct td_err *err)
{
	struct daemon_options *d = &o->daemon;
	long n = 0;
	int r;

	switch (c) {
	case OPT_NBD:
		return add_export(d, &td_nbd_export, optarg, err);
	case OPT_FUSE:
		return add_export(d, &td_fuse_export, optarg, err);
	case OPT_FUSE_DIR:
		return add_export(d, &td_fuse_dir_export, optarg, err);
	case OPT_FUSE_ACCESS:
		return parse_access(optarg, err);
	case OPT_RING:
		return add_export(d, &td_ring_export, optarg, err);
	case OPT_ALLOW:
	case OPT_ALLOW_WRITE:
		return add_allow(d, optarg, c == OPT_ALLOW_WRITE, err);
	case OPT_SANDBOX:
		d->sandbox = optarg;
		return strcmp(optarg, "on") == 0 || strcmp(optarg, "off") == 0
			       ? 0
			       : td_err_set(err, -EINVAL, "--sandbox %s: should be on or off", optarg);
	case OPT_USER:
		d->user = optarg;
		return 0;
	case OPT_NAME:
		d->name = optarg;
		return check_name(optarg, err);
	case OPT_ENGINE:
		d->engine = optarg;
		return 0;
	case OPT_DEPTH:
		r = parse_number("depth", optarg, 1, 4096, &n, err);
		d->depth = (unsigned)n;
		return r;
	case OPT_MINOR:
		r = parse_number("minor", optarg, 0, INT_MAX, &n, err);
		d->minor = (int)n;
		return r;
	case OPT_ON_ENOSPC:
		return parse_on_enospc(optarg, &d->on_enospc, err);
	case OPT_REQUEST_TIMEOUT:
		r = parse_number("request-timeout", optarg, 0, TD_REQUEST_TIMEOUT_MAX, &n, err);
		d->request_timeout = (int)n;
		return r;
	case OPT_LOG_LEVEL:
		return parse_level(optarg, err);
	default:
		return td_err_set(err, -EINVAL, "see tapdisk --help");
	}
}

/* May exit: --help, --version. */
static int parse(int argc, char **argv, struct options *o, struct td_err *err)
{
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "fRhV", long_options, NULL)) != -1) {
		switch (c) {
		case 'f':
			o->foreground = true;
			break;
		case 'R':
			o->daemon.read_only = true;
			break;
		case OPT_SYSLOG:
			o->syslog = true;
			break;
		case OPT_NO_CONTROL:
			o->no_control = true;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		case 'V':
			puts("tapdisk " PACKAGE_VERSION);
			exit(0);
		default:
			r = parse_long(c, o, err);
			break;
		}
	}
	if (r < 0)
		return r;
	if (argc - optind > 1)
		return td_err_set(err, -EINVAL, "%s: one SPEC only; see tapdisk --help", argv[optind + 1]);
	o->daemon.spec = argv[optind];
	if (!o->daemon.spec && o->daemon.nr_exports > 0)
		return td_err_set(
			err, -EINVAL,
			"--nbd, --fuse, --fuse-dir and --ring need a SPEC to serve; see tapdisk --help");
	if (!o->daemon.spec && o->no_control)
		return td_err_set(err, -EINVAL, "--no-control without a SPEC: nobody could give it a disk");
	return 0;
}

/* ---- the process ---- */

static void raise_descriptors(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= l.rlim_max)
		return;
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
}

/*
 * The host may reclaim memory by writing to the disk that we serve: our own allocations must not wait for that.  The
 * kernel refuses it to ordinary users and where it is too old; then there is nothing to do.
 */
static void set_process(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	raise_descriptors();
}

/* Standard descriptors that are closed would be given to the first sockets: output would go to a client. */
static int open_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR); /* not O_CLOEXEC: they are the standard ones */
	} while (fd >= 0 && fd <= 2);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* ---- ready, and the end ---- */

/* Port 0 was asked for: whoever started us has to learn which one it is. */
static void print_ports(const struct daemon *d, const struct daemon_options *o)
{
	for (unsigned i = 0; i < d->nr_exports; i++) {
		const char *asked = o->exports[i].address;

		if (strcmp(d->exports[i]->ops->name, "nbd") == 0 &&
		    strcmp(asked, d->exports[i]->address) != 0)
			printf("nbd %s\n", d->exports[i]->address);
	}
}

static int say_ready(const struct daemon *d, const struct options *o, int parent, struct td_err *err)
{
	if (o->daemon.nr_exports > 0)
		print_ports(d, &o->daemon);
	puts("ready");
	if (fflush(stdout) == EOF)
		return td_err_set(err, -errno, "standard output: %s", strerror(errno));
	if (!o->foreground || o->syslog) {
		on_syslog = true;
		td_background_ready(parent);
	}
	return 0;
}

/* Whoever is to be talked to later is connected to before: the system's log. */
static int close_doors(struct daemon *d, const struct options *o, struct td_err *err)
{
	if (!o->foreground || o->syslog)
		td_log_syslog("tapdisk");
	return o->daemon.spec ? daemon_sandbox(d, err) : 0;
}

/* What a sandbox cannot do at the end; while nothing is open yet. */
static int start_helper(const struct daemon_options *o, char **argv, struct td_err *err)
{
	struct fuse_place places[DAEMON_MAX_EXPORTS];
	unsigned nr = 0;

	if (o->sandbox ? strcmp(o->sandbox, "off") == 0 : DAEMON_SANDBOX_OFF)
		return 0;
	for (unsigned i = 0; i < o->nr_exports; i++) {
		bool dir = o->exports[i].ops == &td_fuse_dir_export;

		if (dir || o->exports[i].ops == &td_fuse_export)
			places[nr++] = (struct fuse_place){ o->exports[i].address, dir };
	}
	return nr > 0 ? fuse_unmounter_start(places, nr, argv, err) : 0;
}

static int serve(const struct options *o, int parent, struct td_err *err)
{
	struct control *control = NULL;
	struct daemon d;
	int r;

	r = daemon_start(&d, &o->daemon, err);
	if (r == 0 && !o->no_control)
		r = control_start(&d, &control, err);
	if (r == 0)
		r = close_doors(&d, o, err);
	if (r == 0)
		r = say_ready(&d, o, parent, err);
	if (r == 0) {
		r = daemon_run(&d);
		if (r < 0)
			td_err_set(err, r, "%s: the last flush or close failed: %s; check the image",
				   o->daemon.spec ? o->daemon.spec : o->daemon.name, strerrordesc_np(-r));
	}
	control_free(control);
	daemon_free(&d);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = {
		.daemon = { .name = "disk",
			    .engine = "auto",
			    .depth = 256,
			    .minor = -1,
			    .on_enospc = -1,
			    .request_timeout = -1 },
	};
	struct td_err err = { "" };
	int parent = -1, r;

	r = open_standard();
	if (r < 0)
		return 1;
	r = parse(argc, argv, &o, &err);
	if (r == 0 && !o.foreground)
		r = td_background_start(&parent, &err);
	if (r == 0) {
		set_process();
		r = start_helper(&o.daemon, argv, &err);
	}
	if (r == 0)
		r = serve(&o, parent, &err);
	if (r == 0)
		return 0;
	complain(err.msg);
	return 1;
}
