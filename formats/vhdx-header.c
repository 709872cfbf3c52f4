// SPDX-License-Identifier: BSD-2-Clause
/*
 * What stands in the first MiB: headers and tables of regions, and the checksum of both and of the log.
 */
#include <blktap/vhdx.h>

enum {
	AT_CHECKSUM = 4,
	AT_SEQUENCE = 8,
	AT_DATA_GUID = 32,
	AT_LOG_GUID = 48,
	AT_LOG_VERSION = 64,
	AT_VERSION = 66,
	AT_LOG_LEN = 68,
	AT_LOG_OFF = 72,

	AT_COUNT = 8,
	AT_REGIONS = 16,
	REGION = 32,
	REGIONS_MAX = 2047,
};

static const uint8_t guid_bat[TD_GUID] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
					   0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
static const uint8_t guid_metadata[TD_GUID] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
						0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };

/* ---- CRC-32C ---- */

/* Of half a byte: little memory, and there is little to sum. */
static const uint32_t nibble[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
	0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t vhdx_crc(uint32_t crc, const uint8_t *bytes, size_t len, size_t hole)
{
	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= i >= hole && i - hole < 4 ? 0 : bytes[i];
		crc = nibble[crc & 15] ^ crc >> 4;
		crc = nibble[crc & 15] ^ crc >> 4;
	}
	return ~crc;
}

static bool is_whole(const uint8_t *raw, size_t len, const char *mark)
{
	return memcmp(raw, mark, 4) == 0 &&
	       td_get_le32(raw + AT_CHECKSUM) == vhdx_crc(0, raw, len, AT_CHECKSUM);
}

/* ---- the header ---- */

static int choose(const uint8_t *first, const uint8_t *second, const uint8_t **ret, struct td_err *ret_err)
{
	const bool one = is_whole(first, VHDX_HEADER, "head"), two = is_whole(second, VHDX_HEADER, "head");
	const uint64_t a = td_get_le64(first + AT_SEQUENCE), b = td_get_le64(second + AT_SEQUENCE);

	if (!one && !two)
		return td_err_set(ret_err, -EUCLEAN, "neither of its two headers is whole");
	if (one && two && a == b && memcmp(first, second, VHDX_HEADER) != 0)
		return td_err_set(
			ret_err, -EUCLEAN,
			"its two headers differ, and neither is newer: which one counts is not known");
	*ret = !two || (one && a >= b) ? first : second;
	return 0;
}

static int check_log(const struct vhdx_header *h, unsigned version, struct td_err *ret_err)
{
	if (td_guid_is_zero(h->log_guid))
		return 0;
	if (version != 0)
		return td_err_set(ret_err, -ENOTSUP, "version %u of its log is not supported", version);
	if (h->log_off < VHDX_START || h->log_off % VHDX_MIB || h->log_len % VHDX_MIB || h->log_len == 0 ||
	    h->log_off > VHDX_OFF_MAX)
		return td_err_set(ret_err, -EUCLEAN, "its log cannot be %u bytes at 0x%llx", h->log_len,
				  (unsigned long long)h->log_off);
	if (h->log_len > VHDX_LOG_MAX)
		return td_err_set(ret_err, -ENOTSUP, "a log of %u bytes is not supported: at most %u",
				  h->log_len, VHDX_LOG_MAX);
	return 0;
}

int vhdx_header_decode(const uint8_t first[VHDX_HEADER], const uint8_t second[VHDX_HEADER],
		       struct vhdx_header *ret, struct td_err *ret_err)
{
	const uint8_t *raw = NULL;
	struct vhdx_header h;
	int r = choose(first, second, &raw, ret_err);

	if (!raw)
		return r;
	if (td_get_le16(raw + AT_VERSION) != 1)
		return td_err_set(ret_err, -ENOTSUP, "version %u of the format is not supported (1 is)",
				  td_get_le16(raw + AT_VERSION));
	h = (struct vhdx_header){
		.sequence = td_get_le64(raw + AT_SEQUENCE),
		.log_off = td_get_le64(raw + AT_LOG_OFF),
		.log_len = td_get_le32(raw + AT_LOG_LEN),
	};
	memcpy(h.data_guid, raw + AT_DATA_GUID, TD_GUID);
	memcpy(h.log_guid, raw + AT_LOG_GUID, TD_GUID);
	r = check_log(&h, td_get_le16(raw + AT_LOG_VERSION), ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

/* ---- regions ---- */

static int check_region(const struct vhdx_region *at, const char *name, struct td_err *ret_err)
{
	if (at->off < VHDX_START || at->off % VHDX_MIB || at->len % VHDX_MIB || at->len == 0 ||
	    at->off > VHDX_OFF_MAX)
		return td_err_set(ret_err, -EUCLEAN, "its %s cannot be %u bytes at 0x%llx", name, at->len,
				  (unsigned long long)at->off);
	return 0;
}

static int add_region(const uint8_t *p, struct vhdx_regions *ret, struct td_err *ret_err)
{
	const struct vhdx_region at = { .off = td_get_le64(p + 16), .len = td_get_le32(p + 24) };
	const bool bat = memcmp(p, guid_bat, TD_GUID) == 0;
	struct vhdx_region *to = bat ? &ret->bat : &ret->metadata;
	char name[TD_GUID_TEXT];

	if (!bat && memcmp(p, guid_metadata, TD_GUID) != 0) {
		td_guid_text(p, name);
		return td_get_le32(p + 28) & 1 ? td_err_set(ret_err, -ENOTSUP,
							    "it has a region that must be known, and is not: "
							    "%s",
							    name)
					       : 0;
	}
	if (to->len)
		return td_err_set(ret_err, -EUCLEAN, "it has two %s", bat ? "BATs" : "metadata regions");
	*to = at;
	return check_region(to, bat ? "BAT" : "metadata region", ret_err);
}

int vhdx_regions_decode(const uint8_t raw[VHDX_TABLE], struct vhdx_regions *ret, struct td_err *ret_err)
{
	const uint32_t nr = td_get_le32(raw + AT_COUNT);
	struct vhdx_regions regions = { 0 };
	int r = 0;

	if (!is_whole(raw, VHDX_TABLE, "regi"))
		return td_err_set(ret_err, -EINVAL, "neither of its two tables of regions is whole");
	if (nr > REGIONS_MAX)
		return td_err_set(ret_err, -EUCLEAN, "a table of %u regions cannot be", nr);
	for (uint32_t i = 0; r == 0 && i < nr; i++)
		r = add_region(raw + AT_REGIONS + (size_t)i * REGION, &regions, ret_err);
	if (r == 0 && (regions.bat.len == 0 || regions.metadata.len == 0))
		r = td_err_set(ret_err, -EUCLEAN, "it has no %s",
			       regions.bat.len == 0 ? "BAT" : "metadata region");
	if (r == 0 &&
	    td_overlap(regions.bat.off, regions.bat.len, regions.metadata.off, regions.metadata.len))
		r = td_err_set(ret_err, -EUCLEAN, "its BAT and its metadata region overlap");
	if (r == 0)
		*ret = regions;
	return r;
}
