// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl gc: sockets that nobody listens on, and minors that no daemon has.
 */
#include <blktap/ctl.h>

#include <dirent.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "gc.h"
#include "minor.h"
#include "steps.h"

/* Between `tap-ctl allocate` and `attach` nothing but its age tells a minor that is wanted from one that is lost. */
#define ALLOCATED_S 600

/* One that is just starting has no socket yet that answers.  "1234 (tapdisk) S ...": a zombie is none any more. */
static bool is_tapdisk(pid_t pid)
{
	char path[64], line[64] = "";
	const char *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = pid > 0 ? fopen(path, "re") : NULL;
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	state = strstr(line, "(tapdisk) ");
	return state && state[10] != 'Z' && state[10] != 'X';
}

/* ---- daemons ---- */

struct left {
	pid_t pid;
	int minor;
	pid_t marked;
};

static int remove_left(const void *arg, struct td_err *ret_err)
{
	const struct left *l = arg;
	int r = 0;

	if (l->pid > 0)
		r = step_sweep(l->pid, ret_err);
	if (r == 0 && l->minor >= 0)
		r = minor_free(l->minor, l->marked, ret_err);
	return r == -ENOENT ? 0 : r; /* somebody was faster */
}

/* How long ago was this minor allocated, in seconds?  -1: not known. */
static int64_t allocated_ago(int minor)
{
	td_cleanup(free) char *path = NULL;
	struct stat st;

	if (td_run_path(&path, NULL, TD_MARKER, minor) < 0 || stat(path, &st) < 0)
		return -1;
	return TD_MAX((int64_t)(time(NULL) - st.st_mtime), 0);
}

static void marker(struct gc *gc, const struct tap *row, const char *what)
{
	struct left l = { .pid = -1, .minor = row->minor, .marked = row->marked };
	int64_t ago = allocated_ago(row->minor);
	char why[96];

	if (row->marked > 0) {
		snprintf(why, sizeof(why), "tapdisk %d, which had it, is gone", (int)row->marked);
		gc_orphan(gc, what, why, remove_left, &l);
	} else if (ago >= 0 && ago < ALLOCATED_S) {
		snprintf(why, sizeof(why), "allocated %lld seconds ago, somebody may be about to attach it",
			 (long long)ago);
		gc_kept(gc, what, why);
	} else {
		gc_orphan(gc, what, "allocated long ago, and no tapdisk ever had it", remove_left, &l);
	}
}

static void daemon_row(struct gc *gc, const struct tap *row)
{
	struct left l = { .pid = row->pid, .minor = row->minor, .marked = row->marked };
	char what[64], why[96];

	snprintf(what, sizeof(what), "tapdisk %d", (int)row->pid);
	if (row->kind == TAP_GONE && is_tapdisk(row->pid)) {
		gc_kept(gc, what, "it runs, and its control socket does not answer yet");
	} else if (row->kind == TAP_GONE) {
		snprintf(what, sizeof(what), "sockets of tapdisk %d%s", (int)row->pid,
			 row->minor >= 0 ? ", and its minor" : "");
		gc_orphan(gc, what, "it is dead", remove_left, &l);
	} else if (row->kind == TAP_MUTE) {
		snprintf(why, sizeof(why), "it runs and does not answer; tap-ctl destroy -p %d ends it",
			 (int)row->pid);
		gc_kept(gc, what, why);
	} else if (row->kind == TAP_LIVE && row->minor < 0 && !row->spec) {
		snprintf(why, sizeof(why), "it runs and has no disk; tap-ctl destroy -p %d ends it",
			 (int)row->pid);
		gc_kept(gc, what, why);
	} else if (row->kind == TAP_MARKER) {
		snprintf(what, sizeof(what), "minor %d", row->minor);
		marker(gc, row, what);
	}
}

/* ---- sockets without a control socket beside them ---- */

/* Then it is swept with that, which a dry run leaves. */
static bool has_control_socket(pid_t pid)
{
	td_cleanup(free) char *path = NULL;

	return td_run_path(&path, NULL, "ctl%d", (int)pid) == 0 && access(path, F_OK) == 0;
}

/* Nobody listens, and nobody is about to. */
static bool is_dead(const char *path, pid_t pid)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, r;

	if (is_tapdisk(pid) || has_control_socket(pid) || strlen(path) >= sizeof(sa.sun_path))
		return false;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	r = connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ? errno : 0;
	close(fd);
	return r == ECONNREFUSED;
}

/* The pid of "nbd1234.5"; 0: another name. */
static pid_t pid_of_socket(const char *name)
{
	char *end;
	long n;

	if (strncmp(name, "nbd", 3) != 0 || name[3] < '1' || name[3] > '9')
		return 0;
	n = strtol(name + 3, &end, 10);
	return (*end == '.' || *end == '\0') && n <= INT32_MAX ? (pid_t)n : 0;
}

static int lone_sockets(struct gc *gc, struct td_err *ret_err)
{
	struct dirent *e;
	const char *dir;
	DIR *d;
	int r = td_run_dir_open(&dir, &d, ret_err);

	if (r < 0)
		return r;
	while ((e = readdir(d))) {
		pid_t pid = pid_of_socket(e->d_name);
		td_cleanup(free) char *path = NULL, *what = NULL;

		if (pid == 0 || asprintf(&path, "%s/%s", dir, e->d_name) < 0)
			path = NULL;
		if (!path || !is_dead(path, pid) || asprintf(&what, "socket %s", path) < 0)
			what = NULL;
		if (what)
			gc_orphan(gc, what, "nobody listens on it", gc_unlink, path);
	}
	closedir(d);
	return 0;
}

int gc_daemons(struct gc *gc, struct td_err *ret_err)
{
	struct taps t;
	int r;

	r = taps_read(&t, ret_err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < t.nr; i++)
		daemon_row(gc, &t.tap[i]);
	taps_done(&t);
	return lone_sockets(gc, ret_err);
}
