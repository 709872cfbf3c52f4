// SPDX-License-Identifier: BSD-2-Clause
/*
 * From the file to struct vhdx: headers, regions, the log; then, with the log replayed, metadata.
 */
#include "vhdx-int.h"

/* ---- the first MiB, which no log changes ---- */

static int read_start(struct vhdx *v, uint64_t host_off, void *buf, size_t len, struct td_err *ret_err)
{
	int r = td_image_pread(v->child, host_off, buf, len, TD_EXACT);

	if (r == -EUCLEAN)
		return td_err_set(ret_err, r, "the file is too short for its headers");
	return r < 0 ? td_err_set(ret_err, r, "its headers cannot be read: %s", strerror(-r)) : 0;
}

/* Two headers, of which the one with the higher sequence number and a right checksum is in force. */
static int load_header(struct vhdx *v, uint8_t *buf, struct td_err *ret_err)
{
	int r = read_start(v, 0, buf, VHDX_HEADER, ret_err);

	if (r == 0 && memcmp(buf, VHDX_MAGIC, strlen(VHDX_MAGIC)) != 0)
		r = td_err_set(ret_err, -EUCLEAN, "not a vhdx image: it does not begin as one");
	if (r == 0)
		r = read_start(v, VHDX_HEADER_1, buf, VHDX_HEADER, ret_err);
	if (r == 0)
		r = read_start(v, VHDX_HEADER_2, buf + VHDX_HEADER, VHDX_HEADER, ret_err);
	return r == 0 ? vhdx_header_decode(buf, buf + VHDX_HEADER, &v->h, ret_err) : r;
}

/*
 * -EINVAL is a copy that is damaged: the other one is asked.  A sound table that we do not take is refused at once, for
 * the second says the same.
 */
static int load_regions(struct vhdx *v, uint8_t *buf, struct td_err *ret_err)
{
	int r = read_start(v, VHDX_REGIONS_1, buf, VHDX_TABLE, ret_err);

	if (r == 0)
		r = vhdx_regions_decode(buf, &v->regions, ret_err);
	if (r != -EINVAL)
		return r;
	r = read_start(v, VHDX_REGIONS_2, buf, VHDX_TABLE, ret_err);
	if (r == 0)
		r = vhdx_regions_decode(buf, &v->regions, ret_err);
	return r == -EINVAL ? -EUCLEAN : r;
}

/* Against the length that the file has with its log replayed.  A log over what it changes would rewrite itself. */
static int check_places(const struct vhdx *v, struct td_err *ret_err)
{
	const struct vhdx_region *const at[] = { &v->regions.bat, &v->regions.metadata };

	for (unsigned i = 0; i < TD_NELEMS(at); i++) {
		if (!td_in_range(at[i]->off, at[i]->len, v->end))
			return td_err_set(ret_err, -EUCLEAN, "its %s does not lie inside the file",
					  i ? "metadata region" : "BAT");
		if (v->log && td_overlap(at[i]->off, at[i]->len, v->h.log_off, v->h.log_len))
			return td_err_set(ret_err, -EUCLEAN, "its log lies over its %s",
					  i ? "metadata region" : "BAT");
	}
	return 0;
}

/* ---- metadata ---- */

static int read_metadata(struct vhdx *v, uint32_t off, void *buf, uint32_t len, struct td_err *ret_err)
{
	int r = vhdx_file_pread(v, v->regions.metadata.off + off, buf, len);

	return r < 0 ? td_err_set(ret_err, r, "its metadata cannot be read: %s", strerror(-r)) : 0;
}

static int load_locator(struct vhdx *v, const struct vhdx_item_at *at, struct td_err *ret_err)
{
	td_cleanup(free) uint8_t *raw = NULL;
	int r;

	if (at->len == 0)
		return td_err_set(ret_err, -EUCLEAN,
				  "it is a differencing disk, and its metadata do not say of which parent");
	raw = malloc(at->len);
	if (!raw)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = read_metadata(v, at->off, raw, at->len, ret_err);
	return r == 0 ? vhdx_parent_load(v, raw, at->len, ret_err) : r;
}

static int load_items(struct vhdx *v, const struct vhdx_item_at *at, struct td_err *ret_err)
{
	uint8_t raw[VHDX_ITEM_BYTES];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < VHDX_ITEM_LOCATOR; i++) {
		const uint32_t len = TD_MIN(at[i].len, VHDX_ITEM_BYTES);

		r = read_metadata(v, at[i].off, raw, len, ret_err);
		if (r == 0)
			r = vhdx_item_decode((enum vhdx_item)i, raw, len, &v->disk, ret_err);
	}
	if (r == 0)
		r = vhdx_geom_of(&v->disk, v->regions.bat.len, &v->g, ret_err);
	return r == 0 && v->disk.parent ? load_locator(v, &at[VHDX_ITEM_LOCATOR], ret_err) : r;
}

/* The log comes before everything that it may have changed; the first MiB it may not. */
static int load_all(struct vhdx *v, uint8_t *buf, struct td_err *ret_err)
{
	struct vhdx_item_at at[VHDX_ITEMS];
	int r = load_header(v, buf, ret_err);

	if (r == 0)
		r = load_regions(v, buf, ret_err);
	if (r == 0)
		r = vhdx_log_open(v, ret_err);
	if (r == 0)
		r = check_places(v, ret_err);
	if (r == 0)
		r = read_metadata(v, 0, buf, VHDX_TABLE, ret_err);
	if (r == 0)
		r = vhdx_items_decode(buf, v->regions.metadata.len, at, ret_err);
	return r == 0 ? load_items(v, at, ret_err) : r;
}

int vhdx_load(struct vhdx *v, struct td_err *ret_err)
{
	uint8_t *buf = td_buf_alloc(VHDX_TABLE);
	int r;

	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = load_all(v, buf, ret_err);
	td_buf_free(buf, VHDX_TABLE);
	return r;
}
