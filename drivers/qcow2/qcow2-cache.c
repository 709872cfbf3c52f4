// SPDX-License-Identifier: BSD-2-Clause
/*
 * Write-back cache for slices of L2 tables and of refcount blocks.
 *
 * A slice is a cluster or 4 KiB of one, whichever is less: one random access costs one small read, and memory goes
 * where the guest goes.  Slices are found by hash, evicted by a clock, and only when clean: the one writer of dirty
 * slices is qcow2_commit(), and that is what the order on disk is a property of (see there: data and refcounts
 * reach the disk before the L2 entry that points at them).
 *
 * A pointer to a slice is good until the caller yields.  So a caller looks a slice up, marks it and changes it, and
 * no commit can see half of that.  The mark comes first, so that a kill between the two finds it (blktap/keep.h).
 * Only sleepers hold pins.
 */
#include "qcow2-int.h"

#define CHUNK_FIRST 4u /* slices: a backing image is often asked for little */
#define CHUNK_MORE  16u

struct chunk {
	struct chunk *next;
	void *mem;
	struct qcow2_slice slice[];
};

int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, uint64_t bytes, qcow2_clean_fn *clean,
		     unsigned clean_flags)
{
	*c = (struct qcow2_cache){ .q = q, .clean = clean, .clean_flags = clean_flags };
	TAILQ_INIT(&c->clock);
	TAILQ_INIT(&c->dirty);
	TAILQ_INIT(&c->unused);
	c->slice_size = TD_MIN(q->g.cluster_size, (uint64_t)QCOW2_SLICE_MAX);
	c->slice_bits = (unsigned)__builtin_ctzll(c->slice_size);
	c->limit =
		(unsigned)TD_MAX((uint64_t)QCOW2_CACHE_MIN_SLICES, TD_MIN(bytes / c->slice_size, 1ull << 28));
	while ((1ull << c->hash_bits) < c->limit)
		c->hash_bits++;
	c->hash = calloc((size_t)1 << c->hash_bits, sizeof(struct qcow2_slice *));
	return c->hash ? 0 : -ENOMEM;
}

static void free_chunks(struct qcow2_cache *c)
{
	struct chunk *ch = c->chunks;

	while (ch) {
		struct chunk *next = ch->next;

		free(ch->mem);
		free(ch);
		ch = next;
	}
	c->chunks = NULL;
}

void qcow2_cache_empty(struct qcow2_cache *c)
{
	free_chunks(c);
	TAILQ_INIT(&c->clock);
	TAILQ_INIT(&c->unused);
	memset(c->hash, 0, sizeof(struct qcow2_slice *) << c->hash_bits);
	c->nr = 0;
}

void qcow2_cache_done(struct qcow2_cache *c)
{
	free_chunks(c);
	td_keep_area_free(&c->kept);
	free(c->hash);
	c->hash = NULL;
}

static struct qcow2_slice **bucket_of(const struct qcow2_cache *c, uint64_t host_off)
{
	uint64_t key = (host_off >> c->slice_bits) * 0x9e3779b97f4a7c15ull;

	return &c->hash[c->hash_bits ? key >> (64 - c->hash_bits) : 0];
}

static struct qcow2_slice *find(const struct qcow2_cache *c, uint64_t host_off)
{
	struct qcow2_slice *s = *bucket_of(c, host_off);

	while (s && s->host_off != host_off)
		s = s->hash_next;
	return s;
}

/* Out of the table; its memory can be used for another slice. */
static void unhash(struct qcow2_cache *c, struct qcow2_slice *s)
{
	struct qcow2_slice **p = bucket_of(c, s->host_off);

	while (*p != s)
		p = &(*p)->hash_next;
	*p = s->hash_next;
	TAILQ_REMOVE(&c->clock, s, link);
	s->dead = true;
}

static void insert(struct qcow2_cache *c, struct qcow2_slice *s, uint64_t host_off)
{
	struct qcow2_slice **p = bucket_of(c, host_off);

	*s = (struct qcow2_slice){
		.host_off = host_off, .data = s->data, .kept = s->kept, .loading = true, .hash_next = *p
	};
	td_keep_drop(s->kept);
	*p = s;
	TAILQ_INSERT_HEAD(&c->clock, s, link);
}

static void put_unused(struct qcow2_cache *c, struct qcow2_slice *s)
{
	c->nr--;
	TAILQ_INSERT_TAIL(&c->unused, s, link);
}

/* Memory that outlives the process, if there is any left; else our own, and then nothing is kept any more. */
static int chunk_memory(struct qcow2_cache *c, struct chunk *ch, unsigned nr)
{
	uint64_t first = 0;
	uint8_t *data;
	int r = c->kept.keep ? td_keep_take(&c->kept, nr, &first) : 0;

	if (c->kept.keep && r == 0) {
		for (unsigned i = 0; i < nr; i++) {
			ch->slice[i].kept = td_keep_unit(&c->kept, first + i);
			ch->slice[i].data = c->kept.bytes + (first + i) * c->slice_size;
		}
		return 0;
	}
	td_keep_give_up(c->kept.keep, r);
	if (posix_memalign(&ch->mem, QCOW2_SLICE_MAX, nr * c->slice_size))
		return -ENOMEM;
	data = ch->mem;
	for (unsigned i = 0; i < nr; i++)
		ch->slice[i].data = data + i * c->slice_size;
	return 0;
}

/* Slices come in chunks, so that aligned memory for each does not waste half. */
static int add_chunk(struct qcow2_cache *c)
{
	unsigned nr = c->chunks ? CHUNK_MORE : CHUNK_FIRST;
	struct chunk *ch = calloc(1, sizeof(*ch) + nr * sizeof(ch->slice[0]));

	if (!ch)
		return -ENOMEM;
	if (chunk_memory(c, ch, nr) < 0) {
		free(ch);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < nr; i++)
		TAILQ_INSERT_TAIL(&c->unused, &ch->slice[i], link);
	ch->next = c->chunks;
	c->chunks = ch;
	return 0;
}

static struct qcow2_slice *take_unused(struct qcow2_cache *c)
{
	struct qcow2_slice *s;

	if (TAILQ_EMPTY(&c->unused) && add_chunk(c) < 0)
		return NULL;
	s = TAILQ_FIRST(&c->unused);
	TAILQ_REMOVE(&c->unused, s, link);
	c->nr++;
	return s;
}

/* The clock: a slice that was used since the hand passed it gets another round. */
static struct qcow2_slice *evict(struct qcow2_cache *c)
{
	for (unsigned i = 0; i < 2 * c->nr; i++) {
		struct qcow2_slice *s = TAILQ_LAST(&c->clock, qcow2_slice_list);

		if (!s)
			return NULL;
		if (!s->used && !s->dirty && s->pins == 0) {
			c->evictions++;
			unhash(c, s);
			return s;
		}
		s->used = false;
		TAILQ_REMOVE(&c->clock, s, link);
		TAILQ_INSERT_HEAD(&c->clock, s, link);
	}
	return NULL;
}

/*
 * Memory for one more slice.  *ret NULL: there was none without a commit, which has run; look again, the slice may be
 * here by now.  Where that does not help (all are pinned by requests in flight, or the disk takes no metadata) the
 * bound gives way, up to twice its size: a read must not fail because a write did.
 */
static int make_room(struct qcow2_cache *c, bool again, struct qcow2_slice **ret)
{
	struct qcow2_slice *s = NULL;
	int r;

	if (c->nr >= c->limit)
		s = evict(c);
	if (!s && c->nr >= c->limit && c->nr_dirty > 0 && !again) {
		*ret = NULL;
		r = c->clean(c->q, c->clean_flags);
		return c->nr >= 2 * c->limit ? r : 0;
	}
	if (!s)
		s = take_unused(c);
	if (!s)
		return -ENOMEM;
	*ret = s;
	return 0;
}

void qcow2_cache_unpin(struct qcow2_cache *c, struct qcow2_slice *s)
{
	if (--s->pins == 0 && s->dead)
		put_unused(c, s);
}

/* Somebody else loads it. */
static int wait_for(struct qcow2_cache *c, struct qcow2_slice *s, struct qcow2_slice **ret)
{
	int r;

	s->pins++;
	td_waitq_wait(&s->waiters);
	r = s->error;
	qcow2_cache_unpin(c, s);
	if (r == 0)
		*ret = s;
	return r;
}

static int load(struct qcow2_cache *c, struct qcow2_slice *s, uint64_t host_off, struct qcow2_slice **ret)
{
	int r;

	c->misses++;
	insert(c, s, host_off);
	s->pins++;
	r = td_image_pread(c->q->child, host_off, s->data, c->slice_size, TD_EXACT);
	if (r == -EINVAL)
		r = -EUCLEAN; /* wholly outside the file */
	s->error = r;
	s->loading = false;
	if (r < 0 && !s->dead)
		unhash(c, s);
	td_waitq_wake_all(&s->waiters);
	qcow2_cache_unpin(c, s);
	if (r == 0)
		*ret = s;
	return r;
}

int qcow2_cache_get(struct qcow2_cache *c, uint64_t host_off, struct qcow2_slice **ret)
{
	struct qcow2_slice *room = NULL;
	bool again = false;

	for (;;) {
		struct qcow2_slice *s = find(c, host_off);
		int r;

		if (s && s->loading)
			return wait_for(c, s, ret);
		if (s) {
			c->hits++;
			s->used = true;
			*ret = s;
			return 0;
		}
		r = make_room(c, again, &room);
		if (r < 0)
			return r;
		if (room)
			return load(c, room, host_off, ret);
		again = true;
	}
}

struct qcow2_slice *qcow2_cache_peek(struct qcow2_cache *c, uint64_t host_off)
{
	struct qcow2_slice *s = find(c, host_off);

	if (!s || s->loading)
		return NULL;
	c->hits++;
	s->used = true;
	return s;
}

void qcow2_cache_remark(struct qcow2_cache *c, struct qcow2_slice *s)
{
	if (s->dirty || s->dead)
		return;
	s->dirty = true;
	TAILQ_INSERT_TAIL(&c->dirty, s, dirty_link);
	c->nr_dirty++;
}

void qcow2_cache_mark(struct qcow2_cache *c, struct qcow2_slice *s, size_t off, size_t len)
{
	size_t first = off / TD_KEEP_SECTOR, last = (off + len - 1) / TD_KEEP_SECTOR;

	s->changed |= (uint8_t)((2u << last) - (1u << first));
	if (s->dirty)
		return;
	td_keep_mark(s->kept, s->host_off, s->data, c->kept.sectors);
	qcow2_cache_remark(c, s);
	/* Half of it dirty: write back before somebody has to wait for room. */
	if (c->nr_dirty > c->limit / 2)
		qcow2_commit_soon(c->q);
}

void qcow2_cache_unmark(struct qcow2_cache *c, struct qcow2_slice *s)
{
	if (!s->dirty)
		return;
	s->dirty = false;
	TAILQ_REMOVE(&c->dirty, s, dirty_link);
	c->nr_dirty--;
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t host_off, uint64_t len)
{
	for (uint64_t at = host_off; at < host_off + len; at += c->slice_size) {
		struct qcow2_slice *s = find(c, at);

		if (!s)
			continue;
		qcow2_cache_unmark(c, s);
		td_keep_drop(s->kept);
		unhash(c, s);
		if (s->pins == 0)
			put_unused(c, s);
	}
}
