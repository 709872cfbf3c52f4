// SPDX-License-Identifier: BSD-2-Clause
/* A tapdisk of our own, on a socket in a folder of its own; and what a process has used of the processors. */
#include "bench.h"
#include <blktap/ctl.h>
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#define START_MS 30000
#define STOP_MS  60000

int server_start(struct server *s, const char *spec, const char *engine, bool read_only,
		 struct td_err *ret_err)
{
	const char *tmp = getenv("TMPDIR");
	const char *args[10];
	unsigned n = 0;
	int r;

	if (snprintf(s->dir, sizeof(s->dir), "%s/tap-bench.XXXXXX", tmp ? tmp : "/tmp") >=
	    (int)sizeof(s->dir))
		return td_err_set(ret_err, -ENAMETOOLONG, "TMPDIR: too long for a socket in it");
	if (!mkdtemp(s->dir))
		return td_err_set(ret_err, -errno, "%s: %s", s->dir, strerror(errno));
	snprintf(s->address, sizeof(s->address), "unix:%s/ring", s->dir);
	if (read_only)
		args[n++] = "-R";
	args[n++] = "--engine";
	args[n++] = engine;
	args[n++] = "--ring";
	args[n++] = s->address;
	args[n++] = spec;
	args[n] = NULL;
	r = td_ctl_spawn(args, START_MS, &s->pid, ret_err);
	if (r < 0)
		rmdir(s->dir);
	return r;
}

int server_stop(struct server *s, struct td_err *ret_err)
{
	int r = td_ctl_terminate(s->pid, STOP_MS, ret_err);

	rmdir(s->dir);
	return r;
}

/* Nanoseconds on a processor: the first word. */
static uint64_t schedstat_ns(pid_t pid, const char *tid)
{
	char path[64], line[128];
	uint64_t ns = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fgets(line, sizeof(line), f))
		ns = strtoull(line, NULL, 10);
	fclose(f);
	return ns;
}

uint64_t server_cpu_ns(pid_t pid)
{
	char path[64];
	const struct dirent *e;
	uint64_t sum = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			sum += schedstat_ns(pid, e->d_name);
	if (d)
		closedir(d);
	return sum;
}
