// SPDX-License-Identifier: BSD-2-Clause
/*
 * What files the directory of the FUSE export has: `disk`, and part1, part2 ... as the disk's partition table has them.
 *
 * The table is read when somebody looks, and again when the disk was written to as a whole since (partitioning it
 * through the mount works), but not while a partition is open: what is open keeps its place on the disk, and nobody
 * can write into his neighbour.
 */
#include "fuse.h"
#include <blktap/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fuse_dir {
	struct fuse_export *e;
	struct fuse_parts_reader *reader; /* NULL: built without partitions */
	struct fuse_parts parts;
	unsigned opens[FUSE_PARTS_MAX + 1], opens_all;
	bool stale, reading;
	int result; /* of the last reading */
	void (*done)(struct fuse_export *e);
};

/* ---- files ---- */

/* 0: none of ours. */
static unsigned part_of(fuse_ino_t ino)
{
	return ino > FUSE_DISK_INO && ino - FUSE_DISK_INO <= FUSE_PARTS_MAX ? (unsigned)(ino - FUSE_DISK_INO)
									    : 0;
}

struct fuse_part fuse_dir_file(const struct fuse_dir *d, fuse_ino_t ino)
{
	if (ino == FUSE_DISK_INO)
		return (struct fuse_part){ .len = td_vbd_size(d->e->pub.vbd) };
	return d->parts.part[part_of(ino)];
}

void fuse_dir_opened(struct fuse_dir *d, fuse_ino_t ino)
{
	if (part_of(ino) == 0)
		return;
	d->opens[part_of(ino)]++;
	d->opens_all++;
}

void fuse_dir_released(struct fuse_dir *d, fuse_ino_t ino)
{
	if (part_of(ino) == 0 || d->opens[part_of(ino)] == 0)
		return;
	d->opens[part_of(ino)]--;
	d->opens_all--;
}

void fuse_dir_changed(struct fuse_dir *d, fuse_ino_t ino)
{
	if (ino == FUSE_DISK_INO)
		d->stale = true;
}

/* "disk", "part7"; 0: there is no such file. */
fuse_ino_t fuse_dir_find(const struct fuse_dir *d, const char *name, int *ret_error)
{
	char again[16];
	long n;

	*ret_error = d->result < 0 ? d->result : -ENOENT;
	if (strcmp(name, "disk") == 0)
		return FUSE_DISK_INO;
	if (strncmp(name, "part", 4) != 0)
		return 0;
	n = strtol(name + 4, NULL, 10);
	if (n < 1 || n > FUSE_PARTS_MAX || d->parts.part[n].len == 0)
		return 0;
	snprintf(again, sizeof(again), "part%ld", n); /* no part07, no part7x */
	return strcmp(again, name) == 0 ? FUSE_DISK_INO + (fuse_ino_t)n : 0;
}

/* ---- the table ---- */

/* The kernel may believe the sizes of before for a moment. */
static void forget_sizes(const struct fuse_dir *d, const struct fuse_parts *old)
{
	for (unsigned i = 1; i <= FUSE_PARTS_MAX; i++)
		if (old->part[i].len != 0 && old->part[i].len != d->parts.part[i].len)
			td_ignore(fuse_lowlevel_notify_inval_inode(d->e->session, FUSE_DISK_INO + i, -1, 0));
}

static void table_read(void *arg, int result, const struct fuse_parts *parts)
{
	struct fuse_dir *d = arg;
	struct fuse_parts old = d->parts;

	d->reading = false;
	d->result = result;
	if (result < 0) {
		td_error("fuse %s: the partition table cannot be read: %s", d->e->path,
			 strerrordesc_np(-result));
		d->stale = true; /* whoever looks next tries again */
		memset(&d->parts, 0, sizeof(d->parts));
	} else {
		d->parts = *parts;
	}
	if (!d->e->gone)
		forget_sizes(d, &old);
	d->done(d->e);
}

bool fuse_dir_refresh(struct fuse_dir *d, void (*done)(struct fuse_export *e))
{
	if (d->reading)
		return true;
	if (!d->reader || !d->stale || d->opens_all > 0 || td_vbd_size(d->e->pub.vbd) == 0)
		return false;
	d->reading = true;
	d->stale = false;
	d->done = done;
	d->e->in_flight++; /* until done() has been called; it counts down */
	fuse_parts_read(d->reader, table_read, d);
	return true;
}

/* ---- its life ---- */

int fuse_dir_new(struct fuse_export *e, struct fuse_dir **ret, struct td_err *ret_err)
{
	struct fuse_dir *d = calloc(1, sizeof(*d));
	struct td_err err = { .msg = "" };
	int r;

	if (!d)
		return td_err_set(ret_err, -ENOMEM, "no memory for a FUSE export");
	d->e = e;
	d->stale = true;
	r = fuse_parts_reader_new(e->pub.vbd, &d->reader, &err);
	if (r == -ENOTSUP) {
		td_warn("fuse %s: %s", e->pub.address, err.msg);
		r = 0;
	}
	if (r < 0) {
		free(d);
		return td_err_set(ret_err, r, "%s", err.msg);
	}
	*ret = d;
	return 0;
}

void fuse_dir_free(struct fuse_dir *d)
{
	if (!d)
		return;
	fuse_parts_reader_free(d->reader);
	free(d);
}
