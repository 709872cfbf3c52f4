// SPDX-License-Identifier: BSD-2-Clause
/*
 * A seSparse extent as a map.  It is only read: what may be written, in which order, and what its journal, free bitmap
 * and back map have to say of it, VMware alone knows.
 */
#include "vmdk-sparse.h"

static int decode(const struct td_image *im, uint64_t raw, struct td_grain *ret)
{
	static const enum td_grain_kind kinds[] = { TD_GRAIN_HOLE, TD_GRAIN_ZERO, TD_GRAIN_DATA };
	enum vmdk_se_grain kind;
	uint64_t off;
	int r = vmdk_se_grain_at(&vmdk_sparse_of(im)->se, raw, &kind, &off);

	*ret = (struct td_grain){ .kind = kinds[kind], .host_off = off };
	return r;
}

static uint64_t table_at(const struct td_image *im, uint64_t raw)
{
	return vmdk_se_table_at(&vmdk_sparse_of(im)->se, raw);
}

/* No encode, no table_raw: nothing of the map changes in an image that is read-only. */
static const struct td_grains_ops ops = {
	.decode = decode,
	.table_at = table_at,
};

bool vmdk_is_sesparse(const uint8_t *head)
{
	return td_get_le64(head) == VMDK_MAGIC_SE;
}

static int read_volatile(const struct vmdk_sparse *s, struct td_err *ret_err)
{
	uint8_t buf[VMDK_SECTOR];
	int r = td_image_pread(s->im->child, s->se.vol * VMDK_SECTOR, buf, sizeof(buf), TD_EXACT);

	if (r < 0)
		return td_err_set(ret_err, r, "cannot read its volatile header: %s",
				  r == -EUCLEAN || r == -EINVAL ? "it lies behind the end of the file"
								: strerror(-r));
	return vmdk_se_check_volatile(buf, ret_err);
}

int vmdk_sesparse_load(struct vmdk_sparse *s, const uint8_t *head, struct td_err *ret_err)
{
	int r;

	if (!s->im->read_only)
		return vmdk_refuse_write(
			"it has extents of the kind seSparse, whose journal VMware alone knows "
			"to write; tap-img convert makes another kind of it",
			ret_err);
	r = vmdk_se_decode(head, &s->se, ret_err);
	if (r == 0)
		r = read_volatile(s, ret_err);
	if (r < 0)
		return r;
	s->im->size = s->se.capacity * VMDK_SECTOR;
	s->config = (struct td_grains_config){
		.ops = &ops,
		.tag = { { VMDK_MAGIC_SE, s->se.capacity } },
		.grain_bits = (unsigned)__builtin_ctz(VMDK_SE_GRAIN),
		.table_bits = (unsigned)__builtin_ctz(VMDK_SE_PER_TABLE),
		.entry_size = 8,
		.has_zero = true,
		.dir_off = s->se.gd * VMDK_SECTOR,
		.nr_tables = td_div_up(s->im->size, (uint64_t)VMDK_SE_GRAIN * VMDK_SE_PER_TABLE),
		.table_align = VMDK_SECTOR, /* one that is missing is a hole */
		.data_from = s->se.grains * VMDK_SECTOR,
		.max_host = INT64_MAX,
		.keeps_free = true,
	};
	return 0;
}
