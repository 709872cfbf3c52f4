// SPDX-License-Identifier: BSD-2-Clause
/*
 * Going over a disk once, piece by piece, with several pieces at work at a time.
 */
#ifndef TAP_IMG_WALK_H
#define TAP_IMG_WALK_H

#include <blktap/image.h>
#include <blktap/lock.h>

#include "tools/common/progress.h"

#define WALK_PIECE (2u << 20) /* bytes of a piece at most, and of its buffers */

/*
 * How far to ask what is on a disk.  A driver answers for as long as the answer is the same, which may take it through
 * all its tables, and where two layers disagree only a little of the answer counts.  So: not far at first, and twice as
 * far whenever all that was asked for was the same.
 */
#define WALK_ASK (16ull << 20)

static inline uint64_t walk_ask_next(uint64_t asked, uint64_t answered)
{
	return answered < asked ? WALK_ASK : TD_MIN(2 * asked, 1ull << 62);
}

struct walk_piece {
	uint64_t off, len;
	int what;     /* the user's own; 0: nothing is to be done there */
	char *buf[2]; /* WALK_PIECE each; NULL if there is nothing to do */
};

struct walk {
	uint64_t size;
	void *arg;

	/*
	 * What of [p->off, p->off + p->len) is one piece?  Sets len (1..) and what; len is at most WALK_PIECE unless
	 * the piece needs no buffer.  One at a time, in order.
	 */
	int (*look)(void *arg, struct walk_piece *p);

	/* Do it.  Several at the same time. */
	int (*work)(void *arg, const struct walk_piece *p);

	struct progress progress;
	struct rate rate; /* of walk_shown; the work's to wait for */

	/* private */
	struct td_mutex lock;
	uint64_t at, ask;
	int result;
};

/* The first error of look or work, after all pieces that were begun have ended; 0. */
TD_CO TD_CHECK int walk_run(struct walk *w);

/* The same with its progress shown, and at a rate (CLI_SIZE_NONE: any). */
TD_CO TD_CHECK int walk_shown(struct walk *w, struct td_loop *loop, enum progress_how how, uint64_t rate);

#endif
