// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which process serves an attached disk, and its end.
 *
 * The record may lack the number (a crash between the start and the note of it): then the process is found by its
 * command line, where our file's name stands behind --fuse.
 */
#include "attach.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define CMDLINE_MAX 65536
#define DAEMONS_MAX 8

/* Field 22 of stat, counted from behind the name, which may hold anything; field 3 is the state. */
uint64_t attach_pid_start(pid_t pid)
{
	char line[1024];
	const char *p;
	uint64_t start;

	if (pid <= 0 || !attach_read_line(line, sizeof(line), "/proc/%d/stat", pid))
		return 0;
	p = strrchr(line, ')');
	if (!p || strncmp(p, ") Z", 3) == 0 || strncmp(p, ") X", 3) == 0)
		return 0;
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return 0;
	p++;
	return attach_number(&p, &start) ? start : 0;
}

/* Do the arguments hold "--fuse", file? */
static bool serves_file(pid_t pid, const char *file, char *buf)
{
	const char *p = buf, *end;
	bool fuse = false;
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, CMDLINE_MAX - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	for (end = buf + n; p < end; p += strlen(p) + 1) {
		if (fuse && strcmp(p, file) == 0)
			return true;
		fuse = strcmp(p, "--fuse") == 0;
	}
	return false;
}

static pid_t find_by_cmdline(const char *file)
{
	td_cleanup(free) char *buf = malloc(CMDLINE_MAX);
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t pid = 0;

	while (buf && d && pid == 0 && (e = readdir(d))) {
		pid_t n = attach_pid_of(e->d_name);

		if (n > 0 && serves_file(n, file, buf))
			pid = n;
	}
	if (d)
		closedir(d);
	return pid;
}

pid_t attach_daemon(const struct attach *a)
{
	if (a->pid > 0 && a->pid_start != 0 && attach_pid_start(a->pid) == a->pid_start)
		return a->pid;
	return find_by_cmdline(a->fuse_file);
}

static int kill_hard(const struct attach *a, pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	uint64_t start = attach_pid_start(pid), deadline = attach_now_ms() + timeout_ms;

	kill(pid, SIGKILL);
	while (start != 0 && attach_pid_start(pid) == start) {
		if (attach_now_ms() >= deadline)
			return td_err_set(ret_err, -ETIMEDOUT, "%s: tapdisk %d cannot be killed", a->vdev,
					  pid);
		attach_nap();
	}
	return 0;
}

int attach_end_daemon(struct attach *a, unsigned timeout_ms, bool kill, struct td_err *ret_err)
{
	pid_t pid;
	int r = 0;

	for (int i = 0; i < DAEMONS_MAX && r == 0 && (pid = attach_daemon(a)) > 0; i++) {
		r = td_ctl_terminate(pid, timeout_ms, ret_err);
		if (r == -ETIMEDOUT && kill)
			r = kill_hard(a, pid, timeout_ms, ret_err);
	}
	return r;
}
