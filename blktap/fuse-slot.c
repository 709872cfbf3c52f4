// SPDX-License-Identifier: BSD-2-Clause
/*
 * The memory of FUSE requests.  One mapping a slot:
 *
 *	| page ............ | FUSE_IO_MAX ...                  |
 *	          head (80) ^ data: on a page's start
 *
 * A request is read to data - FUSE_HEAD, so that a write's payload needs no copy for O_DIRECT below; a read's answer is
 * read into the same place, which its request does not use.  The kernel wants room for the largest write at every
 * read of its device, but only the pages that a request really fills are ever touched.
 */
#include "fuse.h"
#include <sys/mman.h>
#include <unistd.h>

#define TRIM_AFTER_NS UINT64_C(5000000000)
#define TRIM_KEEP     (64u << 10)

static size_t head_room(void)
{
	return (size_t)sysconf(_SC_PAGESIZE); /* at least FUSE_HEAD */
}

static struct fuse_slot *slot_new(struct fuse_export *e)
{
	struct fuse_slot *s = calloc(1, sizeof(*s));
	char *map;

	if (!s)
		return NULL;
	map = mmap(NULL, head_room() + FUSE_IO_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	if (map == MAP_FAILED) {
		free(s);
		return NULL;
	}
	s->e = e;
	s->data = map + head_room();
	e->slots[e->nr_slots++] = s;
	return s;
}

struct fuse_slot *fuse_slot_get(struct fuse_export *e)
{
	struct fuse_slot *s = SLIST_FIRST(&e->free_slots);

	if (s) {
		SLIST_REMOVE_HEAD(&e->free_slots, link);
		return s;
	}
	return e->nr_slots < FUSE_SLOTS ? slot_new(e) : NULL;
}

void fuse_slot_put(struct fuse_slot *s)
{
	SLIST_INSERT_HEAD(&s->e->free_slots, s, link);
}

/* Small requests keep their pages for good; they are few. */
static void trim(struct td_timer *t)
{
	struct fuse_export *e = td_container_of(t, struct fuse_export, trim);
	struct fuse_slot *s;

	if (e->nr_received != e->nr_at_trim) {
		fuse_slots_trim_later(e);
		return;
	}
	SLIST_FOREACH(s, &e->free_slots, link)
		td_ignore(madvise(s->data + TRIM_KEEP, FUSE_IO_MAX - TRIM_KEEP,
				  MADV_DONTNEED)); /* a courtesy */
}

void fuse_slots_trim_later(struct fuse_export *e)
{
	e->nr_at_trim = e->nr_received;
	e->trim.fn = trim;
	td_timer_arm(e->loop, &e->trim, TRIM_AFTER_NS);
}

void fuse_slots_free(struct fuse_export *e)
{
	td_timer_cancel(&e->trim);
	for (unsigned i = 0; i < e->nr_slots; i++) {
		munmap(e->slots[i]->data - head_room(), head_room() + FUSE_IO_MAX);
		free(e->slots[i]);
	}
	e->nr_slots = 0;
	SLIST_INIT(&e->free_slots);
}
