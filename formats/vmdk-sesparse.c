// SPDX-License-Identifier: BSD-2-Clause
/*
 * The headers and entries of a space-efficient sparse extent, as ESXi 5.5 and later make them for snapshots.  Numbers
 * of 8 bytes; directories and tables name tables and grains by their number, not by their place.
 *
 *	| constant header | volatile header | journal | directory | tables | free bitmap | back map | grains ...
 *
 * VMware has not published the format.  What else than this may be in such a file is not known, and so is refused.
 * Source: QEMU, block/vmdk.c.
 */
#include <blktap/vmdk.h>

/* Where the fields are. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_CAPACITY = 16,
	AT_GRAIN = 24,
	AT_TABLE = 32,
	AT_FLAGS = 40,
	AT_RESERVED = 48, /* four of them */
	AT_VOLATILE = 80,
	AT_GD = 128,
	AT_TABLES = 144,
	AT_GRAINS = 192,
	AT_PAD = 208,

	AT_REPLAY = 24,
	AT_VOLATILE_PAD = 32,
};

#define VERSION        0x200000001u
#define MAGIC_VOLATILE 0xcafecafeu
#define GRAIN          (VMDK_SE_GRAIN / VMDK_SECTOR)
#define TABLE          (VMDK_SE_PER_TABLE * 8 / VMDK_SECTOR)
#define TABLE_THERE    0x10000000u /* the upper half of a directory's entry */

/* 64 TiB, in sectors: ESXi's largest disk has 62.  The directory of more takes seconds to walk, whatever is in it. */
#define CAPACITY_MAX (1ull << 37)

static bool all_zero(const uint8_t *from, const uint8_t *end)
{
	while (from < end && *from == 0)
		from++;
	return from == end;
}

static int refuse(const char *what, uint64_t value, struct td_err *ret_err)
{
	return td_err_set(ret_err, -ENOTSUP, "seSparse extents with %s %#llx are not supported", what,
			  (unsigned long long)value);
}

static int check_kind(const uint8_t *p, struct td_err *ret_err)
{
	if (td_get_le64(p + AT_MAGIC) != VMDK_MAGIC_SE)
		return td_err_set(ret_err, -EUCLEAN,
				  "it does not begin with the header of a seSparse extent");
	if (td_get_le64(p + AT_VERSION) != VERSION)
		return refuse("version", td_get_le64(p + AT_VERSION), ret_err);
	if (td_get_le64(p + AT_GRAIN) != GRAIN)
		return refuse("a grain size of sectors", td_get_le64(p + AT_GRAIN), ret_err);
	if (td_get_le64(p + AT_TABLE) != TABLE)
		return refuse("a grain table size of sectors", td_get_le64(p + AT_TABLE), ret_err);
	if (td_get_le64(p + AT_FLAGS) != 0)
		return refuse("the flags", td_get_le64(p + AT_FLAGS), ret_err);
	if (!all_zero(p + AT_RESERVED, p + AT_VOLATILE) || !all_zero(p + AT_PAD, p + VMDK_SECTOR))
		return td_err_set(ret_err, -ENOTSUP,
				  "its header has fields whose meaning is not known: it is not supported");
	return 0;
}

static int check_regions(const struct vmdk_se *se, struct td_err *ret_err)
{
	const uint64_t directory = td_div_up(se->capacity, GRAIN * VMDK_SE_PER_TABLE) * 8;

	if (se->capacity == 0 || se->capacity > VMDK_MAX_SECTORS)
		return td_err_set(ret_err, -EUCLEAN, "its capacity of %llu sectors cannot be",
				  (unsigned long long)se->capacity);
	if (se->capacity > CAPACITY_MAX)
		return refuse("a capacity of sectors", se->capacity, ret_err);
	if (se->gd_len < td_div_up(directory, VMDK_SECTOR))
		return td_err_set(ret_err, -EUCLEAN,
				  "its grain directory has %llu sectors, too few for a capacity of %llu",
				  (unsigned long long)se->gd_len, (unsigned long long)se->capacity);
	if (!td_in_range(se->gd, se->gd_len, VMDK_MAX_SECTORS) ||
	    !td_in_range(se->tables, se->tables_len, VMDK_MAX_SECTORS) || se->grains > VMDK_MAX_SECTORS ||
	    se->vol >= VMDK_MAX_SECTORS)
		return td_err_set(ret_err, -EUCLEAN, "its header names sectors that no file has");
	if (se->vol == 0 || se->gd == 0 || se->tables == 0 || se->grains == 0 ||
	    td_overlap(se->gd, se->gd_len, se->tables, se->tables_len) ||
	    td_overlap(se->gd, se->gd_len, se->vol, 1) ||
	    td_overlap(se->tables, se->tables_len, se->vol, 1) || se->gd + se->gd_len > se->grains ||
	    se->tables + se->tables_len > se->grains)
		return td_err_set(ret_err, -EUCLEAN,
				  "its headers, directory, tables and grains lie over each other");
	return 0;
}

int vmdk_se_decode(const uint8_t *buf, struct vmdk_se *ret, struct td_err *ret_err)
{
	struct vmdk_se se = {
		.capacity = td_get_le64(buf + AT_CAPACITY),
		.vol = td_get_le64(buf + AT_VOLATILE),
		.gd = td_get_le64(buf + AT_GD),
		.gd_len = td_get_le64(buf + AT_GD + 8),
		.tables = td_get_le64(buf + AT_TABLES),
		.tables_len = td_get_le64(buf + AT_TABLES + 8),
		.grains = td_get_le64(buf + AT_GRAINS),
	};
	int r = check_kind(buf, ret_err);

	if (r == 0)
		r = check_regions(&se, ret_err);
	if (r == 0)
		*ret = se;
	return r;
}

int vmdk_se_check_volatile(const uint8_t *buf, struct td_err *ret_err)
{
	if (td_get_le64(buf + AT_MAGIC) != MAGIC_VOLATILE)
		return td_err_set(ret_err, -EUCLEAN, "its volatile header is damaged");
	if (td_get_le64(buf + AT_REPLAY) != 0)
		return td_err_set(
			ret_err, -ENOTSUP,
			"its journal has changes that were not carried out (the host stopped while it "
			"was written): open and close it on ESXi first");
	if (!all_zero(buf + AT_VOLATILE_PAD, buf + VMDK_SECTOR))
		return td_err_set(ret_err, -ENOTSUP,
				  "its volatile header has fields whose meaning is not known: it is not "
				  "supported");
	return 0;
}

uint64_t vmdk_se_table_at(const struct vmdk_se *se, uint64_t raw)
{
	const uint64_t at = (raw & UINT32_MAX) * TABLE;

	if (raw == 0)
		return 0;
	return raw >> 32 == TABLE_THERE && td_in_range(at, TABLE, se->tables_len)
		       ? (se->tables + at) * VMDK_SECTOR
		       : VMDK_SE_NOWHERE;
}

int vmdk_se_grain_at(const struct vmdk_se *se, uint64_t raw, enum vmdk_se_grain *ret_kind, uint64_t *ret_off)
{
	/* The lowest 12 bits of the number stand above the others. */
	const uint64_t number = (raw >> 48 & 0xfff) | (raw & 0xffffffffffff) << 12;

	*ret_off = 0;
	*ret_kind = VMDK_SE_ABSENT;
	switch (raw >> 60) {
	case 0:
		return raw == 0 ? 0 : -EUCLEAN;
	case 1: /* unmapped by the guest */
	case 2:
		*ret_kind = VMDK_SE_ZERO;
		return 0;
	case 3:
		if (number >= (VMDK_MAX_SECTORS - se->grains) / GRAIN)
			return -EUCLEAN;
		*ret_kind = VMDK_SE_DATA;
		*ret_off = (se->grains + number * GRAIN) * VMDK_SECTOR;
		return 0;
	default:
		return -EUCLEAN;
	}
}
