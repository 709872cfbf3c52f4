// SPDX-License-Identifier: BSD-2-Clause
/*
 * The parent of a differencing disk.
 *
 * An image names it several times: by locators of several systems, and by a name in the header.  They are tried in this
 * order, and the first that names a file is the one:
 *
 *	1. relative names, from the image's own folder:	W2ru, Wi2r, MacX, W2ku, Wi2k
 *	2. absolute names, as they stand:		W2ku, Wi2k, MacX, W2ru
 *	3. the last part of the name in the header, beside the image
 *
 * Looking is no opening: whether that file may be opened is decided where backing files are (drivers/open.c).  Whether
 * it is the right one its UUID says.  A UUID of zeros: the parent is a raw disk (XenServer).
 */
#include <sys/stat.h>

#include "vhd-int.h"

struct tries {
	struct vhd *v;
	struct td_backing_names names;
};

/* ---- names ---- */

/* "./base.vhd" is "base.vhd", unless it would be taken for something else then. */
static const char *plain(const char *name)
{
	const char *rest = name;

	while (strncmp(rest, "./", 2) == 0 && rest[2] != '/')
		rest += 2;
	return rest[strcspn(rest, ":/")] == ':' || !*rest ? name : rest;
}

static int try_name(struct tries *t, const char *name)
{
	return td_backing_try(t->v->im, &t->names, plain(name));
}

/* The name that a locator has; an empty one if it has none that can be used. */
static int read_locator(struct vhd *v, const struct vhd_locator *l, char name[VHD_NAME_MAX + 1])
{
	uint8_t *buf;
	int r;

	name[0] = '\0';
	if (l->len == 0 || l->len > VHD_LOCATOR_MAX || !td_in_range(l->off, l->len, v->child->size))
		return 0;
	buf = td_buf_alloc(VHD_LOCATOR_MAX);
	if (!buf)
		return -ENOMEM;
	r = td_image_pread(v->child, l->off, buf, l->len, TD_EXACT);
	if (r == 0 && vhd_name_of_locator(l->platform, buf, l->len, name) < 0)
		name[0] = '\0';
	td_buf_free(buf, VHD_LOCATOR_MAX);
	return r;
}

static int try_locators(struct tries *t, uint32_t platform, bool absolute, char *name)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && !t->names.found && i < VHD_LOCATORS; i++) {
		const struct vhd_locator *l = &t->v->h.locator[i];

		if (l->platform != platform)
			continue;
		r = read_locator(t->v, l, name);
		if (r == 0 && *name && (*name == '/') == absolute)
			r = try_name(t, name);
	}
	return r;
}

static int try_header(struct tries *t, char *name)
{
	const char *slash;

	if (t->names.found || vhd_name_of_header(t->v->h.parent_name, name) < 0)
		return 0;
	slash = strrchr(name, '/');
	return slash && !slash[1] ? 0 : try_name(t, slash ? slash + 1 : name);
}

static int try_all(struct tries *t, char *name)
{
	static const struct {
		uint32_t platform;
		bool absolute;
	} order[] = {
		{ VHD_LOC_W2RU, false }, { VHD_LOC_WI2R, false }, { VHD_LOC_MACX, false },
		{ VHD_LOC_W2KU, false }, { VHD_LOC_WI2K, false }, { VHD_LOC_W2KU, true },
		{ VHD_LOC_WI2K, true },  { VHD_LOC_MACX, true },  { VHD_LOC_W2RU, true },
	};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < TD_NELEMS(order); i++)
		r = try_locators(t, order[i].platform, order[i].absolute, name);
	return r == 0 ? try_header(t, name) : r;
}

int vhd_parent_load(struct vhd *v, struct td_err *ret_err)
{
	struct tries t = { .v = v };
	char *name = malloc(VHD_NAME_MAX + 1);
	bool raw = vhd_uuid_is_zero(v->h.parent_uuid);
	int r = name ? try_all(&t, name) : -ENOMEM;

	free(name);
	td_backing_take(v->im, &t.names);
	if (r < 0)
		return td_err_set(ret_err, r, "the names of its parent cannot be read: %s", strerror(-r));
	if (!v->im->backing_path)
		return td_err_set(ret_err, -EUCLEAN,
				  "it is a differencing disk and names no parent that could be found: record "
				  "one with tap-img rebase -u -b PATH -F vhd");
	v->im->backing_format = strdup(raw ? "raw" : v->im->drv->name);
	return v->im->backing_format ? 0 : td_err_set(ret_err, -ENOMEM, "no memory");
}

/* ---- is it the one? ---- */

static const struct vhd *as_vhd(const struct td_image *im)
{
	im = td_image_layer(im);
	return im->drv == td_driver_find("vhd") ? im->state : NULL;
}

int vhd_check_backing(struct td_image *im, struct td_err *ret_err)
{
	const struct vhd *v = im->state, *parent = as_vhd(im->backing);
	char want[VHD_UUID_TEXT], have[VHD_UUID_TEXT] = "none";

	if (v->f.type != VHD_DIFF || vhd_uuid_is_zero(v->h.parent_uuid))
		return 0;
	if (parent && memcmp(parent->f.uuid, v->h.parent_uuid, VHD_UUID) == 0)
		return 0;
	vhd_uuid_text(v->h.parent_uuid, want);
	if (parent)
		vhd_uuid_text(parent->f.uuid, have);
	return td_err_set(
		ret_err, -EUCLEAN,
		"%s: its parent has the UUID %s, but %s has %s: it is not the image that this one was "
		"made upon",
		im->name, want, im->backing->path, have);
}

/* ---- of a new child ---- */

static int format_of(const char *name, const struct td_driver **ret, struct td_err *ret_err)
{
	const struct td_driver *drv = td_driver_find(name ? name : "vhd");

	if (drv != td_driver_find("vhd") && drv != td_driver_find("raw"))
		return td_err_set(ret_err, -ENOTSUP, "the parent of a vhd is a vhd or raw, not %s", name);
	*ret = drv;
	return 0;
}

static void fill(struct vhd_parent *ret, const struct td_image *im, const char *path)
{
	const struct vhd *v = as_vhd(im);
	struct stat st;

	*ret = (struct vhd_parent){ .size = im->size };
	if (v)
		memcpy(ret->uuid, v->f.uuid, VHD_UUID);
	if (stat(path, &st) == 0)
		ret->time = (uint32_t)(st.st_mtime - VHD_EPOCH);
}

int vhd_parent_look(struct td_image *im, const char *name, const char *format, struct vhd_parent *ret,
		    struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	td_cleanup(free) char *text = NULL;
	const struct td_driver *drv = NULL;
	struct td_image *parent = NULL;
	int r = format_of(format, &drv, ret_err);

	if (!drv)
		return r;
	r = td_image_backing_path(im, name, &path, ret_err);
	if (r < 0)
		return r;
	if (asprintf(&text, "%s:%s", drv->name, path) < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = td_image_open_text(im->env, text,
			       TD_OPEN_RDONLY | TD_OPEN_BACKING | TD_OPEN_NO_LOCK | TD_OPEN_NO_CHAIN, &parent,
			       ret_err);
	if (r < 0)
		return td_err_prefix(ret_err, r, "its parent");
	fill(ret, parent, path);
	r = td_image_close(parent);
	if (r == 0 && drv == td_driver_find("vhd") && vhd_uuid_is_zero(ret->uuid))
		return td_err_set(ret_err, -ENOTSUP, "%s: it has no UUID, and cannot be a parent", path);
	return r;
}
