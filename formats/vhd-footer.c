// SPDX-License-Identifier: BSD-2-Clause
/*
 * The footer: what every vhd has at its end, and a dynamic one at its start too.
 *
 * Source: the specification, "Hard Disk Footer Format" and its appendix on geometry; xapi-project/blktap vhd/lib
 * for the hidden flag and for the mark that its resize leaves while it runs.
 */
#include <blktap/vhd.h>

#define FEATURES_RESERVED 0x00000002u /* always set */

enum {
	AT_FEATURES = 8,
	AT_VERSION = 12,
	AT_DATA_OFF = 16,
	AT_TIME = 24,
	AT_CREATOR = 28,
	AT_CREATOR_VERSION = 32,
	AT_CREATOR_OS = 36,
	AT_ORIGINAL = 40,
	AT_SIZE = 48,
	AT_CYLINDERS = 56,
	AT_HEADS = 58,
	AT_SECTORS = 59,
	AT_TYPE = 60,
	AT_CHECKSUM = 64,
	AT_UUID = 68,
	AT_SAVED = 84,
	AT_HIDDEN = 85,
};

static const char cookie[8] = "conectix";
static const char poison[8] = "v_poison";

/* All bytes but the checksum's own, and but the hidden flag if that is to be passed over. */
static uint32_t footer_sum(const uint8_t raw[VHD_FOOTER], bool hidden)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < VHD_FOOTER; i++)
		if ((i < AT_CHECKSUM || i >= AT_CHECKSUM + 4) && (hidden || i != AT_HIDDEN))
			sum += raw[i];
	return ~sum;
}

/* The first tools that set the hidden flag left the checksum as it was. */
static bool sum_is_right(const uint8_t raw[VHD_FOOTER])
{
	uint32_t sum = td_get_be32(raw + AT_CHECKSUM), version = td_get_be32(raw + AT_CREATOR_VERSION);
	bool early = memcmp(raw + AT_CREATOR, VHD_CREATOR_TAP, 3) == 0 && version <= 0x00010001u;

	return sum == footer_sum(raw, true) || (early && raw[AT_HIDDEN] && sum == footer_sum(raw, false));
}

static int check_fields(const struct vhd_footer *f, uint32_t version, struct td_err *ret_err)
{
	if (version >> 16 != 1)
		return td_err_set(ret_err, -ENOTSUP, "version %u.%u of the format is not supported",
				  version >> 16, version & 0xffff);
	if (f->type != VHD_FIXED && f->type != VHD_DYNAMIC && f->type != VHD_DIFF)
		return td_err_set(ret_err, -ENOTSUP, "disk type %u is not supported", (unsigned)f->type);
	/* Its bitmaps count their bits from the other end. */
	if (f->type != VHD_FIXED && vhd_is_tapdisk(f) && f->creator_version <= 1)
		return td_err_set(ret_err, -ENOTSUP, "an image of tapdisk 0.1 is not supported");
	if (f->size > INT64_MAX - VHD_SECTOR)
		return td_err_set(ret_err, -EUCLEAN, "its size cannot be: %llu bytes",
				  (unsigned long long)f->size);
	if (f->type != VHD_FIXED && (f->data_off < VHD_FOOTER || f->data_off % VHD_SECTOR != 0 ||
				     f->data_off > INT64_MAX - VHD_HEADER))
		return td_err_set(ret_err, -EUCLEAN, "its header cannot be at 0x%llx",
				  (unsigned long long)f->data_off);
	return 0;
}

int vhd_footer_decode(const uint8_t raw[VHD_FOOTER], struct vhd_footer *ret, struct td_err *ret_err)
{
	struct vhd_footer f = {
		.features = td_get_be32(raw + AT_FEATURES),
		.data_off = td_get_be64(raw + AT_DATA_OFF),
		.timestamp = td_get_be32(raw + AT_TIME),
		.creator_version = td_get_be32(raw + AT_CREATOR_VERSION),
		.original_size = td_get_be64(raw + AT_ORIGINAL),
		.size = td_get_be64(raw + AT_SIZE),
		.cylinders = td_get_be16(raw + AT_CYLINDERS),
		.heads = raw[AT_HEADS],
		.sectors = raw[AT_SECTORS],
		.type = (enum vhd_type)td_get_be32(raw + AT_TYPE),
		.saved = raw[AT_SAVED] != 0,
		.hidden = raw[AT_HIDDEN] != 0,
	};
	bool poisoned = memcmp(raw, poison, sizeof(poison)) == 0;
	int r;

	memcpy(f.creator, raw + AT_CREATOR, sizeof(f.creator));
	memcpy(f.creator_os, raw + AT_CREATOR_OS, sizeof(f.creator_os));
	memcpy(f.uuid, raw + AT_UUID, sizeof(f.uuid));
	if (!poisoned && memcmp(raw, cookie, sizeof(cookie)) != 0)
		return td_err_set(ret_err, -EINVAL, "there is no vhd footer");
	if (!sum_is_right(raw))
		return td_err_set(ret_err, -EUCLEAN, "the checksum of its footer is wrong");
	*ret = f;
	if (poisoned)
		return td_err_set(
			ret_err, -ENOTSUP,
			"vhd-util was interrupted while it resized the image, and its journal has to "
			"be reverted first (vhd-util revert -j JOURNAL)");
	r = check_fields(&f, td_get_be32(raw + AT_VERSION), ret_err);
	return r;
}

void vhd_footer_encode(const struct vhd_footer *f, uint8_t raw[VHD_FOOTER])
{
	memcpy(raw, cookie, sizeof(cookie));
	td_put_be32(raw + AT_FEATURES, f->features | FEATURES_RESERVED);
	td_put_be32(raw + AT_VERSION, 0x00010000);
	td_put_be64(raw + AT_DATA_OFF, f->data_off);
	td_put_be32(raw + AT_TIME, f->timestamp);
	memcpy(raw + AT_CREATOR, f->creator, sizeof(f->creator));
	td_put_be32(raw + AT_CREATOR_VERSION, f->creator_version);
	memcpy(raw + AT_CREATOR_OS, f->creator_os, sizeof(f->creator_os));
	td_put_be64(raw + AT_ORIGINAL, f->original_size);
	td_put_be64(raw + AT_SIZE, f->size);
	td_put_be16(raw + AT_CYLINDERS, f->cylinders);
	raw[AT_HEADS] = f->heads;
	raw[AT_SECTORS] = f->sectors;
	td_put_be32(raw + AT_TYPE, f->type);
	memcpy(raw + AT_UUID, f->uuid, sizeof(f->uuid));
	/* What else such a byte may say stays. */
	if ((raw[AT_SAVED] != 0) != f->saved)
		raw[AT_SAVED] = f->saved;
	if ((raw[AT_HIDDEN] != 0) != f->hidden)
		raw[AT_HIDDEN] = f->hidden;
	td_put_be32(raw + AT_CHECKSUM, footer_sum(raw, true));
}

bool vhd_is_tapdisk(const struct vhd_footer *f)
{
	return memcmp(f->creator, VHD_CREATOR_TAP, sizeof(f->creator)) == 0;
}

/* ---- size and geometry ---- */

uint64_t vhd_geometry_size(const struct vhd_footer *f)
{
	return (uint64_t)f->cylinders * f->heads * f->sectors * VHD_SECTOR;
}

/*
 * Virtual PC alone shows its guests the geometry and not the size, which is larger by a fraction of a cylinder.  The
 * largest geometry, which stands in all larger images, says nothing, and neither does one that is larger than the size.
 */
uint64_t vhd_disk_size(const struct vhd_footer *f)
{
	uint64_t chs = vhd_geometry_size(f);

	if (memcmp(f->creator, "vpc ", 4) == 0 && chs > 0 && chs < VHD_GEOMETRY_MAX * VHD_SECTOR &&
	    chs <= f->size)
		return chs;
	return td_align_down(f->size, VHD_SECTOR);
}

/* The specification's: as few cylinders as fit into what a BIOS, then ATA, can say. */
void vhd_geometry(uint64_t size, struct vhd_footer *ret)
{
	uint64_t all = TD_MIN(size / VHD_SECTOR, VHD_GEOMETRY_MAX), tracks;
	uint32_t sectors = 17, heads;

	if (all >= 65535ull * 16 * 63) {
		sectors = 255;
		heads = 16;
		tracks = all / sectors;
	} else {
		tracks = all / sectors;
		heads = (uint32_t)TD_MAX((tracks + 1023) / 1024, 4u);
		if (tracks >= (uint64_t)heads * 1024 || heads > 16) {
			sectors = 31;
			heads = 16;
			tracks = all / sectors;
		}
		if (tracks >= (uint64_t)heads * 1024) {
			sectors = 63;
			heads = 16;
			tracks = all / sectors;
		}
	}
	ret->cylinders = (uint16_t)(tracks / heads);
	ret->heads = (uint8_t)heads;
	ret->sectors = (uint8_t)sectors;
}

/* ---- UUIDs, as people read them ---- */

void vhd_uuid_text(const uint8_t uuid[VHD_UUID], char ret[VHD_UUID_TEXT])
{
	char *p = ret;

	for (unsigned i = 0; i < VHD_UUID; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		p += snprintf(p, 3, "%02x", uuid[i]);
	}
}

bool vhd_uuid_is_zero(const uint8_t uuid[VHD_UUID])
{
	static const uint8_t zero[VHD_UUID];

	return memcmp(uuid, zero, VHD_UUID) == 0;
}
