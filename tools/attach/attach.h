// SPDX-License-Identifier: BSD-2-Clause
/*
 * What block-attach, block-detach and block-list share.
 *
 * An attached disk is a chain of things, each of which can be missing after a crash:
 *
 *	record ─ tapdisk ─ FUSE mount on <run dir>/attach/VDEV.disk ─ loop device ─ names in /dev
 *
 * block-attach builds it from left to right and writes into the record what it is going to do before it does it;
 * undoing goes from right to left, takes every step whether or not it was reached, and removes the record last.
 * So whatever happened, block-detach can finish it, and can be repeated.
 */
#ifndef BLKTAP_ATTACH_H
#define BLKTAP_ATTACH_H

#include <blktap/ctl.h>
#include <sys/types.h>

#define ATTACH_VDEV_MAX  32 /* with the NUL */
#define ATTACH_LOCK_MAX  48 /* a lock's name */
#define ATTACH_NAMES_MAX 512
#define ATTACH_DISK_MAX  32 /* what the kernel calls a disk: "loop3", "xvda" */

enum attach_direct { ATTACH_DIRECT_AUTO, ATTACH_DIRECT_ON, ATTACH_DIRECT_OFF };

/* What has been begun; later ones include the earlier. */
enum attach_phase { ATTACH_DAEMON, ATTACH_LOOP, ATTACH_NAMES, ATTACH_DONE, ATTACH_UNDO };

/* A name that we made in /dev: a symbolic link, or (target NULL) a device node where nobody else makes them. */
struct attach_name {
	char *path, *target;
	dev_t dev;
};

struct attach {
	char vdev[ATTACH_VDEV_MAX];
	char *spec;      /* with the whole path */
	char *fuse_file; /* absolute, no symbolic links: also what tells our loop device from others */
	bool read_only;
	enum attach_phase phase;
	pid_t pid;          /* of the tapdisk; 0: not known */
	uint64_t pid_start; /* in clock ticks: tells it from a later process of the same number */
	int loop;           /* N of /dev/loopN; -1: not known */
	unsigned nr_names;
	struct attach_name names[ATTACH_NAMES_MAX];
};

/* ---- args.c: what the three command lines have in common ---- */

/* "xvda", "/dev/xvda", "51712": *ret_vdev is the name alone.  -EINVAL with a sentence. */
TD_CHECK int attach_parse_vdev(const char *text, char ret_vdev[ATTACH_VDEV_MAX], struct td_err *ret_err);

/* Domain 0 by number or name; any other needs Xen, and is looked for by ring_domain_open. */
TD_CHECK int attach_parse_domain(const char *text, struct td_err *ret_err);

/* Whole seconds, 1..3600, as milliseconds.  NULL: left as it is. */
TD_CHECK int attach_parse_timeout(const char *text, unsigned *ret_ms, struct td_err *ret_err);

/* Devices, mounts and xenstore need root. */
TD_CHECK int attach_need_root(struct td_err *ret_err);

/* One line on stderr: "NAME: sentence". */
void attach_complain(const char *name, const char *fmt, ...) TD_PRINTF(2, 3);

/* ---- record.c ---- */

/* An empty one for this disk; the paths are worked out, nothing is made.  attach_free() it. */
TD_CHECK int attach_new(const char *vdev, struct attach **ret_a, struct td_err *ret_err);
void attach_free(struct attach *a);

/* -ENOENT: there is none.  -EUCLEAN: unreadable; *ret_a is then as attach_new makes it. */
TD_CHECK int attach_load(const char *vdev, struct attach **ret_a, struct td_err *ret_err);

/* On disk when it returns 0; whole or not at all. */
TD_CHECK int attach_save(const struct attach *a, struct td_err *ret_err);

/* The record, and one that was being written. */
TD_CHECK int attach_remove(const char *vdev, struct td_err *ret_err);

/*
 * One command at a time works on a disk.  Waits up to timeout_ms; -EBUSY.  *ret_fd: close it to unlock.
 * A tapdisk that is about to be started holds it too until it is one, so nobody overlooks it.
 */
TD_CHECK int attach_lock(const char *vdev, unsigned timeout_ms, int *ret_fd, struct td_err *ret_err);
void attach_lock_drop(const char *vdev); /* remove the lock's file, with the lock held and no record left */

/* The names of all disks that have a record, sorted; the caller's (each, and the list). */
TD_CHECK int attach_list(char ***ret_vdevs, size_t *ret_nr, struct td_err *ret_err);

/* -EBUSY with what is there: domain 0 has one disk of a name. */
TD_CHECK int attach_refuse_twice(const char *vdev, struct td_err *ret_err);

const char *attach_phase_name(enum attach_phase p);
json_t *attach_to_json(const struct attach *a); /* NULL: no memory */

/* Append a name that is going to be made; target may be NULL.  -ENOMEM, -E2BIG. */
TD_CHECK int attach_add_name(struct attach *a, const char *path, const char *target, dev_t dev);

/* ---- loop-attach.c ---- */

struct attach_request {
	const char *domain; /* as the user said it */
	const char *spec;   /* with the whole path */
	char vdev[ATTACH_VDEV_MAX];
	bool read_only, json, no_wait;
	enum attach_direct direct;
	unsigned block_size, timeout_ms;
};

/* All of it, and the device on stdout; or nothing is left. */
TD_CHECK int attach_loop(const struct attach_request *q, struct td_err *ret_err);

/* ---- daemon.c ---- */

/* The tapdisk that serves this disk, whether or not its number was recorded; 0: none. */
pid_t attach_daemon(const struct attach *a);

/* When did this process start, in clock ticks?  0: there is no such process (a zombie is none). */
uint64_t attach_pid_start(pid_t pid);

/* SIGTERM, wait; with kill: SIGKILL when the time is up.  No daemon is success. */
TD_CHECK int attach_end_daemon(struct attach *a, unsigned timeout_ms, bool kill, struct td_err *ret_err);

/* ---- loopdev.c ---- */

/* A loop device over a->fuse_file, with a scan for partitions. */
TD_CHECK int attach_loop_make(const struct attach *a, enum attach_direct direct, unsigned block_size,
			      int *ret_nr, struct td_err *ret_err);

void attach_loop_disk(int nr, char ret_disk[ATTACH_DISK_MAX]);

/* The loop device over a->fuse_file, found by what the kernel says; -1: none. */
int attach_loop_find(const struct attach *a);
bool attach_loop_is_ours(const struct attach *a, int nr);

/* Write back, let go, wait until it is gone.  Gone already is success.  write_back: a failure of it is a failure. */
TD_CHECK int attach_loop_drop(const struct attach *a, int nr, bool write_back, unsigned timeout_ms,
			      struct td_err *ret_err);

int64_t attach_loop_size(int nr); /* bytes; -1: gone */
bool attach_loop_direct(int nr);

/* ---- partitions.c ---- */

/* Tell the kernel of the partitions that it did not find.  The first error; -ENOTSUP: built without libblkid. */
TD_CHECK int attach_add_partitions(const char *disk);

/* ---- names.c ---- */

/* How many partitions does the kernel know? */
unsigned attach_count_partitions(const char *disk);

/* Which names this disk and its partitions get: into a->names.  Makes nothing. */
TD_CHECK int attach_plan_names(struct attach *a, struct td_err *ret_err);

/* Make them; those that somebody else has are left alone.  The disk's own must not be somebody else's. */
TD_CHECK int attach_make_names(const struct attach *a, struct td_err *ret_err);

/* Remove those that are still what we made. */
void attach_drop_names(const struct attach *a);

/* "/dev/VDEV" if that leads to our disk, else "/dev/blktap/VDEV".  size: of the buffer. */
void attach_device(const struct attach *a, char *ret_path, size_t size);

/* Paths of the disk's partitions beside device, one of its names, as a JSON array. */
json_t *attach_partitions(const char *disk, const char *device);

/* For a device that the kernel has named itself: /dev/blktap/VDEV and the partitions' there, which lead to it. */
TD_CHECK int attach_make_links(const char *vdev, const char *disk, struct td_err *ret_err);
void attach_drop_links(const char *vdev, const char *disk); /* once it is gone; NULL: not known any more */

/* ---- holders.c ---- */

/* What uses the disk or a partition of it, as "mounted on /mnt"; "": nothing that can be seen. */
void attach_holder(const char *disk, char *ret_what, size_t size);

/* Take it away from them: lazy unmounts, swapoff.  What cannot be is left. */
void attach_evict(const char *disk, void (*report)(const char *line));

/* ---- release.c ---- */

/* -EBUSY, and by whom; who looks at it in passing does not count. */
TD_CHECK int attach_check_free(const char *vdev, const char *disk, struct td_err *ret_err);

/* fsync until deadline (attach_now_ms).  -ETIMEDOUT: it still waits. */
TD_CHECK int attach_write_back(int fd, uint64_t deadline);

/* ---- undo.c ---- */

struct attach_undo {
	bool force;                       /* also while in use, also what cannot be written back */
	unsigned timeout_ms;              /* for the loop device, and again for the daemon */
	void (*report)(const char *line); /* things the user should know; NULL: say nothing */
};

/* Everything from right to left.  On failure the record stays, and the same call can be made again. */
TD_CHECK int attach_undo(struct attach *a, const struct attach_undo *u, struct td_err *ret_err);

/* ---- util.c ---- */

/* The first line of a small file (sysfs), without its newline.  false: not there. */
bool attach_read_line(char *buf, size_t size, const char *fmt, ...) TD_PRINTF(3, 4);

/* The decimal number at *p, which moves behind it.  false: none, or too large. */
bool attach_number(const char **p, uint64_t *ret);

/* A name that is a number as a whole, like those in /proc; 0: it is not. */
pid_t attach_pid_of(const char *name);

/* "8:1" and what may follow it. */
bool attach_dev_number(const char *text, dev_t *ret);

uint64_t attach_now_ms(void);
void attach_nap(void); /* 20 ms */

/* udev, where it runs, makes the nodes and looks at the device first; without it they are there already. */
void attach_settle(void);

#endif
