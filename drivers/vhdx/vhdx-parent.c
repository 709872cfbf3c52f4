// SPDX-License-Identifier: BSD-2-Clause
/*
 * The parent of a differencing disk: found by name, known by its GUID of data, which changes when it is written to.
 *
 *	1. its relative name, from the image's own folder
 *	2. its absolute name, without the drive's letter
 *	3. the last part of either, beside the image
 *
 * The first that is there is the one.  Looking is no opening: whether that file may be opened is decided where backing
 * files are (drivers/open.c).
 */
#include <blktap/vhd.h>

#include "vhdx-int.h"

/* As vhd's locators have them.  Empty: it is no name. */
static void name_of(const uint8_t *raw, const struct vhdx_value *value, char name[VHD_NAME_MAX + 1])
{
	if (value->len == 0 || vhd_name_of_locator(VHD_LOC_W2RU, raw + value->off, value->len, name) < 0)
		name[0] = '\0';
}

static const char *last_part(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

static int try_all(struct vhdx *v, struct td_backing_names *n, const uint8_t *raw)
{
	const struct vhdx_locator *l = &v->locator;
	const struct vhdx_value *const value[] = { &l->relative, &l->absolute };
	char *name = malloc(VHD_NAME_MAX + 1);
	int r = name ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < TD_NELEMS(value); i++) {
		name_of(raw, value[i], name);
		r = td_backing_try(v->im, n, name);
	}
	for (unsigned i = 0; r == 0 && i < TD_NELEMS(value); i++) {
		name_of(raw, value[i], name);
		r = td_backing_try(v->im, n, last_part(name));
	}
	free(name);
	return r;
}

int vhdx_parent_load(struct vhdx *v, const uint8_t *raw, uint32_t len, struct td_err *ret_err)
{
	struct td_backing_names names = { 0 };
	int r = vhdx_locator_decode(raw, len, &v->locator, ret_err);

	if (r < 0)
		return r;
	r = try_all(v, &names, raw);
	td_backing_take(v->im, &names);
	if (r == 0 && !v->im->backing_path)
		return td_err_set(
			ret_err, -EUCLEAN,
			"it is a differencing disk, and has no name of its parent that can be used");
	if (r == 0)
		v->im->backing_format = strdup(v->im->drv->name);
	return v->im->backing_format ? r : td_err_set(ret_err, -ENOMEM, "no memory");
}

int vhdx_check_backing(struct td_image *im, struct td_err *ret_err)
{
	const struct vhdx *v = im->state;
	const struct td_image *below = td_image_layer(im->backing);
	const struct vhdx *parent = below->drv == im->drv ? below->state : NULL;
	char want[TD_GUID_TEXT], have[TD_GUID_TEXT] = "none";

	for (unsigned i = 0; parent && i < v->locator.nr_linkage; i++)
		if (memcmp(v->locator.linkage[i], parent->h.data_guid, TD_GUID) == 0)
			return 0;
	td_guid_text(v->locator.linkage[0], want);
	if (parent)
		td_guid_text(parent->h.data_guid, have);
	return td_err_set(
		ret_err, -EUCLEAN,
		"%s: its parent has the data GUID %s, but %s has %s: it was written to since, or is "
		"another disk; put the one there that this disk was made over",
		im->name, want, im->backing->path, have);
}
