// SPDX-License-Identifier: BSD-2-Clause
/*
 * Between the files of the FUSE export: the session (fuse.c), the requests' memory (fuse-slot.c), the operations on
 * files (fuse-ops.c), the directory (fuse-dir-ops.c) and its files (fuse-dir.c), the partition table (fuse-parts.c).
 *
 * What is mounted is one file, which is the disk, or a directory in which `disk` is the disk and part1, part2 ... its
 * partitions.
 *
 * A slot is one request from the moment it is read until it is answered: its bytes, its td_req, its fuse_req_t.
 * Nothing of it is used for another request in between; that is the whole defence against the bug of exports that
 * reuse one receive buffer while a write from it is still on its way to the disk.
 */
#ifndef BLKTAP_FUSE_H
#define BLKTAP_FUSE_H

#define FUSE_USE_VERSION 34

#include "fuse-parts.h"
#include <blktap/export.h>
#include <blktap/loop.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>

/* The largest read or write: what a kernel gives without a raised fs.fuse.max_pages_limit. */
#define FUSE_IO_MAX (1u << 20)

/* What stands before a write's payload on the wire. */
#define FUSE_HEAD (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

/* Requests in flight; what comes above waits in the kernel.  Also the bound on memory: FUSE_IO_MAX for each. */
#define FUSE_SLOTS 64u

struct fuse_export;

struct fuse_slot {
	struct td_req req;
	struct fuse_export *e;
	fuse_req_t fr; /* NULL: not in flight */
	char *data;    /* FUSE_IO_MAX bytes on a page's start; the request's head lies right before them */
	struct iovec vec;

	/* of the file that is read or written, on the disk */
	struct fuse_part file;

	/* lseek: which end of an extent is looked for; how many steps are left; the next one */
	bool seek_data;
	unsigned seek_steps;

	const char *lookup; /* a name that waits for the partition table; NULL: the directory itself does */

	SLIST_ENTRY(fuse_slot) link; /* in the free list */
};

struct fuse_export {
	struct td_export pub;
	struct td_loop *loop;
	struct fuse_session *session;
	struct fuse_dir *dir; /* NULL: one file is mounted */
	struct td_watch watch;
	char *path;     /* absolute; no symbolic link in it but, at most, none in its last part */
	bool made_file; /* by us: removed at the end */
	bool gone;      /* the kernel hung up: unmounted */
	bool stopping;  /* no new requests, but a last look at what is queued already */
	bool last_look_due;
	struct td_timer last_look;
	bool freed;            /* by force, with requests in flight: the last one frees */
	bool unflushed;        /* written to since the last flush was asked for */
	mode_t mode;           /* of files that can be written to */
	struct timespec since; /* all the times that the file shows */
	struct td_vbd_watch disk;
	uint64_t size; /* that the kernel was told */

	/* fuse-slot.c */
	struct fuse_slot *slots[FUSE_SLOTS];
	unsigned nr_slots, in_flight;
	SLIST_HEAD(fuse_slot_list, fuse_slot) free_slots;
	SLIST_HEAD(fuse_waiting, fuse_slot) waiting; /* for the partition table */
	struct fuse_slot *current;                   /* the request that libfuse is handing to us */
	void (*answered)(struct fuse_export *e);     /* fuse.c: a request was answered, its slot is free */
	bool full;                                   /* all slots taken: not reading */
	uint64_t nr_received, nr_at_trim;
	struct td_timer trim;
};

/* ---- fuse-slot.c ---- */

/* A free slot, or NULL when all are taken or there is no memory.  Last in, first out: its pages are warm. */
struct fuse_slot *fuse_slot_get(struct fuse_export *e);
void fuse_slot_put(struct fuse_slot *s);

/* Give memory that big requests used back when nothing has happened for a while. */
void fuse_slots_trim_later(struct fuse_export *e);
void fuse_slots_free(struct fuse_export *e);

/* ---- fuse-ops.c ---- */

extern const struct fuse_lowlevel_ops fuse_file_ops; /* of the mounted file */

void fuse_reply_errno(fuse_req_t fr, int r);
struct stat fuse_file_stat(const struct fuse_export *e, fuse_ino_t ino);
void fuse_op_init(void *userdata, struct fuse_conn_info *conn);
void fuse_op_getattr(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi);
void fuse_op_setattr(fuse_req_t fr, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void fuse_op_open(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi);
void fuse_op_release(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi);
void fuse_op_read(fuse_req_t fr, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi);
void fuse_op_write(fuse_req_t fr, fuse_ino_t ino, const char *buf, size_t len, off_t off,
		   struct fuse_file_info *fi);
void fuse_op_flush(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi);
void fuse_op_fsync(fuse_req_t fr, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fuse_op_fallocate(fuse_req_t fr, fuse_ino_t ino, int mode, off_t off, off_t len,
		       struct fuse_file_info *fi);
void fuse_op_lseek(fuse_req_t fr, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void fuse_op_statfs(fuse_req_t fr, fuse_ino_t ino);

/* ---- fuse-dir.c ---- */

#define FUSE_DISK_INO (FUSE_ROOT_ID + 1) /* partition N: FUSE_DISK_INO + N */

TD_CHECK int fuse_dir_new(struct fuse_export *e, struct fuse_dir **ret, struct td_err *ret_err);
void fuse_dir_free(struct fuse_dir *d);

/* What a file shows of the disk.  len 0: a partition that is no more. */
struct fuse_part fuse_dir_file(const struct fuse_dir *d, fuse_ino_t ino);

void fuse_dir_opened(struct fuse_dir *d, fuse_ino_t ino);
void fuse_dir_released(struct fuse_dir *d, fuse_ino_t ino);

/* The disk was written to through this file, or is another now: its table may have changed. */
void fuse_dir_changed(struct fuse_dir *d, fuse_ino_t ino);

/* The file of this name; 0: there is none, *ret_error says what to answer. */
fuse_ino_t fuse_dir_find(const struct fuse_dir *d, const char *name, int *ret_error);

/*
 * Before anything is said of partitions.  True: the table is being read, and done() will be called, never from inside
 * this.  e->in_flight counts the reading: done() counts it down when it has answered the others.
 */
bool fuse_dir_refresh(struct fuse_dir *d, void (*done)(struct fuse_export *e));

/* ---- fuse-dir-ops.c ---- */

extern const struct fuse_lowlevel_ops fuse_dir_ops; /* of the mounted directory */

#endif
