// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a file of the FUSE export does, the disk or a partition of it: bytes, size, holes, flush.  It behaves like a
 * block device that happens to be a regular file: its size is fixed, and opening it with O_TRUNC changes nothing.
 *
 * Here alone an errno becomes what the kernel is told.
 */
#include "fuse.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ATTR_SECONDS                                                                                         \
	1.0 /* how long the kernel may believe the size; it is told to ask again when that changes */
#define BLOCK_SIZE     4096u
#define TRANSFER_SIZE  (128u << 10) /* what cp, cmp and stdio read and write at once; each is a request */
#define SEEK_STEP      (UINT64_C(1) << 30) /* one question to the image */
#define SEEK_STEPS_MAX 1024u               /* questions for one lseek */

static struct fuse_export *export_of(fuse_req_t fr)
{
	return fuse_req_userdata(fr);
}

/* What this file shows of the disk. */
static struct fuse_part file_of(const struct fuse_export *e, fuse_ino_t ino)
{
	return e->dir ? fuse_dir_file(e->dir, ino) : (struct fuse_part){ .len = td_vbd_size(e->pub.vbd) };
}

/* ---- answers ---- */

/*
 * ENOSYS must never leave here: the kernel takes it as "never ask again", and then lets every fsync succeed
 * unasked.  -EUCLEAN and what else only we understand is EIO.
 */
static int wire_errno(int r)
{
	switch (-r) {
	case 0:
	case EIO:
	case ENOSPC:
	case EDQUOT:
	case EROFS:
	case EINVAL:
	case ENOMEM:
	case EOPNOTSUPP:
	case EFBIG:
	case EPERM:
	case EACCES:
	case ENXIO:
	case ENOENT:
		return -r;
	default:
		return EIO;
	}
}

/* What a reply function returns is of no use: the request was interrupted, or the mount is gone. */
void fuse_reply_errno(fuse_req_t fr, int r)
{
	td_ignore(fuse_reply_err(fr, wire_errno(r)));
}

static bool seek_step(struct fuse_slot *s);

/* Answer; true: the request goes on instead. */
static bool answer(struct fuse_slot *s, int r)
{
	struct td_req *req = &s->req;

	/* Not when it is submitted: a flush that came in between may have missed it. */
	if (req->op == TD_REQ_WRITE || req->op == TD_REQ_ZERO || (req->op == TD_REQ_FLUSH && r < 0))
		s->e->unflushed = true;
	if (r < 0 || req->op == TD_REQ_FLUSH || req->op == TD_REQ_ZERO) {
		fuse_reply_errno(s->fr, r);
	} else if (req->op == TD_REQ_READ) {
		s->e->pub.bytes_out += req->len;
		td_ignore(fuse_reply_buf(s->fr, s->data, req->len));
	} else if (req->op == TD_REQ_WRITE) {
		s->e->pub.bytes_in += req->len;
		td_ignore(fuse_reply_write(s->fr, req->len));
	} else {
		return seek_step(s);
	}
	return false;
}

static void request_done(struct td_req *req, int result)
{
	struct fuse_slot *s = td_container_of(req, struct fuse_slot, req);
	struct fuse_export *e = s->e;

	if (answer(s, result))
		return;
	s->fr = NULL;
	fuse_slot_put(s);
	e->in_flight--;
	e->answered(e);
}

/* The slot that this request was read to stays its own until request_done().  off is the file's. */
static void submit(fuse_req_t fr, enum td_req_op op, struct fuse_part file, uint64_t off, uint64_t len,
		   unsigned flags, void *buf)
{
	struct fuse_export *e = export_of(fr);
	struct fuse_slot *s = e->current;

	s->fr = fr;
	s->file = file;
	s->req = (struct td_req){
		.op = op, .flags = flags, .off = file.start + off, .len = len, .done = request_done
	};
	if (buf)
		s->req.iov = td_iov_buf(&s->vec, buf, len);
	e->in_flight++;
	td_vbd_submit(e->pub.vbd, &s->req);
}

/* ---- data ---- */

void fuse_op_read(fuse_req_t fr, fuse_ino_t ino, size_t len, off_t off, struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);
	struct fuse_part file = file_of(e, ino);

	(void)fi;
	if (off < 0 || len > FUSE_IO_MAX)
		fuse_reply_errno(fr, -EINVAL);
	else if (len == 0 || (uint64_t)off >= file.len)
		td_ignore(fuse_reply_buf(fr, NULL, 0));
	else
		submit(fr, TD_REQ_READ, file, (uint64_t)off, TD_MIN(len, file.len - (uint64_t)off), 0,
		       e->current->data);
}

/* The disk is about to be changed through this file. */
static void changing(struct fuse_export *e, fuse_ino_t ino)
{
	if (e->dir)
		fuse_dir_changed(e->dir, ino);
}

/* At the file's end as on a block device: what fits is written, then ENOSPC. */
void fuse_op_write(fuse_req_t fr, fuse_ino_t ino, const char *buf, size_t len, off_t off,
		   struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);
	struct fuse_part file = file_of(e, ino);

	if (td_vbd_read_only(e->pub.vbd)) {
		fuse_reply_errno(fr, -EROFS);
	} else if (off < 0 || len > FUSE_IO_MAX) {
		fuse_reply_errno(fr, -EINVAL);
	} else if (len == 0) {
		td_ignore(fuse_reply_write(fr, 0));
	} else if ((uint64_t)off >= file.len) {
		fuse_reply_errno(fr, -ENOSPC);
	} else {
		changing(e, ino);
		submit(fr, TD_REQ_WRITE, file, (uint64_t)off, TD_MIN(len, file.len - (uint64_t)off),
		       fi->flags & O_DSYNC ? TD_FUA : 0, (void *)(uintptr_t)buf);
	}
}

/* Whoever closes a file hears of writes that failed since, and has on disk what he wrote. */
void fuse_op_flush(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);

	if (e->unflushed)
		fuse_op_fsync(fr, ino, 0, fi);
	else
		fuse_reply_errno(fr, 0);
}

void fuse_op_fsync(fuse_req_t fr, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);

	(void)datasync; /* nothing of the file but its data can change */
	(void)fi;
	e->unflushed = false; /* writes that are answered from here on are another flush's */
	submit(fr, TD_REQ_FLUSH, file_of(e, ino), 0, 0, 0, NULL);
}

/*
 * A punched hole has to read as zeros, so it is a ZERO that may give space back, not a TRIM.  Where zeros would have
 * to be written out it is EOPNOTSUPP: a discard must not allocate, and whoever wants zeros can write them.
 */
static void zero_range(fuse_req_t fr, fuse_ino_t ino, uint64_t off, uint64_t len, bool keep_size,
		       unsigned flags)
{
	struct fuse_export *e = export_of(fr);
	struct fuse_part file = file_of(e, ino);

	if (td_vbd_read_only(e->pub.vbd)) {
		fuse_reply_errno(fr, -EROFS);
	} else if (!td_vbd_limits(e->pub.vbd)->zero_efficient) {
		fuse_reply_errno(fr, -EOPNOTSUPP);
	} else if (!keep_size && !td_in_range(off, len, file.len)) {
		fuse_reply_errno(fr, -EFBIG);
	} else if (off >= file.len) {
		fuse_reply_errno(fr, 0);
	} else {
		changing(e, ino);
		submit(fr, TD_REQ_ZERO, file, off, TD_MIN(len, file.len - off), flags, NULL);
	}
}

void fuse_op_fallocate(fuse_req_t fr, fuse_ino_t ino, int mode, off_t off, off_t len,
		       struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);
	bool keep_size = mode & FALLOC_FL_KEEP_SIZE;

	(void)fi;
	if (off < 0 || len <= 0) {
		fuse_reply_errno(fr, -EINVAL);
		return;
	}
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case FALLOC_FL_PUNCH_HOLE:
		zero_range(fr, ino, (uint64_t)off, (uint64_t)len, keep_size, TD_MAY_UNMAP);
		break;
	case FALLOC_FL_ZERO_RANGE:
		zero_range(fr, ino, (uint64_t)off, (uint64_t)len, keep_size, 0);
		break;
	case 0: /* the disk has its size; space is the image's affair */
		if (keep_size || td_in_range((uint64_t)off, (uint64_t)len, file_of(e, ino).len))
			fuse_reply_errno(fr, 0);
		else
			fuse_reply_errno(fr, -EFBIG);
		break;
	default:
		fuse_reply_errno(fr, -EOPNOTSUPP);
	}
}

/* ---- lseek: walk the extents, a bounded number of them ---- */

/*
 * An extent is known.  Is it what is looked for?  If not, ask for the next (true).  Out of steps everything from here
 * on is called data, which is never wrong.
 */
static bool seek_step(struct fuse_slot *s)
{
	struct td_req *req = &s->req;
	uint64_t size = s->file.len, at = req->off - s->file.start;
	uint64_t next = at + req->extent.len;

	if ((req->extent.kind == TD_EXTENT_DATA) == s->seek_data) {
		td_ignore(fuse_reply_lseek(s->fr, (off_t)at));
	} else if (next >= size && s->seek_data) {
		fuse_reply_errno(s->fr, -ENXIO);
	} else if (next >= size) {
		td_ignore(
			fuse_reply_lseek(s->fr, (off_t)size)); /* there is a hole at the end of every file */
	} else if (--s->seek_steps == 0) {
		td_ignore(fuse_reply_lseek(s->fr, (off_t)(s->seek_data ? next : size)));
	} else {
		req->off = s->file.start + next;
		req->len = TD_MIN(size - next, SEEK_STEP);
		td_vbd_submit(s->e->pub.vbd, req);
		return true;
	}
	return false;
}

void fuse_op_lseek(fuse_req_t fr, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);
	struct fuse_part file = file_of(e, ino);

	(void)fi;
	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		fuse_reply_errno(fr, -EINVAL);
	} else if (off < 0 || (uint64_t)off >= file.len) {
		fuse_reply_errno(fr, -ENXIO);
	} else {
		e->current->seek_data = whence == SEEK_DATA;
		e->current->seek_steps = SEEK_STEPS_MAX;
		submit(fr, TD_REQ_EXTENT, file, (uint64_t)off, TD_MIN(file.len - (uint64_t)off, SEEK_STEP), 0,
		       NULL);
	}
}

/* ---- the file ---- */

/* Of the directory too, which has the rights that its files have. */
struct stat fuse_file_stat(const struct fuse_export *e, fuse_ino_t ino)
{
	bool is_dir = e->dir && ino == FUSE_ROOT_ID, read_only = td_vbd_read_only(e->pub.vbd);
	uint64_t size = is_dir ? 0 : file_of(e, ino).len;

	return (struct stat){
		.st_ino = ino,
		.st_mode = is_dir ? S_IFDIR | (e->mode & 0555) | (e->mode & 0444) >> 2
				  : S_IFREG | (e->mode & (read_only ? 0444 : 0666)),
		.st_nlink = is_dir ? 2 : 1,
		.st_uid = geteuid(),
		.st_gid = getegid(),
		.st_size = (off_t)size,
		.st_blksize = TRANSFER_SIZE,
		.st_blocks = (blkcnt_t)td_div_up(size, 512),
		.st_atim = e->since,
		.st_mtim = e->since,
		.st_ctim = e->since,
	};
}

void fuse_op_getattr(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = fuse_file_stat(export_of(fr), ino);

	(void)fi;
	td_ignore(fuse_reply_attr(fr, &st, ATTR_SECONDS));
}

/*
 * Modes, owners and times are accepted and forgotten.  The size stays: asking for the size it has is fine; size 0
 * without a descriptor is how open(O_TRUNC) arrives, which a disk takes without losing its contents; another size is
 * refused.
 */
void fuse_op_setattr(fuse_req_t fr, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct stat st = fuse_file_stat(export_of(fr), ino);

	if ((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size != st.st_size && (fi || attr->st_size != 0))
		fuse_reply_errno(fr, -EINVAL);
	else
		td_ignore(fuse_reply_attr(fr, &st, ATTR_SECONDS));
}

static void opened(struct fuse_export *e, fuse_ino_t ino)
{
	e->pub.clients++;
	if (e->dir)
		fuse_dir_opened(e->dir, ino);
}

/*
 * Answered in the wire's own words: libfuse before 3.15 has no name for parallel direct writes, without which the
 * kernel lets one writer at a time through.
 */
void fuse_op_open(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);
	struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO };

#ifdef FOPEN_PARALLEL_DIRECT_WRITES
	out.open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
#endif
	if ((fi->flags & O_ACCMODE) != O_RDONLY && td_vbd_read_only(e->pub.vbd))
		fuse_reply_errno(fr, -EROFS);
	else if (e->dir && file_of(e, ino).len == 0)
		fuse_reply_errno(fr, -ENOENT);
	else if (fuse_reply_buf(fr, (char *)&out, sizeof(out)) == 0)
		opened(e, ino);
}

void fuse_op_release(fuse_req_t fr, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_export *e = export_of(fr);

	(void)fi;
	if (e->pub.clients > 0)
		e->pub.clients--;
	if (e->dir)
		fuse_dir_released(e->dir, ino);
	fuse_reply_errno(fr, 0);
}

/* The block size here is a loop device's discard granularity. */
void fuse_op_statfs(fuse_req_t fr, fuse_ino_t ino)
{
	struct statvfs sv = {
		.f_bsize = BLOCK_SIZE,
		.f_frsize = BLOCK_SIZE,
		.f_blocks = td_div_up(td_vbd_size(export_of(fr)->pub.vbd), BLOCK_SIZE),
		.f_files = 1,
		.f_namemax = 255,
	};

	(void)ino;
	td_ignore(fuse_reply_statfs(fr, &sv));
}

/* O_TRUNC as a size of its own (not atomic with open), so that setattr decides; nothing cached, nothing spliced. */
void fuse_op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_write = FUSE_IO_MAX;
	conn->max_read = FUSE_IO_MAX;
	conn->max_background = FUSE_SLOTS;
	conn->congestion_threshold = FUSE_SLOTS;
	conn->want &= ~(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
			FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO);
}

const struct fuse_lowlevel_ops fuse_file_ops = {
	.init = fuse_op_init,
	.getattr = fuse_op_getattr,
	.setattr = fuse_op_setattr,
	.open = fuse_op_open,
	.release = fuse_op_release,
	.read = fuse_op_read,
	.write = fuse_op_write,
	.flush = fuse_op_flush,
	.fsync = fuse_op_fsync,
	.fallocate = fuse_op_fallocate,
	.lseek = fuse_op_lseek,
	.statfs = fuse_op_statfs,
};
