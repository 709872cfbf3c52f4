// SPDX-License-Identifier: BSD-2-Clause
/*
 * The vdi driver: VirtualBox's disks, read-only.  Where everything is, is the shared map's business (blktap/grains.h):
 * a single table.
 */
#include <inttypes.h>
#include <stdio.h>

#include <blktap/check.h>
#include <blktap/err.h>
#include <blktap/grains.h>
#include <blktap/iov.h>
#include <blktap/opts.h>
#include <blktap/vdi.h>

#define KEEP_TAG 0x766469u

struct vdi {
	struct vdi_header h;
	struct td_grains *grains;
};

static int vdi_probe(const void *head, size_t len)
{
	const uint8_t *p = head;

	return len >= VDI_HEADER && td_get_le32(p + VDI_AT_MAGIC) == VDI_SIGNATURE ? 100 : 0;
}

/* ---- what an entry means ---- */

/*
 * Blocks are written whole, so one of which bytes are missing was cut off, and zeros would be a lie.  Only of the
 * disk's last block, wherever it lies, what is behind the disk may be missing.
 */
static uint64_t needed(const struct vdi *v)
{
	uint64_t in_last = v->h.size % v->h.block_size;

	return in_last ? in_last : v->h.block_size;
}

static int decode(const struct td_image *im, uint64_t raw, struct td_grain *ret)
{
	static const enum td_grain_kind kinds[] = { TD_GRAIN_HOLE, TD_GRAIN_ZERO, TD_GRAIN_DATA };
	const struct vdi *v = im->state;
	enum vdi_kind kind;
	int r;

	*ret = (struct td_grain){ .kind = TD_GRAIN_HOLE };
	r = vdi_entry_decode(&v->h, (uint32_t)raw, &kind, &ret->host_off);
	ret->kind = kinds[kind];
	if (r == 0 && kind == VDI_DATA && !td_in_range(ret->host_off, needed(v), im->child->size))
		return -EUCLEAN;
	return r;
}

/* Nothing is written, so there is no way back. */
static const struct td_grains_ops grains_ops = { .decode = decode };

/* ---- open ---- */

static int load_header(struct td_image *im, struct vdi_header *ret, struct td_err *ret_err)
{
	uint8_t raw[VDI_HEADER];
	int r = td_image_pread(im->child, 0, raw, sizeof(raw), TD_EXACT);

	if (r < 0)
		return td_err_set(ret_err, r, "cannot read its header: %s",
				  r == -EUCLEAN ? "the file is too short" : strerror(-r));
	r = vdi_header_decode(raw, ret, ret_err);
	if (r == 0 && !td_in_range(ret->map_off, (uint64_t)ret->nr_blocks * 4, im->child->size))
		r = td_err_set(ret_err, -EUCLEAN, "its map does not lie inside the file");
	return r;
}

static int open_grains(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct vdi *v = im->state;
	struct td_grains_config c = {
		.ops = &grains_ops,
		.tag = { { KEEP_TAG, v->h.block_size } },
		.grain_bits = (unsigned)__builtin_ctz(v->h.block_size),
		.table_bits = 7, /* a sector */
		.entry_size = sizeof(uint32_t),
		.has_zero = true,
		.nr_tables = 1,
		.table_off = v->h.map_off,
		.data_from = v->h.data_off,
		.max_host = INT64_MAX,
	};

	while (1ull << c.table_bits < v->h.nr_blocks)
		c.table_bits++;
	return td_grains_open(im, &c, opts, &v->grains, ret_err);
}

static int vdi_open(struct td_image *im, struct td_opts *opts, struct td_err *ret_err)
{
	struct vdi *v = im->state;
	int r = load_header(im, &v->h, ret_err);

	im->read_only |= (im->flags & TD_OPEN_BACKING) != 0;
	if (r == 0 && !im->read_only)
		r = td_err_set(ret_err, -ENOTSUP,
			       "it can only be read (open it read-only): vdi images are not written; "
			       "tap-img convert makes a qcow2 of it");
	if (r == 0) {
		im->size = v->h.size;
		r = open_grains(im, opts, ret_err);
	}
	return r < 0 ? td_err_prefix(ret_err, r, "%s", im->name) : 0;
}

static int vdi_close(struct td_image *im)
{
	struct vdi *v = im->state;

	return td_grains_close(v->grains);
}

/* ---- data ---- */

static int vdi_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	struct vdi *v = im->state;

	(void)flags; /* EXACT: a disk has no end of file inside its size */
	return td_grains_preadv(v->grains, off, iov);
}

static int vdi_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct vdi *v = im->state;

	return td_grains_extent(v->grains, off, len, ret);
}

static int vdi_check(struct td_image *im, unsigned fix, struct td_check *ret)
{
	struct vdi *v = im->state;
	const struct td_grains_used used[] = { { 0, VDI_HEADER } };
	int r = td_grains_check(v->grains, fix, used, TD_NELEMS(used), ret);

	if (r < 0 || ret->corruptions > 0 || ret->errors > 0 || ret->allocated == v->h.nr_allocated)
		return r;
	ret->corruptions++;
	td_check_say(ret, "its header counts %" PRIu32 " blocks, its map %" PRIu64, v->h.nr_allocated,
		     ret->allocated);
	return 0;
}

/* ---- facts ---- */

static int vdi_info(struct td_image *im, struct td_opts *ret)
{
	const struct vdi *v = im->state;
	char uuid[TD_GUID_TEXT], block[16];
	int r = td_opts_add(ret, "subformat", v->h.type == VDI_STATIC ? "static" : "dynamic", NULL);

	td_guid_text(v->h.uuid, uuid);
	(void)snprintf(block, sizeof(block), "%" PRIu32, v->h.block_size);
	if (r == 0)
		r = td_opts_add(ret, "uuid", uuid, NULL);
	if (r == 0)
		r = td_opts_add(ret, "block-size", block, NULL);
	return r;
}

static void vdi_counters(const struct td_image *im, struct td_counters *ret)
{
	const struct vdi *v = im->state;

	td_grains_counters(v->grains, ret);
}

const struct td_driver td_vdi = {
	.name = "vdi",
	.flags = TD_FORMAT,
	.state_size = sizeof(struct vdi),
	.probe = vdi_probe,
	.open = vdi_open,
	.close = vdi_close,
	.preadv = vdi_preadv,
	.extent = vdi_extent,
	.check = vdi_check,
	.info = vdi_info,
	.counters = vdi_counters,
};
