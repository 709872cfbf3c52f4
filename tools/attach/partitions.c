// SPDX-License-Identifier: BSD-2-Clause
/*
 * Partitions that the kernel did not find itself: many small kernels know no partition table at all.  libblkid reads
 * the table, the kernel is told of each partition; when the device goes, so do they.
 */
#include "attach.h"
#include "config.h"

#ifdef HAVE_BLKID

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EXTENDED_SECTORS 2u /* what the kernel gives an extended partition: no room for a file system */

static int add_one(int fd, blkid_partition p)
{
	uint64_t sectors = (uint64_t)blkid_partition_get_size(p);
	struct blkpg_partition part = {
		.start = blkid_partition_get_start(p) * 512,
		.pno = blkid_partition_get_partno(p),
	};
	struct blkpg_ioctl_arg arg = { .op = BLKPG_ADD_PARTITION, .datalen = sizeof(part), .data = &part };

	if (blkid_partition_is_extended(p))
		sectors = TD_MIN(sectors, EXTENDED_SECTORS);
	part.length = (long long)sectors * 512;
	return ioctl(fd, BLKPG, &arg) < 0 ? -errno : 0;
}

/* A table may lie: the kernel refuses what overlaps or lies outside, and what it knows already (EBUSY). */
static int add_all(int fd, blkid_partlist list)
{
	int n = blkid_partlist_numof_partitions(list), r = 0;

	for (int i = 0; i < n; i++) {
		blkid_partition p = blkid_partlist_get_partition(list, i);
		int one = p ? add_one(fd, p) : 0;

		if (one < 0 && one != -EBUSY && r == 0)
			r = one;
	}
	return r;
}

int attach_add_partitions(const char *disk)
{
	blkid_probe probe = blkid_new_probe();
	blkid_partlist list;
	char path[ATTACH_DISK_MAX + 8];
	int fd, r = 0;

	snprintf(path, sizeof(path), "/dev/%s", disk);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!probe || fd < 0 || blkid_probe_set_device(probe, fd, 0, 0) < 0)
		r = -EIO;
	list = r == 0 ? blkid_probe_get_partitions(probe)
		      : NULL; /* NULL: there is no table, which is no error */
	if (list)
		r = add_all(fd, list);
	blkid_free_probe(probe);
	if (fd >= 0)
		close(fd);
	return r;
}

#else

int attach_add_partitions(const char *disk)
{
	(void)disk;
	return -ENOTSUP;
}

#endif
