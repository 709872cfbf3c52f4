// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the walk over an image's tables is made of: reading them, counting what they name, findings, and lists of
 * tables.
 */
#include "qcow2-check.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- findings ---- */

void qcow2_found(struct qcow2_walk *w, uint64_t weight, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	w->res->corruptions += weight;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	td_check_say(w->res, "%s", line);
}

static void progress(struct qcow2_walk *w, uint64_t bytes)
{
	w->done += bytes;
	if (w->res->progress)
		w->res->progress(w->res->report_arg, w->done, TD_MAX(w->done, w->total));
}

/* ---- reading ---- */

/* Large holes are skipped: ask where one ends once a table was found to lie in one. */
static int find_hole(struct qcow2_walk *w, uint64_t off)
{
	struct td_extent e;
	int r = td_image_extent(w->q->child, off, w->size - off, &e);

	if (r < 0)
		return r;
	w->hole = off;
	w->hole_end = e.kind == TD_EXTENT_ZERO ? off + e.len : off;
	return 0;
}

int qcow2_walk_read(struct qcow2_walk *w, uint64_t off, size_t len, const uint8_t **ret)
{
	uint64_t size = w->size;
	size_t inside = off < size ? TD_MIN((uint64_t)len, size - off) : 0;
	int r = 0;

	progress(w, len);
	*ret = NULL;
	if (inside == 0 || (off >= w->hole && off + inside <= w->hole_end))
		return 0;
	r = td_image_pread(w->q->child, off, w->buf, inside, 0);
	if (r < 0)
		return r;
	memset(w->buf + inside, 0, len - inside);
	*ret = w->buf;
	if (td_is_zero(w->buf, len)) {
		*ret = NULL;
		r = find_hole(w, off);
	}
	return r;
}

/* ---- counting ---- */

bool qcow2_walk_exceeds(const struct qcow2_walk *w, uint64_t off, uint64_t len)
{
	return off >= w->size || (off + len > w->size && off + len - w->size >= w->q->g.cluster_size);
}

static int use_one(struct qcow2_walk *w, uint64_t cluster, uint64_t weight, uint32_t kind)
{
	uint32_t *use = qcow2_uses_at(&w->uses, cluster);
	uint64_t count;

	if (!use)
		return -ENOMEM;
	count = (*use & QCOW2_USE_COUNT) + weight;
	if (count > w->max_count)
		qcow2_found(w, TD_MIN(count - w->max_count, weight),
			    "cluster %llu: has more references than a refcount of %u bits can say",
			    (unsigned long long)cluster, w->q->g.refcount_bits);
	count = TD_MIN(count, (uint64_t)QCOW2_USE_COUNT);
	*use = (*use & ~QCOW2_USE_COUNT) | kind | (uint32_t)count;
	return 0;
}

int qcow2_walk_use(struct qcow2_walk *w, uint64_t off, uint64_t len, uint64_t weight, uint32_t kind)
{
	uint64_t last = (off + len - 1) >> w->q->g.cluster_bits;
	int r = 0;

	for (uint64_t c = off >> w->q->g.cluster_bits; r == 0 && c <= last && c < w->uses.nr; c++)
		r = use_one(w, c, weight, kind);
	return r;
}

bool qcow2_walk_touches(const struct qcow2_walk *w, uint64_t off, uint64_t len, uint32_t kinds)
{
	uint64_t last = (off + len - 1) >> w->q->g.cluster_bits;

	for (uint64_t c = off >> w->q->g.cluster_bits; c <= last; c++)
		if (qcow2_uses_get(&w->uses, c) & kinds)
			return true;
	return false;
}

int qcow2_walk_area(struct qcow2_walk *w, const char *what, uint64_t off, uint64_t len, uint64_t weight)
{
	uint32_t clash;

	if (len == 0)
		return 0;
	if (qcow2_walk_exceeds(w, off, len)) {
		qcow2_found(w, weight, "%s at %#llx: %llu bytes reach past the end of the file", what,
			    (unsigned long long)off, (unsigned long long)len);
		return 0;
	}
	clash = weight > 1 || qcow2_walk_touches(w, off, len, QCOW2_USE_FIXED) ? QCOW2_USE_CLASH : 0;
	if (clash)
		qcow2_found(w, 0, "%s at %#llx overlaps other metadata", what, (unsigned long long)off);
	return qcow2_walk_use(w, off, len, weight, QCOW2_USE_FIXED | clash);
}

/* ---- lists of tables ---- */

static int by_place(const void *a, const void *b)
{
	const struct qcow2_named *x = a, *y = b;

	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->nr < y->nr ? -1 : x->nr > y->nr;
}

static void add_names(struct qcow2_named *to, const struct qcow2_named *n)
{
	to->active = TD_MIN(to->active + n->active + 0u, QCOW2_ACTIVE_MAX) & QCOW2_ACTIVE_MAX;
	to->inactive = TD_MIN(to->inactive + n->inactive + 0u, QCOW2_INACTIVE_MAX) & QCOW2_INACTIVE_MAX;
}

void qcow2_named_merge(struct qcow2_named_list *l)
{
	size_t to = 0;
	bool sorted = true;

	for (size_t i = 1; sorted && i < l->nr; i++)
		sorted = by_place(&l->at[i - 1], &l->at[i]) <= 0;
	if (!sorted)
		qsort(l->at, l->nr, sizeof(l->at[0]), by_place);
	for (size_t i = 0; i < l->nr; i++) {
		if (to > 0 && by_place(&l->at[to - 1], &l->at[i]) == 0)
			add_names(&l->at[to - 1], &l->at[i]);
		else
			l->at[to++] = l->at[i];
	}
	l->nr = to;
}

/* Before it grows, what is named twice is merged: a million names of one table take the room of one. */
int qcow2_named_add(struct qcow2_named_list *l, const struct qcow2_named *n, size_t most)
{
	struct qcow2_named *bigger;
	size_t room = TD_MIN(TD_MAX((size_t)64, l->room * 2), most);

	if (l->nr < l->room) {
		l->at[l->nr++] = *n;
		return 0;
	}
	qcow2_named_merge(l);
	if (l->nr == most)
		return -EFBIG;
	/* Little was merged: do not come here again for each of the next few. */
	if (l->nr >= l->room / 2 && room > l->room) {
		bigger = reallocarray(l->at, room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		l->at = bigger;
		l->room = room;
	}
	l->at[l->nr++] = *n;
	return 0;
}

/* ---- begin and end ---- */

int qcow2_walk_init(struct qcow2_walk *w, struct qcow2 *q, struct td_check *res)
{
	/* No refcount table could count what lies behind max_host. */
	uint64_t nr = td_div_up(TD_MIN(q->child->size, q->g.max_host), q->g.cluster_size);
	uint64_t max = q->g.refcount_bits < 64 ? (1ull << q->g.refcount_bits) - 1 : UINT64_MAX;

	*w = (struct qcow2_walk){ .q = q, .res = res, .size = q->child->size, .l1_cut = q->l1_cut };
	w->max_count = TD_MIN(max, (uint64_t)QCOW2_USE_COUNT);
	w->buf = td_buf_alloc(QCOW2_WALK_BYTES);
	/* One more: what is not aligned may reach into it. */
	return w->buf ? qcow2_uses_init(&w->uses, nr + 1) : -ENOMEM;
}

void qcow2_walk_done(struct qcow2_walk *w)
{
	qcow2_uses_done(&w->uses);
	qcow2_table_done(&w->reftable);
	free(w->l1.at);
	free(w->l2.at);
	w->l1.at = w->l2.at = NULL;
	if (w->buf)
		td_buf_free(w->buf, QCOW2_WALK_BYTES);
	w->buf = NULL;
}
