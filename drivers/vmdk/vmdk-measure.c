// SPDX-License-Identifier: BSD-2-Clause
/*
 * How long the files of a new image will be, all together.  At most: a descriptor is as long as the names in it, and
 * how far something can be compressed nobody knows before.
 */
#include "vmdk-create.h"

#define GRAIN_BYTES  (VMDK_NEW_GRAIN * VMDK_SECTOR)
#define TEXT_LEN     1024u /* a descriptor without its extents */
#define TEXT_LINE    300u  /* ... an extent's line, with the longest name that a file can have */
#define COWD_COVERS  ((uint64_t)VMDK_COWD_PER_TABLE * VMDK_SECTOR)
#define STREAM_TABLE (VMDK_SECTOR + VMDK_NEW_TABLE * 4u) /* with its marker */

struct sizes {
	uint64_t data, all, fixed; /* bytes */
};

/* Bytes of clusters of this size in which the source has data. */
static int data_of(const struct td_measure *m, uint64_t cluster, uint64_t *ret)
{
	*ret = 0;
	return m->source ? td_measure_data(m->source, cluster, ret) : 0;
}

static int sparse(const struct td_measure *m, const struct vmdk_kind *k, uint64_t sectors, struct sizes *ret,
		  struct td_err *ret_err)
{
	const uint64_t step = k->split ? VMDK_PART_SECTORS : TD_MAX(sectors, 1u);
	int r = data_of(m, GRAIN_BYTES, &ret->data);

	ret->all = td_align_up(sectors * VMDK_SECTOR, GRAIN_BYTES);
	for (uint64_t at = 0; r == 0 && (at < sectors || at == 0); at += step) {
		struct vmdk_header h = { .capacity = TD_MIN(step, sectors - at),
					 .grain = VMDK_NEW_GRAIN,
					 .per_table = VMDK_NEW_TABLE };

		r = vmdk_header_lay_out(&h, !k->infix, true, ret_err);
		ret->fixed += h.overhead * VMDK_SECTOR;
	}
	return r;
}

/* Tables are made where there is data. */
static int cowd(const struct td_measure *m, uint64_t sectors, struct sizes *ret, struct td_err *ret_err)
{
	const uint64_t table = VMDK_COWD_PER_TABLE * 4ull;
	uint8_t header[VMDK_COWD_HEADER];
	struct vmdk_cowd c;
	uint64_t covered = 0;
	int r = data_of(m, VMDK_SECTOR, &ret->data);

	if (sectors > UINT32_MAX - UINT32_MAX / 64)
		return td_err_set(ret_err, -EFBIG, "a VMFS sparse extent ends at 2 TiB");
	if (r == 0)
		r = data_of(m, COWD_COVERS, &covered);
	vmdk_cowd_init(sectors, &c, header);
	ret->fixed = (uint64_t)c.next_free * VMDK_SECTOR;
	ret->data += covered / COWD_COVERS * table;
	ret->all = sectors * VMDK_SECTOR + td_div_up(sectors * VMDK_SECTOR, COWD_COVERS) * table;
	return r;
}

static int stream(const struct td_measure *m, uint64_t sectors, struct sizes *ret, struct td_err *ret_err)
{
	const uint64_t grain = td_align_up(VMDK_GRAIN_MARKER + vmdk_grain_max(GRAIN_BYTES), VMDK_SECTOR);
	struct vmdk_header h;
	int r = vmdk_stream_lay_out(sectors, &h, ret_err);

	if (r == 0)
		r = data_of(m, GRAIN_BYTES, &ret->data);
	if (r < 0)
		return r;
	ret->data = ret->data / GRAIN_BYTES * grain;
	ret->all = td_div_up(sectors, VMDK_NEW_GRAIN) * grain;
	/* Behind the tables: the directory and its marker, the footer and its marker, the end. */
	ret->fixed = h.overhead * VMDK_SECTOR + vmdk_tables(&h) * STREAM_TABLE +
		     (vmdk_directory_len(&h) + 4) * VMDK_SECTOR;
	return 0;
}

static uint64_t text_len(const struct vmdk_kind *k, uint64_t sectors)
{
	const uint64_t extents = k->split ? TD_MAX(td_div_up(sectors, VMDK_PART_SECTORS), (uint64_t)1) : 1;

	return k->infix ? TEXT_LEN + extents * TEXT_LINE : 0;
}

/* They change nothing of the size, or no more than a few bytes of the descriptor. */
static void take_options(struct td_opts *opts)
{
	static const char *const names[] = { "adapter_type", "hwversion",    "compat6",    "toolsversion",
					     "geometry",     "zeroed_grain", "backing_fmt" };

	for (unsigned i = 0; i < TD_NELEMS(names); i++)
		(void)td_opts_get(opts, names[i]);
}

int vmdk_measure(struct td_measure *m, struct td_err *ret_err)
{
	const uint64_t sectors = td_div_up(m->size, VMDK_SECTOR);
	const struct vmdk_kind *k;
	struct sizes s = { 0 };
	int r = vmdk_kind_of(m->opts, &k, ret_err);

	if (r < 0)
		return r;
	take_options(m->opts);
	if (k->stream) {
		r = stream(m, sectors, &s, ret_err);
	} else if (k->cowd) {
		r = cowd(m, sectors, &s, ret_err);
	} else if (k->sparse) {
		r = sparse(m, k, sectors, &s, ret_err);
	} else {
		(void)td_opts_get(m->opts, "preallocation");
		s.fixed = sectors * VMDK_SECTOR;
	}
	m->required = text_len(k, sectors) + s.fixed + s.data;
	m->fully_allocated = text_len(k, sectors) + s.fixed + s.all;
	if (td_opts_get(m->opts, "backing_file") && m->source) /* zeros may have to be written too */
		m->required = m->fully_allocated;
	return r;
}
