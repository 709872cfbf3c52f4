// SPDX-License-Identifier: BSD-2-Clause
/*
 * Writes the seeds of the corpora: make-corpus DIR, with DIR/header, tables ... there (see main).  Run
 * by hand when a format gets a new structure; what it wrote is in corpus/.
 */
#include <stdio.h>

#include <blktap/luks.h>
#include <blktap/qcow2.h>
#include <blktap/vdi.h>
#include <blktap/vhd.h>
#include <blktap/vhdx.h>

static const char *top;

static void put(const char *name, const void *data, size_t len)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	f = fopen(path, "w");
	if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0) {
		perror(path);
		exit(1);
	}
}

static void headers(void)
{
	struct qcow2_header h = { .version = 2, .cluster_bits = 9, .size = 1 << 20, .refcount_order = 4 };
	struct qcow2_layout l;
	uint8_t buf[512] = { 0 }, names[96] = { 0 };
	size_t pos;

	td_ignore(qcow2_layout_new(&h, &l, NULL)); /* nothing here can be refused */
	h.backing_off = 300;
	h.backing_len = 4;
	h.nr_snapshots = 1;
	h.snapshots_off = l.end;
	memcpy(buf + 300, "base", 4);
	pos = qcow2_header_encode(&h, buf, sizeof(buf));
	td_ignore(qcow2_ext_put(buf, 300, &pos, QCOW2_EXT_BACKING_FORMAT, "raw", 3));
	put("header/v2-backing", buf, 304);

	memset(buf, 0, sizeof(buf));
	h = (struct qcow2_header){ .version = 3,
				   .cluster_bits = 12,
				   .size = 1 << 20,
				   .refcount_order = 0,
				   .compression = QCOW2_ZSTD,
				   .compatible = QCOW2_COMPAT_LAZY };
	td_ignore(qcow2_layout_new(&h, &l, NULL));
	h.incompatible |= 1ull << 20;
	memcpy(names, "\0\024time travel", 13);
	memcpy(names + 48, "\1\0lazy refcounts", 16);
	pos = qcow2_header_encode(&h, buf, sizeof(buf));
	td_ignore(qcow2_ext_put(buf, sizeof(buf), &pos, QCOW2_EXT_FEATURE_NAMES, names, sizeof(names)));
	td_ignore(qcow2_ext_put(buf, sizeof(buf), &pos, 0x12345678, "unknown", 7));
	td_ignore(qcow2_ext_put(buf, sizeof(buf), &pos, QCOW2_EXT_END, NULL, 0));
	put("header/v3-features", buf, pos);
}

static void tables(void)
{
	static const uint64_t entries[] = {
		0,
		QCOW2_L2_ZERO,
		QCOW2_COPIED | 0x50000,
		QCOW2_COPIED | 0x50000 | QCOW2_L2_ZERO,
		0x50000,
		QCOW2_L2_COMPRESSED | 3ull << 54 | 0x51234,
		0x50200,
		QCOW2_COPIED,
	};
	uint8_t buf[8 + sizeof(entries)] = { 7, 4, 1 };

	for (size_t i = 0; i < TD_NELEMS(entries); i++)
		td_put_be64(buf + 8 + 8 * i, entries[i]);
	put("tables/64k", buf, sizeof(buf));
	buf[0] = 0, buf[1] = 0, buf[2] = 0;
	put("tables/512-v2", buf, sizeof(buf));
	buf[0] = 12, buf[1] = 6;
	put("tables/2m-v2", buf, sizeof(buf));
}

static size_t snapshot(uint8_t *p, const char *id, const char *name, uint32_t extra)
{
	size_t id_len = strlen(id), name_len = strlen(name);

	td_put_be64(p, 0x70000);
	td_put_be32(p + 8, 2);
	td_put_be16(p + 12, (uint16_t)id_len);
	td_put_be16(p + 14, (uint16_t)name_len);
	td_put_be32(p + 36, extra);
	memcpy(p + 40 + extra, id, id_len);
	memcpy(p + 40 + extra + id_len, name, name_len);
	return (size_t)td_align_up(40 + extra + id_len + name_len, 8);
}

static void snapshots(void)
{
	uint8_t buf[512] = { 7 };
	size_t len = 8;

	len += snapshot(buf + len, "1", "first", 16);
	len += snapshot(buf + len, "2", "", 0);
	len += snapshot(buf + len, "", "third", 24);
	put("snapshots/three", buf, len);
}

/* The extension, then its directory: one as usual, one with extra data, one of a strange kind. */
static void bitmaps(void)
{
	static const struct qcow2_bitmap_entry entries[] = {
		{ .flags = QCOW2_BITMAP_AUTO, .type = 1, .granularity_bits = 16, .name = "a", .name_len = 1 },
		{ .flags = QCOW2_BITMAP_EXTRA_OK | QCOW2_BITMAP_IN_USE,
		  .type = 1,
		  .granularity_bits = 9,
		  .extra = (const uint8_t *)"extra",
		  .extra_len = 5,
		  .name = "second",
		  .name_len = 6 },
		{ .type = 2, .granularity_bits = 63, .name = "third one", .name_len = 9 },
	};
	uint8_t buf[512] = { 7 };
	struct qcow2_bitmaps_ext x = { .nr = TD_NELEMS(entries), .dir_off = 0x50000 };
	size_t start = 8 + QCOW2_BITMAPS_EXT_LEN, len = start;

	for (unsigned i = 0; i < TD_NELEMS(entries); i++) {
		struct qcow2_bitmap_entry e = entries[i];

		e.table_off = 0x60000 + 0x10000ull * i;
		e.table_size = i + 1;
		len += qcow2_bitmap_entry_encode(&e, buf + len, sizeof(buf) - len);
	}
	x.dir_size = len - start;
	qcow2_bitmaps_ext_encode(&x, buf + 8);
	put("bitmaps/three", buf, len);
}

static void inflate_seeds(void)
{
	uint8_t plain[512], buf[8 + 512] = { 0 };
	int64_t n;

	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i % 23 * (i / 64));
	n = qcow2_deflate(QCOW2_DEFLATE, plain, sizeof(plain), buf + 8, 512);
	if (n > 0)
		put("inflate/deflate", buf, 8 + (size_t)n);
	buf[0] = 1;
	n = qcow2_deflate(QCOW2_ZSTD, plain, sizeof(plain), buf + 8, 512);
	if (n > 0)
		put("inflate/zstd", buf, 8 + (size_t)n);
}

/* A program each: see fuzz-nbd.c. */
static void nbd(void)
{
	static const uint8_t structured[] = { 1, 0, 0, 0, 1, 1, 1, 0, 1, 3, 0, 0, 5, 7, 0, 0, 200, 9 };
	static const uint8_t plain[] = { 2, 1, 1, 0, 2, 0, 0, 0, 3, 4, 6, 0, 1, 9, 0, 0, 254, 5, 255 };
	static const uint8_t options[] = { 3, 7, 3, 0, 0, 7, 6, 8, 0, 0, 0, 0, 0, 0, 1, 0, 3, 9 };
	static const uint8_t raw[] = { 0, 8, 4, 0, 0, 0, 3, 8, 8, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T' };
	static const uint8_t refused[] = { 2, 1, 0, 254, 1, 2, 0, 0, 0, 8, 1, 0x80, 0, 1 };

	put("nbd/structured", structured, sizeof(structured));
	put("nbd/plain", plain, sizeof(plain));
	put("nbd/options", options, sizeof(options));
	put("nbd/raw", raw, sizeof(raw));
	put("nbd/refused-write", refused, sizeof(refused));
}

/* An order, then where and what. */
static void refcounts(void)
{
	static const uint8_t none[] = { 4 }, low[] = { 4, 2, 0, 0, 2, 1, 0 }, high[] = { 5, 2, 1, 255 },
			     no_block[] = { 3, 0, 6, 0 }, leak[] = { 4, 2, 109, 1, 2, 113, 7 },
			     two_in_one[] = { 6, 0, 6, 2, 0, 14, 2 };

	put("refcounts/none", none, sizeof(none));
	put("refcounts/low", low, sizeof(low));
	put("refcounts/high", high, sizeof(high));
	put("refcounts/leak", leak, sizeof(leak));
	put("refcounts/no-block", no_block, sizeof(no_block));
	put("refcounts/two-in-one", two_in_one, sizeof(two_in_one));
}

/* footer | header | batmap's header | a locator's data */
static void vhd_one(const char *name, enum vhd_type type, uint32_t platform, const char *parent)
{
	struct vhd_footer f = { .data_off = 512, .creator = VHD_CREATOR_TAP, .size = 8 << 20, .type = type };
	struct vhd_header h = { .bat_off = 1536, .max_entries = 4, .block_size = VHD_BLOCK };
	struct vhd_batmap m = { .off = 2560, .sectors = 1, .version = VHD_BATMAP_VERSION };
	static uint8_t buf[VHD_FOOTER + VHD_HEADER + VHD_SECTOR + VHD_LOCATOR_MAX];
	size_t len = 0, at = sizeof(buf) - VHD_LOCATOR_MAX;

	memset(buf, 0, sizeof(buf));
	f.creator_version = VHD_VERSION_CURRENT;
	vhd_geometry(f.size, &f);
	h.locator[0] = (struct vhd_locator){ platform, 512, 20, 4096 };
	td_ignore(vhd_name_to_header(parent, h.parent_name));
	td_ignore(vhd_name_to_locator(platform, parent, buf + at, &len));
	vhd_footer_encode(&f, buf);
	vhd_header_encode(&h, buf + VHD_FOOTER);
	vhd_batmap_encode(&m, buf + VHD_FOOTER + VHD_HEADER);
	buf[500] = 1; /* the checksums are put right */
	put(name, buf, at + len);
}

static void vhd(void)
{
	vhd_one("vhd/dynamic", VHD_DYNAMIC, VHD_LOC_W2RU, "");
	vhd_one("vhd/w2ru", VHD_DIFF, VHD_LOC_W2RU, "./base.vhd");
	vhd_one("vhd/macx", VHD_DIFF, VHD_LOC_MACX, "/a b/base.vhd");
}

/* How long the area is; the header. */
static void put_luks(const char *name, const char *cipher, const char *mode, uint32_t key_len,
		     unsigned active)
{
	struct luks_header h = { .hash = "sha256", .key_len = key_len, .rounds = 1000 };
	uint8_t buf[4 + LUKS_HEADER_LEN];

	snprintf(h.cipher, sizeof(h.cipher), "%s", cipher);
	snprintf(h.mode, sizeof(h.mode), "%s", mode);
	td_put_be32(buf, (uint32_t)luks_layout(&h));
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		h.slot[i].active = active & 1u << i;
		h.slot[i].rounds = 2000;
	}
	luks_encode(&h, buf + 4);
	put(name, buf, sizeof(buf));
}

static void luks(void)
{
	put_luks("luks/xts", "aes", "xts-plain64", 64, 0x81);
	put_luks("luks/cbc-essiv", "aes", "cbc-essiv:sha256", 16, 0xff);
	put_luks("luks/serpent", "serpent", "xts-plain64", 32, 0x08);
}

/* header | entries of the map.  Ours are not written, so there is no encoder. */
static void vdi(void)
{
	uint8_t buf[VDI_HEADER + 16] = "<<< Oracle VM VirtualBox Disk Image >>>\n";

	memcpy(buf + VDI_AT_MAGIC, "\x7f\x10\xda\xbe\1\0\1\0\x90\1\0\0\1\0\0\0", 16);
	td_put_le32(buf + 340, 1 << 20);
	td_put_le32(buf + 344, 2 << 20);
	td_put_le32(buf + 360, VDI_SECTOR);
	td_put_le64(buf + 368, 100ull << 20);
	td_put_le32(buf + 376, 1 << 20);
	td_put_le32(buf + 384, 100);
	td_put_le32(buf + 388, 2);
	memcpy(buf + VDI_HEADER, "\0\0\0\0\xff\xff\xff\xff\xfe\xff\xff\xff\1\0\0\0", 16);
	put("vdi/dynamic", buf, sizeof(buf));
}

/* What stands where is told in fuzz-vhdx.c; ours are not written, so there is no encoder. */
static void put_guid(uint8_t *p, const char *text)
{
	td_ignore(td_guid_parse(text, p)); /* they are all well */
}

static void vhdx_tables(void)
{
	uint8_t header[2 + 256] = { 0 }, region[2 + 16 + 64] = "\1\0regi";

	for (unsigned i = 0; i < 2; i++) {
		uint8_t *p = header + 2 + (size_t)i * 128;

		memcpy(p, "head", 4);
		p[8] = (uint8_t)(i + 1);
		p[48] = 7;
		p[66] = 1;
		td_put_le32(p + 68, VHDX_MIB);
		td_put_le64(p + 72, VHDX_MIB);
	}
	put("vhdx/headers", header, sizeof(header));
	region[2 + 8] = 2;
	put_guid(region + 18, "2dc27766-f623-4200-9d64-115e9bfd4a08");
	put_guid(region + 50, "8b7ca206-4790-4b9a-b8fe-575f050f886e");
	for (unsigned i = 0; i < 2; i++) {
		td_put_le64(region + 18 + 32 * i + 16, (2ull + i) * VHDX_MIB);
		td_put_le32(region + 18 + 32 * i + 24, VHDX_MIB);
	}
	put("vhdx/regions", region, sizeof(region));
}

static void vhdx_metadata(void)
{
	static const char *const guids[] = {
		"caa16737-fa36-4d43-b3b6-33f0aa44e76b", "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
		"beca12ab-b2e6-4523-93ef-c309e000c746", "8141bf1d-a96f-4709-ba47-f233a8faab5f",
		"cda348c7-445d-4471-9cc9-e9885251c556", "a8d35f2d-b30b-454d-abf7-d3d84834ab0c",
	};
	static const uint8_t lens[] = { 8, 8, 16, 4, 4, 60 };
	uint8_t buf[2 + 256 + 80 + 4 + 24] = "\2\0metadata", *items = buf + 2 + 256;

	buf[2 + 10] = TD_NELEMS(guids);
	for (unsigned i = 0; i < TD_NELEMS(guids); i++) {
		uint8_t *p = buf + 2 + 32 + (size_t)i * 32;

		put_guid(p, guids[i]);
		td_put_le32(p + 16, VHDX_TABLE + 64 * i);
		p[20] = lens[i];
		p[24] = 4;
	}
	td_put_le32(items, VHDX_MIB);
	items[4] = 2;
	td_put_le64(items + 16, 9ull << 30);
	td_put_le32(items + 48, 512);
	td_put_le32(items + 64, 4096);
	td_put_le32(items + 80, VHDX_MIB);
	td_put_le64(items + 84, 5 * VHDX_MIB | VHDX_PRESENT);
	td_put_le64(items + 92, 6 * VHDX_MIB | VHDX_PARTLY);
	td_put_le64(items + 100, VHDX_UNMAPPED);
	put("vhdx/metadata", buf, sizeof(buf));
}

static void vhdx_locator(void)
{
	static const char key[] = "parent_linkage", value[] = "{83ed0ec3-24c8-49a6-a959-5e4bd1288791}";
	uint8_t buf[2 + 32 + 28 + 76] = "\3", *p = buf + 2;

	put_guid(p, "b04aefb7-d19e-4a81-b789-25b8e9445913");
	p[18] = 1;
	p[20] = 32;
	p[24] = 60;
	p[28] = 28;
	p[30] = 76;
	for (unsigned i = 0; key[i]; i++)
		p[32 + 2 * i] = (uint8_t)key[i];
	for (unsigned i = 0; value[i]; i++)
		p[60 + 2 * i] = (uint8_t)value[i];
	put("vhdx/locator", buf, sizeof(buf));
}

/* Two entries, of one sector of data and of zeros. */
static void vhdx_ring(void)
{
	uint8_t buf[2 + 3 * 256] = "\4\0", *one = buf + 2, *data = one + 256, *two = data + 256;

	memcpy(one, "loge", 4);
	td_put_le32(one + 8, 2 * VHDX_SECTOR);
	one[16] = one[24] = 1;
	memcpy(one + 64, "desc", 4);
	td_put_le64(one + 80, 2 * VHDX_MIB);
	one[88] = 1;
	memcpy(data, "data", 4);
	data[252] = 1;
	memcpy(two, "loge", 4);
	td_put_le32(two + 8, VHDX_SECTOR);
	two[16] = 2;
	two[24] = 1;
	memcpy(two + 64, "zero", 4);
	td_put_le64(two + 72, VHDX_MIB);
	td_put_le64(two + 80, 3 * VHDX_MIB);
	two[88] = 2;
	put("vhdx/log", buf, sizeof(buf));
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: make-corpus DIR\n");
		return 2;
	}
	top = argv[1];
	headers();
	luks();
	tables();
	snapshots();
	bitmaps();
	inflate_seeds();
	nbd();
	refcounts();
	vdi();
	vhd();
	vhdx_tables();
	vhdx_metadata();
	vhdx_locator();
	vhdx_ring();
	return 0;
}
