// SPDX-License-Identifier: BSD-2-Clause
/*
 * Fuzz target: a LUKS1 header.  Input: 4 bytes, how long the area is that holds it; then the header.  What decodes is
 * inside the area, encodes to what decodes to the same, and its cipher is one of ours or refused by name.
 */
#include "fuzz.h"

#include <blktap/luks.h>

static void check_slots(const struct luks_header *h, uint64_t area)
{
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *s = &h->slot[i];

		if (!s->active)
			continue;
		FUZZ_CHECK(s->rounds > 0 && s->stripes == LUKS_STRIPES);
		FUZZ_CHECK(td_in_range((uint64_t)s->sector * LUKS_SECTOR, luks_material_len(h), area));
		FUZZ_CHECK((uint64_t)s->sector * LUKS_SECTOR >= LUKS_HEADER_LEN);
	}
}

static void check_cipher(const struct luks_header *h)
{
	struct td_err e = { "" };
	struct td_cipher c;
	int r = luks_cipher(h, &c, &e);

	FUZZ_CHECK(r == 0 || (r == -ENOTSUP && e.msg[0] != '\0'));
	FUZZ_CHECK(r < 0 || (c.key_len == h->key_len && c.key_len <= LUKS_KEY_MAX));
	FUZZ_CHECK(r < 0 || c.iv != TD_IV_ESSIV || c.iv_hash[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[LUKS_HEADER_LEN], again[LUKS_HEADER_LEN];
	struct luks_header h, back;
	struct td_err e = { "" };
	uint64_t area;
	int r;

	if (size < 4)
		return 0;
	area = td_get_be32(data);
	r = luks_decode(data + 4, size - 4, area, &h, &e);
	FUZZ_CHECK(r == 0 || r == -EUCLEAN || r == -ENOTSUP);
	for (const char *c = e.msg; *c != '\0'; c++)
		FUZZ_CHECK(*c >= ' ' && *c <= '~');
	if (r < 0)
		return 0;
	check_slots(&h, area);
	check_cipher(&h);
	luks_encode(&h, buf);
	FUZZ_CHECK(luks_decode(buf, sizeof(buf), area, &back, NULL) == 0);
	luks_encode(&back, again);
	FUZZ_CHECK(memcmp(buf, again, sizeof(buf)) == 0);
	return 0;
}
