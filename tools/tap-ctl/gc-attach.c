// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl gc: what block-attach began on this machine and whose tapdisk is dead, or which was never finished.  Taking
 * it apart is block-detach's work, which knows the order and refuses what is in use; found here is only what needs it.
 */
#include <blktap/ctl.h>

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gc.h"

#define ATTACHED "attached" /* the phase of a record that is finished */

/* When did it start, in clock ticks, as the record has it?  0: there is no such process. */
static uint64_t started(pid_t pid)
{
	char path[64], line[1024] = "";
	const char *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	if (!p || strncmp(p, ") Z", 3) == 0)
		return 0;
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

/* Does a command work on it?  Its lock tells; a tapdisk that is about to be started holds it too. */
static bool is_busy(const char *lock)
{
	int fd = open(lock, O_RDWR | O_CLOEXEC);
	bool busy;

	if (fd < 0)
		return false;
	busy = flock(fd, LOCK_EX | LOCK_NB) < 0;
	close(fd);
	return busy;
}

/* NULL: all is well. */
static const char *whats_wrong(json_t *record)
{
	const char *phase = NULL;
	json_int_t start = 0;
	int pid = 0;

	if (!record ||
	    json_unpack(record, "{s:s, s:i, s:I}", "phase", &phase, "pid", &pid, "pid_start", &start) < 0)
		return "its record cannot be read";
	if (strcmp(phase, ATTACHED) != 0)
		return "it was never finished, and nobody is at work on it";
	if (pid <= 0 || started(pid) != (uint64_t)start)
		return "its tapdisk is dead";
	return NULL;
}

/* ---- block-detach ---- */

/* Beside this program, else by PATH. */
static char *block_detach(void)
{
	char exe[1024];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash, *path = NULL;

	exe[n > 0 ? n : 0] = '\0';
	slash = strrchr(exe, '/');
	if (slash && asprintf(&path, "%.*s/block-detach", (int)(slash - exe), exe) >= 0 &&
	    access(path, X_OK) == 0)
		return path;
	free(path);
	return strdup("block-detach");
}

/* The last line that it says, without its name. */
static void read_sentence(int fd, struct td_err *err)
{
	char text[2048];
	size_t have = 0;
	ssize_t n;
	char *line;

	while (have + 1 < sizeof(text) && (n = read(fd, text + have, sizeof(text) - 1 - have)) > 0)
		have += (size_t)n;
	while (have > 0 && text[have - 1] == '\n')
		have--;
	text[have] = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	td_err_put(err, strncmp(line, "block-detach: ", 14) == 0 ? line + 14 : line);
}

static int detach(const void *arg, struct td_err *ret_err)
{
	const char *argv[] = { "block-detach", "0", arg, NULL };
	td_cleanup(free) char *path = block_detach();
	posix_spawn_file_actions_t actions;
	extern char **environ;
	int out[2], status = 0, r;
	pid_t pid;

	if (!path || pipe2(out, O_CLOEXEC) < 0)
		return td_err_set(ret_err, -errno, "block-detach: %s", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
	r = posix_spawnp(&pid, path, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	if (r == 0) {
		read_sentence(out[0], ret_err);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(out[0]);
	if (r != 0)
		return td_err_set(ret_err, -r, "%s: %s", path, strerror(r));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

/* ---- */

static void one_record(struct gc *gc, const char *dir, const char *vdev)
{
	td_cleanup(free) char *path = NULL, *lock = NULL;
	const char *wrong;
	json_t *record;
	char what[80];

	if (asprintf(&path, "%s/%s.json", dir, vdev) < 0 || asprintf(&lock, "%s/%s.lock", dir, vdev) < 0 ||
	    is_busy(lock))
		return;
	record = json_load_file(path, 0, NULL);
	wrong = access(path, F_OK) == 0 ? whats_wrong(record) : NULL; /* detached meanwhile */
	json_decref(record);
	snprintf(what, sizeof(what), "disk %s", vdev);
	if (wrong)
		gc_orphan(gc, what, wrong, detach, vdev);
}

int gc_attached(struct gc *gc, struct td_err *ret_err)
{
	td_cleanup(free) char *dir = NULL;
	struct dirent *e;
	DIR *d;
	int r;

	r = td_run_path(&dir, ret_err, "attach");
	if (r < 0)
		return r;
	d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : td_err_set(ret_err, -errno, "%s: %s", dir, strerror(errno));
	while ((e = readdir(d))) {
		char vdev[64];
		size_t n = strcspn(e->d_name, ".");

		if (n == 0 || n >= sizeof(vdev) || strcmp(e->d_name + n, ".json") != 0)
			continue;
		memcpy(vdev, e->d_name, n);
		vdev[n] = '\0';
		one_record(gc, dir, vdev);
	}
	closedir(d);
	return 0;
}
