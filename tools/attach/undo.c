// SPDX-License-Identifier: BSD-2-Clause
/*
 * Taking an attached disk apart, from right to left, from whatever state it is in: detach, and the way back of an
 * attach that failed.
 *
 * Each step is true when it ends, whoever did it: a loop device that is gone, a daemon that died, a mount that is
 * dead are steps done.  The record goes last, so that this can be called again until it has gone through.
 */
#include "attach.h"
#include <blktap/log.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#define GONE        "its tapdisk is gone: what it had not flushed may be lost"
#define STACKED_MAX 16    /* dead mounts on one file */
#define DYING_MS    1000u /* what a killed daemon takes */

static void report(const struct attach_undo *u, const char *line)
{
	if (u->report)
		u->report(line);
}

/* A daemon that is being killed cuts its file off some moments before it is gone. */
static bool dies(const struct attach *a)
{
	uint64_t deadline = attach_now_ms() + DYING_MS;

	while (attach_daemon(a) > 0) {
		if (attach_now_ms() >= deadline)
			return false;
		attach_nap();
	}
	return true;
}

/*
 * The loop device.  Without force nothing may be lost: what the page cache holds has to go through to the image
 * before we let go.  With a dead daemon it cannot, and waiting would not help.
 */
static int drop_loop(const struct attach *a, int nr, const struct attach_undo *u, struct td_err *ret_err)
{
	bool alive = attach_daemon(a) > 0;
	char disk[ATTACH_DISK_MAX];
	int r;

	attach_loop_disk(nr, disk);
	if (u->force)
		attach_evict(disk, u->report);
	if (alive) {
		r = attach_loop_drop(a, nr, !u->force, u->timeout_ms, ret_err);
		if (r != -EIO || !dies(a))
			return r;
	}
	report(u, GONE);
	return attach_loop_drop(a, nr, false, u->timeout_ms, ret_err);
}

/* The daemon unmounts as it ends; a killed one leaves a dead mount. */
static int drop_mount(const struct attach *a, struct td_err *ret_err)
{
	for (int i = 0; i < STACKED_MAX && umount2(a->fuse_file, MNT_DETACH | UMOUNT_NOFOLLOW) == 0; i++)
		;
	if (unlink(a->fuse_file) < 0 && errno != ENOENT)
		return td_err_set(ret_err, -errno, "%s: %s", a->fuse_file, strerror(errno));
	return 0;
}

/* The rest does not look at whether the loop device is gone: by force the daemon goes in any case. */
static int drop_rest(struct attach *a, const struct attach_undo *u, struct td_err *ret_err)
{
	int r;

	r = attach_end_daemon(a, u->timeout_ms, u->force, ret_err);
	if (r == 0)
		r = drop_mount(a, ret_err);
	if (r == 0)
		attach_drop_names(a);
	return r;
}

static int set_phase(struct attach *a, enum attach_phase phase, struct td_err *ret_err)
{
	if (a->phase == phase)
		return 0;
	a->phase = phase;
	return attach_save(a, ret_err);
}

int attach_undo(struct attach *a, const struct attach_undo *u, struct td_err *ret_err)
{
	int nr = attach_loop_find(a), loop_r = 0, r = 0;
	enum attach_phase was = a->phase;
	char disk[ATTACH_DISK_MAX];

	attach_loop_disk(nr, disk);
	if (nr >= 0 && !u->force)
		r = attach_check_free(a->vdev, disk, ret_err);
	if (r == 0)
		r = set_phase(a, ATTACH_UNDO, ret_err);
	if (r < 0)
		return r;
	td_debug("%s: loop device %d, tapdisk %d", a->vdev, nr, (int)attach_daemon(a));
	if (nr >= 0)
		loop_r = drop_loop(a, nr, u, ret_err);
	else if (was == ATTACH_DONE && attach_daemon(a) == 0)
		report(u, GONE);
	if (loop_r < 0 && !u->force) {
		td_ignore(set_phase(a, was,
				    NULL)); /* as it was; a failure to say so is not worse than this one */
		return loop_r;
	}
	r = drop_rest(a, u, loop_r < 0 ? NULL : ret_err);
	if (loop_r < 0)
		return td_err_prefix(ret_err, loop_r,
				     "%s is cut off, but not all gone; repeat block-detach later", a->vdev);
	return r < 0 ? r : attach_remove(a->vdev, ret_err);
}
