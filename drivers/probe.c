// SPDX-License-Identifier: BSD-2-Clause
/*
 * What kind of image is this file?  Asked only where the user asks for it (auto:PATH, probe-backing = yes): a guest
 * that once wrote a raw disk could have put any header there.
 *
 * "Raw" is the answer only for a file in which no known format recognizes itself.  A format for which there is no
 * driver is refused by its name: served raw, the guest's first write would destroy it.
 */
#include "drivers.h"

struct magic {
	const char *name;
	unsigned off, len;
	const char *bytes;
	bool tail; /* off counts in the last 512 bytes of the file */
};

/* Sources: the formats' own specifications; "QFI\xfb" is qcow version 1 and qcow2. */
static const struct magic magics[] = {
	{ "qcow2", 0, 8, "QFI\xfb\0\0\0\2", false },
	{ "qcow2", 0, 8, "QFI\xfb\0\0\0\3", false },
	{ "qcow", 0, 4, "QFI\xfb", false },
	{ "qed", 0, 4, "QED\0", false },
	{ "vmdk", 0, 4, "KDMV", false },
	{ "vmdk", 0, 4, "COWD", false },
	{ "vmdk", 0, 16, "\xbe\xba\xfe\xca\0\0\0\0\1\0\0\0\2\0\0\0", false }, /* seSparse */
	{ "vmdk", 0, 21, "# Disk DescriptorFile", false },
	{ "vhdx", 0, 8, "vhdxfile", false },
	{ "vhd", 0, 8, "conectix", false },
	{ "vhd", 0, 8, "conectix", true },
	{ "vhd", 1, 8, "conectix", true }, /* a 511-byte footer, as old versions wrote it */
	{ "vdi", 64, 4, "\x7f\x10\xda\xbe", false },
	{ "luks", 0, 6, "LUKS\xba\xbe", false },
	{ "parallels", 0, 16, "WithoutFreeSpace", false },
	{ "parallels", 0, 16, "WithouFreSpacExt", false },
	{ "bochs", 0, 30, "Bochs Virtual HD Image\0\0\0\0\0\0\0\0", false },
	{ "dmg", 0, 4, "koly", true },
	{ "cloop", 0, 30, "#!/bin/sh\n#V2.0 Format\nmodprob", false },
};

const char *td_magic_name(const void *head, size_t head_len, const void *tail, size_t tail_len)
{
	for (unsigned i = 0; i < TD_NELEMS(magics); i++) {
		const struct magic *m = &magics[i];
		const void *at = m->tail ? tail : head;
		size_t len = m->tail ? tail_len : head_len;

		if (td_in_range(m->off, m->len, len) &&
		    memcmp((const char *)at + m->off, m->bytes, m->len) == 0)
			return m->name;
	}
	return NULL;
}

static int probe_bytes(struct td_image *leaf, const char *head, size_t head_len, const char *tail,
		       size_t tail_len, const struct td_driver **ret_drv, struct td_err *ret_err)
{
	const struct td_driver *drv = td_driver_probe(head, head_len);
	const char *name = td_magic_name(head, head_len, tail, tail_len);

	if (!drv && name)
		drv = td_driver_find(name);
	if (!drv && name)
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: it holds a %s image, for which there is no driver (write aio:%s to "
				  "use its bytes "
				  "as a raw disk all the same)",
				  leaf->path, name, leaf->path);
	*ret_drv = drv ? drv : &td_aio;
	return 0;
}

int td_probe_image(struct td_image *leaf, const struct td_driver **ret_drv, struct td_err *ret_err)
{
	size_t head_len = TD_MIN(leaf->size, TD_PROBE_HEAD), tail_len = TD_MIN(leaf->size, TD_PROBE_TAIL);
	char *buf = td_buf_alloc(TD_PROBE_HEAD + TD_PROBE_TAIL);
	int r;

	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", leaf->path);
	r = td_image_pread(leaf, 0, buf, head_len, 0);
	if (r == 0)
		r = td_image_pread(leaf, leaf->size - tail_len, buf + TD_PROBE_HEAD, tail_len, 0);
	if (r < 0)
		td_err_set(ret_err, r, "%s: cannot read it to find its format: %s", leaf->path, strerror(-r));
	else
		r = probe_bytes(leaf, buf, head_len, buf + TD_PROBE_HEAD, tail_len, ret_drv, ret_err);
	td_buf_free(buf, TD_PROBE_HEAD + TD_PROBE_TAIL);
	return r;
}
