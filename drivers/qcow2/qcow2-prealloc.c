// SPDX-License-Identifier: BSD-2-Clause
/*
 * A new image in which every guest cluster has its place: L1, all L2 tables, and the clusters themselves, in order.
 * What is written later goes in place and changes no table.
 *
 *	metadata	the file is as long as it will be, with a hole where the clusters are
 *	falloc		and the file system has taken the space
 *	full		and zeros were written there
 *
 * All of it comes before the header (qcow2-create.c).  In an encrypted image the entries say ZERO as well, until the
 * cluster is written: zeros that were not encrypted are no zeros.
 */
#include "qcow2-int.h"

#define PIECE (4ull << 20)

static void told(const struct td_create *c, uint64_t done, uint64_t total)
{
	if (c->progress)
		c->progress->fn(c->progress, done, total);
}

/* A device has its length, and may hold anything. */
static int make_hole(const struct td_create *c, const struct qcow2_layout *at)
{
	int r = td_image_resize(c->child, at->end, 0, NULL);

	if (r != -ENOTSUP && r != -EINVAL)
		return r;
	return at->end > c->child->size ? -ENOSPC
					: td_image_zero(c->child, at->data_off, at->data_len, TD_MAY_UNMAP);
}

static int write_piece(const struct td_create *c, uint64_t off, uint64_t len)
{
	struct iovec *v;
	struct td_iov iov;
	int r = td_zero_iov(len, &v, &iov);

	if (r < 0)
		return r;
	r = td_image_pwritev(c->child, off, &iov, 0);
	free(v);
	return r;
}

/* The guest clusters. */
static int make_room(const struct td_create *c, const struct qcow2_layout *at, enum qcow2_prealloc how)
{
	int r = 0;

	if (at->data_len == 0 || at->data_off == 0) /* in a data file, which has it */
		return 0;
	if (how == QCOW2_PREALLOC_METADATA)
		return make_hole(c, at);
	for (uint64_t done = 0, len; r == 0 && done < at->data_len; done += len) {
		len = TD_MIN(at->data_len - done, PIECE);
		r = how == QCOW2_PREALLOC_FULL ? write_piece(c, at->data_off + done, len)
					       : td_image_zero(c->child, at->data_off + done, len, 0);
		if (r == 0)
			told(c, done + len, at->data_len);
	}
	return r;
}

/* nr entries that name one cluster after the other from `first` on. */
struct entries {
	uint64_t off; /* of the table, or several that adjoin */
	uint64_t nr, first, flags;
	unsigned bits;   /* log2 of an entry's bytes */
	uint64_t bitmap; /* of an extended one */
};

/* Zeros after them to the end of the last cluster. */
static int write_entries(const struct td_create *c, const struct qcow2_geom *g, const struct entries *t,
			 uint8_t *buf)
{
	uint64_t per = g->cluster_size >> t->bits;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < t->nr; i += per) {
		memset(buf, 0, g->cluster_size);
		for (uint64_t n = 0; n < per && i + n < t->nr; n++) {
			uint8_t *entry = buf + (n << t->bits);

			td_put_be64(entry,
				    QCOW2_COPIED | t->flags | (t->first + ((i + n) << g->cluster_bits)));
			if (t->bitmap)
				td_put_be64(entry + 8, t->bitmap);
		}
		r = td_image_pwrite(c->child, t->off + (i << t->bits), buf, g->cluster_size, 0);
	}
	return r;
}

int qcow2_preallocate(const struct td_create *c, const struct qcow2_geom *g, const struct qcow2_layout *at,
		      enum qcow2_prealloc how, bool zero, uint8_t *buf)
{
	struct entries l1 = { .off = at->l1_off, .nr = at->l2_tables, .first = at->l2_off, .bits = 3 };
	struct entries l2 = { .off = at->l2_off,
			      .nr = at->data_len >> g->cluster_bits,
			      .first = at->data_off };
	int r = make_room(c, at, how);

	l2.bits = g->l2_entry_bits;
	if (qcow2_is_extended(g))
		l2.bitmap = zero ? 0xffffffff00000000ull : 0x00000000ffffffffull;
	else
		l2.flags = zero ? QCOW2_L2_ZERO : 0;
	if (r == 0)
		r = write_entries(c, g, &l2, buf);
	return r < 0 ? r : write_entries(c, g, &l1, buf);
}
