// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a user may do with a dirty bitmap, and what may be asked of it.
 *
 * Each change is made in memory, so that it can be taken back, and then stored with all other bitmaps of the image
 * (qcow2-bitmap-store.c).
 */
#include "qcow2-bitmap.h"

/* The step that QEMU takes, too. */
#define GRANULARITY_MIN_DEFAULT 4096u
#define GRANULARITY_MAX_DEFAULT 65536u

/* ---- finding ---- */

static int no_such(const struct qcow2 *q, const char *name, struct td_err *ret_err)
{
	return td_err_set(ret_err, -ENOENT, "%s: there is no bitmap %s", q->im->name, name);
}

/* One that can be worked with; NULL: there is none, *ret_r says why. */
static struct qcow2_bitmap *find_valid(struct qcow2 *q, const char *name, int *ret_r, struct td_err *ret_err)
{
	struct qcow2_bitmap *b = qcow2_bitmap_find(q, name);

	if (b && qcow2_bitmap_valid(b))
		return b;
	if (!b)
		*ret_r = no_such(q, name, ret_err);
	else if (!b->e.usable)
		*ret_r = td_err_set(ret_err, -ENOTSUP, "%s: bitmap %s is of a kind that is not supported",
				    q->im->name, name);
	else
		*ret_r = td_err_set(ret_err, -EUCLEAN,
				    "%s: bitmap %s is inconsistent: whoever wrote to the disk last did not "
				    "store it.  It can only be removed",
				    q->im->name, name);
	return NULL;
}

static int load(struct qcow2 *q, struct qcow2_bitmap *b, struct td_err *ret_err)
{
	int r;

	td_co_guard(&q->header_lock);
	r = qcow2_bitmap_load(q, b);
	return r < 0 ? td_err_set(ret_err, r, "%s: bitmap %s cannot be read: %s", q->im->name, b->name,
				  strerror(-r))
		     : 0;
}

/* Everything is durable afterwards, or as it was. */
static int store(struct qcow2 *q, struct td_err *ret_err)
{
	int r = qcow2_bitmaps_store(q);

	return r < 0 ? td_err_set(ret_err, r, "%s: its bitmaps cannot be stored: %s", q->im->name,
				  strerror(-r))
		     : 0;
}

/* ---- add ---- */

static int choose_granularity(const struct qcow2 *q, uint64_t wanted, uint8_t *ret_bits,
			      struct td_err *ret_err)
{
	uint64_t g = wanted;

	if (g == 0)
		g = TD_MIN(TD_MAX(q->g.cluster_size, (uint64_t)GRANULARITY_MIN_DEFAULT),
			   (uint64_t)GRANULARITY_MAX_DEFAULT);
	if (!td_is_pow2(g) || g < 1ull << QCOW2_MIN_GRANULARITY_BITS ||
	    g > 1ull << QCOW2_MAX_GRANULARITY_BITS)
		return td_err_set(ret_err, -EINVAL,
				  "a bitmap's granularity is a power of two from 512 bytes to 2G");
	*ret_bits = (uint8_t)__builtin_ctzll(g);
	if (qcow2_bitmap_parts(&q->g, q->im->size, *ret_bits) > QCOW2_MAX_BITMAP_BYTES >> q->g.cluster_bits)
		return td_err_set(ret_err, -EFBIG,
				  "%s: a bitmap with this granularity would be larger than 512M",
				  q->im->name);
	return 0;
}

static int check_new(const struct qcow2 *q, const char *name, struct td_err *ret_err)
{
	size_t len = strlen(name);

	if (q->h.version < 3)
		return td_err_set(ret_err, -ENOTSUP, "%s: only version 3 (compat=1.1) has bitmaps",
				  q->im->name);
	if (len == 0 || len > QCOW2_MAX_BITMAP_NAME)
		return td_err_set(ret_err, -EINVAL, "a bitmap's name has 1 to %u bytes",
				  QCOW2_MAX_BITMAP_NAME);
	if (qcow2_bitmap_find(q, name))
		return td_err_set(ret_err, -EEXIST, "%s: there is a bitmap %s already", q->im->name, name);
	if (q->bitmaps->nr >= QCOW2_BITMAPS_MAX)
		return td_err_set(ret_err, -ENOSPC, "%s: has %u bitmaps, and can have no more", q->im->name,
				  QCOW2_BITMAPS_MAX);
	if (q->im->size == 0)
		return td_err_set(ret_err, -EINVAL, "%s: a disk of 0 bytes has nothing to record",
				  q->im->name);
	return 0;
}

/* In memory alone; bm->at may have moved, so no pointer into it is good afterwards. */
static int append(struct qcow2 *q, const char *name, uint8_t granularity_bits)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	struct qcow2_bitmap_entry e = { .flags = QCOW2_BITMAP_AUTO,
					.type = 1,
					.granularity_bits = granularity_bits,
					.name = name,
					.name_len = (uint16_t)strlen(name),
					.usable = true };
	struct qcow2_bitmap *at = reallocarray(bm->at, (size_t)bm->nr + 1, sizeof(*at)), *b;
	int r;

	if (!at)
		return -ENOMEM;
	bm->at = at;
	b = &at[bm->nr];
	r = qcow2_bitmap_init(b, &e);
	if (r == 0)
		r = qcow2_bitmap_bits_new(q, b, &b->bits);
	if (r < 0) {
		qcow2_bitmap_done(b);
		return r;
	}
	b->changed = true;
	bm->nr++;
	return 0;
}

static int add(struct qcow2 *q, const struct td_bitmap_op *op, struct td_err *ret_err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	uint8_t bits = 0;
	int r = check_new(q, op->name, ret_err);

	if (r == 0)
		r = choose_granularity(q, op->granularity, &bits, ret_err);
	if (r < 0)
		return r;
	r = append(q, op->name, bits);
	if (r < 0)
		return td_err_set(ret_err, r, "%s: %s", q->im->name, strerror(-r));
	r = store(q, ret_err);
	if (r < 0)
		qcow2_bitmap_done(&bm->at[--bm->nr]);
	return r;
}

/* ---- the others ---- */

/* It is left out of what is stored; only when that is durable does it go from memory, too. */
static int remove_one(struct qcow2 *q, const struct td_bitmap_op *op, struct td_err *ret_err)
{
	struct qcow2_bitmap *b = qcow2_bitmap_find(q, op->name);
	int r;

	if (!b)
		return no_such(q, op->name, ret_err);
	b->gone = true;
	r = store(q, ret_err);
	if (r < 0)
		b->gone = false;
	return r;
}

/* New bits in place of the old ones, which come back if they cannot be stored. */
static int clear(struct qcow2 *q, const struct td_bitmap_op *op, struct td_err *ret_err)
{
	struct qcow2_bits *old, *new = NULL;
	int r = 0;
	struct qcow2_bitmap *b = find_valid(q, op->name, &r, ret_err);

	if (!b)
		return r;
	r = qcow2_bitmap_bits_new(q, b, &new);
	if (r < 0)
		return td_err_set(ret_err, r, "%s: %s", q->im->name, strerror(-r));
	old = b->bits;
	b->bits = new;
	b->changed = true;
	r = store(q, ret_err);
	if (r < 0) {
		b->bits = old;
		b->changed = false;
		old = new;
	}
	qcow2_bits_free(old);
	return r;
}

static int enable(struct qcow2 *q, const struct td_bitmap_op *op, struct td_err *ret_err)
{
	uint32_t flag = op->what == TD_BITMAP_ENABLE ? QCOW2_BITMAP_AUTO : 0, old;
	int r = 0;
	struct qcow2_bitmap *b = find_valid(q, op->name, &r, ret_err);

	if (!b)
		return r;
	old = b->e.flags & QCOW2_BITMAP_AUTO;
	if (old == flag)
		return 0;
	b->e.flags ^= QCOW2_BITMAP_AUTO;
	r = store(q, ret_err);
	if (r < 0)
		b->e.flags ^= QCOW2_BITMAP_AUTO;
	return r;
}

static int copy_bits(struct qcow2_bits *to, struct td_image *from, const char *name)
{
	int r = 0;

	for (uint64_t at = 0, len; r == 0 && at < from->size; at += len) {
		bool dirty = false;

		r = td_image_bitmap_extent(from, name, at, from->size - at, &dirty, &len);
		if (r == 0 && dirty)
			qcow2_bits_set(to, at, len);
	}
	return r;
}

/* A bit too many is no lie: what was set of a merge that failed stays. */
static int merge(struct qcow2 *q, const struct td_bitmap_op *op, struct td_err *ret_err)
{
	bool changed;
	int r = 0;
	struct qcow2_bitmap *b = find_valid(q, op->name, &r, ret_err);

	if (!b)
		return r;
	if (op->from->size != q->im->size)
		return td_err_set(ret_err, -EINVAL,
				  "%s: has another size than %s, so their bitmaps cannot be merged",
				  op->from->name, q->im->name);
	r = load(q, b, ret_err);
	if (r < 0)
		return r;
	r = copy_bits(b->bits, op->from, op->from_name);
	if (r < 0)
		return td_err_set(ret_err, r,
				  "%s: there is no bitmap %s, or it is inconsistent or cannot be read: %s",
				  op->from->name, op->from_name, strerror(-r));
	changed = b->changed;
	b->changed = true;
	r = store(q, ret_err);
	if (r < 0)
		b->changed = changed;
	return r;
}

int qcow2_bitmap_op(struct td_image *im, const struct td_bitmap_op *op, struct td_err *ret_err)
{
	struct qcow2 *q = im->state;

	td_co_guard(&q->shape_lock);
	switch (op->what) {
	case TD_BITMAP_ADD:
		return add(q, op, ret_err);
	case TD_BITMAP_REMOVE:
		return remove_one(q, op, ret_err);
	case TD_BITMAP_CLEAR:
		return clear(q, op, ret_err);
	case TD_BITMAP_ENABLE:
	case TD_BITMAP_DISABLE:
		return enable(q, op, ret_err);
	case TD_BITMAP_MERGE:
		return merge(q, op, ret_err);
	}
	return td_err_set(ret_err, -ENOTSUP, "%s: bitmaps cannot do that", im->name);
}

/* ---- asking ---- */

int qcow2_bitmap_list(const struct td_image *im, struct td_bitmap_list *ret)
{
	const struct qcow2 *q = im->state;
	const struct qcow2_bitmaps *bm = q->bitmaps;

	ret->at = calloc((size_t)bm->nr + 1, sizeof(ret->at[0]));
	for (uint32_t i = 0; ret->at && i < bm->nr; i++) {
		const struct qcow2_bitmap *b = &bm->at[i];

		ret->at[i] = (struct td_bitmap_info){
			.name = strdup(b->name),
			.granularity = 1ull << (b->e.granularity_bits & 63),
			.enabled = b->e.flags & QCOW2_BITMAP_AUTO,
			.in_use = b->e.flags & QCOW2_BITMAP_IN_USE,
			.valid = qcow2_bitmap_valid(b),
		};
		if (!ret->at[i].name)
			return -ENOMEM;
		ret->nr = i + 1;
	}
	return ret->at ? 0 : -ENOMEM;
}

int qcow2_bitmap_extent(struct td_image *im, const char *name, uint64_t guest_off, uint64_t len,
			bool *ret_dirty, uint64_t *ret_len)
{
	struct qcow2 *q = im->state;
	struct qcow2_bitmap *b = qcow2_bitmap_find(q, name);
	uint64_t end = guest_off + len, next;
	int r;

	if (!b || !qcow2_bitmap_valid(b))
		return -ENOENT;
	if (!b->bits) {
		td_co_guard(&q->header_lock);
		r = qcow2_bitmap_load(q, b);
		if (r < 0)
			return r;
	}
	*ret_dirty = qcow2_bits_at(b->bits, guest_off, end, &next);
	*ret_len = next - guest_off;
	return 0;
}
