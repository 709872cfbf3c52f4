// SPDX-License-Identifier: BSD-2-Clause
/*
 * The progress bar, its lines, and rates.  See progress.h.
 */
#include "progress.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "print.h"

#define SECOND      1000000000ull
#define BAR_QUIET   (SECOND / 2) /* what is over sooner needs no bar */
#define BAR_EVERY   (SECOND / 5)
#define LINE_EVERY  SECOND
#define BAR_CELLS   20u
#define RATE_WEIGHT 0.3 /* of the latest interval in the rate that is shown */

/* What may run at once without a limit's being noticed: a second's worth must not be asked for in one burst. */
#define RATE_SLACK (SECOND / 10)

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

/* ---- what is said ---- */

static double percent(const struct progress *p)
{
	return p->total ? 100.0 * (double)TD_MIN(p->done, p->total) / (double)p->total : 0;
}

/* "3:07", "1:02:03"; a rate of 0 or an end beyond four days is not worth a guess. */
static const char *time_left(const struct progress *p, char buf[static 32])
{
	uint64_t left = p->total - TD_MIN(p->done, p->total);
	double s = p->rate >= 1 ? (double)left / p->rate : 1e9;
	unsigned n = (unsigned)TD_MIN(s, 1e9);

	if (n > 99 * 3600)
		(void)snprintf(buf, 32, "?");
	else if (n >= 3600)
		(void)snprintf(buf, 32, "%u:%02u:%02u", n / 3600, n / 60 % 60, n % 60);
	else
		(void)snprintf(buf, 32, "%u:%02u", n / 60, n % 60);
	return buf;
}

/* "1.2 GiB of 2 GiB, 310 MiB/s, 0:03 left"; without the whole, "1.2 GiB, 310 MiB/s". */
static const char *figures(const struct progress *p, char buf[static 160])
{
	char done[PRINT_SIZE_LEN], total[PRINT_SIZE_LEN], rate[PRINT_SIZE_LEN], left[32];

	if (p->total == 0)
		(void)snprintf(buf, 160, "%s, %s/s", print_size(p->done, done),
			       print_size((uint64_t)p->rate, rate));
	else
		(void)snprintf(buf, 160, "%s of %s, %s/s, %s left", print_size(p->done, done),
			       print_size(p->total, total), print_size((uint64_t)p->rate, rate),
			       time_left(p, left));
	return buf;
}

static void print_line(const struct progress *p)
{
	char text[160];

	(void)fputs(p->drawn ? "\r\033[K    " : "    ", stderr);
	if (p->total > 0)
		(void)fprintf(stderr, "(%.2f/100%%) ", percent(p));
	(void)fprintf(stderr, "%s\n", figures(p, text));
}

static void print_bar(struct progress *p)
{
	unsigned full = (unsigned)(percent(p) * BAR_CELLS / 100);
	char text[160];

	(void)fputc('\r', stderr);
	if (p->total > 0)
		(void)fprintf(stderr, "%5.1f %% [%.*s%*s] ", percent(p), (int)full, "####################",
			      (int)(BAR_CELLS - full), "");
	(void)fprintf(stderr, "%s\033[K", figures(p, text));
	(void)fflush(stderr);
	p->drawn = true;
}

/* The rate since the last time it was looked at, smoothed. */
static void take_rate(struct progress *p, uint64_t now)
{
	double s = (double)(now - p->shown_ns) / SECOND, latest;

	if (s < 0.01)
		return;
	latest = (double)(p->done - p->shown_done) / s;
	p->rate = p->rate > 0 ? p->rate + RATE_WEIGHT * (latest - p->rate) : latest;
	p->shown_ns = now;
	p->shown_done = p->done;
}

static void asked_by_signal(void *arg, int signo)
{
	struct progress *p = arg;

	(void)signo;
	take_rate(p, now_ns());
	print_line(p);
}

/* ---- the calls ---- */

void progress_begin(struct progress *p, struct td_loop *loop, enum progress_how how, uint64_t total)
{
	bool terminal = isatty(STDERR_FILENO) == 1;
	uint64_t now = now_ns();

	*p = (struct progress){ .terminal = terminal, .total = total, .start_ns = now, .shown_ns = now };
	p->shown = how == PROGRESS_ASKED || (how == PROGRESS_AUTO && terminal);
	/* A second one in the same loop keeps the first one's: SIGUSR1 is a courtesy. */
	td_ignore(td_loop_signal(loop, SIGUSR1, asked_by_signal, p));
}

void progress_total(struct progress *p, uint64_t total)
{
	p->total = total;
}

void progress_add(struct progress *p, uint64_t bytes)
{
	uint64_t now;

	p->done += bytes;
	if (!p->shown)
		return;
	now = now_ns();
	if (now - p->shown_ns < (p->terminal ? BAR_EVERY : LINE_EVERY) || now - p->start_ns < BAR_QUIET)
		return;
	take_rate(p, now);
	if (p->terminal)
		print_bar(p);
	else
		print_line(p);
}

void progress_end(struct progress *p, bool ok)
{
	uint64_t now = now_ns();

	if (!p->shown || (p->terminal && !p->drawn))
		return;
	if (ok && p->total > 0)
		p->done = p->total;
	/* The whole: what was done in all the time. */
	if (now > p->start_ns)
		p->rate = (double)p->done * SECOND / (double)(now - p->start_ns);
	if (p->terminal)
		print_bar(p);
	else
		print_line(p);
	if (p->terminal)
		(void)fputc('\n', stderr);
	p->shown = p->drawn = false;
}

void rate_wait(struct rate *r, uint64_t bytes)
{
	uint64_t now, begin;

	if (r->per_second == 0)
		return;
	now = now_ns();
	begin = TD_MAX(r->free_ns, now > RATE_SLACK ? now - RATE_SLACK : 0);
	r->free_ns = begin + (uint64_t)((double)bytes * SECOND / (double)r->per_second);
	if (begin > now)
		td_loop_sleep(r->loop, begin - now);
}
