// SPDX-License-Identifier: BSD-2-Clause
/*
 * The metadata cache of blktap/meta.h: opening, closing, and its units one by one.
 *
 * A pointer to a unit's bytes is good until the caller yields.  So a caller looks a unit up, marks it and changes it,
 * and no commit can see half of that.  The mark comes first, so that a kill between the two finds it (blktap/keep.h).
 * Only sleepers hold pins.
 */
#include "meta-int.h"

/* ---- opening and closing ---- */

static void meta_free(struct td_meta *m)
{
	for (unsigned i = 0; i < m->config.nr_levels; i++)
		if (m->cache[i].hash)
			meta_cache_done(&m->cache[i]);
	free(m);
}

static int caches_init(struct td_meta *m)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < m->config.nr_levels; i++)
		r = meta_cache_init(&m->cache[i], m->config.level[i].unit, m->config.level[i].cache);
	return r;
}

int td_meta_open(struct td_image *im, const struct td_meta_config *config, struct td_opts *opts,
		 struct td_meta **ret_meta, struct td_err *ret_err)
{
	struct td_meta *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return td_err_set(ret_err, -ENOMEM, "no memory for the metadata cache");
	m->im = im;
	m->config = *config;
	STAILQ_INIT(&m->committers);
	r = caches_init(m);
	if (r < 0)
		td_err_set(ret_err, r, "no memory for the metadata cache");
	else
		r = meta_adopt(m, opts, ret_err);
	if (r < 0) {
		meta_free(m);
		return r;
	}
	if (!im->read_only && !(im->flags & TD_OPEN_CHECK))
		meta_keep_start(m);
	*ret_meta = m;
	return 0;
}

int td_meta_close(struct td_meta *m)
{
	struct td_keep *keep;
	int r = 0;

	if (!m)
		return 0;
	while (m->tidying)
		td_waitq_wait(&m->tidied);
	if (!m->im->read_only && !m->im->frozen)
		r = meta_commit(m, true);
	keep = m->keep;
	meta_free(m);
	/* What could not be written now may be written by who opens it next. */
	td_keep_free(keep, r == 0);
	return r;
}

/* ---- units ---- */

/*
 * Memory for one more unit.  *ret NULL: there was none without a commit, which has run; look again, the unit may be
 * here by now.  Where that does not help (all are pinned by requests in flight, or the disk takes no metadata) the
 * bound gives way, up to twice its size: a read must not fail because a write did.
 */
static int make_place(struct td_meta *m, struct meta_cache *c, bool again, struct meta_unit **ret)
{
	struct meta_unit *u = NULL;
	int r;

	if (c->nr >= c->limit)
		u = meta_cache_evict(c);
	if (!u && c->nr >= c->limit && c->nr_dirty > 0 && !again) {
		*ret = NULL;
		r = meta_commit(m, false);
		return c->nr >= 2 * c->limit ? r : 0;
	}
	if (!u)
		u = meta_cache_take(c);
	if (!u)
		return -ENOMEM;
	*ret = u;
	return 0;
}

/* Somebody else loads it. */
static int wait_for(struct meta_cache *c, struct meta_unit *u, struct meta_unit **ret)
{
	int r;

	u->pins++;
	td_waitq_wait(&u->waiters);
	r = u->error;
	meta_cache_unpin(c, u);
	if (r == 0)
		*ret = u;
	return r;
}

static int load(struct td_meta *m, unsigned level, struct meta_unit *u, uint64_t off, struct meta_unit **ret)
{
	struct meta_cache *c = &m->cache[level];
	int r;

	c->misses++;
	meta_cache_insert(c, u, off);
	u->pins++;
	r = meta_read(m, level, off, u->bytes);
	u->error = r;
	u->loading = false;
	if (r < 0)
		meta_cache_remove(c, u);
	td_waitq_wake_all(&u->waiters);
	meta_cache_unpin(c, u);
	if (r == 0)
		*ret = u;
	return r;
}

static int get(struct td_meta *m, unsigned level, uint64_t off, struct meta_unit **ret)
{
	struct meta_cache *c = &m->cache[level];
	struct meta_unit *place = NULL;
	bool again = false;

	for (;;) {
		struct meta_unit *u = meta_cache_find(c, off);
		int r;

		if (u && u->loading)
			return wait_for(c, u, ret);
		if (u) {
			c->hits++;
			u->used = true;
			*ret = u;
			return 0;
		}
		r = make_place(m, c, again, &place);
		if (r < 0)
			return r;
		if (place)
			return load(m, level, place, off, ret);
		again = true;
	}
}

int td_meta_get(struct td_meta *m, unsigned level, uint64_t off, uint8_t **ret_bytes)
{
	struct meta_unit *u = NULL;
	int r = get(m, level, off, &u);

	if (r == 0)
		*ret_bytes = u->bytes;
	return r;
}

uint8_t *td_meta_look(struct td_meta *m, unsigned level, uint64_t off)
{
	struct meta_cache *c = &m->cache[level];
	struct meta_unit *u = meta_cache_find(c, off);

	if (!u || u->loading)
		return NULL;
	c->hits++;
	u->used = true;
	return u->bytes;
}

int td_meta_new(struct td_meta *m, unsigned level, uint64_t off, uint8_t **ret_bytes)
{
	struct meta_unit *u = NULL;
	int r = get(m, level, off, &u);

	if (r == 0) {
		meta_cache_mark(&m->cache[level], u);
		memset(u->bytes, 0, m->cache[level].unit);
		*ret_bytes = u->bytes;
	}
	return r;
}

void td_meta_mark(struct td_meta *m, unsigned level, uint64_t off)
{
	struct meta_cache *c = &m->cache[level];

	meta_cache_mark(c, meta_cache_find(c, off));
}

void td_meta_forget(struct td_meta *m, unsigned level)
{
	struct meta_cache *c = &m->cache[level];
	struct meta_unit *u;

	while ((u = TAILQ_FIRST(&c->clock)) != NULL)
		meta_cache_remove(c, u);
}

/* ---- room for dirty ones ---- */

/* An error is not lost: everything stays changed, and whoever commits next gets it. */
static void tidy(void *arg)
{
	struct td_meta *m = arg;

	td_ignore(meta_commit(m, false));
	m->tidying = false;
	td_waitq_wake_all(&m->tidied);
}

static bool has_room(const struct td_meta *m, uint64_t units, unsigned share)
{
	for (unsigned i = 0; i < m->config.nr_levels; i++)
		if (m->cache[i].nr_dirty > 0 && m->cache[i].nr_dirty + units > m->cache[i].limit / share)
			return false;
	return true;
}

int td_meta_room(struct td_meta *m, unsigned units)
{
	int r = 0;

	/* Half of it dirty: write back before somebody has to wait for room. */
	if (!m->tidying && !m->committing && !has_room(m, units, 2)) {
		m->tidying = true;
		if (td_co_start(tidy, m) < 0)
			m->tidying = false;
	}
	while (r == 0 && !has_room(m, units, 1))
		r = meta_commit(m, false);
	return r;
}

int td_meta_commit(struct td_meta *m)
{
	return meta_commit(m, true);
}

void td_meta_counters(const struct td_meta *m, struct td_counters *ret)
{
	uint64_t hits = 0, misses = 0, evictions = 0, bytes = 0, dirty = 0;

	for (unsigned i = 0; i < m->config.nr_levels; i++) {
		const struct meta_cache *c = &m->cache[i];

		hits += c->hits;
		misses += c->misses;
		evictions += c->evictions;
		bytes += (uint64_t)c->nr * c->unit;
		dirty += (uint64_t)c->nr_dirty * c->unit;
	}
	td_counter(ret, "meta_hits", hits);
	td_counter(ret, "meta_misses", misses);
	td_counter(ret, "meta_evictions", evictions);
	td_counter(ret, "meta_bytes", bytes);
	td_counter(ret, "meta_dirty", dirty);
	td_counter(ret, "meta_commits", m->commits);
	td_counter(ret, "meta_barriers", m->barriers);
	td_counter(ret, "kept", td_keep_holds(m->keep));
}
