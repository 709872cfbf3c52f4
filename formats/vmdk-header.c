// SPDX-License-Identifier: BSD-2-Clause
/*
 * The header of a hosted sparse extent, where things lie in a new one, and the markers of a stream.  Not what grain
 * tables say.
 *
 *	| header | descriptor | RGD | its tables | GD | its tables |  | grains ...
 *
 * Source: VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse Extents".
 */
#include <blktap/vmdk.h>

/* Where the fields are. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 4,
	AT_FLAGS = 8,
	AT_CAPACITY = 12,
	AT_GRAIN = 20,
	AT_DESC = 28,
	AT_DESC_LEN = 36,
	AT_PER_TABLE = 44,
	AT_RGD = 48,
	AT_GD = 56,
	AT_OVERHEAD = 64,
	AT_UNCLEAN = 72,
	AT_NEWLINES = 73,
	AT_COMPRESSION = 77,
};

#define NEW_GRAIN              128u /* sectors, as everybody has them */
#define NEW_PER_TABLE          512u
#define NEW_DESCRIPTOR_SECTORS 20u /* as others make it: some look for it there without asking */
#define MAX_ENTRY              UINT32_MAX

/* A transfer as text would change these. */
static const uint8_t newlines[4] = { '\n', ' ', '\r', '\n' };

static int check_kind(const uint8_t *p, const struct vmdk_header *h, struct td_err *ret_err)
{
	if (td_get_le32(p) != VMDK_MAGIC_HOSTED)
		return td_err_set(ret_err, -EUCLEAN, "it does not begin with the header of a sparse extent");
	if (h->version < 1 || h->version > 3)
		return td_err_set(ret_err, -ENOTSUP,
				  "sparse extents of version %u are not supported (1 to 3 are)", h->version);
	if ((h->flags & VMDK_NEWLINE_TEST) && memcmp(p + AT_NEWLINES, newlines, sizeof(newlines)) != 0)
		return td_err_set(ret_err, -EUCLEAN,
				  "its line ends were changed: it was transferred as if it were text");
	if (h->compression > VMDK_DEFLATE)
		return td_err_set(ret_err, -ENOTSUP, "compression algorithm %u is not supported (deflate is)",
				  h->compression);
	if ((h->flags & VMDK_COMPRESSED) && h->compression != VMDK_DEFLATE)
		return td_err_set(ret_err, -EUCLEAN,
				  "its grains are compressed, and its header says no algorithm");
	return 0;
}

static int check_geometry(const struct vmdk_header *h, struct td_err *ret_err)
{
	if (!td_is_pow2(h->grain) || h->grain > VMDK_MAX_GRAIN)
		return td_err_set(ret_err, -EUCLEAN,
				  "its grains have %llu sectors; a power of two up to %u is valid",
				  (unsigned long long)h->grain, VMDK_MAX_GRAIN);
	if (!td_is_pow2(h->per_table) || h->per_table < VMDK_SECTOR / 4 ||
	    h->per_table > VMDK_MAX_GRAIN_TABLE)
		return td_err_set(ret_err, -EUCLEAN,
				  "its grain tables have %u entries; a power of two from %u to %u is valid",
				  h->per_table, VMDK_SECTOR / 4, VMDK_MAX_GRAIN_TABLE);
	if (h->capacity > VMDK_MAX_SECTORS)
		return td_err_set(ret_err, -EUCLEAN, "its capacity of %llu sectors cannot be",
				  (unsigned long long)h->capacity);
	return 0;
}

struct region {
	const char *name;
	uint64_t at, len;
};

/* Header, descriptor and directories: each inside what an entry can name, and no two at one place. */
static int check_regions(const struct vmdk_header *h, struct td_err *ret_err)
{
	const bool at_end = h->gd == VMDK_GD_AT_END;
	const struct region r[] = {
		{ "header", 0, 1 },
		{ "descriptor", h->desc, h->desc_len },
		{ "grain directory", at_end ? 0 : h->gd, at_end ? 0 : vmdk_directory_len(h) },
		{ "redundant grain directory", h->rgd,
		  h->flags & VMDK_REDUNDANT && !at_end ? vmdk_directory_len(h) : 0 },
	};

	if (r[1].len * VMDK_SECTOR > VMDK_MAX_DESCRIPTOR || r[1].len > VMDK_MAX_DESCRIPTOR)
		return td_err_set(ret_err, -EUCLEAN, "its descriptor has %llu sectors; up to %u are valid",
				  (unsigned long long)r[1].len, VMDK_MAX_DESCRIPTOR / VMDK_SECTOR);
	for (unsigned i = 1; i < TD_NELEMS(r); i++) {
		if (r[i].len > 0 && !td_in_range(r[i].at, r[i].len, VMDK_MAX_SECTORS))
			return td_err_set(ret_err, -EUCLEAN, "its %s cannot lie at sector %llu", r[i].name,
					  (unsigned long long)r[i].at);
		for (unsigned k = 0; k < i; k++)
			if (td_overlap(r[i].at, r[i].len, r[k].at, r[k].len))
				return td_err_set(ret_err, -EUCLEAN, "its %s lies over its %s", r[i].name,
						  r[k].name);
	}
	return 0;
}

int vmdk_header_decode(const uint8_t *buf, struct vmdk_header *ret, struct td_err *ret_err)
{
	struct vmdk_header h = {
		.version = td_get_le32(buf + AT_VERSION),
		.flags = td_get_le32(buf + AT_FLAGS),
		.capacity = td_get_le64(buf + AT_CAPACITY),
		.grain = td_get_le64(buf + AT_GRAIN),
		.desc = td_get_le64(buf + AT_DESC),
		.desc_len = td_get_le64(buf + AT_DESC_LEN),
		.per_table = td_get_le32(buf + AT_PER_TABLE),
		.rgd = td_get_le64(buf + AT_RGD),
		.gd = td_get_le64(buf + AT_GD),
		.overhead = td_get_le64(buf + AT_OVERHEAD),
		.unclean = buf[AT_UNCLEAN] != 0,
		.compression = (uint16_t)(buf[AT_COMPRESSION] | buf[AT_COMPRESSION + 1] << 8),
	};
	int r = check_kind(buf, &h, ret_err);

	if (h.desc == 0 || h.desc_len == 0) /* there is none */
		h.desc = h.desc_len = 0;
	if (r == 0)
		r = check_geometry(&h, ret_err);
	if (r == 0)
		r = check_regions(&h, ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

void vmdk_header_encode(const struct vmdk_header *h, uint8_t *buf)
{
	memset(buf, 0, VMDK_SECTOR);
	td_put_le32(buf + AT_MAGIC, VMDK_MAGIC_HOSTED);
	td_put_le32(buf + AT_VERSION, h->version);
	td_put_le32(buf + AT_FLAGS, h->flags);
	td_put_le64(buf + AT_CAPACITY, h->capacity);
	td_put_le64(buf + AT_GRAIN, h->grain);
	td_put_le64(buf + AT_DESC, h->desc);
	td_put_le64(buf + AT_DESC_LEN, h->desc_len);
	td_put_le32(buf + AT_PER_TABLE, h->per_table);
	td_put_le64(buf + AT_RGD, h->rgd);
	td_put_le64(buf + AT_GD, h->gd);
	td_put_le64(buf + AT_OVERHEAD, h->overhead);
	buf[AT_UNCLEAN] = h->unclean;
	memcpy(buf + AT_NEWLINES, newlines, sizeof(newlines));
	buf[AT_COMPRESSION] = (uint8_t)h->compression;
	buf[AT_COMPRESSION + 1] = (uint8_t)(h->compression >> 8);
}

int vmdk_header_lay_out(struct vmdk_header *h, bool embed, bool redundant, struct td_err *ret_err)
{
	uint64_t at = 1, directory, tables;
	int r = check_geometry(h, ret_err);

	if (r < 0)
		return r;
	directory = vmdk_directory_len(h);
	tables = vmdk_tables(h) * vmdk_table_len(h);
	h->desc = embed ? at : 0;
	h->desc_len = embed ? NEW_DESCRIPTOR_SECTORS : 0;
	at += h->desc_len;
	h->flags = (h->flags & ~VMDK_REDUNDANT) | (redundant ? VMDK_REDUNDANT : 0);
	h->rgd = redundant ? at : 0;
	at += redundant ? directory + tables : 0;
	h->gd = at;
	h->overhead = td_align_up(at + directory + tables, h->grain);
	/* The last grain's sector has to fit into an entry. */
	if (h->capacity + h->overhead > MAX_ENTRY)
		return td_err_set(
			ret_err, -EFBIG,
			"a sparse extent ends at 2 TiB; twoGbMaxExtentSparse has many, and flat ones "
			"have no limit");
	return 0;
}

int vmdk_stream_lay_out(uint64_t sectors, struct vmdk_header *ret, struct td_err *ret_err)
{
	*ret = (struct vmdk_header){
		.version = 3,
		.flags = VMDK_NEWLINE_TEST | VMDK_COMPRESSED | VMDK_MARKERS,
		.capacity = sectors,
		.grain = NEW_GRAIN,
		.desc = 1,
		.desc_len = NEW_DESCRIPTOR_SECTORS,
		.per_table = NEW_PER_TABLE,
		.gd = VMDK_GD_AT_END,
		.overhead = NEW_GRAIN,
		.compression = VMDK_DEFLATE,
	};
	if (sectors > MAX_ENTRY)
		return td_err_set(ret_err, -EFBIG, "a sparse extent ends at 2 TiB");
	return 0;
}

int vmdk_marker_decode(const uint8_t *buf, struct vmdk_marker *ret)
{
	struct vmdk_marker m = { .value = td_get_le64(buf), .size = td_get_le32(buf + 8) };
	uint32_t type = td_get_le32(buf + 12);

	if (m.size > 0)
		m.type = VMDK_MARKER_GRAIN;
	else if (type <= VMDK_MARKER_FOOTER)
		m.type = (enum vmdk_marker_type)type;
	else
		return -EUCLEAN;
	if (m.value > VMDK_MAX_SECTORS)
		return -EUCLEAN;
	*ret = m;
	return 0;
}

void vmdk_marker_encode(const struct vmdk_marker *m, uint8_t *buf)
{
	if (m->type != VMDK_MARKER_GRAIN) {
		memset(buf, 0, VMDK_SECTOR);
		td_put_le32(buf + 12, (uint32_t)m->type);
	}
	td_put_le64(buf, m->value);
	td_put_le32(buf + 8, m->size);
}
