// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-dm: what libxl starts as device model of a PV domain whose disks tapback serves in class qdisk.
 *
 * libxl takes such a disk for QEMU's and does not go on before a device model runs.  This one has no devices: it says
 * in xenstore that it runs, answers what libxl asks on its QMP sockets, and ends when it is told to.
 */
#include "config.h"

#include <blktap/background.h>
#include <blktap/xs.h>

#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server.h"

static const char usage[] =
	"usage: tap-dm --xen-domid N --machine xenpv [--chardev socket,id=ID,path=FILE,server=on,wait=off\n"
	"              --mon chardev=ID,mode=control]... [OPTION]...\n"
	"\n"
	"Stand in for QEMU as the device model of a PV domain; libxl starts it, with one dash before each "
	"option.\n"
	"\n"
	"  --xen-domid N          the domain\n"
	"  --machine MACHINE      xenpv; any other is refused, but none, which answers and serves no domain\n"
	"  --chardev SOCKET       a unix socket to listen on\n"
	"  --mon MONITOR          speak QMP there\n"
	"  --qmp unix:FILE,server both in one\n"
	"  -S                     not running before a client says cont\n"
	"  --daemonize            return when ready, go on in the background\n"
	"  --pidfile FILE         write the process id there\n"
	"  --no-xenstore          do not touch xenstore: for trying it out; libxl waits in vain then\n"
	"  -h, --help             print this and exit\n"
	"  -V, --version          print the version and exit\n"
	"\n"
	"What libxl passes besides and means nothing here is taken; what needs the real QEMU is refused.\n";

struct tap_dm {
	struct dm_server server;
	struct dm_args args;
	int ready_fd; /* --daemonize: the one who started us waits at its other end; -1 */
};

/* ---- saying that it runs ---- */

static int write_state(int domid, struct td_err *ret_err)
{
	char path[64];
	struct td_xs *xs;
	int r;

	r = td_xs_connect(&xs, ret_err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/local/domain/0/device-model/%d/state", domid);
	r = td_xs_write(xs, path, "running");
	td_xs_close(xs);
	return r < 0 ? td_err_set(ret_err, r, "xenstore: cannot write %s: %s", path, strerror(-r)) : 0;
}

static int start(struct qmp_dm *dm, struct td_err *ret_err)
{
	const struct dm_server *server = td_container_of(dm, struct dm_server, dm);
	const struct tap_dm *t = td_container_of(server, struct tap_dm, server);

	/* libxl's probe of the command line has no domain. */
	if (t->args.no_xenstore || t->args.domid < 0)
		return 0;
	return write_state(t->args.domid, ret_err);
}

static int start_unless_paused(struct tap_dm *t, struct td_err *ret_err)
{
	int r;

	t->server.dm.start = start;
	if (t->args.paused)
		return 0;
	r = start(&t->server.dm, ret_err);
	t->server.dm.running = r == 0;
	return r;
}

/* ---- the process ---- */

/* Of its own, as libxl reads the end of a device model from its signals. */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP); /* libxl's way to end it */
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int write_pid(const char *file, struct td_err *ret_err)
{
	FILE *f = fopen(file, "we");

	if (!f || fprintf(f, "%d\n", (int)getpid()) < 0 || fflush(f) != 0) {
		int r = td_err_set(ret_err, -errno, "%s: cannot write it: %s", file, strerror(errno));

		if (f)
			fclose(f);
		return r;
	}
	fclose(f);
	return 0;
}

/* Tell the one who waits, and leave the terminal. */
static void say_ready(struct tap_dm *t)
{
	if (t->ready_fd >= 0)
		td_background_ready(t->ready_fd);
	t->ready_fd = -1;
}

static int serve(struct tap_dm *t, struct td_err *ret_err)
{
	int r, fd = open_signals();

	if (fd < 0)
		return td_err_set(ret_err, -errno, "signals: %s", strerror(errno));
	umask(0077); /* who reaches a socket may end the domain's device model */
	r = dm_server_open(&t->server, &t->args, ret_err);
	if (r == 0 && t->args.pidfile)
		r = write_pid(t->args.pidfile, ret_err);
	if (r == 0)
		r = start_unless_paused(t, ret_err);
	if (r == 0) {
		if (t->args.domid >= 0)
			fprintf(stderr, "tap-dm: domain %d: standing in for QEMU; tapback serves its disks\n",
				t->args.domid);
		say_ready(t);
		r = dm_server_run(&t->server, fd, ret_err);
	}
	dm_server_close(&t->server);
	if (t->args.pidfile)
		unlink(t->args.pidfile);
	close(fd);
	return r;
}

static int to_background(struct tap_dm *t, struct td_err *ret_err)
{
	int r = td_background_start(&t->ready_fd, ret_err);

	return r < 0 || chdir("/") == 0 ? r : -errno;
}

int main(int argc, char **argv)
{
	struct tap_dm t = { .ready_fd = -1 };
	struct td_err err = { .msg = "" };
	int r;

	r = dm_args_parse(argc, argv, &t.args, &err);
	if (r == 0 && (t.args.help || t.args.version)) {
		printf("%s", t.args.help ? usage : "tap-dm (blktap) " PACKAGE_VERSION "\n");
		return fflush(stdout) == 0 ? 0 : 1;
	}
	if (r == 0 && t.args.daemonize)
		r = to_background(&t, &err);
	if (r == 0)
		r = serve(&t, &err);
	if (r == 0)
		return 0;
	fprintf(stderr, "tap-dm: %s\n", err.msg[0] ? err.msg : strerror(-r));
	return 1;
}
