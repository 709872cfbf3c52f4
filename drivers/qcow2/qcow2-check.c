// SPDX-License-Identifier: BSD-2-Clause
/*
 * Check and repair.
 *
 * Order of a repair, so that a crash at any point leaves an image no worse than it was:
 *
 *	0. what points behind the end of the file is pointed where no file reaches: the file is going to be longer
 *	1. the refcounts that are too low are raised; or, where the blocks lie where they cannot, new ones are written
 *	   behind everything and the header is switched to them
 *	2. entries and flags are put right, each after what it names is counted and on stable storage
 *	3. all is counted again; what is too high is lowered, and the space of what nothing refers to is given back
 *	4. all is checked again; if nothing is left, the marks "dirty" and "corrupt" go
 *
 * What looks leaked may be the data of a table that cannot be read.  So while a table is missing nothing is lowered;
 * and once one was given up, in that same repair, what is counted down keeps its bytes in the file until they are
 * written over, for whoever wants to look for them.
 */
#include "qcow2-check.h"

#define ROUNDS          4u
#define KNOWN_AUTOCLEAR (QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW_EXT)

/* ---- looking ---- */

/* w is to be done with in any case. */
static int inspect(struct qcow2 *q, struct td_check *res, struct qcow2_walk *w)
{
	int r;

	res->clusters = td_div_up(td_align_down(q->h.size, QCOW2_SECTOR), q->g.cluster_size);
	r = qcow2_walk(w, q, res);
	if (r == 0)
		r = qcow2_compare_refs(w);
	if (r == 0)
		r = qcow2_compare_flags(w);
	if (r == 0 && q->g.data_file)
		r = qcow2_compare_places(w);
	if (r < 0)
		res->errors++;
	return r;
}

static struct td_check same_callbacks(const struct td_check *c)
{
	return (struct td_check){
		.report = c->report, .progress = c->progress, .report_arg = c->report_arg, .told = c->told
	};
}

/* ---- repairing ---- */

/* Is it known of every cluster whether something refers to it? */
static bool all_counted(const struct qcow2_walk *w)
{
	return w->missing == 0 && w->bad == 0 && w->crowded == 0 && !w->l1_cut && !w->snaps_lost &&
	       !w->bitmaps_bad;
}

static int fix_leaks(struct qcow2_walk *w)
{
	bool otherwise_right = w->res->corruptions == 0;
	struct qcow2_mended mended = { 0 };
	int r;

	if (!all_counted(w) || w->refs_bad || w->snaps_bad) {
		td_check_say(w->res, "no leak is repaired: what looks leaked may belong to what is damaged");
		return 0;
	}
	r = qcow2_store(w, QCOW2_STORE_LOWER | QCOW2_STORE_PUNCH);
	/* What was shared with a leak is owned now, and its flag has to say so. */
	if (r == 0 && otherwise_right)
		r = qcow2_mend(w, QCOW2_MEND_FLAGS, &mended);
	return r;
}

static void drop_autoclear(struct qcow2_header *h, const void *arg)
{
	const struct qcow2_walk *w = arg;

	h->autoclear &= w->bitmaps_bad ? QCOW2_AUTOCLEAR_RAW_EXT : KNOWN_AUTOCLEAR;
}

/* Before the file becomes longer. */
static int banish(struct qcow2_walk *w)
{
	struct qcow2_mended mended = { 0 };
	int r = 0;

	if (w->bad > 0)
		r = qcow2_mend(w, QCOW2_MEND_FAR, &mended);
	if (r == 0 && w->snaps_bad)
		r = qcow2_mend_snapshots_far(w);
	return r < 0 ? r : td_image_flush(w->q->child);
}

/* Steps 1 and 2. */
static int fix_tables(struct qcow2_walk *w, struct qcow2_mended *ret)
{
	struct qcow2 *q = w->q;
	int r = banish(w);

	if (r == 0 && (w->bitmaps_bad || (q->h.autoclear & ~KNOWN_AUTOCLEAR)))
		r = qcow2_header_switch(q, drop_autoclear, w);
	if (r == 0)
		r = w->refs_bad ? qcow2_rebuild(w) : qcow2_store(w, QCOW2_STORE_RAISE);
	if (r == 0)
		r = qcow2_mend(w, QCOW2_MEND_ALL, ret);
	if (r == 0 && w->snaps_bad)
		r = qcow2_mend_snapshots(w);
	return r;
}

/*
 * Step 3.  What was given up named clusters too, and flags follow from what is left; a table that got a copy shares its
 * clusters with the other, which is for another round.
 */
static int fix_counts(struct qcow2_walk *old, bool lost)
{
	unsigned punch = lost ? 0 : QCOW2_STORE_PUNCH;
	struct qcow2_mended mended = { 0 };
	struct td_check res = { 0 };
	struct qcow2_walk w;
	int r = qcow2_walk(&w, old->q, &res);

	if (r == 0 && w.refs_bad)
		r = -EUCLEAN; /* they were made anew: this cannot be */
	if (r == 0)
		r = qcow2_store(&w, QCOW2_STORE_RAISE);
	if (r == 0)
		r = qcow2_mend(&w, QCOW2_MEND_ALL, &mended);
	if (r == 0 && mended.copied == 0 && mended.lost == 0 && all_counted(&w))
		r = qcow2_store(&w, QCOW2_STORE_LOWER | punch);
	else if (r == 0)
		r = 1;
	qcow2_walk_done(&w);
	return r;
}

static int fix_all(struct qcow2_walk *w)
{
	struct qcow2_mended mended = { 0 };
	int r;

	if (w->l1_cut || w->snaps_lost) {
		td_check_say(
			w->res,
			"nothing is repaired: without that table it is not known which clusters are in use");
		return 0;
	}
	if (w->misplaced > 0) {
		td_check_say(
			w->res,
			"nothing is repaired: which place in the data file is the right one is not known");
		return 0;
	}
	if (!qcow2_can_mark(w)) {
		td_check_say(w->res,
			     "nothing is repaired: there is no way, or no room, to mark what is lost");
		return 0;
	}
	r = fix_tables(w, &mended);
	if (r == 0)
		r = 1;
	for (unsigned i = 0; r > 0 && i < ROUNDS; i++)
		r = fix_counts(w, mended.lost > 0 || w->snaps_bad);
	if (r > 0)
		td_check_say(w->res, "no leak is repaired: what looks leaked may belong to what is damaged");
	return TD_MIN(r, 0);
}

/* The file was made longer in steps. */
static void cut(struct qcow2 *q)
{
	uint64_t end = q->end << q->g.cluster_bits;

	if (q->grown && q->child->size > end)
		td_ignore(td_image_resize(q->child, end, TD_RESIZE_SHRINK, NULL)); /* longer is no harm */
}

static int repair(struct qcow2_walk *w, unsigned fix)
{
	struct qcow2 *q = w->q;
	int r = (fix & TD_FIX_ALL) == TD_FIX_ALL ? fix_all(w) : fix_leaks(w);

	qcow2_keeper_wait(q);
	if (r == 0)
		r = qcow2_frees_reap(q);
	if (r == 0)
		r = qcow2_commit(q, QCOW2_COMMIT_REFS | QCOW2_COMMIT_BARRIER);
	if (r == 0)
		cut(q);
	return r;
}

/* ---- both ---- */

static uint64_t fewer(uint64_t before, uint64_t after)
{
	return before > after ? before - after : 0;
}

static int look_again(struct qcow2 *q, struct td_check *ret)
{
	const uint64_t marks = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;
	struct td_check after = same_callbacks(ret);
	struct qcow2_walk w;
	int r = inspect(q, &after, &w);

	qcow2_walk_done(&w);
	after.leaks_fixed = fewer(ret->leaks, after.leaks);
	after.corruptions_fixed = fewer(ret->corruptions, after.corruptions);
	*ret = after;
	if (r == 0 && after.corruptions == 0 && (q->h.incompatible & marks))
		r = qcow2_header_switch(q, qcow2_header_mended, NULL);
	return r;
}

int qcow2_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	struct qcow2 *q = im->state;
	struct td_check res = same_callbacks(ret);
	struct qcow2_walk w;
	int r;

	if (!(im->flags & TD_OPEN_CHECK))
		return -EINVAL;
	if (q->past) /* the image is checked, not what one of its snapshots shows */
		return -ENOTSUP;
	r = inspect(q, &res, &w);
	if (r == 0 && fix && (res.corruptions > 0 || res.leaks > 0 || w.stray > 0))
		r = repair(&w, fix);
	qcow2_walk_done(&w);
	if (r == 0 && fix)
		r = look_again(q, &res);
	*ret = res;
	return r;
}
