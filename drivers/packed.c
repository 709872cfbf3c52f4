// SPDX-License-Identifier: BSD-2-Clause
/*
 * Compressed clusters, inflated and kept for a while.
 *
 * A cluster is inflated as a whole, or as far as a read somewhere in it needs, if its driver says that this is sooner
 * done; who comes for more of it has all of it inflated.  The place that was used longest ago goes first.
 *
 * Data that does not inflate fails its own reads and leaves nothing behind.
 */
#include <blktap/image.h>
#include <blktap/lock.h>
#include <blktap/packed.h>
#include <blktap/pool.h>

#define KEEP_BYTES (1u << 20)
#define KEEP_MAX   16u

struct kept {
	bool busy;
	bool stale;  /* forgotten while it was busy */
	size_t want; /* bytes from the cluster's start that are to be here */
	size_t have; /* ... that are; 0: none */
	int result;
	unsigned users; /* waiting for it or copying from it */
	struct td_packed_at at;
	uint64_t last_use;
	uint8_t *data;
	struct td_waitq waiters;
};

struct td_packed {
	struct td_image *im;
	td_packed_fn *inflate;
	size_t cluster_size;
	unsigned nr;
	uint64_t clock;
	uint64_t hits, misses, ahead;
	struct td_pace pace;
	struct kept kept[KEEP_MAX];
};

static bool is_of(const struct kept *k, const struct td_packed_at *at)
{
	return (k->busy ? !k->stale : k->have > 0) && k->at.off == at->off && k->at.len == at->len &&
	       k->at.guest == at->guest;
}

/* Where the first len bytes of it are, or will be. */
static struct kept *lookup(struct td_packed *p, const struct td_packed_at *at, size_t len)
{
	for (unsigned i = 0; i < p->nr; i++) {
		struct kept *k = &p->kept[i];

		if (is_of(k, at) && (k->busy ? k->want : k->have) >= len)
			return k;
	}
	return NULL;
}

/* Was it read, but not as far? */
static bool has_some(const struct td_packed *p, const struct td_packed_at *at)
{
	for (unsigned i = 0; i < p->nr; i++)
		if (is_of(&p->kept[i], at))
			return true;
	return false;
}

/* A place for another one: the one that was used longest ago and that nobody looks at.  NULL: all are in use. */
static struct kept *take_place(struct td_packed *p)
{
	struct kept *best = NULL;

	for (unsigned i = 0; i < p->nr; i++) {
		struct kept *k = &p->kept[i];

		if (!k->busy && k->users == 0 && (!best || k->last_use < best->last_use))
			best = k;
	}
	if (best && !best->data)
		best->data = td_buf_alloc(p->cluster_size);
	return best && best->data ? best : NULL;
}

static int read_kept(struct td_packed *p, struct kept *k, size_t from, const struct td_iov *iov)
{
	int r;

	k->users++;
	if (k->busy)
		td_waitq_wait(&k->waiters);
	r = k->result;
	if (r == 0)
		td_iov_from_buf(iov, k->data + from);
	k->last_use = ++p->clock;
	k->users--;
	return r;
}

static int fill(struct td_packed *p, struct kept *k, const struct td_packed_at *at, size_t len,
		struct td_pace *pace)
{
	k->busy = true;
	k->have = 0;
	k->want = len;
	k->stale = false;
	k->at = *at;
	k->result = p->inflate(p->im, at, k->data, len, pace);
	k->busy = false;
	k->have = k->result == 0 && !k->stale ? len : 0;
	td_waitq_wake_all(&k->waiters);
	return k->result;
}

static int read_once(struct td_packed *p, const struct td_packed_at *at, size_t from, size_t len,
		     const struct td_iov *iov)
{
	uint8_t *buf = td_buf_alloc(p->cluster_size);
	int r;

	if (!buf)
		return -ENOMEM;
	r = p->inflate(p->im, at, buf, len, &p->pace);
	if (r == 0)
		td_iov_from_buf(iov, buf + from);
	td_buf_free(buf, p->cluster_size);
	return r;
}

/* ---- what drivers ask for ---- */

struct td_packed *td_packed_new(struct td_image *im, size_t cluster_size, td_packed_fn *inflate)
{
	struct td_packed *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->im = im;
	p->inflate = inflate;
	p->cluster_size = cluster_size;
	p->nr = (unsigned)TD_MAX((size_t)2, TD_MIN((size_t)KEEP_MAX, KEEP_BYTES / cluster_size));
	return p;
}

int td_packed_read(struct td_packed *p, const struct td_packed_at *at, size_t from, size_t enough,
		   const struct td_iov *iov)
{
	struct kept *k = lookup(p, at, from + iov->len);
	size_t len;
	int r;

	if (k) {
		p->hits++;
		return read_kept(p, k, from, iov);
	}
	p->misses++;
	len = has_some(p, at) ? p->cluster_size : enough;
	k = take_place(p);
	if (!k)
		return read_once(p, at, from, len, iov);
	k->users++;
	r = fill(p, k, at, len, &p->pace);
	k->users--;
	return r < 0 ? r : read_kept(p, k, from, iov);
}

void td_packed_ahead(struct td_packed *p, const struct td_packed_at *at)
{
	struct kept *k = lookup(p, at, p->cluster_size) ? NULL : take_place(p);

	if (!k)
		return;
	p->ahead++;
	k->last_use = ++p->clock;
	/* In a worker, beside the reads.  Who reads it tries again, and hears what is wrong. */
	td_ignore(fill(p, k, at, p->cluster_size, NULL));
}

void td_packed_forget(struct td_packed *p, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; p && i < p->nr; i++) {
		struct kept *k = &p->kept[i];

		if (!td_overlap(k->at.off, TD_MAX(k->at.len, 1u), off, len))
			continue;
		k->have = 0;
		k->stale = true;
	}
}

void td_packed_counters(const struct td_packed *p, struct td_counters *ret)
{
	uint64_t bytes = 0;

	if (!p)
		return;
	for (unsigned i = 0; i < p->nr; i++)
		bytes += p->kept[i].data ? p->cluster_size : 0;
	td_counter(ret, "inflated_hits", p->hits);
	td_counter(ret, "inflated_misses", p->misses);
	td_counter(ret, "inflated_ahead", p->ahead);
	td_counter(ret, "inflated_bytes", bytes);
	td_counter(ret, "inflated_limit", p->nr * p->cluster_size);
}

void td_packed_free(struct td_packed *p)
{
	for (unsigned i = 0; p && i < p->nr; i++)
		if (p->kept[i].data)
			td_buf_free(p->kept[i].data, p->cluster_size);
	free(p);
}
