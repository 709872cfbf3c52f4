// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of check and repair share.  One walk counts everything that names a cluster; who opens an image that
 * was not closed, who checks and who repairs all use that one.
 *
 * A *finding* is weighted: an L2 table that the disk and three snapshots share is read once, and what is wrong in it is
 * wrong four times.
 */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include <blktap/check.h>

#include "qcow2-int.h"

/* ---- qcow2-check-uses.c: what is known of each cluster of the file, where anything is ---- */

#define QCOW2_USE_FIXED                                                                                      \
	0x80000000u /* header, L1 and snapshot tables, bitmaps' tables...: one owner, one place */
#define QCOW2_USE_TABLE   0x40000000u /* an L2 table */
#define QCOW2_USE_DATA    0x20000000u /* of the guest, of a snapshot, of a bitmap */
#define QCOW2_USE_OWNED   0x10000000u /* an entry says that it is the only one to point here */
#define QCOW2_USE_CLASH   0x08000000u /* two uses that cannot both be right */
#define QCOW2_USE_SUSPECT 0x04000000u /* a table with an entry that cannot be one */
#define QCOW2_USE_ONE     0x02000000u /* its refcount on disk is exactly 1 */
#define QCOW2_USE_COUNT   0x01ffffffu /* references, up to this many */

struct qcow2_uses {
	uint64_t nr; /* clusters of the file */
	uint32_t ***leaf;
	uint64_t bytes, used; /* of memory; clusters that anything is known of */
};

TD_CHECK int qcow2_uses_init(struct qcow2_uses *u, uint64_t nr);
void qcow2_uses_done(struct qcow2_uses *u);
uint32_t qcow2_uses_get(const struct qcow2_uses *u, uint64_t cluster); /* 0 behind the end */

/* To be changed.  NULL: no memory, or it would take far more than an honest image's tables are worth. */
uint32_t *qcow2_uses_at(struct qcow2_uses *u, uint64_t cluster);

/* The first cluster in [from, end) of which anything is known; end: none. */
uint64_t qcow2_uses_next(const struct qcow2_uses *u, uint64_t from, uint64_t end);

static inline uint64_t qcow2_uses_count(const struct qcow2_uses *u, uint64_t cluster)
{
	return qcow2_uses_get(u, cluster) & QCOW2_USE_COUNT;
}

/* ---- qcow2-check-count.c ---- */

/* A table, and how often it is named: by the disk as it is now, and by snapshots. */
struct qcow2_named {
	uint64_t off;
	uint32_t nr;                         /* entries of an L1 table */
	uint32_t active : 12, inactive : 20; /* up to so many: more names are a lie anyway */
};

#define QCOW2_ACTIVE_MAX   ((1u << 12) - 1)
#define QCOW2_INACTIVE_MAX ((1u << 20) - 1)

struct qcow2_named_list {
	struct qcow2_named *at;
	size_t nr, room;
};

struct qcow2_walk {
	struct qcow2 *q;
	struct td_check *res;
	uint64_t size; /* of the file, when it began */
	struct qcow2_uses uses;
	struct qcow2_named_list l1, l2; /* each once, in the order of the file */
	struct qcow2_table reftable;    /* as it is on disk; nr 0: it cannot be read */
	uint64_t max_count;             /* that a refcount can say, and we can count */

	uint64_t bad;       /* entries that name nothing that can be theirs */
	uint64_t to_mark;   /* references to marks (qcow2-check-mend.c) that they would take */
	uint64_t missing;   /* tables that could not be followed: what looks leaked may be theirs */
	uint64_t crowded;   /* clusters with more references than a refcount can say */
	uint64_t stray;     /* bits that mean nothing, in entries that are right otherwise */
	uint64_t misplaced; /* entries that name another place in the data file than the guest's own */
	bool l1_cut;        /* the file ends inside the L1 table */
	bool snaps_lost;    /* the snapshot table cannot be read */
	bool snaps_bad;     /* some of its entries cannot be right */
	bool bitmaps_bad;
	bool refs_bad; /* refcount table or blocks lie where they cannot */

	uint64_t snap_table_len;
	uint64_t outside;        /* clusters that the file does not have, whose refcounts were read */
	uint64_t done, total;    /* bytes of tables, for the progress */
	uint64_t hole, hole_end; /* of the file: reads as zeros */
	uint8_t *buf;
};

/* Read this much of a table at a time. */
#define QCOW2_WALK_BYTES (64u << 10)

/* qcow2_walk_done in any case. */
TD_CHECK int qcow2_walk_init(struct qcow2_walk *w, struct qcow2 *q, struct td_check *res);
void qcow2_walk_done(struct qcow2_walk *w);

/* A finding: so many corruptions, and a line of the report (0: the line alone). */
void qcow2_found(struct qcow2_walk *w, uint64_t weight, const char *fmt, ...) TD_PRINTF(3, 4);

/*
 * len bytes (QCOW2_WALK_BYTES at most) of a table; *ret NULL: they are all zero, by the file system's word.  What lies
 * behind the end of the file is zero too.
 */
TD_CO TD_CHECK int qcow2_walk_read(struct qcow2_walk *w, uint64_t off, size_t len, const uint8_t **ret);

/* References to all clusters that these bytes touch; kind: QCOW2_USE_*. */
TD_CHECK int qcow2_walk_use(struct qcow2_walk *w, uint64_t off, uint64_t len, uint64_t weight, uint32_t kind);

/* The same for a table or an area that only one thing may name; what reaches past the file is a finding. */
TD_CHECK int qcow2_walk_area(struct qcow2_walk *w, const char *what, uint64_t off, uint64_t len,
			     uint64_t weight);

/* Does it reach so far past the end of the file that it cannot be the file's last cluster? */
bool qcow2_walk_exceeds(const struct qcow2_walk *w, uint64_t off, uint64_t len);

TD_CHECK int qcow2_named_add(struct qcow2_named_list *l, const struct qcow2_named *n, size_t most);
void qcow2_named_merge(struct qcow2_named_list *l);

/* Does anything of these bytes lie in a cluster of these kinds (QCOW2_USE_*)? */
bool qcow2_walk_touches(const struct qcow2_walk *w, uint64_t off, uint64_t len, uint32_t kinds);

/* ---- qcow2-check-walk.c ---- */

/*
 * Count everything.  What is wrong is counted in res and reported; -errno: reading failed, or it would take more
 * memory or time than tables of that kind are worth (-EFBIG).  qcow2_walk_done in any case.
 */
TD_CO TD_CHECK int qcow2_walk(struct qcow2_walk *w, struct qcow2 *q, struct td_check *res);

/* What becomes of an L2 entry, now that all uses are known. */
enum qcow2_verdict {
	QCOW2_FINE,
	QCOW2_STRAY, /* its place is right, some bits are not */
	QCOW2_LOST,  /* what it names cannot be its own */
};

/* raw: the descriptor, and where entries are extended what follows it. */
enum qcow2_verdict qcow2_judge_l2e(const struct qcow2_walk *w, const uint64_t raw[2]);
enum qcow2_verdict qcow2_judge_l1e(const struct qcow2_walk *w, uint64_t raw);

/* ---- qcow2-check-extra.c: snapshot table, bitmaps, encryption header ---- */

TD_CO TD_CHECK int qcow2_walk_extensions(struct qcow2_walk *w);
TD_CO TD_CHECK int qcow2_walk_snapshots(struct qcow2_walk *w);

/* QCOW2_MEND_FAR for its entries. */
TD_CO TD_CHECK int qcow2_mend_snapshots_far(struct qcow2_walk *w);

/* A new snapshot table, with the entries that can be right. */
TD_CO TD_CHECK int qcow2_mend_snapshots(struct qcow2_walk *w);

/* ---- qcow2-check-compare.c: refcounts and COPIED flags against what was counted ---- */

TD_CO TD_CHECK int qcow2_compare_refs(struct qcow2_walk *w);
TD_CO TD_CHECK int qcow2_compare_flags(struct qcow2_walk *w);

/* With a data file: does each entry name the guest's own offset? */
TD_CO TD_CHECK int qcow2_compare_places(struct qcow2_walk *w);

/* ---- qcow2-check-rebuild.c ---- */

/* New refcount table and blocks behind everything; the old ones are counted no more. */
TD_CO TD_CHECK int qcow2_rebuild(struct qcow2_walk *w);

/* ---- qcow2-repair.c ---- */

#define QCOW2_STORE_RAISE 0x01u /* where the refcount is lower than it has to be */
#define QCOW2_STORE_LOWER 0x02u
#define QCOW2_STORE_PUNCH 0x04u /* give back what nothing refers to */

/* Make the refcounts on disk those that were counted. */
TD_CO TD_CHECK int qcow2_store(struct qcow2_walk *w, unsigned how);

/* ---- qcow2-check-mend.c ---- */

enum qcow2_mending {
	QCOW2_MEND_FAR,   /* what points behind the end of the file points where no file will ever reach */
	QCOW2_MEND_FLAGS, /* COPIED flags alone */
	QCOW2_MEND_ALL,
};

struct qcow2_mended {
	uint64_t lost;   /* entries that had to be given up */
	uint64_t copied; /* clusters and tables that were shared more often than a refcount can say */
};

/* Entries and flags, in place; *ret is added to. */
TD_CO TD_CHECK int qcow2_mend(struct qcow2_walk *w, enum qcow2_mending how, struct qcow2_mended *ret);

/* Can all that is lost be marked?  With refcounts of a few bits marks take much space. */
bool qcow2_can_mark(const struct qcow2_walk *w);

/* Does a descriptor, not a stream's, say that there is a cluster?  In a data file one can be at its very beginning. */
static inline bool qcow2_names_cluster(const struct qcow2 *q, uint64_t raw)
{
	bool zero = (raw & QCOW2_L2_ZERO) && !qcow2_is_extended(&q->g);

	return (raw & QCOW2_OFF_MASK) || (q->g.data_file && (raw & QCOW2_COPIED) && !zero);
}

/* An offset that no file reaches. */
static inline uint64_t qcow2_far(const struct qcow2 *q)
{
	return td_align_down(QCOW2_OFF_MASK, q->g.cluster_size);
}

#endif
