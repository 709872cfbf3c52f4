// SPDX-License-Identifier: BSD-2-Clause
/*
 * Changing what stands behind the header: the backing file's name, the extension that says its format, and the one that
 * names the directory of dirty bitmaps.
 *
 *	| header | extensions ... end |  unused  | name |  unused |	the first cluster
 *	'---- sector 0 ----'
 *
 * Name and format must agree at every instant, or a raw disk would be read in a format that its guest chose.  So one
 * write decides, that of the first sector, which is written whole or not at all: all that the new header uses behind it
 * is written before, into bytes that the old header does not use.  Where the extensions run past the first sector and
 * have to move, they move in two steps: first behind everything that is used, by an extension that holds nothing but
 * the old bytes (who does not know it skips it), and back to their place when that is free.
 *
 * The extension of bitmaps goes to the front when it changes, so that from the next time on it is a matter of the first
 * sector alone.  All others are kept, in their order.
 */
#include "qcow2-int.h"

#define EXT_HEAD 8u
#define EXT_FILL 0x7464666cu /* ours: nothing in it counts; gone again after the second step */

struct change {
	struct qcow2 *q;
	const struct qcow2_extensions *want;
	uint8_t *now, *next; /* the first cluster: as it is, as it is to be */
	uint8_t *live;       /* for each byte: does the header use it now? */
	size_t len;
	size_t live_end;          /* no byte is live from here on; not below the first sector's end */
	size_t ext_end, next_end; /* where the extensions of next end, and where all that it uses does */
	struct qcow2_header h;
	struct qcow2_ext format; /* in now; len 0: there is none */
};

static size_t extensions_at(const struct qcow2_header *h)
{
	return h->version == 2 ? QCOW2_HEADER_V2 : h->header_len;
}

/* ---- what is there ---- */

static void mark_live(struct change *c, uint64_t from, uint64_t len)
{
	uint64_t end = TD_MIN(from + len, (uint64_t)c->len);

	if (from >= end)
		return;
	memset(c->live + from, 1, end - from);
	c->live_end = TD_MAX(c->live_end, (size_t)end);
}

static int load(struct change *c)
{
	struct qcow2 *q = c->q;
	size_t pos = extensions_at(&q->h), at = pos;
	struct qcow2_ext e;
	int r = td_image_pread(q->child, 0, c->now, c->len, TD_EXACT);

	if (r < 0)
		return r;
	memcpy(c->now, q->sector0, sizeof(q->sector0));
	memset(c->live, 0, c->len);
	c->live_end = QCOW2_SECTOR;
	c->format.len = 0;
	for (; (r = qcow2_ext_next(&q->h, c->now, c->len, &pos, &e, NULL)) > 0; at = pos) {
		mark_live(c, at, e.type == EXT_FILL ? EXT_HEAD : EXT_HEAD + (uint64_t)e.len);
		if (e.type == QCOW2_EXT_BACKING_FORMAT && c->format.len == 0)
			c->format = e;
	}
	mark_live(c, at, EXT_HEAD); /* the end */
	mark_live(c, q->h.backing_off, q->h.backing_len);
	return r;
}

/* Does next leave alone what is live behind the first sector? */
static bool spares_live(const struct change *c)
{
	for (size_t i = QCOW2_SECTOR; i < c->live_end; i++)
		if (c->live[i] && c->now[i] != c->next[i])
			return false;
	return true;
}

/* ---- what is to be there ---- */

/* Skip the bytes up to `to`: they stay as they are.  No room for that: *pos stays. */
static void put_fill(struct change *c, size_t *pos, size_t to)
{
	size_t end = *pos + EXT_HEAD;

	to = td_align_up(TD_MAX(to, end), 8);
	if (to > c->len)
		return;
	td_put_be32(c->next + *pos, EXT_FILL);
	td_put_be32(c->next + *pos + 4, (uint32_t)(to - end));
	*pos = to;
}

static int put_others(struct change *c, size_t *to)
{
	size_t pos = extensions_at(&c->q->h);
	struct qcow2_ext e;
	int r = 0, more;

	while (r == 0 && (more = qcow2_ext_next(&c->q->h, c->now, c->len, &pos, &e, NULL)) != 0) {
		if (more < 0)
			return more;
		if (e.type != QCOW2_EXT_BACKING_FORMAT && e.type != EXT_FILL &&
		    !(e.type == QCOW2_EXT_BITMAPS && c->want->bitmaps) &&
		    !(e.type == QCOW2_EXT_FEATURE_NAMES && c->want->version == 2))
			r = qcow2_ext_put(c->next, c->len, to, e.type, e.data, e.len);
	}
	return r == 0 ? qcow2_ext_put(c->next, c->len, to, QCOW2_EXT_END, NULL, 0) : r;
}

/* The first place from `from` on where len bytes are not in use behind the first sector; it may be too near the end. */
static size_t find_room(const struct change *c, size_t from, size_t len)
{
	for (size_t i = TD_MAX(from, (size_t)QCOW2_SECTOR); i < TD_MIN(from + len, c->live_end); i++)
		if (c->live[i])
			from = i + 1;
	return from;
}

/* 0: it may stay where it is. */
static int keep_name(struct change *c, const char **ret_path, size_t *ret_len)
{
	uint64_t off = c->h.backing_off, len = c->h.backing_len;

	if (len > 0 && !td_in_range(off, len, c->len))
		return -EUCLEAN;
	*ret_path = (const char *)c->now + off;
	*ret_len = len;
	c->next_end = TD_MAX(c->ext_end, off + len);
	return len > 0 && off >= c->ext_end ? 0 : 1;
}

static int put_name(struct change *c)
{
	const char *path = c->want->path;
	size_t len = path ? strlen(path) : 0, at;
	int r = c->want->keep_backing ? keep_name(c, &path, &len) : 1;

	if (r <= 0)
		return r;
	at = find_room(c, c->ext_end, len);
	if (!td_in_range(at, len, c->len))
		return -ENOSPC;
	c->h.backing_off = len > 0 ? at : 0;
	c->h.backing_len = (uint32_t)len;
	memcpy(c->next + at, len > 0 ? path : "", len);
	c->next_end = at + len;
	return 0;
}

/* What we know the place of. */
static int put_ours(struct change *c, size_t *pos)
{
	const struct qcow2_extensions *w = c->want;
	const char *format = w->format;
	uint32_t len = format ? (uint32_t)strlen(format) : 0;
	uint8_t bitmaps[QCOW2_BITMAPS_EXT_LEN];
	int r = 0;

	if (w->bitmaps && w->bitmaps->nr > 0) {
		qcow2_bitmaps_ext_encode(w->bitmaps, bitmaps);
		r = qcow2_ext_put(c->next, c->len, pos, QCOW2_EXT_BITMAPS, bitmaps, sizeof(bitmaps));
	}
	if (w->keep_backing) {
		format = (const char *)c->format.data;
		len = c->format.len;
	}
	if (r == 0 && len > 0)
		r = qcow2_ext_put(c->next, c->len, pos, QCOW2_EXT_BACKING_FORMAT, format, len);
	return r;
}

/*
 * Lay it out, with the extensions where they belong; behind: in unused bytes behind there, which a try before has told
 * (c->ext_end).  -ENOSPC: it does not fit, or would overwrite what the old header uses.
 */
static int lay_out(struct change *c, bool behind)
{
	size_t pos = extensions_at(&c->h);
	int r;

	memcpy(c->next, c->now, c->len);
	if (c->want->version) /* whatever stands where fields are going to be */
		memset(c->next + QCOW2_HEADER_V2, 0, QCOW2_HEADER_KNOWN - QCOW2_HEADER_V2);
	r = put_ours(c, &pos);
	if (r == 0 && behind)
		put_fill(c, &pos, find_room(c, c->ext_end, c->ext_end - pos + 8)); /* 8: it aligns */
	if (r == 0)
		r = put_others(c, &pos);
	c->ext_end = pos;
	if (r == 0)
		r = put_name(c);
	return r == 0 && !spares_live(c) ? -ENOSPC : r;
}

/* ---- writing it ---- */

/* From the instant of the second write on it is so. */
static int write_next(struct change *c)
{
	struct qcow2 *q = c->q;
	size_t end = TD_MIN(td_align_up(c->next_end, QCOW2_SECTOR), c->len);
	int r = 0;

	if (end > QCOW2_SECTOR)
		r = td_image_pwrite(q->child, QCOW2_SECTOR, c->next + QCOW2_SECTOR, end - QCOW2_SECTOR, 0);
	return r == 0 ? qcow2_header_replace_locked(q, c->next, &c->h) : r;
}

/* What the other version does not have is gone already, or is not wanted. */
static void set_version(struct change *c)
{
	struct qcow2_header *h = &c->h;

	if (c->want->version == 0 || c->want->version == h->version)
		return;
	h->version = c->want->version;
	h->header_len = h->version == 2 ? QCOW2_HEADER_V2 : QCOW2_HEADER_KNOWN;
	h->incompatible = h->compatible = h->autoclear = 0;
}

/* One step.  1: it holds, but not everything lies as near to the header as it could. */
static int step(struct change *c, bool may_fill)
{
	bool behind = false;
	int r = load(c);

	if (r < 0)
		return r;
	c->h = c->q->h;
	set_version(c);
	if (c->want->bitmaps)
		c->h.autoclear = qcow2_autoclear(c->q, c->want->bitmaps->nr > 0);
	r = lay_out(c, false);
	if (r == -ENOSPC && may_fill) {
		behind = true;
		c->h.backing_off = c->q->h.backing_off;
		r = lay_out(c, true);
	}
	if (r == 0)
		r = write_next(c);
	return r == 0 ? behind || (!c->want->keep_backing && c->h.backing_off > c->ext_end) : r;
}

static int change_locked(struct change *c)
{
	int r = step(c, true);

	if (r < 0)
		return r;
	/* Extensions first, then the name.  What fails here changes nothing: the new pair is recorded. */
	for (unsigned i = 0; r > 0 && i < 2; i++)
		r = step(c, false);
	return 0;
}

int qcow2_extensions_change(struct qcow2 *q, const struct qcow2_extensions *want)
{
	struct change c = { .q = q, .want = want, .len = q->g.cluster_size };
	int r = qcow2_header_settle(q);

	if (r < 0)
		return r;
	td_co_guard(&q->header_lock);
	c.now = td_buf_alloc(c.len);
	c.next = td_buf_alloc(c.len);
	c.live = calloc(1, c.len);
	r = c.now && c.next && c.live ? change_locked(&c) : -ENOMEM;
	free(c.live);
	if (c.now)
		td_buf_free(c.now, c.len);
	if (c.next)
		td_buf_free(c.next, c.len);
	return r;
}
