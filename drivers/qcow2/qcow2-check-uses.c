// SPDX-License-Identifier: BSD-2-Clause
/*
 * A word for each cluster of the file, in small pages that are made where something is counted: a file may be
 * terabytes long and hold nothing.  About 5 bytes for each used cluster of an honest image.
 *
 * Memory is bounded by what is used: tables of a few megabytes that point at one cluster in every few thousand are
 * somebody's attempt to make us run out of it.
 */
#include "qcow2-check.h"

#define PAGE       32u  /* clusters */
#define LEAF       512u /* pages */
#define SPAN       ((uint64_t)PAGE * LEAF)
#define FREE_BYTES (40ull << 20) /* whatever they are for */
#define USED_BYTES 80u           /* beyond that, for each used cluster */

int qcow2_uses_init(struct qcow2_uses *u, uint64_t nr)
{
	*u = (struct qcow2_uses){ .nr = nr };
	/* Untouched where nothing is: it may be a large one. */
	u->leaf = calloc(nr / SPAN + 1, sizeof(u->leaf[0]));
	return u->leaf ? 0 : -ENOMEM;
}

void qcow2_uses_done(struct qcow2_uses *u)
{
	for (uint64_t i = 0; u->leaf && i <= u->nr / SPAN; i++) {
		for (unsigned k = 0; u->leaf[i] && k < LEAF; k++)
			free(u->leaf[i][k]);
		free(u->leaf[i]);
	}
	free(u->leaf);
	*u = (struct qcow2_uses){ 0 };
}

uint32_t qcow2_uses_get(const struct qcow2_uses *u, uint64_t cluster)
{
	uint32_t **leaf = cluster < u->nr ? u->leaf[cluster / SPAN] : NULL;
	const uint32_t *page = leaf ? leaf[cluster % SPAN / PAGE] : NULL;

	return page ? page[cluster % PAGE] : 0;
}

static void *take(struct qcow2_uses *u, size_t nr, size_t size)
{
	if (u->bytes > FREE_BYTES + u->used * USED_BYTES)
		return NULL;
	u->bytes += nr * size;
	return calloc(nr, size);
}

uint32_t *qcow2_uses_at(struct qcow2_uses *u, uint64_t cluster)
{
	uint32_t ***leaf = &u->leaf[cluster / SPAN], **page;

	if (!*leaf)
		*leaf = take(u, LEAF, sizeof(**leaf));
	if (!*leaf)
		return NULL;
	page = &(*leaf)[cluster % SPAN / PAGE];
	if (!*page)
		*page = take(u, PAGE, sizeof(**page));
	if (!*page)
		return NULL;
	u->used += (*page)[cluster % PAGE] == 0;
	return &(*page)[cluster % PAGE];
}

/* From inside a leaf; SPAN: nothing. */
static uint64_t next_in_leaf(uint32_t *const *leaf, uint64_t from)
{
	for (uint64_t i = from; i < SPAN; i++) {
		const uint32_t *page = leaf[i / PAGE];

		if (!page)
			i |= PAGE - 1;
		else if (page[i % PAGE])
			return i;
	}
	return SPAN;
}

uint64_t qcow2_uses_next(const struct qcow2_uses *u, uint64_t from, uint64_t end)
{
	for (uint64_t i = from / SPAN; i * SPAN < TD_MIN(end, u->nr); i++) {
		uint64_t start = i * SPAN, at;

		if (!u->leaf[i])
			continue;
		at = next_in_leaf(u->leaf[i], from > start ? from - start : 0);
		if (at < SPAN)
			return TD_MIN(start + at, end);
	}
	return end;
}
