// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading the descriptor: from a file of its own, or from inside the only extent.
 */
#include "vmdk-int.h"

static int read_text(struct vmdk *v, uint64_t at, uint64_t len, struct td_err *ret_err)
{
	struct td_image *child = v->im->child;
	int r;

	if (len > VMDK_MAX_DESCRIPTOR)
		return td_err_set(ret_err, -EUCLEAN,
				  "it is no descriptor and no sparse extent: it has %llu bytes, and a "
				  "descriptor up to %u",
				  (unsigned long long)len, VMDK_MAX_DESCRIPTOR);
	v->text = malloc(len + 1);
	if (!v->text)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = td_image_pread(child, at, v->text, len, TD_EXACT);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot read the descriptor: %s",
				  r == -EUCLEAN ? "it lies behind the end of the file" : strerror(-r));
	v->text[len] = '\0';
	v->text_len = strlen(v->text);
	v->text_at = at;
	return vmdk_desc_decode(v->text, v->text_len, &v->desc, ret_err);
}

/* The text in a hosted sparse extent; one of many extents has none. */
static int read_embedded(struct vmdk *v, const uint8_t *head, bool *ret_sparse, struct td_err *ret_err)
{
	struct vmdk_header h;
	int r = vmdk_header_decode(head, &h, ret_err);

	if (r < 0 || h.desc == 0 || h.desc_len == 0)
		return r;
	v->text_room = h.desc_len * VMDK_SECTOR;
	r = read_text(v, h.desc * VMDK_SECTOR, v->text_room, ret_err);
	*ret_sparse = h.capacity > 0; /* 0: it only carries the descriptor */
	return r;
}

int vmdk_load(struct vmdk *v, bool *ret_sparse, struct td_err *ret_err)
{
	uint64_t size = v->im->child->size;
	uint8_t head[VMDK_SECTOR];
	int r = 0;

	*ret_sparse = true;
	if (size >= VMDK_SECTOR)
		r = td_image_pread(v->im->child, 0, head, sizeof(head), TD_EXACT);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot read its first sector: %s", strerror(-r));
	if (size >= VMDK_SECTOR && td_get_le32(head) == VMDK_MAGIC_HOSTED)
		return read_embedded(v, head, ret_sparse, ret_err);
	if (size >= VMDK_SECTOR && (td_get_le32(head) == VMDK_MAGIC_COWD || vmdk_is_sesparse(head)))
		return 0;
	*ret_sparse = false;
	return read_text(v, 0, size, ret_err);
}
