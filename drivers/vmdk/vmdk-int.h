// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of the vmdk driver know of each other.  README.md says how they work together.
 */
#ifndef DRIVERS_VMDK_INT_H
#define DRIVERS_VMDK_INT_H

#include <blktap/image.h>
#include <blktap/iov.h>
#include <blktap/lock.h>
#include <blktap/opts.h>
#include <blktap/vmdk.h>

/* One extent, as it is served.  Offsets and lengths in bytes. */
struct vmdk_piece {
	uint64_t start, len; /* on the disk */
	enum vmdk_extent_type type;
	enum vmdk_access access;
	struct td_image *at; /* FLAT: the file; sparse: an image of vmdk_part_driver; ZERO: NULL */
	uint64_t off;        /* FLAT: where it begins in the file; else 0 */
};

/* A file that extents name, and what was opened for it. */
struct vmdk_file {
	struct vmdk_str name; /* in the descriptor */
	uint64_t hash;        /* of it: there may be thousands */
	struct td_image *part;
};

struct vmdk {
	struct vmdk_sparse *
		own; /* the only extent is the image's own file; then there are no pieces. First: as in a part */
	struct td_image *im;
	struct vmdk_stream *stream; /* it is being made, and there is neither own nor pieces */
	char *text; /* the descriptor; desc points into it.  NULL: a sparse extent that is opened without one */
	size_t text_len;
	uint64_t text_at, text_room; /* where it is in im->child; how long it may become, 0: as it likes */
	struct vmdk_desc desc;
	struct vmdk_piece *piece;
	unsigned nr_pieces;
	struct vmdk_file *file;
	unsigned nr_files;
	struct td_mutex cid_lock;
	bool cid_changed; /* since this open */
	bool cid_owed;    /* it is committed into: the CID changes when all of that is there */
};

/* Why this image cannot be written. */
static inline int vmdk_refuse_write(const char *why, struct td_err *ret_err)
{
	return td_err_set(ret_err, -ENOTSUP, "it can only be read (open it read-only): %s", why);
}

/* ---- vmdk-load.c ---- */

/* Read the descriptor, wherever it is; *ret_sparse: the file is a sparse extent itself. */
TD_CO TD_CHECK int vmdk_load(struct vmdk *v, bool *ret_sparse, struct td_err *ret_err);

/* ---- vmdk-extents.c ---- */

TD_CO TD_CHECK int vmdk_extents_open(struct vmdk *v, bool sparse, struct td_opts *opts,
				     struct td_err *ret_err);
TD_CO int vmdk_extents_close(struct vmdk *v);

/* ---- vmdk-sparse.c: one sparse extent, whose file is im->child ---- */

struct vmdk_sparse;

/* Does a file that starts so (8 bytes) hold a seSparse extent? */
bool vmdk_is_sesparse(const uint8_t *head);

/* Sets im->size and limits. */
TD_CO TD_CHECK int vmdk_sparse_open(struct td_image *im, struct td_opts *opts, struct vmdk_sparse **ret,
				    struct td_err *ret_err);
TD_CO int vmdk_sparse_close(struct vmdk_sparse *s);
TD_CO int vmdk_sparse_preadv(struct vmdk_sparse *s, uint64_t off, const struct td_iov *iov, unsigned flags);
TD_CO int vmdk_sparse_pwritev(struct vmdk_sparse *s, uint64_t off, const struct td_iov *iov, unsigned flags);
TD_CO int vmdk_sparse_zero(struct vmdk_sparse *s, uint64_t off, uint64_t len, unsigned flags);
TD_CO int vmdk_sparse_trim(struct vmdk_sparse *s, uint64_t off, uint64_t len);
TD_CO int vmdk_sparse_flush(struct vmdk_sparse *s);
TD_CO int vmdk_sparse_extent(struct vmdk_sparse *s, uint64_t off, uint64_t len, struct td_extent *ret);
TD_CO int vmdk_sparse_empty(struct vmdk_sparse *s);
int vmdk_sparse_info(struct vmdk_sparse *s, struct td_opts *ret);
void vmdk_sparse_counters(const struct vmdk_sparse *s, struct td_counters *ret);

/* ---- vmdk-part.c: a sparse extent that is one of many ---- */

extern const struct td_driver vmdk_part_driver;

struct vmdk_sparse *vmdk_part_sparse(const struct td_image *part);

/* ---- vmdk-names.c ---- */

/*
 * Where the file of an extent is, or the parent: as named, or under the names that it may have by now.  *ret_name is
 * the caller's; -ENOENT with a sentence that says what was looked for.
 */
TD_CHECK int vmdk_find_file(const struct vmdk *v, struct vmdk_str name, char **ret_name,
			    struct td_err *ret_err);

/* ---- vmdk-parent.c ---- */

/* Set im->backing_path from the descriptor. */
TD_CHECK int vmdk_parent_name(struct vmdk *v, struct td_err *ret_err);
int vmdk_check_backing(struct td_image *im, struct td_err *ret_err);

/* The CID of another image, for a descriptor that is to name it as its parent. */
TD_CO TD_CHECK int vmdk_cid_of(struct td_env *env, const char *path, uint32_t *ret, struct td_err *ret_err);

/* ---- vmdk-backing.c ---- */

TD_CO int vmdk_set_backing(struct td_image *im, const char *path, const char *format, struct td_err *ret_err);

/* Can a descriptor have it between quotes, on one line? */
TD_CHECK int vmdk_check_name(const char *name, struct td_err *ret_err);

/* ---- vmdk-cid.c ---- */

/* Before anything is written: the disk is not what its children took it for any more. */
TD_CO TD_CHECK int vmdk_touch(struct vmdk *v);

/* What was committed into it is on stable storage. */
TD_CO TD_CHECK int vmdk_cid_settle(struct vmdk *v);

/* What it lies over is its parent as that is now, whose CID is this. */
TD_CO TD_CHECK int vmdk_follow(struct vmdk *v, uint32_t cid);

uint32_t vmdk_new_cid(uint32_t old, unsigned digits);

/* ---- vmdk-io.c ---- */

TD_CO int vmdk_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);
TD_CO int vmdk_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);
TD_CO int vmdk_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags);
TD_CO int vmdk_trim(struct td_image *im, uint64_t off, uint64_t len);
TD_CO int vmdk_flush(struct td_image *im);
TD_CO int vmdk_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);

/* ---- vmdk-check.c ---- */

TD_CO int vmdk_check(struct td_image *im, unsigned fix, struct td_check *ret);

/* ---- vmdk-create.c ---- */

TD_CO int vmdk_create(const struct td_create *c, struct td_err *ret_err);

/* ---- vmdk-measure.c ---- */

TD_CO int vmdk_measure(struct td_measure *m, struct td_err *ret_err);

#endif
