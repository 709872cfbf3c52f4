// SPDX-License-Identifier: BSD-2-Clause
/*
 * The metadata region: its table and items; what they and the length of the BAT give.
 */
#include <blktap/vhdx.h>

enum {
	AT_COUNT = 10,
	AT_ENTRIES = 32,
	ENTRY = 32,
	ENTRIES_MAX = 2047,

	FLAG_USER = 1,
	FLAG_REQUIRED = 4,

	FILE_FIXED = 1,
	FILE_PARENT = 2,

	CHUNK_SECTORS_BITS = 23,
};

/* In the order of enum vhdx_item; len 0: any. */
static const struct {
	const char *name;
	uint32_t len;
	uint8_t guid[TD_GUID];
} known[VHDX_ITEMS] = {
	{ "file parameters",
	  8,
	  { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7,
	    0x6b } },
	{ "disk size",
	  8,
	  { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4,
	    0xb8 } },
	{ "disk identity",
	  16,
	  { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7,
	    0x46 } },
	{ "logical sector size",
	  4,
	  { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab,
	    0x5f } },
	{ "physical sector size",
	  4,
	  { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5,
	    0x56 } },
	{ "parent locator",
	  0,
	  { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab,
	    0x0c } },
};

/* ---- the table ---- */

static unsigned item_of(const uint8_t *guid)
{
	unsigned i = 0;

	while (i < VHDX_ITEMS && memcmp(guid, known[i].guid, TD_GUID) != 0)
		i++;
	return i;
}

static int add_item(const uint8_t *p, uint32_t region_len, struct vhdx_item_at *ret, struct td_err *ret_err)
{
	const struct vhdx_item_at at = { .off = td_get_le32(p + 16), .len = td_get_le32(p + 20) };
	const uint32_t flags = td_get_le32(p + 24);
	const unsigned i = item_of(p);
	char name[TD_GUID_TEXT];

	/* A user's item of this name is another thing. */
	if (i == VHDX_ITEMS || (flags & FLAG_USER)) {
		td_guid_text(p, name);
		return flags & FLAG_REQUIRED ? td_err_set(ret_err, -ENOTSUP,
							  "it has metadata that must be known, and are not: "
							  "%s",
							  name)
					     : 0;
	}
	if (ret[i].len)
		return td_err_set(ret_err, -EUCLEAN, "it has two items of metadata that say its %s",
				  known[i].name);
	if (at.off < VHDX_TABLE || !td_in_range(at.off, at.len, region_len) || at.len == 0 ||
	    at.len > VHDX_ITEM_MAX || (known[i].len && at.len != known[i].len))
		return td_err_set(ret_err, -EUCLEAN, "its %s cannot be %u bytes at %u of its metadata region",
				  known[i].name, at.len, at.off);
	ret[i] = at;
	return 0;
}

int vhdx_items_decode(const uint8_t raw[VHDX_TABLE], uint32_t region_len, struct vhdx_item_at ret[VHDX_ITEMS],
		      struct td_err *ret_err)
{
	const unsigned nr = td_get_le16(raw + AT_COUNT);
	int r = 0;

	memset(ret, 0, VHDX_ITEMS * sizeof(*ret));
	if (memcmp(raw, "metadata", 8) != 0)
		return td_err_set(ret_err, -EUCLEAN, "there is no metadata where its metadata region is");
	if (nr > ENTRIES_MAX)
		return td_err_set(ret_err, -EUCLEAN, "metadata of %u items cannot be", nr);
	for (unsigned i = 0; r == 0 && i < nr; i++)
		r = add_item(raw + AT_ENTRIES + (size_t)i * ENTRY, region_len, ret, ret_err);
	for (unsigned i = 0; r == 0 && i < VHDX_ITEM_LOCATOR; i++)
		if (ret[i].len == 0)
			r = td_err_set(ret_err, -EUCLEAN, "its metadata do not say its %s", known[i].name);
	return r;
}

/* ---- items ---- */

static int set_sector(const char *name, uint32_t value, uint32_t *ret, struct td_err *ret_err)
{
	*ret = value;
	return value == 512 || value == 4096
		       ? 0
		       : td_err_set(ret_err, -EUCLEAN, "its %s cannot be %u", name, value);
}

static int set_file(uint32_t block_size, uint32_t flags, struct vhdx_disk *disk, struct td_err *ret_err)
{
	disk->block_size = block_size;
	disk->fixed = flags & FILE_FIXED;
	disk->parent = flags & FILE_PARENT;
	if (!td_is_pow2(block_size) || block_size < VHDX_MIB || block_size > 256 * VHDX_MIB)
		return td_err_set(ret_err, -EUCLEAN, "a block cannot have %u bytes", block_size);
	return 0;
}

static int set_size(uint64_t size, struct vhdx_disk *disk, struct td_err *ret_err)
{
	disk->size = size;
	if (size == 0 || size > VHDX_SIZE_MAX || size % 512)
		return td_err_set(ret_err, -EUCLEAN, "a disk of %llu bytes cannot be",
				  (unsigned long long)size);
	return 0;
}

int vhdx_item_decode(enum vhdx_item item, const uint8_t *raw, uint32_t len, struct vhdx_disk *disk,
		     struct td_err *ret_err)
{
	if (len < known[item].len || item >= VHDX_ITEM_LOCATOR)
		return td_err_set(ret_err, -EUCLEAN, "its %s is too short", known[item].name);
	switch (item) {
	case VHDX_ITEM_FILE:
		return set_file(td_get_le32(raw), td_get_le32(raw + 4), disk, ret_err);
	case VHDX_ITEM_SIZE:
		return set_size(td_get_le64(raw), disk, ret_err);
	case VHDX_ITEM_LOGICAL:
		return set_sector(known[item].name, td_get_le32(raw), &disk->logical, ret_err);
	case VHDX_ITEM_PHYSICAL:
		return set_sector(known[item].name, td_get_le32(raw), &disk->physical, ret_err);
	default:
		memcpy(disk->id, raw, TD_GUID);
		return 0;
	}
}

/* ---- the BAT ---- */

int vhdx_geom_of(const struct vhdx_disk *disk, uint32_t bat_len, struct vhdx_geom *ret,
		 struct td_err *ret_err)
{
	struct vhdx_geom g = {
		.block_size = disk->block_size,
		.block_bits = (uint32_t)__builtin_ctz(disk->block_size),
		.sector_bits = (unsigned)__builtin_ctz(disk->logical),
		.nr_blocks = td_div_up(disk->size, disk->block_size),
	};

	if (disk->size % disk->logical)
		return td_err_set(ret_err, -EUCLEAN, "a disk of %llu bytes cannot have sectors of %u",
				  (unsigned long long)disk->size, disk->logical);
	g.ratio_bits = CHUNK_SECTORS_BITS + g.sector_bits - g.block_bits;
	/* Only differencing disks have the bitmap of the last chunk. */
	g.nr_entries = 1 + (disk->parent ? vhdx_bitmap_entry(&g, g.nr_blocks - 1)
					 : vhdx_block_entry(&g, g.nr_blocks - 1));
	if (g.nr_entries > bat_len / 8)
		return td_err_set(ret_err, -EUCLEAN,
				  "its BAT of %u bytes is too short for a disk of %llu bytes", bat_len,
				  (unsigned long long)disk->size);
	*ret = g;
	return 0;
}

static bool place_ok(uint64_t off)
{
	return off >= VHDX_START && off <= VHDX_OFF_MAX;
}

int vhdx_entry_decode(uint64_t raw, struct vhdx_entry *ret)
{
	static const uint8_t states = 1 << VHDX_NOT_PRESENT | 1 << VHDX_UNDEFINED | 1 << VHDX_ZERO |
				      1 << VHDX_UNMAPPED | 1 << VHDX_PRESENT | 1 << VHDX_PARTLY;
	const unsigned state = raw & 7;

	*ret = (struct vhdx_entry){ .state = VHDX_ZERO, .off = raw & ~(uint64_t)(VHDX_MIB - 1) };
	if (!(states >> state & 1))
		return -EUCLEAN;
	ret->state = (enum vhdx_state)state;
	if (state != VHDX_PRESENT && state != VHDX_PARTLY)
		return 0;
	return place_ok(ret->off) ? 0 : -EUCLEAN;
}

int vhdx_bitmap_decode(uint64_t raw, uint64_t *ret_off)
{
	*ret_off = raw & ~(uint64_t)(VHDX_MIB - 1);
	return (raw & 7) == VHDX_PRESENT && place_ok(*ret_off) ? 0 : -EUCLEAN;
}

uint32_t vhdx_bits_run(const uint8_t *bits, uint32_t first, uint32_t max)
{
	const bool set = vhdx_bit(bits, first);
	const uint8_t whole = set ? 0xff : 0;
	uint32_t n = 1;

	while (n < max) {
		if ((first + n) % 8 == 0 && max - n >= 8 && bits[(first + n) / 8] == whole)
			n += 8;
		else if (vhdx_bit(bits, first + n) == set)
			n++;
		else
			break;
	}
	return n;
}
