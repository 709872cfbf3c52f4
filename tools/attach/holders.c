// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who uses a disk, a loop device or domain 0's own blkfront:
 * file systems, swap, device mapper and the like, other loop devices, open files.
 */
#include "attach.h"
#include <dirent.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PATH_LEN 1024 /* a longer one is cut, and then not recognised by its name */

/* Is this the device number of the disk or of a partition of it?  sysfs knows both. */
static bool is_of_disk(const char *disk, dev_t dev)
{
	char path[64], real[1024], part[ATTACH_DISK_MAX + 2];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	n = readlink(path, real, sizeof(real) - 1);
	if (n <= 0)
		return false;
	real[n] = '\0';
	snprintf(part, sizeof(part), "/%s/", disk);
	if (strstr(real, part))
		return true;
	part[strlen(part) - 1] = '\0';
	return strcmp(strrchr(real, '/'), part) == 0;
}

static bool path_is_of_disk(const char *disk, const char *path)
{
	struct stat st;

	return strncmp(path, "/dev/", 5) == 0 && stat(path, &st) == 0 && S_ISBLK(st.st_mode) &&
	       is_of_disk(disk, st.st_rdev);
}

static bool is_octal(const char *s)
{
	return *s >= '0' && *s <= '7';
}

/* "\\040" and friends, in place. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; out++) {
		if (*s == '\\' && is_octal(s + 1) && is_octal(s + 2) && is_octal(s + 3)) {
			*out = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out = *s++;
		}
	}
	*out = '\0';
}

/* ---- mounts ---- */

/* One line of mountinfo: ID PARENT MAJOR:MINOR ROOT DIR OPTIONS... - TYPE SOURCE OPTIONS.  Cuts the line up. */
static bool parse_mount(char *line, dev_t *ret_dev, char **ret_dir, char **ret_source)
{
	char *dash = strstr(line, " - "), *rest = line, *field[5], *source;

	if (!dash)
		return false;
	*dash = '\0';
	dash += 3;
	for (int i = 0; i < 5; i++)
		if (!(field[i] = strsep(&rest, " ")))
			return false;
	strsep(&dash, " ");
	source = strsep(&dash, " ");
	if (!source || !attach_dev_number(field[2], ret_dev))
		return false;
	unescape(field[4]);
	unescape(source);
	*ret_dir = field[4];
	*ret_source = source;
	return true;
}

/*
 * The next mount of it in mountinfo: its directory.  By device number, and by source for file systems that have
 * numbers of their own (btrfs).
 */
static bool next_mount(FILE *f, const char *disk, char ret_dir[PATH_LEN])
{
	td_cleanup(free) char *line = NULL;
	char *dir, *source;
	size_t room = 0;
	dev_t dev;

	while (getline(&line, &room, f) > 0) {
		if (!parse_mount(line, &dev, &dir, &source) ||
		    (!is_of_disk(disk, dev) && !path_is_of_disk(disk, source)))
			continue;
		snprintf(ret_dir, PATH_LEN, "%s", dir);
		return true;
	}
	return false;
}

static bool find_mount(const char *disk, char dir[PATH_LEN])
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = f && next_mount(f, disk, dir);

	if (f)
		fclose(f);
	return found;
}

static bool find_swap(const char *disk, char path[PATH_LEN])
{
	FILE *f = fopen("/proc/swaps", "re");
	td_cleanup(free) char *line = NULL;
	bool found = false;
	size_t room = 0;

	while (f && !found && getline(&line, &room, f) > 0) {
		snprintf(path, PATH_LEN, "%.*s", (int)strcspn(line, " \t\n"), line);
		unescape(path);
		found = path_is_of_disk(disk, path);
	}
	if (f)
		fclose(f);
	return found;
}

/* ---- other devices on top ---- */

static int is_name(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static bool first_in(const char *dir, char *name, size_t size)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, is_name, NULL);

	if (n > 0)
		snprintf(name, size, "%s", entries[0]->d_name);
	for (int i = 0; i < n; i++)
		free(entries[i]);
	if (n >= 0)
		free(entries);
	return n > 0;
}

static bool find_stacked(const char *disk, char *name, size_t size)
{
	char path[512];
	struct dirent *e;
	bool found;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/block/%s/holders", disk);
	found = first_in(path, name, size);
	snprintf(path, sizeof(path), "/sys/block/%s", disk);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		if (strncmp(e->d_name, disk, strlen(disk)) != 0)
			continue; /* no partition */
		snprintf(path, sizeof(path), "/sys/block/%s/%s/holders", disk, e->d_name);
		found = first_in(path, name, size);
	}
	if (d)
		closedir(d);
	return found;
}

static bool find_loop_on_top(const char *disk, char *name, size_t size)
{
	DIR *d = opendir("/sys/block");
	char file[PATH_LEN];
	struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d))) {
		if (!attach_read_line(file, sizeof(file), "/sys/block/%s/loop/backing_file", e->d_name))
			continue;
		found = path_is_of_disk(disk, file);
		if (found)
			snprintf(name, size, "%s", e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

/* ---- open files ---- */

static bool has_open(pid_t pid, const char *disk)
{
	char dir[64], path[512];
	struct dirent *e;
	struct stat st;
	bool found = false;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	d = opendir(dir);
	while (d && !found && (e = readdir(d))) {
		char to[64];
		ssize_t n;

		/* The link's text first: a look at the file itself could hang on a dead network mount. */
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		if (n <= 0 || (size_t)n < strlen("/dev/") || strncmp(to, "/dev/", 5) != 0)
			continue;
		found = stat(path, &st) == 0 && S_ISBLK(st.st_mode) && is_of_disk(disk, st.st_rdev);
	}
	if (d)
		closedir(d);
	return found;
}

static bool find_open(const char *disk, pid_t *ret_pid, char *comm, size_t size)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t pid = 0;

	while (d && pid == 0 && (e = readdir(d))) {
		pid_t n = attach_pid_of(e->d_name);

		if (n > 0 && n != getpid() && has_open(n, disk))
			pid = n;
	}
	if (d)
		closedir(d);
	if (pid > 0 && !attach_read_line(comm, size, "/proc/%d/comm", pid))
		snprintf(comm, size, "?");
	*ret_pid = pid;
	return pid > 0;
}

void attach_holder(const char *disk, char *ret_what, size_t size)
{
	char name[PATH_LEN];
	pid_t pid;

	*ret_what = '\0';
	if (find_mount(disk, name))
		snprintf(ret_what, size, "mounted on %s", name);
	else if (find_swap(disk, name))
		snprintf(ret_what, size, "used as swap (%s)", name);
	else if (find_stacked(disk, name, sizeof(name)) || find_loop_on_top(disk, name, sizeof(name)))
		snprintf(ret_what, size, "used by /dev/%s", name);
	else if (find_open(disk, &pid, name, sizeof(name)))
		snprintf(ret_what, size, "open in process %d (%s)", pid, name);
}

/* ---- by force ---- */

/* One mount at a time, from the table as it then is: the last is the innermost. */
static bool evict_mount(const char *disk, void (*report)(const char *line))
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char dir[PATH_LEN], last[PATH_LEN] = "", line[PATH_LEN + 32];

	while (f && next_mount(f, disk, dir))
		memcpy(last, dir, sizeof(last));
	if (f)
		fclose(f);
	if (!*last || umount2(last, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		return false;
	snprintf(line, sizeof(line), "unmounted %s", last);
	if (report)
		report(line);
	return true;
}

void attach_evict(const char *disk, void (*report)(const char *line))
{
	char path[PATH_LEN], line[PATH_LEN + 32];

	while (evict_mount(disk, report))
		;
	while (find_swap(disk, path) && swapoff(path) == 0) {
		snprintf(line, sizeof(line), "swapped off %s", path);
		if (report)
			report(line);
	}
}
