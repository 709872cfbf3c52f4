// SPDX-License-Identifier: BSD-2-Clause
/*
 * Metadata of an image, cached and written back in order: for formats whose metadata are tables at places that do not
 * move (grain tables, block allocation tables, sector bitmaps).  qcow2, whose tables move and are counted, has its own.
 *
 * Metadata is read and written in units of 512 to 4096 bytes, which the format cuts as it likes so long as they do not
 * overlap.  Each belongs to a level, and a level names only data and what lies in lower levels: a grain table (0) names
 * grains, a grain directory (1) names grain tables.  So a commit is
 *
 *	barrier │ dirty units of level 0 │ barrier │ dirty units of level 1 │ barrier ...
 *
 * and a level with nothing dirty costs nothing.  Data that the caller wrote before it marked a unit is on stable
 * storage before that unit is: a power cut leaks space at most.
 *
 * Dirty units lie in memory that outlives the process (keep.h): a kill loses nothing that was answered.  td_meta_open
 * adopts what a killed process left, after comparing it with the image.
 *
 * When a barrier fails the image is frozen: what it covered may be lost, and nothing that names it is written any more.
 */
#ifndef BLKTAP_META_H
#define BLKTAP_META_H

#include <blktap/image.h>
#include <blktap/keep.h>

#define TD_META_LEVELS   TD_KEEP_KINDS
#define TD_META_UNIT_MAX 4096u

struct td_meta;

struct td_meta_level {
	uint32_t unit; /* bytes; a multiple of 512 */
	uint64_t
		cache; /* bytes of units to keep in memory; dirty ones are committed when they are half of it */
	bool may_end; /* the file may end inside a unit: what is missing of it is zeros */
};

struct td_meta_config {
	struct td_keep_tag tag; /* of the format and its geometry: both processes have to say the same */
	unsigned nr_levels;
	struct td_meta_level level[TD_META_LEVELS];

	/* Where a second copy of the unit at off is; it is written behind the first.  0, NULL: there is none. */
	uint64_t (*copy_at)(void *arg, unsigned level, uint64_t off);

	/*
	 * May a unit with these bytes lie there?  For what a killed process left: does what they name lie inside the
	 * file?  A unit that nothing names yet may be among them.  NULL: anywhere inside the file, anything.
	 */
	bool (*may_lie)(void *arg, unsigned level, uint64_t off, const uint8_t *bytes);

	void *arg; /* of these two */
};

/*
 * The metadata of im, whose file is im->child: in open(), when the format knows its geometry and has set im->read_only.
 * opts: "adopt", as documented in blktap-spec(7).  Of a read-only image nothing may be marked.  One that is opened with
 * TD_OPEN_CHECK takes what a killed process left, but a kill of ours loses what is not committed.
 */
TD_CO TD_CHECK int td_meta_open(struct td_image *im, const struct td_meta_config *config,
				struct td_opts *opts, struct td_meta **ret_meta, struct td_err *ret_err);

/* After a last commit, unless the image is read-only or frozen: its result.  NULL is fine. */
TD_CO TD_CHECK int td_meta_close(struct td_meta *m);

/*
 * The bytes of the unit that starts at off (a multiple of 512), read if it is not in the cache.  They stay where they
 * are until the caller yields.  -EUCLEAN: not wholly inside the file.
 */
TD_CO TD_CHECK int td_meta_get(struct td_meta *m, unsigned level, uint64_t off, uint8_t **ret_bytes);

/* The same if it needs no reading; NULL: it does.  Never yields. */
uint8_t *td_meta_look(struct td_meta *m, unsigned level, uint64_t off);

/*
 * A unit that nothing names yet, of bytes inside the file that nothing else uses: zeros, and dirty.  What is there is
 * read first, so that whoever adopts the unit knows whether somebody else has used the place since.
 */
TD_CO TD_CHECK int td_meta_new(struct td_meta *m, unsigned level, uint64_t off, uint8_t **ret_bytes);

/*
 * The bytes that td_meta_get, look or new gave are going to be changed: call it before the first store, without a yield
 * since they were given.  Never fails, never yields; the format waits for room before (td_meta_room).
 */
void td_meta_mark(struct td_meta *m, unsigned level, uint64_t off);

/* Wait, by a commit if need be, until `units` more may be marked.  Before a lookup, not between it and its mark. */
TD_CO TD_CHECK int td_meta_room(struct td_meta *m, unsigned units);

/*
 * The units of a level are read anew from now on: their places are going to be used for something else.  None is dirty,
 * and nobody uses one.
 */
void td_meta_forget(struct td_meta *m, unsigned level);

/*
 * All that was marked before this call, and all data that was written before it, is on stable storage: what a format's
 * flush() is.  One serves all who wait; with nothing dirty it is one flush of the child.
 */
TD_CO TD_CHECK int td_meta_commit(struct td_meta *m);

/* Is anything marked that no commit has taken yet? */
bool td_meta_dirty(const struct td_meta *m);

/* Hits, misses, dirty bytes, commits, "kept": for the format's counters(). */
void td_meta_counters(const struct td_meta *m, struct td_counters *ret);

#endif
