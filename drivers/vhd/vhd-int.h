// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of the vhd driver share.  Nothing outside this folder includes it (tests may).
 *
 * Names: off is a byte of the virtual disk, host_off a byte of the child image; a block is a number of one of the
 * disk's blocks, and where it is on disk is where its bitmap starts.
 *
 * Locks, in the order in which they are taken:
 *	ranges       bytes of the guest, whole sectors.  Shared: writes.  Exclusive: a write of a part of a sector.
 *	             Reads take none: a block never moves and is never given back while the image is open.
 *	alloc_lock   the end of the file; BAT entries; where the BAT is.
 */
#ifndef VHD_INT_H
#define VHD_INT_H

#include <blktap/err.h>
#include <blktap/image.h>
#include <blktap/iov.h>
#include <blktap/lock.h>
#include <blktap/meta.h>
#include <blktap/opts.h>
#include <blktap/vhd.h>

#define VHD_CACHE_DEFAULT (2ull << 20)
#define VHD_PARALLEL      8u          /* child requests of one guest request at a time */
#define VHD_PAGE          4096u       /* the sectors of our blocks start at a multiple of it */
#define VHD_BATMAP_MAX    (4u << 20)  /* bytes; a larger one is not used */

/* Levels of the metadata cache. */
enum { VHD_BITMAPS, VHD_BAT };

/* What is known of a block. */
enum vhd_known {
	VHD_UNKNOWN,
	VHD_ABSENT, /* the BAT has none */
	VHD_PARTLY, /* its place is good; ask its bitmap */
	VHD_FULL,   /* its place is good, and all of its sectors are held */
};

/* Bytes of the file that something other than blocks has. */
struct vhd_area {
	uint64_t off, len;
};

/* The footer's copy, header, BAT, the batmap's header and bits; the parent's names. */
#define VHD_AREAS (5u + VHD_LOCATORS)

struct vhd {
	struct td_image *im, *child;
	struct vhd_footer f;
	uint8_t raw_footer[VHD_FOOTER]; /* with what we do not know in it */
	struct vhd_header h;
	struct vhd_geom g;
	uint64_t end;    /* where the footer at the end is */
	uint64_t next;   /* where the next block will be: end, but on a device */
	bool end_good;   /* it is there, and says the same as the one in use */
	bool start_good; /* dynamic: so is its copy */
	bool fixed_size; /* the child cannot be made longer (a block device) */

	struct vhd_area area[VHD_AREAS];
	unsigned nr_areas;

	struct td_meta *meta;
	uint32_t bitmap_unit; /* bytes of a unit of bitmaps */
	uint8_t *known;       /* 2 bits a block; NULL: too many */
	unsigned moves;       /* how often the BAT was moved */

	uint8_t *batmap; /* NULL: there is none that can be trusted */
	uint64_t batmap_len;
	struct vhd_batmap batmap_head;
	uint8_t batmap_raw[VHD_SECTOR];
	bool batmap_stale; /* it says less than it could, or of a block that is not there */
	bool batmap_bad;   /* there is one, and its checksum is wrong */

	struct td_ranges ranges;
	struct td_mutex alloc_lock;
};

static inline bool vhd_fixed(const struct vhd *v)
{
	return v->f.type == VHD_FIXED;
}

/* ---- vhd-load.c: from the file to struct vhd ---- */

TD_CO TD_CHECK int vhd_load(struct vhd *v, struct td_err *ret_err);
void vhd_unload(struct vhd *v);

/* Geometry, areas and what is known of blocks, of v->f and v->h as they are now. */
TD_CHECK int vhd_lay_out(struct vhd *v, struct td_err *ret_err);

void vhd_add_area(struct vhd *v, uint64_t off, uint64_t len);

/*
 * Where the last block ends, or what else is behind it.  *ret_blocks: how many there are.  -EUCLEAN: an entry of the
 * BAT is wrong; ret_err says which.
 */
TD_CO TD_CHECK int vhd_find_end(struct vhd *v, uint64_t *ret_end, uint64_t *ret_blocks,
				struct td_err *ret_err);

/* Read entries of the BAT from first on, *ret_nr of them: as many as fit into buf's VHD_BAT_CHUNK bytes. */
#define VHD_BAT_CHUNK 65536u
TD_CO TD_CHECK int vhd_read_bat(struct vhd *v, uint32_t first, uint8_t *buf, uint32_t *ret_nr);

/* ---- vhd-footer.c: footers on disk ---- */

/* Read both and decide; sets f, raw_footer, end, end_good, start_good. */
TD_CO TD_CHECK int vhd_footer_load(struct vhd *v, struct td_err *ret_err);

/*
 * Change it: the copy at the start (which decides), barrier, the footer at the end, barrier.  -errno: v->f is as it
 * was, and the image is frozen.
 */
TD_CO TD_CHECK int vhd_footer_switch(struct vhd *v, const struct vhd_footer *f);

TD_CO TD_CHECK int vhd_footer_put(struct vhd *v, uint64_t host_off); /* no barrier */
TD_CO TD_CHECK int vhd_barrier(struct vhd *v);

/* Write the copy at the start, if it is not good; a barrier: the one at the end may go then. */
TD_CO TD_CHECK int vhd_footer_mend_start(struct vhd *v);

/* Write those that are not good; no barrier for the one at the end. */
TD_CO TD_CHECK int vhd_footer_mend(struct vhd *v);

/* ---- vhd-parent.c ---- */

/* Sets im->backing_path and backing_format. */
TD_CO TD_CHECK int vhd_parent_load(struct vhd *v, struct td_err *ret_err);
TD_CHECK int vhd_check_backing(struct td_image *im, struct td_err *ret_err);

/* What a child records of its parent. */
struct vhd_parent {
	uint8_t uuid[VHD_UUID]; /* zero: raw */
	uint32_t time;
	uint64_t size;
};

TD_CO TD_CHECK int vhd_parent_look(struct td_image *im, const char *name, const char *format,
				   struct vhd_parent *ret, struct td_err *ret_err);

/* ---- vhd-map.c ---- */

enum vhd_kind {
	VHD_HERE,   /* its bytes are at host_off */
	VHD_HOLE,   /* there is a block, which does not hold these sectors; host_off is their place */
	VHD_NOWHERE /* there is no block */
};

struct vhd_extent {
	enum vhd_kind kind;
	uint64_t host_off;
	uint64_t len; /* 1..asked */
};

/*
 * Where are the bytes from off on?  HERE and HOLE end with the block.  May yield.  -EUCLEAN: the entry is wrong, and
 * the image is frozen now.
 */
TD_CO TD_CHECK int vhd_map(struct vhd *v, uint64_t off, uint64_t len, struct vhd_extent *ret);

enum vhd_known vhd_known(const struct vhd *v, uint32_t block);
void vhd_set_known(struct vhd *v, uint32_t block, enum vhd_known known);

/* The entry of a block.  May yield. */
TD_CO TD_CHECK int vhd_bat_entry(struct vhd *v, uint32_t block, uint32_t *ret);

/* May a block be there?  0, -EUCLEAN. */
TD_CHECK int vhd_check_entry(const struct vhd *v, uint32_t entry);

/* All of [off, off + len), inside one block that has a place, is written: say so in its bitmap.  May yield. */
TD_CO TD_CHECK int vhd_hold(struct vhd *v, uint64_t off, uint64_t len);

/* ---- vhd-alloc.c ---- */

/* A place for the block, if it has none: its sectors are zeros then, held if there is no parent.  May yield. */
TD_CO TD_CHECK int vhd_alloc(struct vhd *v, uint32_t block);

/* Make the file ready for that: at open. */
TD_CO TD_CHECK int vhd_alloc_open(struct vhd *v, struct td_err *ret_err);

/* Room for len bytes of other metadata at the end: *ret, zeros; the footer is behind it.  alloc_lock is held. */
TD_CO TD_CHECK int vhd_alloc_area(struct vhd *v, uint64_t len, uint64_t *ret);

/* Space for a block, nothing more: zeros, or at most the old footer in its bitmap.  alloc_lock is held. */
TD_CO TD_CHECK int vhd_take_place(struct vhd *v, uint64_t *ret);

/* ---- vhd-batmap.c ---- */

/* Read the batmap, if there is one behind the BAT. */
TD_CO TD_CHECK int vhd_load_batmap(struct vhd *v);
void vhd_batmap_forget(struct vhd *v);

/* Write it, if it is stale, of the blocks that are known to be full; a barrier.  Their bits have to be on disk. */
TD_CO TD_CHECK int vhd_batmap_store(struct vhd *v);

/* ---- vhd-area.c: header, BAT, batmap and names, as they lie together in new images ---- */

struct vhd_plan {
	struct vhd_footer f;
	struct vhd_header h;
	uint64_t at;  /* where it starts */
	uint64_t len; /* set by vhd_plan_make */
	bool has_batmap;
	uint64_t batmap_off, batmap_len;     /* of the bits */
	uint8_t locator[3][VHD_LOCATOR_MAX]; /* as h.locator has them */
};

/* The parent's name, or NULL; h.max_entries, block_size and at are set.  Sets all offsets. */
TD_CHECK int vhd_plan_make(struct vhd_plan *p, const char *im_path, const char *parent,
			   struct td_err *ret_err);

/* All but the BAT's entries (which become unused) at its place, of whatever was there before.  No barrier. */
TD_CO TD_CHECK int vhd_plan_write(const struct vhd_plan *p, struct td_image *child);

/* ---- the slots ---- */

TD_CO int vhd_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);
TD_CO int vhd_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);
TD_CO int vhd_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags);
TD_CO int vhd_trim(struct td_image *im, uint64_t off, uint64_t len);
TD_CO int vhd_extent_at(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);
TD_CO int vhd_create(const struct td_create *c, struct td_err *ret_err);
TD_CO int vhd_measure(struct td_measure *m, struct td_err *ret_err);
TD_CO int vhd_resize(struct td_image *im, uint64_t size, struct td_err *ret_err);
TD_CO int vhd_set_backing(struct td_image *im, const char *path, const char *format, struct td_err *ret_err);
TD_CO int vhd_empty(struct td_image *im, struct td_err *ret_err);
TD_CO int vhd_check(struct td_image *im, unsigned fix, struct td_check *ret);

/* Read what this layer does not hold. */
TD_CO TD_CHECK int vhd_read_below(struct vhd *v, uint64_t off, const struct td_iov *iov);

#endif
