// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dirty bitmaps: the header extension that names their directory, the directory's entries, and the entries of the table
 * that says where a bitmap's bits are.  The bits themselves are plain: low bit first.
 *
 * Source: QEMU docs/interop/qcow2.rst, "Bitmaps extension", "Bitmap directory", "Bitmap table".
 */
#include <blktap/qcow2.h>

/* The extension. */
enum {
	EXT_NR = 0,
	EXT_DIR_SIZE = 8,
	EXT_DIR_OFF = 16,
};

/* The fixed part of an entry; extra data, name and padding follow. */
enum {
	TABLE_OFF = 0,
	TABLE_SIZE = 8,
	TYPE = 16,
	GRANULARITY = 17,
	NAME_LEN = 18,
	EXTRA_LEN = 20,
};

#define TYPE_DIRTY    1u
#define KNOWN_FLAGS   (QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_OK)
#define PART_RESERVED 0xff000000000001feull
#define PART_ONES     1ull

int qcow2_bitmaps_ext_decode(const struct qcow2_geom *g, const struct qcow2_ext *e,
			     struct qcow2_bitmaps_ext *ret)
{
	struct qcow2_bitmaps_ext x;

	if (e->len != QCOW2_BITMAPS_EXT_LEN)
		return -EUCLEAN;
	x.nr = td_get_be32(e->data + EXT_NR);
	x.dir_size = td_get_be64(e->data + EXT_DIR_SIZE);
	x.dir_off = td_get_be64(e->data + EXT_DIR_OFF);
	if (x.nr == 0 || x.nr > QCOW2_MAX_BITMAPS || x.dir_size < (uint64_t)x.nr * QCOW2_BITMAP_HEAD ||
	    x.dir_size > QCOW2_MAX_BITMAP_DIR)
		return -EUCLEAN;
	if (x.dir_off == 0 || x.dir_off % g->cluster_size || !td_in_range(x.dir_off, x.dir_size, g->max_host))
		return -EUCLEAN;
	*ret = x;
	return 0;
}

void qcow2_bitmaps_ext_encode(const struct qcow2_bitmaps_ext *x, uint8_t ret[QCOW2_BITMAPS_EXT_LEN])
{
	memset(ret, 0, QCOW2_BITMAPS_EXT_LEN);
	td_put_be32(ret + EXT_NR, x->nr);
	td_put_be64(ret + EXT_DIR_SIZE, x->dir_size);
	td_put_be64(ret + EXT_DIR_OFF, x->dir_off);
}

static bool is_usable(const struct qcow2_bitmap_entry *e)
{
	if (e->type != TYPE_DIRTY || (e->flags & ~KNOWN_FLAGS) ||
	    (e->extra_len > 0 && !(e->flags & QCOW2_BITMAP_EXTRA_OK)))
		return false;
	return e->granularity_bits >= QCOW2_MIN_GRANULARITY_BITS &&
	       e->granularity_bits <= QCOW2_MAX_GRANULARITY_BITS && e->name_len <= QCOW2_MAX_BITMAP_NAME &&
	       memchr(e->name, '\0', e->name_len) == NULL;
}

int qcow2_bitmap_entry_decode(const struct qcow2_geom *g, const void *buf, size_t len,
			      struct qcow2_bitmap_entry *ret)
{
	const uint8_t *p = buf;
	struct qcow2_bitmap_entry e = { 0 };
	uint64_t need;

	if (len < QCOW2_BITMAP_HEAD)
		return -EUCLEAN;
	e.table_off = td_get_be64(p + TABLE_OFF);
	e.table_size = td_get_be32(p + TABLE_SIZE);
	e.flags = td_get_be32(p + QCOW2_BITMAP_FLAGS_AT);
	e.type = p[TYPE];
	e.granularity_bits = p[GRANULARITY];
	e.name_len = td_get_be16(p + NAME_LEN);
	e.extra_len = td_get_be32(p + EXTRA_LEN);
	need = td_align_up((uint64_t)QCOW2_BITMAP_HEAD + e.extra_len + e.name_len, 8);
	if (e.name_len == 0 || need > len)
		return -EUCLEAN;
	if (e.table_off == 0 || e.table_off % g->cluster_size || e.table_size == 0 ||
	    e.table_size > QCOW2_MAX_BITMAP_BYTES >> g->cluster_bits ||
	    !td_in_range(e.table_off, (uint64_t)e.table_size * sizeof(uint64_t), g->max_host))
		return -EUCLEAN;
	e.extra = p + QCOW2_BITMAP_HEAD;
	e.name = (const char *)e.extra + e.extra_len;
	e.entry_len = (size_t)need;
	e.usable = is_usable(&e);
	*ret = e;
	return 0;
}

size_t qcow2_bitmap_entry_encode(const struct qcow2_bitmap_entry *e, void *buf, size_t len)
{
	uint64_t need = td_align_up((uint64_t)QCOW2_BITMAP_HEAD + e->extra_len + e->name_len, 8);
	uint8_t *p = buf;

	if (need > len)
		return 0;
	memset(p, 0, (size_t)need);
	td_put_be64(p + TABLE_OFF, e->table_off);
	td_put_be32(p + TABLE_SIZE, e->table_size);
	td_put_be32(p + QCOW2_BITMAP_FLAGS_AT, e->flags);
	p[TYPE] = e->type;
	p[GRANULARITY] = e->granularity_bits;
	td_put_be16(p + NAME_LEN, e->name_len);
	td_put_be32(p + EXTRA_LEN, e->extra_len);
	if (e->extra_len > 0)
		memcpy(p + QCOW2_BITMAP_HEAD, e->extra, e->extra_len);
	memcpy(p + QCOW2_BITMAP_HEAD + e->extra_len, e->name, e->name_len);
	return (size_t)need;
}

int qcow2_bitmap_part_decode(const struct qcow2_geom *g, uint64_t raw, struct qcow2_bitmap_part *ret)
{
	struct qcow2_bitmap_part p = { .host_off = raw & QCOW2_OFF_MASK };

	if ((raw & PART_RESERVED) || p.host_off % g->cluster_size)
		return -EUCLEAN;
	p.ones = raw & PART_ONES;
	if (p.host_off != 0 && (p.ones || !td_in_range(p.host_off, g->cluster_size, g->max_host)))
		return -EUCLEAN;
	*ret = p;
	return 0;
}

uint64_t qcow2_bitmap_part_encode(const struct qcow2_bitmap_part *p)
{
	return p->host_off != 0 ? p->host_off : p->ones ? PART_ONES : 0;
}

uint64_t qcow2_bitmap_bytes(uint64_t size, unsigned granularity_bits)
{
	if (granularity_bits > 63)
		return size > 0;
	return td_div_up(td_div_up(size, 1ull << granularity_bits), 8);
}

uint64_t qcow2_bitmap_parts(const struct qcow2_geom *g, uint64_t size, unsigned granularity_bits)
{
	return td_div_up(qcow2_bitmap_bytes(size, granularity_bits), g->cluster_size);
}
