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

/*
 * nr entries with these flags that name one cluster after the other from `first` on, as a table, or several that
 * adjoin, at off; zeros after them to the end of the last cluster.
 */
static int write_entries(const struct td_create *c, const struct qcow2_geom *g, uint64_t off, uint64_t nr,
			 uint64_t first, uint64_t flags, uint8_t *buf)
{
	uint64_t per = g->cluster_size / sizeof(uint64_t);
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < nr; i += per) {
		memset(buf, 0, g->cluster_size);
		for (uint64_t n = 0; n < per && i + n < nr; n++)
			td_put_be64(buf + n * sizeof(uint64_t),
				    QCOW2_COPIED | flags | (first + ((i + n) << g->cluster_bits)));
		r = td_image_pwrite(c->child, off + i * sizeof(uint64_t), buf, g->cluster_size, 0);
	}
	return r;
}

int qcow2_preallocate(const struct td_create *c, const struct qcow2_geom *g, const struct qcow2_layout *at,
		      enum qcow2_prealloc how, uint64_t flags, uint8_t *buf)
{
	int r = make_room(c, at, how);

	if (r == 0)
		r = write_entries(c, g, at->l2_off, at->data_len >> g->cluster_bits, at->data_off, flags,
				  buf);
	return r < 0 ? r : write_entries(c, g, at->l1_off, at->l2_tables, at->l2_off, 0, buf);
}
