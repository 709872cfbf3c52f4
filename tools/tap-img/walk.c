// SPDX-License-Identifier: BSD-2-Clause
/*
 * Going over a disk piece by piece, several at a time.  See walk.h.
 */
#include "walk.h"

#include "tools/common/cli.h"

#define WALKERS 8

/* The next piece with something to do.  0: there is none, or somebody has failed. */
static int next_piece(struct walk *w, struct walk_piece *p)
{
	td_co_guard(&w->lock);
	while (w->result == 0 && w->at < w->size) {
		uint64_t most = TD_MIN(w->size - w->at, w->ask);
		int r;

		p->off = w->at;
		p->len = most;
		p->what = 0;
		r = w->look(w->arg, p);
		if (r == 0 && (p->len == 0 || p->len > most))
			r = -EIO;
		if (r < 0)
			return r;
		w->at += p->len;
		w->ask = walk_ask_next(most, p->len);
		if (p->what != 0)
			return 1;
		progress_add(&w->progress, p->len);
	}
	return 0;
}

static int walk_pieces(struct walk *w, struct walk_piece *p)
{
	int r;

	while ((r = next_piece(w, p)) > 0) {
		r = w->work(w->arg, p);
		if (r < 0)
			break;
		progress_add(&w->progress, p->len);
	}
	if (r < 0 && w->result == 0)
		w->result = r; /* the others end with their pieces */
	return r;
}

static int walker(void *arg)
{
	struct walk *w = arg;
	struct walk_piece p = { .buf = { td_buf_alloc(WALK_PIECE), td_buf_alloc(WALK_PIECE) } };
	int r = p.buf[0] && p.buf[1] ? walk_pieces(w, &p) : -ENOMEM;

	for (unsigned i = 0; i < 2; i++)
		if (p.buf[i])
			td_buf_free(p.buf[i], WALK_PIECE);
	return r;
}

int walk_run(struct walk *w)
{
	struct td_join j = { 0 };

	w->ask = WALK_ASK;
	for (unsigned i = 0; i < WALKERS; i++)
		td_join_start(&j, walker, w);
	return td_join_wait(&j);
}

int walk_shown(struct walk *w, struct td_loop *loop, enum progress_how how, uint64_t rate)
{
	int r;

	w->rate = (struct rate){ .loop = loop, .per_second = cli_size_or(rate, 0) };
	progress_begin(&w->progress, loop, how, w->size);
	r = walk_run(w);
	progress_end(&w->progress, r == 0);
	return r;
}
