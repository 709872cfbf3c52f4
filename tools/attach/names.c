// SPDX-License-Identifier: BSD-2-Clause
/*
 * The names of an attached disk in /dev:
 *
 *	/dev/blktap/xvda, /dev/blktap/xvda1 ...		always
 *	/dev/xvda, /dev/xvda1 ...			where no such name exists
 *
 * Symbolic links to the loop device and its partitions.  Where neither devtmpfs nor udev makes the partitions' nodes
 * they are made here too.  Only what is still as we made it is ever removed.
 *
 * Domain 0's own blkfront has a device of its own, which the kernel calls /dev/xvda; there are only the links in
 * /dev/blktap to it.
 */
#include "attach.h"
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define OWN_DIR        "/dev/blktap"
#define PARTITIONS_MAX 128

struct partition {
	uint64_t number;
	dev_t dev;
};

/* ---- what there is ---- */

/* Is this folder in that of a disk in sysfs a partition of it? */
static bool is_partition(const char *folder, const char *name, struct partition *ret)
{
	char line[64];
	const char *p = line;

	return attach_read_line(line, sizeof(line), "%s/%s/partition", folder, name) &&
	       attach_number(&p, &ret->number) &&
	       attach_read_line(line, sizeof(line), "%s/%s/dev", folder, name) &&
	       attach_dev_number(line, &ret->dev);
}

/* From sysfs, in order. Returns how many. */
static unsigned partitions_of(const char *disk, struct partition *parts, unsigned max)
{
	struct dirent **entries;
	char path[64];
	unsigned nr = 0;
	int n;

	snprintf(path, sizeof(path), "/sys/block/%s", disk);
	n = scandir(path, &entries, NULL, versionsort);
	for (int i = 0; i < n; i++) {
		if (nr < max && strncmp(entries[i]->d_name, disk, strlen(disk)) == 0 &&
		    is_partition(path, entries[i]->d_name, &parts[nr]))
			nr++;
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return nr;
}

unsigned attach_count_partitions(const char *disk)
{
	struct partition parts[PARTITIONS_MAX];

	return partitions_of(disk, parts, PARTITIONS_MAX);
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static bool leads_to(const char *path, const char *target)
{
	char now[256];
	ssize_t n = readlink(path, now, sizeof(now) - 1);

	if (n < 0)
		return false;
	now[n] = '\0';
	return strcmp(now, target) == 0;
}

/* A number behind a name that ends in one wants a letter between. */
static void partition_name(const char *disk, const char *dir, uint64_t number, char *path, size_t size)
{
	bool digit = isdigit((unsigned char)disk[strlen(disk) - 1]);

	snprintf(path, size, "%s/%s%s%" PRIu64, dir, disk, digit ? "p" : "", number);
}

/* ---- the plan ---- */

static int plan_partition(struct attach *a, const struct partition *p, bool in_dev)
{
	char target[64], path[128];
	int r = 0;

	snprintf(target, sizeof(target), "/dev/loop%dp%" PRIu64, a->loop, p->number);
	if (!exists(target))
		r = attach_add_name(a, target, NULL, p->dev);
	partition_name(a->vdev, OWN_DIR, p->number, path, sizeof(path));
	if (r == 0)
		r = attach_add_name(a, path, target, 0);
	partition_name(a->vdev, "/dev", p->number, path, sizeof(path));
	if (r == 0 && in_dev && !exists(path))
		r = attach_add_name(a, path, target, 0);
	return r;
}

int attach_plan_names(struct attach *a, struct td_err *ret_err)
{
	struct partition parts[PARTITIONS_MAX];
	char disk[ATTACH_DISK_MAX], target[64], path[128];
	unsigned nr;
	bool in_dev;
	int r;

	attach_loop_disk(a->loop, disk);
	nr = partitions_of(disk, parts, PARTITIONS_MAX);
	snprintf(target, sizeof(target), "/dev/%s", disk);
	snprintf(path, sizeof(path), OWN_DIR "/%s", a->vdev);
	r = attach_add_name(a, path, target, 0);
	snprintf(path, sizeof(path), "/dev/%s", a->vdev);
	in_dev = !exists(path);
	if (r == 0 && in_dev)
		r = attach_add_name(a, path, target, 0);
	for (unsigned i = 0; i < nr && r == 0; i++)
		r = plan_partition(a, &parts[i], in_dev);
	return r < 0 ? td_err_set(ret_err, r, "%s: names of partitions: %s", a->vdev, strerror(-r)) : 0;
}

/* ---- making and removing ---- */

/* A link of ours that leads to nothing is a leftover. */
static int make_link(const char *path, const char *target)
{
	if (symlink(target, path) == 0 || leads_to(path, target))
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (strncmp(path, OWN_DIR "/", sizeof(OWN_DIR)) != 0 || access(path, F_OK) == 0)
		return -EEXIST;
	return unlink(path) == 0 && symlink(target, path) == 0 ? 0 : -errno;
}

static int make_one(const struct attach_name *n)
{
	if (n->target)
		return make_link(n->path, n->target);
	return mknod(n->path, S_IFBLK | 0600, n->dev) < 0 && errno != EEXIST ? -errno : 0;
}

int attach_make_names(const struct attach *a, struct td_err *ret_err)
{
	int r;

	if (mkdir(OWN_DIR, 0755) < 0 && errno != EEXIST)
		return td_err_set(ret_err, -errno, OWN_DIR ": %s", strerror(errno));
	for (unsigned i = 0; i < a->nr_names; i++) {
		r = make_one(&a->names[i]);
		if (r == -EEXIST && i > 0)
			continue; /* a disk called xvda1 is there, or somebody was faster: theirs */
		if (r < 0)
			return td_err_set(ret_err, r, "%s: %s", a->names[i].path, strerror(-r));
	}
	return 0;
}

static bool is_as_made(const struct attach_name *n)
{
	struct stat st;

	if (n->target)
		return leads_to(n->path, n->target);
	return lstat(n->path, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == n->dev;
}

void attach_drop_names(const struct attach *a)
{
	for (unsigned i = a->nr_names; i-- > 0;)
		if (strncmp(a->names[i].path, "/dev/", 5) == 0 && is_as_made(&a->names[i]))
			unlink(a->names[i].path);
	rmdir(OWN_DIR); /* when it was the last */
}

/* ---- for the user ---- */

static bool is_in_dev(const struct attach *a)
{
	char path[64], target[64];

	snprintf(path, sizeof(path), "/dev/%s", a->vdev);
	snprintf(target, sizeof(target), "/dev/loop%d", a->loop);
	return leads_to(path, target);
}

void attach_device(const struct attach *a, char *ret_path, size_t size)
{
	snprintf(ret_path, size, "%s/%s", is_in_dev(a) ? "/dev" : OWN_DIR, a->vdev);
}

json_t *attach_partitions(const char *disk, const char *device)
{
	struct partition parts[PARTITIONS_MAX];
	unsigned nr = partitions_of(disk, parts, PARTITIONS_MAX);
	json_t *list = json_array();
	char dir[64], path[128];
	char *name;

	snprintf(dir, sizeof(dir), "%s", device);
	name = strrchr(dir, '/');
	*name++ = '\0';
	for (unsigned i = 0; i < nr; i++) {
		partition_name(name, dir, parts[i].number, path, sizeof(path));
		td_ignore(json_array_append_new(list, json_string(path))); /* no memory: one less in a list */
	}
	return list;
}

/* ---- domain 0's own blkfront: the kernel names the device, we its links ---- */

/* One link; a leftover of ours is replaced. */
static int link_to(const char *vdev, uint64_t partition, const char *disk, struct td_err *ret_err)
{
	char path[128], target[128];
	int r;

	snprintf(path, sizeof(path), OWN_DIR "/%s", vdev);
	snprintf(target, sizeof(target), "/dev/%s", disk);
	if (partition > 0) {
		partition_name(vdev, OWN_DIR, partition, path, sizeof(path));
		partition_name(disk, "/dev", partition, target, sizeof(target));
	}
	r = make_link(path, target);
	if (r == -EEXIST && partition > 0)
		return 0; /* a disk called xvda1 is there */
	return r < 0 ? td_err_set(ret_err, r, "%s: %s", path, strerror(-r)) : 0;
}

int attach_make_links(const char *vdev, const char *disk, struct td_err *ret_err)
{
	struct partition parts[PARTITIONS_MAX];
	unsigned nr = partitions_of(disk, parts, PARTITIONS_MAX);
	int r;

	if (mkdir(OWN_DIR, 0755) < 0 && errno != EEXIST)
		return td_err_set(ret_err, -errno, OWN_DIR ": %s", strerror(errno));
	r = link_to(vdev, 0, disk, ret_err);
	for (unsigned i = 0; i < nr && r == 0; i++)
		r = link_to(vdev, parts[i].number, disk, ret_err);
	return r;
}

/* Is it the disk's or a partition's: "xvda", "xvda7", "xvda1p7"? */
static bool is_name_of(const char *vdev, const char *name)
{
	size_t n = strlen(vdev);

	if (strncmp(name, vdev, n) != 0)
		return false;
	name += n;
	if (*name == 'p' && isdigit((unsigned char)vdev[n - 1]))
		name++;
	return name[strspn(name, "0123456789")] == '\0';
}

/* Does a link in our folder lead to the disk (NULL: none is known) or a partition of it, or to nothing? */
static bool is_link_of(const char *path, const char *disk)
{
	char to[128];
	ssize_t n = readlink(path, to, sizeof(to) - 1);

	if (n < 0)
		return false;
	to[n] = '\0';
	if (disk && strncmp(to, "/dev/", 5) == 0 && is_name_of(disk, to + 5))
		return true;
	return access(path, F_OK) < 0 && errno == ENOENT;
}

void attach_drop_links(const char *vdev, const char *disk)
{
	DIR *d = opendir(OWN_DIR);
	struct dirent *e;
	char path[512];

	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), OWN_DIR "/%s", e->d_name);
		if (is_name_of(vdev, e->d_name) && is_link_of(path, disk))
			unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(OWN_DIR); /* when it was the last */
}
