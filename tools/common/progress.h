// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a long command says of itself while it runs, and how it is held back.
 *
 * Progress goes to standard error.  On a terminal it is a bar that is drawn over itself; elsewhere, and only if it was
 * asked for, a line each second that begins as qemu-img's do: "(45.20/100%)".  SIGUSR1 prints such a line at once,
 * whether progress is shown or not.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <blktap/loop.h>

enum progress_how {
	PROGRESS_AUTO, /* where standard error is a terminal; nothing of what takes less than half a second */
	PROGRESS_ASKED, /* -p */
	PROGRESS_NEVER, /* -q */
};

static inline enum progress_how progress_how(bool quiet, bool asked)
{
	return quiet ? PROGRESS_NEVER : asked ? PROGRESS_ASKED : PROGRESS_AUTO;
}

/* The caller's; lives as long as the loop. */
struct progress {
	bool shown, terminal, drawn;
	uint64_t total, done;
	uint64_t start_ns, shown_ns, shown_done; /* shown: the last line or bar, and what was done by then */
	double rate;                             /* bytes/s of late; 0: not known yet */
};

/* total: bytes to be done; 0: not known.  It may be changed on the way by progress_total. */
void progress_begin(struct progress *p, struct td_loop *loop, enum progress_how how, uint64_t total);
void progress_total(struct progress *p, uint64_t total);
void progress_add(struct progress *p, uint64_t bytes);

/* The bar stays on the screen at what was reached, with its line ended.  ok: that is all of it. */
void progress_end(struct progress *p, bool ok);

/* So many bytes a second and no more: rate_wait before each transfer, by any number of coroutines. */
struct rate {
	struct td_loop *loop;
	uint64_t per_second; /* 0: no limit */
	uint64_t free_ns;    /* when the next transfer may begin */
};

TD_CO void rate_wait(struct rate *r, uint64_t bytes);

#endif
