// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loop devices: one over the disk's FUSE file, and letting go of it.
 *
 * A loop device is ours if the kernel says that our file is behind it; its number alone says nothing, numbers are
 * reused.
 */
#include "attach.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOOP_MAJOR 7
#define TRIES_MAX  64 /* somebody else may take the free one before us */

void attach_loop_disk(int nr, char ret_disk[ATTACH_DISK_MAX])
{
	snprintf(ret_disk, ATTACH_DISK_MAX, "loop%d", nr);
}

static void loop_path(int nr, char path[32])
{
	snprintf(path, 32, "/dev/loop%d", nr);
}

/* The part of the file's name that fits; the kernel gives it back even when the mount is detached. */
static void loop_label(const struct attach *a, char label[LO_NAME_SIZE])
{
	size_t len = strlen(a->fuse_file);

	snprintf(label, LO_NAME_SIZE, "%s", a->fuse_file + (len < LO_NAME_SIZE ? 0 : len - LO_NAME_SIZE + 1));
}

/* ---- whose is it ---- */

/*
 * A mount that was detached has no path any more: the kernel says "/".  Then the label tells, or, if the daemon is
 * gone too, that the kernel cannot even ask for the file.
 */
static bool is_cut_off_from_us(const struct attach *a, int nr)
{
	struct loop_info64 info;
	char label[LO_NAME_SIZE], path[32];
	int fd, r;

	loop_path(nr, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	r = ioctl(fd, LOOP_GET_STATUS64, &info) < 0 ? -errno : 0;
	close(fd);
	if (r < 0)
		return r == -ENOTCONN || r == -ECONNABORTED;
	loop_label(a, label);
	return strncmp((const char *)info.lo_file_name, label, LO_NAME_SIZE) == 0;
}

bool attach_loop_is_ours(const struct attach *a, int nr)
{
	char file[1024];

	if (nr < 0 || !attach_read_line(file, sizeof(file), "/sys/block/loop%d/loop/backing_file", nr))
		return false;
	if (strcmp(file, a->fuse_file) == 0)
		return true;
	return nr == a->loop && strcmp(file, "/") == 0 && is_cut_off_from_us(a, nr);
}

/* -1: not a number, as in loop-control and loop0p1. */
static int loop_number(const char *text)
{
	uint64_t n;

	return attach_number(&text, &n) && *text == '\0' && n <= INT32_MAX ? (int)n : -1;
}

int attach_loop_find(const struct attach *a)
{
	DIR *d = opendir("/sys/block");
	struct dirent *e;
	int found = -1;

	if (attach_loop_is_ours(a, a->loop))
		found = a->loop;
	while (d && found < 0 && (e = readdir(d))) {
		int nr = strncmp(e->d_name, "loop", 4) == 0 ? loop_number(e->d_name + 4) : -1;

		if (nr >= 0 && attach_loop_is_ours(a, nr))
			found = nr;
	}
	if (d)
		closedir(d);
	return found;
}

int64_t attach_loop_size(int nr)
{
	char line[64];
	const char *p = line;
	uint64_t sectors;

	if (!attach_read_line(line, sizeof(line), "/sys/block/loop%d/size", nr) ||
	    !attach_number(&p, &sectors))
		return -1;
	return (int64_t)(sectors * 512);
}

bool attach_loop_direct(int nr)
{
	char line[8];

	return attach_read_line(line, sizeof(line), "/sys/block/loop%d/loop/dio", nr) && line[0] == '1';
}

/* ---- making one ---- */

/* Where neither devtmpfs nor udev makes the nodes (a container), we do; they stay, like those of the kernel. */
static int open_loop(int nr, struct td_err *ret_err)
{
	char path[32];
	int fd;

	loop_path(nr, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && mknod(path, S_IFBLK | 0600, makedev(LOOP_MAJOR, (unsigned)nr)) == 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno)) : fd;
}

/* The next free one gets the file.  -EBUSY: somebody was faster. */
static int configure_next(int control, const struct loop_config *config, int *ret_nr, struct td_err *ret_err)
{
	int nr = ioctl(control, LOOP_CTL_GET_FREE);
	int fd, r = 0;

	if (nr < 0)
		return td_err_set(ret_err, -errno, "no free loop device: %s", strerror(errno));
	fd = open_loop(nr, ret_err);
	if (fd < 0)
		return fd;
	if (ioctl(fd, LOOP_CONFIGURE, config) < 0)
		r = td_err_set(ret_err, -errno, "/dev/loop%d: LOOP_CONFIGURE: %s%s", nr, strerror(errno),
			       errno == ENOTTY ? " (it needs Linux 5.8)" : "");
	close(fd);
	if (r == 0)
		*ret_nr = nr;
	return r;
}

static int configure(const struct loop_config *config, int *ret_nr, struct td_err *ret_err)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int r = -EBUSY;

	if (control < 0)
		return td_err_set(ret_err, -errno, "/dev/loop-control: %s; try: modprobe loop",
				  strerror(errno));
	for (int i = 0; i < TRIES_MAX && r == -EBUSY; i++)
		r = configure_next(control, config, ret_nr, ret_err);
	close(control);
	return r;
}

int attach_loop_make(const struct attach *a, enum attach_direct direct, unsigned block_size, int *ret_nr,
		     struct td_err *ret_err)
{
	struct loop_config c = { .block_size = block_size };
	int fd, r;

	c.info.lo_flags = LO_FLAGS_PARTSCAN | (a->read_only ? LO_FLAGS_READ_ONLY : 0);
	loop_label(a, (char *)c.info.lo_file_name);
	fd = open(a->fuse_file, (a->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0)
		return td_err_set(ret_err, -errno, "%s: %s", a->fuse_file, strerror(errno));
	c.fd = (uint32_t)fd;
	if (direct != ATTACH_DIRECT_OFF)
		c.info.lo_flags |= LO_FLAGS_DIRECT_IO;
	r = configure(&c, ret_nr, ret_err);
	if (r == -EINVAL && direct == ATTACH_DIRECT_AUTO) {
		c.info.lo_flags &= ~(uint32_t)LO_FLAGS_DIRECT_IO;
		r = configure(&c, ret_nr, ret_err);
	}
	close(fd);
	if (r == 0 && direct == ATTACH_DIRECT_ON && !attach_loop_direct(*ret_nr))
		r = td_err_set(ret_err, -EINVAL,
			       "/dev/loop%d: this kernel does no direct I/O here; use --direct-io auto",
			       *ret_nr);
	return r;
}

/* ---- letting go ---- */

/* Alone with it, so that nobody mounts it between the look and the end.  -ENXIO: it is not ours any more. */
static int open_alone(const struct attach *a, int nr, uint64_t deadline, struct td_err *ret_err)
{
	char disk[ATTACH_DISK_MAX], path[32], what[128];
	int fd;

	attach_loop_disk(nr, disk);
	loop_path(nr, path);
	while ((fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC)) < 0) {
		if (errno != EBUSY)
			return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
		if (attach_now_ms() >= deadline) {
			attach_holder(disk, what, sizeof(what));
			return td_err_set(
				ret_err, -EBUSY, "%s: still in use: %s", path,
				*what ? what : "mounted in another mount namespace, or held by the kernel");
		}
		attach_nap();
	}
	if (attach_loop_is_ours(a, nr))
		return fd;
	close(fd);
	return -ENXIO;
}

/* The kernel lets go when the last one closes it; udev may be looking at it just now. */
static int wait_gone(const struct attach *a, int nr, uint64_t deadline, struct td_err *ret_err)
{
	char disk[ATTACH_DISK_MAX], what[128];

	attach_loop_disk(nr, disk);
	while (attach_loop_is_ours(a, nr)) {
		if (attach_now_ms() >= deadline) {
			attach_holder(disk, what, sizeof(what));
			return td_err_set(ret_err, -EBUSY, "/dev/loop%d: still open%s%s", nr,
					  *what ? ": " : "", what);
		}
		attach_nap();
	}
	return 0;
}

int attach_loop_drop(const struct attach *a, int nr, bool must_write_back, unsigned timeout_ms,
		     struct td_err *ret_err)
{
	uint64_t deadline = attach_now_ms() + timeout_ms;
	int fd, r;

	if (!attach_loop_is_ours(a, nr))
		return 0;
	fd = open_alone(a, nr, deadline, ret_err);
	if (fd < 0)
		return fd == -ENXIO ? 0 : fd;
	r = attach_write_back(fd, deadline);
	if (r == -ETIMEDOUT && must_write_back) {
		td_err_set(ret_err, r,
			   "/dev/loop%d: not written back in time; is the daemon paused (tap-ctl list)?", nr);
	} else if (r < 0 && must_write_back) {
		td_err_set(ret_err, r, "/dev/loop%d: what is not written yet cannot be written: %s", nr,
			   strerror(-r));
	} else {
		r = 0;
		if (ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO)
			r = td_err_set(ret_err, -errno, "/dev/loop%d: LOOP_CLR_FD: %s", nr, strerror(errno));
	}
	close(fd);
	return r < 0 ? r : wait_gone(a, nr, deadline, ret_err);
}
