// SPDX-License-Identifier: BSD-2-Clause
/*
 * The metadata beside blocks, as they lie together: in new images behind the copy of the footer, and anew at the end
 * of the file where a longer BAT or another parent asks for it.
 *
 *	| header | BAT | batmap's header | batmap | locator | locator | locator |
 *
 * Each starts at a sector; the batmap's header is looked for behind the BAT.  Nothing names them until a footer does,
 * in one sector, so a new set replaces the old one at once or not at all.
 */
#include "vhd-int.h"

#define CHUNK 65536u

static const uint32_t platforms[3] = { VHD_LOC_W2RU, VHD_LOC_W2KU, VHD_LOC_MACX };

/* What each locator says: the name as it is given, and an absolute one where there is a place for it. */
static int locator_name(uint32_t platform, const char *im_path, const char *parent, char **ret)
{
	td_cleanup(free) char *dir = NULL;
	const char *slash = strrchr(im_path, '/');

	if (platform == VHD_LOC_W2RU || *parent == '/') {
		*ret = strdup(parent);
		return *ret ? 0 : -ENOMEM;
	}
	dir = slash ? strndup(im_path, (size_t)(slash - im_path) + 1) : strdup("./");
	if (!dir)
		return -ENOMEM;
	*ret = realpath(dir, NULL);
	if (*ret) {
		char *full = NULL;

		if (asprintf(&full, "%s/%s", strcmp(*ret, "/") == 0 ? "" : *ret, parent) < 0)
			full = NULL;
		free(*ret);
		*ret = full;
	} else {
		*ret = strdup(parent);
	}
	return *ret ? 0 : -ENOMEM;
}

static int put_locators(struct vhd_plan *p, const char *im_path, const char *parent, uint64_t *at)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < TD_NELEMS(platforms); i++) {
		td_cleanup(free) char *name = NULL;
		size_t len = 0;
		uint64_t space;

		r = locator_name(platforms[i], im_path, parent, &name);
		if (r == 0)
			r = vhd_name_to_locator(platforms[i], name, p->locator[i], &len);
		space = td_align_up(len, VHD_SECTOR);
		p->h.locator[i] = (struct vhd_locator){ platforms[i], (uint32_t)space, (uint32_t)len, *at };
		*at += space;
	}
	return r == 0 ? vhd_name_to_header(parent, p->h.parent_name) : r;
}

int vhd_plan_make(struct vhd_plan *p, const char *im_path, const char *parent, struct td_err *ret_err)
{
	uint64_t at = p->at + VHD_HEADER;
	int r = 0;

	p->f.data_off = p->at;
	p->h.bat_off = at;
	at += td_align_up((uint64_t)p->h.max_entries * 4, VHD_SECTOR);
	if (p->has_batmap) {
		p->batmap_off = at + VHD_SECTOR;
		p->batmap_len = td_align_up(TD_MAX(td_div_up(p->h.max_entries, 8), 1u), VHD_SECTOR);
		at = p->batmap_off + p->batmap_len;
	}
	memset(p->h.locator, 0, sizeof(p->h.locator));
	memset(p->h.parent_name, 0, sizeof(p->h.parent_name));
	if (parent)
		r = put_locators(p, im_path, parent, &at);
	p->len = at - p->at;
	if (r == -EINVAL)
		return td_err_set(ret_err, r, "the parent's name is not UTF-8, as a vhd wants it");
	return r < 0 ? td_err_set(ret_err, r, "the parent's name: %s", strerror(-r)) : 0;
}

/* ---- writing ---- */

/* All entries unused; what is behind the last one in its sector too. */
static int write_bat(const struct vhd_plan *p, struct td_image *child, uint8_t *buf)
{
	uint64_t left = td_align_up((uint64_t)p->h.max_entries * 4, VHD_SECTOR), off = p->h.bat_off, n;
	int r = 0;

	memset(buf, 0xff, CHUNK);
	for (; r == 0 && left > 0; left -= n, off += n) {
		n = TD_MIN(left, (uint64_t)CHUNK);
		r = td_image_pwrite(child, off, buf, n, 0);
	}
	return r;
}

static int write_batmap(const struct vhd_plan *p, struct td_image *child, uint8_t *buf)
{
	struct vhd_batmap m = { .off = p->batmap_off,
				.sectors = (uint32_t)(p->batmap_len / VHD_SECTOR),
				.version = VHD_BATMAP_VERSION };
	int r;

	m.checksum = UINT32_MAX; /* of zeros */
	memset(buf, 0, VHD_SECTOR);
	vhd_batmap_encode(&m, buf);
	r = td_image_zero(child, p->batmap_off, p->batmap_len, 0);
	return r == 0 ? td_image_pwrite(child, p->batmap_off - VHD_SECTOR, buf, VHD_SECTOR, 0) : r;
}

static int write_locators(const struct vhd_plan *p, struct td_image *child, uint8_t *buf)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < TD_NELEMS(platforms) && p->h.locator[i].platform; i++) {
		const struct vhd_locator *l = &p->h.locator[i];

		memset(buf, 0, VHD_LOCATOR_MAX);
		memcpy(buf, p->locator[i], l->len);
		r = td_image_pwrite(child, l->off, buf, td_align_up(l->len, VHD_SECTOR), 0);
	}
	return r;
}

int vhd_plan_write(const struct vhd_plan *p, struct td_image *child)
{
	uint8_t *buf = td_buf_alloc(CHUNK);
	int r;

	if (!buf)
		return -ENOMEM;
	vhd_header_encode(&p->h, buf);
	r = td_image_pwrite(child, p->at, buf, VHD_HEADER, 0);
	if (r == 0)
		r = write_bat(p, child, buf);
	if (r == 0 && p->has_batmap)
		r = write_batmap(p, child, buf);
	if (r == 0)
		r = write_locators(p, child, buf);
	td_buf_free(buf, CHUNK);
	return r;
}
