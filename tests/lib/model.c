// SPDX-License-Identifier: BSD-2-Clause
#include "model.h"

#include <stdio.h>

#define NEVER UINT64_MAX
#define NOISE 24u /* words */

enum entry_state { ENTRY_RUNNING, ENTRY_OK, ENTRY_MAYBE };

/* One change of one sector.  Times are numbers of events. */
struct entry {
	uint32_t number;  /* of the change */
	uint32_t content; /* whose bytes: the change's own number, 0: zeros */
	enum entry_state state;
	uint64_t begin, end;
	uint64_t replaced; /* when something surely replaced it for readers; NEVER: it may be read */
	bool gone;         /* replaced by something durable: kept only for reads that began before */
};

struct sector {
	struct entry *entry;
	unsigned nr, max;
};

struct change {
	enum model_kind kind;
	uint64_t sector, nr;
};

struct model {
	struct sector *sector;
	uint64_t nr_sectors;
	struct change *change; /* by number */
	uint32_t nr_changes, max_changes;
	uint64_t now;
	unsigned reads; /* that have begun and not ended */
	bool killed;
};

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- contents ---- */

static uint64_t word(uint32_t content, uint64_t sector, unsigned i)
{
	uint64_t z = ((uint64_t)content << 32 | i) + sector * 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	return z ^ z >> 27;
}

/*
 * The first word names the write in the clear, for messages; the others are noise, that comes several times so that it
 * can be compressed.
 */
static void fill(uint32_t content, uint64_t sector, uint64_t *out)
{
	memset(out, 0, MODEL_SECTOR);
	if (content == 0)
		return;
	out[0] = (uint64_t)content << 32 | (uint32_t)sector;
	for (unsigned i = 1; i < MODEL_SECTOR / 8; i++)
		out[i] = word(content, sector, i % NOISE);
}

static bool holds(uint32_t content, uint64_t sector, const void *buf)
{
	uint64_t want[MODEL_SECTOR / 8];

	fill(content, sector, want);
	return memcmp(want, buf, MODEL_SECTOR) == 0;
}

/* ---- sectors ---- */

static void add_entry(struct sector *s, struct entry e)
{
	if (s->nr == s->max) {
		s->max = s->max ? 2 * s->max : 4;
		s->entry = must(reallocarray(s->entry, s->max, sizeof(*s->entry)));
	}
	s->entry[s->nr++] = e;
}

/* e has surely taken the place of all that ended before it began, for readers. */
static void replace_live(struct sector *s, const struct entry *e, uint64_t now)
{
	for (unsigned i = 0; i < s->nr; i++)
		if (s->entry[i].end < e->begin && s->entry[i].replaced == NEVER)
			s->entry[i].replaced = now;
}

/* A change that began at this time is durable: what had ended before is gone for good. */
static void replace_durable(struct model *m, struct sector *s, uint64_t begin)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < s->nr; i++) {
		s->entry[i].gone |= s->entry[i].end < begin;
		if (!s->entry[i].gone || m->reads > 0)
			s->entry[kept++] = s->entry[i];
	}
	s->nr = kept;
}

/* All changes are durable that had ended before the flush began. */
static void flush_sector(struct model *m, struct sector *s, uint64_t flush)
{
	uint64_t newest = 0;

	for (unsigned i = 0; i < s->nr; i++)
		if (s->entry[i].state == ENTRY_OK && s->entry[i].end < flush)
			newest = TD_MAX(newest, s->entry[i].begin);
	replace_durable(m, s, newest);
}

/* ---- changes ---- */

struct model *model_new(uint64_t nr_sectors)
{
	struct model *m = must(calloc(1, sizeof(*m)));

	m->nr_sectors = nr_sectors;
	m->sector = must(calloc(nr_sectors ? nr_sectors : 1, sizeof(*m->sector)));
	m->now = 1;
	m->nr_changes = 1;
	m->max_changes = 64;
	m->change = must(calloc(m->max_changes, sizeof(*m->change)));
	for (uint64_t i = 0; i < nr_sectors; i++)
		add_entry(&m->sector[i], (struct entry){ .state = ENTRY_OK, .replaced = NEVER });
	return m;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	for (uint64_t i = 0; i < m->nr_sectors; i++)
		free(m->sector[i].entry);
	free(m->sector);
	free(m->change);
	free(m);
}

uint32_t model_begin(struct model *m, enum model_kind kind, uint64_t sector, uint64_t nr, void *buf)
{
	uint32_t number = m->nr_changes++;
	uint32_t content = kind == MODEL_WRITE ? number : 0;

	if (m->nr_changes > m->max_changes) {
		m->max_changes *= 2;
		m->change = must(reallocarray(m->change, m->max_changes, sizeof(*m->change)));
	}
	m->change[number] = (struct change){ .kind = kind, .sector = sector, .nr = nr };
	m->now++;
	for (uint64_t i = 0; i < nr; i++) {
		add_entry(&m->sector[sector + i], (struct entry){ .number = number,
								  .content = content,
								  .state = ENTRY_RUNNING,
								  .begin = m->now,
								  .end = NEVER,
								  .replaced = NEVER });
		if (kind == MODEL_WRITE)
			fill(number, sector + i, (uint64_t *)((char *)buf + i * MODEL_SECTOR));
	}
	return number;
}

static void end_sector(struct model *m, struct sector *s, uint32_t number, bool ok, bool fua)
{
	struct entry *e = s->entry;

	while (e->number != number)
		e++;
	e->end = m->now;
	e->state = ok ? ENTRY_OK : ENTRY_MAYBE;
	if (ok)
		replace_live(s, e, m->now);
	if (ok && fua)
		replace_durable(m, s, e->begin);
}

void model_end(struct model *m, uint32_t number, bool ok, bool fua)
{
	const struct change *c = &m->change[number];

	m->now++;
	ok = ok && !m->killed;
	for (uint64_t i = 0; i < c->nr; i++)
		end_sector(m, &m->sector[c->sector + i], number, ok && c->kind != MODEL_TRIM, fua);
}

uint64_t model_flush_begin(struct model *m)
{
	return ++m->now;
}

void model_flush_end(struct model *m, uint64_t flush, bool ok)
{
	m->now++;
	ok = ok && !m->killed;
	for (uint64_t i = 0; ok && i < m->nr_sectors; i++)
		if (m->sector[i].nr > 1)
			flush_sector(m, &m->sector[i], flush);
}

void model_kill(struct model *m)
{
	model_flush_end(m, model_flush_begin(m), true);
	m->killed = true;
}

/* ---- looking ---- */

/* A reader that began then may get it; after a crash (begun 0) it may be found. */
static bool allowed(const struct entry *e, uint64_t begun)
{
	return begun > 0 ? e->replaced > begun : !e->gone;
}

static void report(const struct sector *s, uint64_t sector, const void *buf, uint64_t begun)
{
	uint64_t first;
	uint32_t content;

	memcpy(&first, buf, sizeof(first));
	content = (uint32_t)(first >> 32);
	(void)fprintf(stderr, "model: sector %llu %s: found %s%u, may be", (unsigned long long)sector,
		      begun ? "while running" : "after a crash",
		      holds(content, sector, buf) ? "write " : "noise that begins like write ", content);
	for (unsigned i = 0; i < s->nr; i++)
		if (allowed(&s->entry[i], begun))
			(void)fprintf(stderr, " %u%s", s->entry[i].content,
				      s->entry[i].state == ENTRY_OK ? "" : "?");
	(void)fprintf(stderr, " (0 is zeros, ? was not acknowledged)\n");
}

static int check(struct model *m, uint64_t begun, uint64_t sector, uint64_t nr, const void *buf)
{
	for (uint64_t i = 0; i < nr; i++) {
		const struct sector *s = &m->sector[sector + i];
		const void *found = (const char *)buf + i * MODEL_SECTOR;
		bool good = false;

		for (unsigned k = 0; k < s->nr && !good; k++)
			good = allowed(&s->entry[k], begun) && holds(s->entry[k].content, sector + i, found);
		if (!good) {
			report(s, sector + i, found, begun);
			return -1;
		}
	}
	return 0;
}

uint64_t model_read_begin(struct model *m)
{
	m->reads++;
	return ++m->now;
}

void model_read_end(struct model *m)
{
	m->reads--;
}

int model_check_live(struct model *m, uint64_t begun, uint64_t sector, uint64_t nr, const void *buf)
{
	return check(m, begun, sector, nr, buf);
}

int model_check_crash(struct model *m, uint64_t sector, uint64_t nr, const void *buf)
{
	return check(m, 0, sector, nr, buf);
}

void model_adopt(struct model *m, const void *buf)
{
	m->now++;
	for (uint64_t i = 0; i < m->nr_sectors; i++) {
		struct sector *s = &m->sector[i];
		const void *found = (const char *)buf + i * MODEL_SECTOR;
		struct entry keep = { .state = ENTRY_OK, .end = m->now, .replaced = NEVER };

		for (unsigned k = 0; k < s->nr; k++)
			if (holds(s->entry[k].content, i, found))
				keep.content = s->entry[k].content;
		s->nr = 0;
		add_entry(s, keep);
	}
}
