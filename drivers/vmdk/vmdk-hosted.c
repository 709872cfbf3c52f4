// SPDX-License-Identifier: BSD-2-Clause
/*
 * The header of a hosted sparse extent as a map: what is read, what may be written.
 *
 * A stream is written in one go, so that what its first header cannot know (where the directory is) stands in a second
 * one at the end:	... | footer marker | footer | end of stream |
 */
#include "vmdk-sparse.h"

#define FOOTER_FROM_END (3u * VMDK_SECTOR)

static int read_footer(struct vmdk_sparse *s, struct td_err *ret_err)
{
	struct td_image *child = s->im->child;
	uint64_t end = td_align_down(child->size, VMDK_SECTOR);
	uint8_t *buf;
	int r;

	if (end < FOOTER_FROM_END + VMDK_SECTOR)
		return td_err_set(ret_err, -EUCLEAN, "it is a stream that was cut off: it has no footer");
	buf = td_buf_alloc(FOOTER_FROM_END);
	if (!buf)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = td_image_pread(child, end - FOOTER_FROM_END, buf, FOOTER_FROM_END, TD_EXACT);
	if (r < 0) {
		td_err_set(ret_err, r, "cannot read its footer: %s", strerror(-r));
	} else {
		struct vmdk_marker m;
		bool marked = vmdk_marker_decode(buf, &m) == 0 && m.type == VMDK_MARKER_FOOTER;

		r = marked ? vmdk_header_decode(buf + VMDK_SECTOR, &s->h, ret_err) : -EUCLEAN;
		if (!marked || (r == 0 && s->h.gd == VMDK_GD_AT_END))
			r = td_err_set(ret_err, -EUCLEAN,
				       "it is a stream that was cut off: it has no footer");
	}
	td_buf_free(buf, FOOTER_FROM_END);
	return r;
}

/* What we could write, but nobody should. */
static int check_writable(const struct vmdk_sparse *s, struct td_err *ret_err)
{
	const char *why = NULL;

	if (s->im->read_only)
		return 0;
	if (s->h.flags & VMDK_COMPRESSED)
		why = "its grains are compressed; tap-img convert makes a monolithicSparse of it";
	else if (s->h.version > 2)
		why = "headers of version 3 belong to disks whose changes VMware tracks, and it would not "
		      "know of ours";
	else if (s->h.flags & ~VMDK_KNOWN_FLAGS)
		why = "its header has flags whose meaning is not known";
	return why ? vmdk_refuse_write(why, ret_err) : 0;
}

int vmdk_hosted_load(struct vmdk_sparse *s, const uint8_t *head, struct td_err *ret_err)
{
	uint64_t capacity;
	int r = vmdk_header_decode(head, &s->h, ret_err);

	if (r < 0)
		return r;
	capacity = s->h.capacity;
	if (s->h.gd == VMDK_GD_AT_END)
		r = read_footer(s, ret_err);
	if (r == 0 && s->h.capacity != capacity)
		r = td_err_set(ret_err, -EUCLEAN, "its footer says another capacity than its header");
	if (r == 0)
		r = check_writable(s, ret_err);
	if (r < 0)
		return r;
	s->nr_tables = vmdk_tables(&s->h);
	s->table_bytes = vmdk_table_len(&s->h) * VMDK_SECTOR;
	s->im->size = s->h.capacity * VMDK_SECTOR;
	s->config = (struct td_grains_config){
		.tag = { { VMDK_MAGIC_HOSTED | s->h.grain << 32, s->h.capacity } },
		.grain_bits = (unsigned)__builtin_ctzll(s->h.grain * VMDK_SECTOR),
		.table_bits = (unsigned)__builtin_ctz(s->h.per_table),
		.has_zero = s->h.flags & VMDK_ZEROED,
		.dir_off = s->h.gd * VMDK_SECTOR,
		.nr_tables = s->nr_tables,
		/* Who writes has seen that all of them are there; a stream leaves out those without a grain. */
		.table_align = s->h.flags & VMDK_COMPRESSED ? VMDK_SECTOR : 0,
		.data_from = s->im->read_only ? VMDK_SECTOR : s->h.overhead * VMDK_SECTOR,
	};
	return 0;
}
