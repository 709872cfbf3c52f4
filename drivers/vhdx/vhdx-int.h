// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of the vhdx driver share.  Nothing outside this folder includes it.
 *
 * Names: off is a byte of the virtual disk, host_off a byte of the file as it is with its log replayed.
 */
#ifndef VHDX_INT_H
#define VHDX_INT_H

#include <blktap/err.h>
#include <blktap/image.h>
#include <blktap/iov.h>
#include <blktap/meta.h>
#include <blktap/opts.h>
#include <blktap/vhdx.h>

#define VHDX_PARALLEL    8u     /* child requests of one guest request at a time */
#define VHDX_UNIT        4096u  /* in which BAT and bitmaps are cached */
#define VHDX_CHANGES_MAX 16384u /* of a log: as many as its largest has sectors */

/* Levels of the metadata cache. */
enum { VHDX_BITMAPS, VHDX_BAT };

/* Bytes of the file that the log says are others: these, or zeros. */
struct vhdx_change {
	uint64_t off, len;
	const uint8_t *bytes; /* in the log's memory; NULL: zeros */
};

struct vhdx {
	struct td_image *im, *child;
	struct vhdx_header h;
	struct vhdx_regions regions;
	struct vhdx_disk disk;
	struct vhdx_geom g;
	struct vhdx_locator locator;
	uint64_t end; /* of the file, with the log replayed */

	uint8_t *log; /* what the changes' bytes are in */
	struct vhdx_log replayed;
	struct vhdx_change *change; /* in the order of the file, no byte twice */
	unsigned nr_changes;
	uint64_t changed_from, changed_to; /* they all lie in here */

	struct td_meta *meta;
};

/* ---- vhdx-log.c: the file as it is with its log replayed ---- */

TD_CO TD_CHECK int vhdx_log_open(struct vhdx *v, struct td_err *ret_err);
void vhdx_log_close(struct vhdx *v);

/* Bytes of the file; zeros behind its end. */
TD_CO TD_CHECK int vhdx_file_read(struct vhdx *v, uint64_t host_off, const struct td_iov *iov);
TD_CO TD_CHECK int vhdx_file_pread(struct vhdx *v, uint64_t host_off, void *buf, size_t len);

/* A unit of BAT or bitmaps, cached; good until the caller yields. */
TD_CO TD_CHECK int vhdx_unit(struct vhdx *v, unsigned level, uint64_t host_off, const uint8_t **ret);

/* ---- vhdx-load.c: from the file to struct vhdx ---- */

TD_CO TD_CHECK int vhdx_load(struct vhdx *v, struct td_err *ret_err);

/* ---- vhdx-parent.c ---- */

/* Of the locator's bytes: sets v->locator, im->backing_path and backing_format. */
TD_CHECK int vhdx_parent_load(struct vhdx *v, const uint8_t *raw, uint32_t len, struct td_err *ret_err);
TD_CHECK int vhdx_check_backing(struct td_image *im, struct td_err *ret_err);

/* ---- vhdx-map.c ---- */

/* Entry number i of the BAT. */
TD_CO TD_CHECK int vhdx_bat_entry(struct vhdx *v, uint64_t i, uint64_t *ret);

/* May a block, or a bitmap, lie there?  0, -EUCLEAN. */
TD_CHECK int vhdx_check_block(const struct vhdx *v, uint64_t host_off);
TD_CHECK int vhdx_check_bitmap(const struct vhdx *v, uint64_t host_off);

TD_CO int vhdx_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);
TD_CO int vhdx_extent_at(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);

/* ---- vhdx-check.c ---- */

TD_CO int vhdx_check(struct td_image *im, unsigned fix, struct td_check *ret);

#endif
