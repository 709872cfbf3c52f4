// SPDX-License-Identifier: BSD-2-Clause
/*
 * The names of an attached disk in /dev:
 *
 *	/dev/blktap/xvda, /dev/blktap/xvda1 ...		always
 *	/dev/xvda, /dev/xvda1 ...			where no such name exists
 *
 * Symbolic links to the loop device and its partitions.  Where neither devtmpfs nor udev makes the partitions' nodes
 * they are made here too.  Only what is still as we made it is ever removed.
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

static int is_partition(const struct dirent *e)
{
	return strncmp(e->d_name, "loop", 4) == 0 && strchr(e->d_name + 4, 'p');
}

/* Of /dev/loopN, from sysfs, in order. Returns how many. */
static unsigned partitions_of(int loop, struct partition *parts, unsigned max)
{
	struct dirent **entries;
	char path[64], line[64];
	unsigned nr = 0;
	int n;

	snprintf(path, sizeof(path), "/sys/block/loop%d", loop);
	n = scandir(path, &entries, is_partition, versionsort);
	for (int i = 0; i < n; i++) {
		const char *p = strrchr(entries[i]->d_name, 'p') + 1;

		if (nr < max && attach_number(&p, &parts[nr].number) &&
		    attach_read_line(line, sizeof(line), "%s/%s/dev", path, entries[i]->d_name) &&
		    attach_dev_number(line, &parts[nr].dev))
			nr++;
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return nr;
}

unsigned attach_count_partitions(int loop)
{
	struct partition parts[PARTITIONS_MAX];

	return partitions_of(loop, parts, PARTITIONS_MAX);
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

/* A name behind ours that is a number wants a letter between. */
static void partition_name(const struct attach *a, const char *dir, uint64_t number, char *path, size_t size)
{
	bool digit = isdigit((unsigned char)a->vdev[strlen(a->vdev) - 1]);

	snprintf(path, size, "%s/%s%s%" PRIu64, dir, a->vdev, digit ? "p" : "", number);
}

/* ---- the plan ---- */

static int plan_partition(struct attach *a, const struct partition *p, bool in_dev)
{
	char target[64], path[128];
	int r = 0;

	snprintf(target, sizeof(target), "/dev/loop%dp%" PRIu64, a->loop, p->number);
	if (!exists(target))
		r = attach_add_name(a, target, NULL, p->dev);
	partition_name(a, OWN_DIR, p->number, path, sizeof(path));
	if (r == 0)
		r = attach_add_name(a, path, target, 0);
	partition_name(a, "/dev", p->number, path, sizeof(path));
	if (r == 0 && in_dev && !exists(path))
		r = attach_add_name(a, path, target, 0);
	return r;
}

int attach_plan_names(struct attach *a, struct td_err *ret_err)
{
	struct partition parts[PARTITIONS_MAX];
	unsigned nr = partitions_of(a->loop, parts, PARTITIONS_MAX);
	char target[64], path[128];
	bool in_dev;
	int r;

	snprintf(target, sizeof(target), "/dev/loop%d", a->loop);
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

json_t *attach_partitions(const struct attach *a)
{
	struct partition parts[PARTITIONS_MAX];
	unsigned nr = partitions_of(a->loop, parts, PARTITIONS_MAX);
	json_t *list = json_array();
	char path[128];

	for (unsigned i = 0; i < nr; i++) {
		partition_name(a, is_in_dev(a) ? "/dev" : OWN_DIR, parts[i].number, path, sizeof(path));
		td_ignore(json_array_append_new(list, json_string(path))); /* no memory: one less in a list */
	}
	return list;
}
