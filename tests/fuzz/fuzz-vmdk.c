// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: what a vmdk file may begin with: a hosted header, a COWD header, a seSparse header, a descriptor.  What
 * a header decodes to encodes to what decodes to the same; a descriptor's strings lie in it, and a changed line says
 * what it was told.
 */
#include <blktap/vmdk.h>

#include "fuzz.h"

static void check_message(int r, const struct td_err *e)
{
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP || r == -E2BIG);
	for (const char *c = e->msg; *c != '\0'; c++)
		FUZZ_CHECK((unsigned char)*c >= ' ' && *c != 0x7f);
}

static void check_hosted(const uint8_t *data)
{
	struct td_err e = { "" };
	struct vmdk_header h, again;
	uint8_t buf[VMDK_SECTOR];
	int r = vmdk_header_decode(data, &h, &e);

	check_message(r, &e);
	if (r < 0)
		return;
	FUZZ_CHECK(h.capacity <= VMDK_MAX_SECTORS && vmdk_tables(&h) <= VMDK_MAX_SECTORS);
	FUZZ_CHECK(h.desc == 0 || td_in_range(h.desc, h.desc_len, VMDK_MAX_SECTORS));
	FUZZ_CHECK(h.gd == VMDK_GD_AT_END || td_in_range(h.gd, vmdk_directory_len(&h), VMDK_MAX_SECTORS));
	vmdk_header_encode(&h, buf);
	FUZZ_CHECK(vmdk_header_decode(buf, &again, NULL) == 0);
	FUZZ_CHECK(h.capacity == again.capacity && h.gd == again.gd && h.flags == again.flags);
}

static void check_cowd(const uint8_t *data)
{
	uint8_t buf[VMDK_COWD_HEADER];
	struct td_err e = { "" };
	struct vmdk_cowd c;
	int r = vmdk_cowd_decode(data, &c, &e);

	check_message(r, &e);
	if (r < 0)
		return;
	memcpy(buf, data, sizeof(buf));
	vmdk_cowd_encode(&c, buf);
	FUZZ_CHECK(memcmp(buf, data, sizeof(buf)) == 0);
}

/* Whatever a table says, what is in range is behind the headers, and no offset wraps. */
static void check_sesparse(const uint8_t *data, size_t size)
{
	struct td_err e = { "" };
	enum vmdk_se_grain kind;
	struct vmdk_se se;
	uint64_t off;
	int r = vmdk_se_decode(data, &se, &e);

	check_message(r, &e);
	e = (struct td_err){ "" };
	if (size >= 2ul * VMDK_SECTOR)
		check_message(vmdk_se_check_volatile(data + VMDK_SECTOR, &e), &e);
	for (size_t at = VMDK_SECTOR; r == 0 && at + 8 <= size; at += 8) {
		const uint64_t raw = td_get_le64(data + at), table = vmdk_se_table_at(&se, raw);

		FUZZ_CHECK(table == 0 || table == VMDK_SE_NOWHERE || table >= se.tables * VMDK_SECTOR);
		if (vmdk_se_grain_at(&se, raw, &kind, &off) == 0 && kind == VMDK_SE_DATA)
			FUZZ_CHECK(off >= se.grains * VMDK_SECTOR &&
				   off <= VMDK_MAX_SECTORS * VMDK_SECTOR - VMDK_SE_GRAIN);
	}
}

static void inside(struct vmdk_str s, const char *text, size_t len)
{
	FUZZ_CHECK(s.at == NULL || (s.at >= text && td_in_range((size_t)(s.at - text), s.len, len)));
}

static void check_extents(const struct vmdk_desc *d)
{
	struct vmdk_extent x;
	uint64_t sum = 0;
	unsigned nr = 0;
	size_t pos = 0;

	while (vmdk_extent_next(d->text, &pos, &x, NULL) == 1) {
		inside(x.name, d->text.at, d->text.len);
		FUZZ_CHECK(td_in_range(x.offset, x.sectors, VMDK_MAX_SECTORS));
		FUZZ_CHECK(x.type == VMDK_ZERO || x.name.len > 0);
		sum += x.sectors;
		nr++;
	}
	FUZZ_CHECK(nr == d->nr_extents && sum == d->capacity);
}

static void check_change(const struct vmdk_desc *d)
{
	static char out[8192];
	struct vmdk_desc again;
	int len = vmdk_desc_change(d->text, "parentFileNameHint", "p q", "parentCID", out, sizeof(out));

	FUZZ_CHECK(len == -ENOSPC || (len >= 0 && (size_t)len <= sizeof(out)));
	if (len < 0 || vmdk_desc_decode(out, (size_t)len, &again, NULL) < 0)
		return;
	FUZZ_CHECK(again.cid == d->cid && again.nr_extents == d->nr_extents);
	FUZZ_CHECK(again.parent_hint.len == 3 && memcmp(again.parent_hint.at, "p q", 3) == 0);
}

static void check_descriptor(const char *text, size_t len)
{
	struct td_err e = { "" };
	struct vmdk_desc d;
	int r = vmdk_desc_decode(text, len, &d, &e);

	check_message(r, &e);
	if (r < 0)
		return;
	inside(d.cid_digits, text, len);
	inside(d.parent_hint, text, len);
	inside(d.create_type, text, len);
	FUZZ_CHECK(d.cid_digits.len >= 1 && d.cid_digits.len <= 8);
	check_extents(&d);
	check_change(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmdk_marker m;

	if (size >= VMDK_SECTOR)
		check_hosted(data);
	if (size >= VMDK_SECTOR)
		check_sesparse(data, size);
	if (size >= VMDK_COWD_HEADER)
		check_cowd(data);
	if (size >= 16 && vmdk_marker_decode(data, &m) == 0)
		FUZZ_CHECK(m.value <= VMDK_MAX_SECTORS);
	check_descriptor((const char *)data, size);
	return 0;
}
