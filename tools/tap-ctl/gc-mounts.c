// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl gc: FUSE mounts whose tapdisk is dead, and loop devices on their files.
 *
 * A mount is dead when the kernel says ENOTCONN.  Asking one that is alive and hangs would hang us: a child asks, and
 * is killed when that takes too long.
 */
#include <blktap/ctl.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <mntent.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gc.h"

#define ANSWER_S  3
#define MOUNTS    "/proc/self/mounts"
#define FUSE_TYPE "fuse.tapdisk"

/* ---- mounts ---- */

static bool is_dead(const char *path)
{
	struct statfs sf;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(ANSWER_S);
		_exit(statfs(path, &sf) < 0 && (errno == ENOTCONN || errno == ECONNABORTED));
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

/* Only root may call umount2(); fusermount3 does it for others. */
static int unmount(const void *path, struct td_err *ret_err)
{
	const char *argv[] = { "fusermount3", "-u", "-z", "-q", "--", path, NULL };
	extern char **environ;
	int status = -1, r = 0;
	pid_t pid;

	if (geteuid() == 0) {
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
			r = -errno;
		return r < 0 ? td_err_set(ret_err, r, "%s", strerror(-r)) : 0;
	}
	r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
	while (r == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0
		       ? 0
		       : td_err_set(ret_err, -EPERM, "fusermount3 did not unmount it");
}

/* ---- loop devices ---- */

struct loop {
	int nr;
};

/* Is it, or a partition of it, mounted?  *ret_where: where. */
static bool is_mounted(int nr, char ret_where[static 256])
{
	FILE *f = setmntent(MOUNTS, "r");
	struct mntent *m;
	char dev[32];
	bool found = false;
	size_t n = (size_t)snprintf(dev, sizeof(dev), "/dev/loop%d", nr);

	while (f && !found && (m = getmntent(f)))
		if (strncmp(m->mnt_fsname, dev, n) == 0 &&
		    (m->mnt_fsname[n] == '\0' || m->mnt_fsname[n] == 'p')) {
			snprintf(ret_where, 256, "%s", m->mnt_dir);
			found = true;
		}
	if (f)
		endmntent(f);
	return found;
}

/* Whoever has it open keeps it until he closes it: the kernel waits for that. */
static int clear_loop(const void *arg, struct td_err *ret_err)
{
	const struct loop *l = arg;
	char dev[32];
	int fd, r = 0;

	snprintf(dev, sizeof(dev), "/dev/loop%d", l->nr);
	fd = open(dev, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO))
		r = td_err_set(ret_err, -errno, "%s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

static void one_loop(struct gc *gc, const struct loop *l)
{
	char what[32], why[400], where[256] = "";

	snprintf(what, sizeof(what), "device /dev/loop%d", l->nr);
	if (is_mounted(l->nr, where)) {
		snprintf(why, sizeof(why), "its tapdisk is dead, but it is mounted on %s: umount that first",
			 where);
		gc_kept(gc, what, why);
	} else {
		gc_orphan(gc, what, "the tapdisk of the file that it shows is dead", clear_loop, l);
	}
}

/* Does this loop device show the mounted file, or one below it? */
static bool shows(int nr, const char *mount)
{
	char path[64], line[3000] = "";
	size_t n = strlen(mount);
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/loop%d/loop/backing_file", nr);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return strncmp(line, mount, n) == 0 && (line[n] == '\0' || line[n] == '/');
}

static void loops_on(struct gc *gc, const char *mount)
{
	DIR *d = opendir("/sys/block");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		int nr = strncmp(e->d_name, "loop", 4) == 0 ? (int)strtol(e->d_name + 4, NULL, 10) : -1;

		if (nr >= 0 && shows(nr, mount))
			one_loop(gc, &(struct loop){ .nr = nr });
	}
	if (d)
		closedir(d);
}

/* ---- */

/* The mount of a disk that has a record is block-detach's to take away. */
static bool is_a_record_s(const char *path)
{
	td_cleanup(free) char *dir = NULL, *record = NULL;
	size_t n;

	if (td_run_path(&dir, NULL, "attach") < 0 || !dir)
		return true;
	n = strlen(dir);
	if (strncmp(path, dir, n) != 0 || path[n] != '/' || !strrchr(path, '.'))
		return false;
	if (asprintf(&record, "%.*s.json", (int)(strrchr(path, '.') - path), path) < 0)
		return true;
	return access(record, F_OK) == 0;
}

/* One after the other, and from the beginning after each: the list changes under us. */
static char *next_dead(unsigned *skip)
{
	FILE *f = setmntent(MOUNTS, "r");
	unsigned at = 0;
	char *found = NULL;
	struct mntent *m;

	while (f && !found && (m = getmntent(f)))
		if (strcmp(m->mnt_type, FUSE_TYPE) == 0 && at++ >= *skip) {
			++*skip;
			if (!is_a_record_s(m->mnt_dir) && is_dead(m->mnt_dir))
				found = strdup(m->mnt_dir);
		}
	if (f)
		endmntent(f);
	return found;
}

int gc_mounts(struct gc *gc, struct td_err *ret_err)
{
	unsigned skip = 0;
	char *path;

	(void)ret_err;
	while ((path = next_dead(&skip))) {
		td_cleanup(free) char *what = NULL;
		unsigned failed = gc->failed;

		loops_on(gc, path);
		if (asprintf(&what, "mount %s", path) < 0)
			what = NULL;
		if (what)
			gc_orphan(gc, what, "its tapdisk is dead", unmount, path);
		if (!gc->dry_run && gc->failed == failed)
			skip--; /* it is no more in the list */
		free(path);
	}
	return 0;
}
