// SPDX-License-Identifier: BSD-2-Clause
/*
 * XenServer's batmap: a bit for each block whose bitmap is full.  It is a shortcut, so one that says less than it could
 * is right, and one whose checksum is wrong is not used.  One that says more is a lie that hides the parent: a bit goes
 * from the disk before the block that it speaks of does.
 */
#include "vhd-int.h"

void vhd_batmap_forget(struct vhd *v)
{
	free(v->batmap);
	v->batmap = NULL;
}

/* ---- reading ---- */

static int load_bits(struct vhd *v)
{
	const struct vhd_batmap *m = &v->batmap_head;
	uint64_t len = vhd_batmap_summed(vhd_disk_size(&v->f), m->sectors);
	uint8_t *bits = malloc(v->batmap_len);
	int r = bits ? td_image_pread(v->child, m->off, bits, v->batmap_len, TD_EXACT) : -ENOMEM;

	if (r == 0)
		v->batmap_bad = vhd_batmap_sum(bits, len, m->version) != m->checksum &&
				vhd_batmap_sum(bits, v->batmap_len, m->version) != m->checksum;
	/* Whoever looks a block up meanwhile believes what is there: so nothing is, until it is right. */
	if (r == 0 && !v->batmap_bad)
		v->batmap = bits;
	else
		free(bits);
	return r;
}

int vhd_load_batmap(struct vhd *v)
{
	int r;

	vhd_batmap_forget(v);
	v->batmap_bad = v->batmap_stale = false;
	/* Other programs' data may lie behind their table and start so, too. */
	if (!vhd_is_tapdisk(&v->f) || !td_in_range(v->g.batmap_off, VHD_SECTOR, v->child->size))
		return 0;
	r = td_image_pread(v->child, v->g.batmap_off, v->batmap_raw, VHD_SECTOR, TD_EXACT);
	if (r < 0)
		return r;
	r = vhd_batmap_decode(v->batmap_raw, &v->g, &v->batmap_head);
	v->batmap_len = (uint64_t)v->batmap_head.sectors * VHD_SECTOR;
	if (r < 0 || v->batmap_len > VHD_BATMAP_MAX ||
	    !td_in_range(v->batmap_head.off, v->batmap_len, v->child->size)) {
		v->batmap_bad = r != -EINVAL;
		return 0;
	}
	vhd_add_area(v, v->g.batmap_off, VHD_SECTOR);
	vhd_add_area(v, v->batmap_head.off, v->batmap_len);
	return load_bits(v);
}

/* ---- writing ---- */

static void fill_batmap(struct vhd *v, uint64_t bytes)
{
	uint64_t nr = TD_MIN((uint64_t)v->g.nr_blocks, bytes * 8);

	memset(v->batmap, 0, v->batmap_len);
	for (uint32_t i = 0; i < nr; i++)
		if (vhd_known(v, i) == VHD_FULL)
			vhd_bits_set(v->batmap, i, 1);
}

/*
 * Bits and checksum do not fit into one write.  A power cut between the two leaves a sum that is wrong, and a batmap
 * that is not used; that is why it is written once, at close, and not with every block.
 */
int vhd_batmap_store(struct vhd *v)
{
	struct vhd_batmap *m = &v->batmap_head;
	uint64_t bytes = vhd_batmap_summed(vhd_disk_size(&v->f), m->sectors);
	int r;

	if (!v->batmap || !v->batmap_stale || !v->known)
		return 0;
	fill_batmap(v, bytes);
	m->version = VHD_BATMAP_VERSION;
	m->checksum = vhd_batmap_sum(v->batmap, bytes, m->version);
	vhd_batmap_encode(m, v->batmap_raw);
	r = td_image_pwrite(v->child, m->off, v->batmap, v->batmap_len, 0);
	if (r == 0)
		r = td_image_pwrite(v->child, v->g.batmap_off, v->batmap_raw, VHD_SECTOR, 0);
	if (r == 0)
		r = vhd_barrier(v);
	v->batmap_stale = r < 0;
	return r;
}
