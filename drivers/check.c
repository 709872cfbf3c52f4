// SPDX-License-Identifier: BSD-2-Clause
/*
 * What every check needs: a bounded number of lines, and a list of what is named.
 */
#include <blktap/check.h>

#include <stdarg.h>
#include <stdio.h>

void td_check_say(struct td_check *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!c->report || c->told > TD_CHECK_LINES)
		return;
	if (c->told++ == TD_CHECK_LINES) {
		c->report(c->report_arg, "there is more, which is counted and not listed");
		return;
	}
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->report(c->report_arg, line);
}

int td_runs_add(struct td_runs *r, uint64_t off, uint64_t len)
{
	if (r->nr > 0 && r->at[r->nr - 1].off + r->at[r->nr - 1].len == off) {
		r->at[r->nr - 1].len += len;
		return 0;
	}
	if (r->nr == r->room) {
		size_t room = r->room ? 2 * r->room : 256;
		struct td_run *more;

		more = room > TD_RUNS_MAX ? NULL : reallocarray(r->at, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		r->at = more;
		r->room = room;
	}
	r->at[r->nr++] = (struct td_run){ .off = off, .len = len };
	return 0;
}

static int by_off(const void *a, const void *b)
{
	const struct td_run *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

void td_runs_sort(struct td_runs *r)
{
	if (r->nr > 0)
		qsort(r->at, r->nr, sizeof(r->at[0]), by_off);
}

void td_runs_done(struct td_runs *r)
{
	free(r->at);
	*r = (struct td_runs){ 0 };
}
