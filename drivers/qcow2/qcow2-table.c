// SPDX-License-Identifier: BSD-2-Clause
/*
 * The L1 table and the refcount table: wholly in memory, as they are on disk, with a mark for each changed sector.
 * They are bounded by the codec's limits (32 and 8 MiB).  Written back by qcow2_commit() only, by sectors.
 */
#include "qcow2-int.h"

int qcow2_table_new(uint64_t nr, struct qcow2_table *ret)
{
	struct qcow2_table t = { .nr = nr };
	size_t sectors = td_div_up(nr * sizeof(uint64_t), QCOW2_SECTOR);

	t.bytes = sectors * QCOW2_SECTOR;
	/* Large zeroed blocks come untouched from the kernel: what a sparse table does not use costs nothing. */
	t.raw = calloc(sectors ? sectors : 1, QCOW2_SECTOR);
	t.dirty = calloc(sectors ? sectors : 1, 1);
	if (!t.raw || !t.dirty) {
		qcow2_table_done(&t);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

int qcow2_table_keep(struct qcow2_table *t, struct td_keep *keep, unsigned kind)
{
	uint64_t first, nr = t->bytes / QCOW2_SECTOR;
	struct td_keep_area a;
	int r = td_keep_area_new(keep, kind, QCOW2_SECTOR, nr, &a);

	if (r < 0)
		return r;
	r = td_keep_take(&a, nr, &first);
	if (r < 0) {
		td_keep_area_free(&a);
		return r;
	}
	memcpy(a.bytes, t->raw, t->bytes);
	free(t->raw);
	t->raw = a.bytes;
	t->kept = a;
	return 0;
}

void qcow2_table_done(struct qcow2_table *t)
{
	if (t->kept.keep)
		td_keep_area_free(&t->kept);
	else
		free(t->raw);
	free(t->dirty);
	*t = (struct qcow2_table){ 0 };
}

int qcow2_table_load(struct qcow2 *q, uint64_t host_off, uint64_t nr, struct qcow2_table *ret)
{
	struct qcow2_table t;
	size_t len = nr * sizeof(uint64_t);
	int r;

	/* Before memory is taken: the file has to hold it. */
	if (!td_in_range(host_off, len, q->child->size))
		return -EUCLEAN;
	r = qcow2_table_new(nr, &t);
	if (r < 0)
		return r;
	t.host_off = host_off;
	if (len > 0)
		r = td_image_pread(q->child, host_off, t.raw, len, TD_EXACT);
	if (r < 0) {
		qcow2_table_done(&t);
		return r;
	}
	*ret = t;
	return 0;
}

int qcow2_table_load_some(struct qcow2 *q, uint64_t host_off, uint64_t nr, struct qcow2_table *ret,
			  bool *ret_cut)
{
	uint64_t len = nr * sizeof(uint64_t), size = q->child->size;
	uint64_t inside = host_off < size ? TD_MIN(len, size - host_off) : 0;
	struct qcow2_table t;
	int r = qcow2_table_new(nr, &t);

	if (r < 0)
		return r;
	t.host_off = host_off;
	if (inside > 0)
		r = td_image_pread(q->child, host_off, t.raw, inside, 0);
	if (r < 0) {
		qcow2_table_done(&t);
		return r;
	}
	*ret_cut = inside < len;
	*ret = t;
	return 0;
}

uint64_t qcow2_table_get(const struct qcow2_table *t, uint64_t idx)
{
	return td_get_be64(t->raw + idx * sizeof(uint64_t));
}

void qcow2_table_set(struct qcow2_table *t, uint64_t idx, uint64_t raw)
{
	size_t sector = idx * sizeof(uint64_t) / QCOW2_SECTOR;
	uint8_t *mark = &t->dirty[sector];

	if (!*mark && t->kept.keep)
		td_keep_mark(td_keep_unit(&t->kept, sector), t->host_off + sector * QCOW2_SECTOR,
			     t->raw + sector * QCOW2_SECTOR, 1);
	qcow2_put_entry(t->raw + idx * sizeof(uint64_t), raw);
	t->nr_dirty += !*mark;
	*mark = 1;
}
