// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk cut into pieces to be copied.  See plan.h.
 */
#include "plan.h"

/* A hole that is not longer is read as well: one long transfer is cheaper than two short ones. */
#define SHORT_HOLE (64u << 10)

/* What is at off; what the source said last is good for as far as it went. */
static int extent_at(struct plan *p, uint64_t off, struct td_extent *ret)
{
	uint64_t in = off - p->known_off;
	int r;

	if (off < p->known_off || in >= p->known.len) {
		r = source_extent(p->source, off, p->source->size - off, &p->known);
		if (r < 0) {
			p->known.len = 0;
			return r;
		}
		p->known_off = off;
		in = 0;
	}
	*ret = p->known;
	ret->len -= in;
	return 0;
}

/* How far do zeros reach, in whole units; at the end of the disk to its last byte. */
static int zeros_from(struct plan *p, uint64_t off, uint64_t *ret)
{
	uint64_t end = off;
	struct td_extent e;
	int r = 0;

	while (end < p->source->size && end - off < p->max_zero) {
		r = extent_at(p, end, &e);
		if (r < 0)
			return r;
		if (e.kind != TD_EXTENT_ZERO)
			break;
		end += e.len;
	}
	end = TD_MIN(end, off + p->max_zero);
	*ret = (end < p->source->size ? td_align_down(end, p->unit) : end) - off;
	return 0;
}

/* How far does data reach, with the holes in it that are not worth a cut. */
static int data_from(struct plan *p, uint64_t off, uint64_t *ret)
{
	uint64_t most = TD_MIN(p->chunk, p->source->size - off), n = 0, zeros;
	struct td_extent e;
	int r;

	while (n < most) {
		r = extent_at(p, off + n, &e);
		if (r < 0)
			return r;
		if (e.kind == TD_EXTENT_ZERO) {
			r = zeros_from(p, td_align_up(off + n, p->unit), &zeros);
			if (r < 0)
				return r;
			if (n > 0 && zeros > SHORT_HOLE)
				break;
		}
		n += e.len;
	}
	*ret = TD_MIN(td_align_up(off + n, p->unit) - off, most);
	return 0;
}

int plan_next(struct plan *p, struct piece *ret)
{
	struct piece piece = { .number = p->number, .off = p->at };
	int r = 0;

	if (p->at >= p->source->size)
		return 0;
	if (p->all_data)
		piece.len = TD_MIN(p->chunk, p->source->size - p->at);
	else
		r = zeros_from(p, p->at, &piece.len);
	piece.zero = !p->all_data && piece.len > 0;
	if (r == 0 && piece.len == 0)
		r = data_from(p, p->at, &piece.len);
	if (r < 0)
		return r;
	p->at += piece.len;
	p->number++;
	*ret = piece;
	return 1;
}
