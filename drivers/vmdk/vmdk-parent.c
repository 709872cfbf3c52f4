// SPDX-License-Identifier: BSD-2-Clause
/*
 * The parent of a delta: found by name, known by its CID.  A parent that was written to since the delta was made is not
 * the disk that the delta's grains belong to; served as if, it would be garbage that looks like a disk.
 */
#include <stdio.h>

#include "vmdk-int.h"

int vmdk_parent_name(struct vmdk *v, struct td_err *ret_err)
{
	struct td_image *im = v->im;
	struct vmdk_str hint = v->desc.parent_hint;

	if (!v->text || v->desc.parent_cid == VMDK_NO_PARENT)
		return 0;
	if (!hint.at || hint.len == 0)
		return td_err_set(ret_err, -EUCLEAN,
				  "it has a parent, CID %08x, and no parentFileNameHint says which",
				  v->desc.parent_cid);
	im->backing_format = strdup(im->drv->name);
	/* Not there: who opens the chain says so, and who does not is not kept from it. */
	if (im->backing_format && vmdk_find_file(v, hint, &im->backing_path, NULL) < 0)
		im->backing_path = strndup(hint.at, hint.len);
	return im->backing_path ? 0 : td_err_set(ret_err, -ENOMEM, "no memory");
}

int vmdk_check_backing(struct td_image *im, struct td_err *ret_err)
{
	const struct vmdk *v = im->state, *parent = im->backing->state;

	if (im->backing->drv != im->drv)
		return td_err_set(ret_err, -EINVAL, "%s: its parent has to be a vmdk image too", im->name);
	if (!parent->text)
		return td_err_set(ret_err, -EUCLEAN, "%s: its parent %s has no descriptor, and so no CID",
				  im->name, im->backing->path);
	if (parent->desc.cid == v->desc.parent_cid)
		return 0;
	return td_err_set(ret_err, -EUCLEAN,
			  "%s: its parent %s has the CID %08x, not %08x: it was written to since, or is "
			  "another disk; put the one there that this disk was made over",
			  im->name, im->backing->path, parent->desc.cid, v->desc.parent_cid);
}

int vmdk_cid_of(struct td_env *env, const char *path, uint32_t *ret, struct td_err *ret_err)
{
	td_cleanup(free) char *spec = NULL;
	const struct vmdk *v;
	struct td_image *im;
	int r;

	if (asprintf(&spec, "vmdk:%s", path) < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = td_image_open_text(env, spec, TD_OPEN_RDONLY | TD_OPEN_NO_LOCK | TD_OPEN_NO_CHAIN, &im, ret_err);
	if (r < 0)
		return r;
	v = im->state;
	*ret = v->desc.cid;
	r = v->text ? 0 : td_err_set(ret_err, -EINVAL, "%s: it has no descriptor, and so no CID", path);
	td_ignore(td_image_close(im)); /* nothing was written */
	return r;
}
