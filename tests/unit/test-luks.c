// SPDX-License-Identifier: BSD-2-Clause
/* formats/luks.c: a header there and back, then one field wrong at a time; names of ciphers. */
#include <blktap/luks.h>

#include "unit.h"

/* As QEMU lays out its own: aes-256-xts, slot 0 and slot 7 in use. */
static void make(struct luks_header *h, uint64_t *ret_area)
{
	*h = (struct luks_header){
		.cipher = "aes", .mode = "xts-plain64", .hash = "sha256", .key_len = 64, .rounds = 1000
	};
	memcpy(h->uuid, "12345678-1234-4234-8234-123456789abc", 37);
	memset(h->digest, 0xd1, sizeof(h->digest));
	memset(h->salt, 0x5a, sizeof(h->salt));
	*ret_area = luks_layout(h);
	for (unsigned i = 0; i < LUKS_SLOTS; i += 7) {
		h->slot[i].active = true;
		h->slot[i].rounds = 2000 + i;
		memset(h->slot[i].salt, (int)(0x10 + i), LUKS_SALT);
	}
}

static void a_header_goes_there_and_back(void **state)
{
	uint8_t buf[LUKS_HEADER_LEN], again[LUKS_HEADER_LEN];
	struct luks_header h, back;
	struct td_cipher c;
	uint64_t area;

	(void)state;
	make(&h, &area);
	/* What QEMU's images of this cipher have. */
	assert_int_equal(area, 2068480);
	assert_int_equal(h.slot[0].sector, 8);
	assert_int_equal(h.slot[7].sector * LUKS_SECTOR, 1810432);
	luks_encode(&h, buf);
	assert_int_equal(luks_decode(buf, sizeof(buf), area, &back, NULL), 0);
	assert_string_equal(back.cipher, "aes");
	assert_string_equal(back.mode, "xts-plain64");
	assert_string_equal(back.hash, "sha256");
	assert_string_equal(back.uuid, h.uuid);
	assert_int_equal(back.key_len, 64);
	assert_memory_equal(back.digest, h.digest, LUKS_DIGEST);
	assert_true(back.slot[7].active);
	assert_false(back.slot[1].active);
	assert_int_equal(back.slot[7].rounds, 2007);
	assert_memory_equal(back.slot[7].salt, h.slot[7].salt, LUKS_SALT);
	luks_encode(&back, again);
	assert_memory_equal(buf, again, sizeof(buf));
	assert_int_equal(luks_cipher(&back, &c, NULL), 0);
	assert_int_equal(c.mode, TD_CIPHER_XTS);
	assert_int_equal(c.iv, TD_IV_PLAIN64);
	assert_int_equal(c.key_len, 64);
}

struct lie {
	size_t at;
	unsigned len;
	uint32_t value;
	int code;
	const char *says;
};

#define SLOT(n, at) (208 + 48 * (n) + (at))

static void what_cannot_be_is_refused(void **state)
{
	static const struct lie lies[] = {
		{ 0, 1, 'X', -EUCLEAN, "not one of LUKS" },
		{ 6, 2, 2, -ENOTSUP, "version 2" },
		{ 8, 1, 0x1b, -EUCLEAN, "cipher is not a name" },
		{ 104 - 1, 1, 0, 0, NULL },
		{ 108, 4, 0, -EUCLEAN, "no key length" },
		{ 108, 4, 65, -ENOTSUP, "65 bytes" },
		{ 108, 4, 0xffffffff, -ENOTSUP, "master key" },
		{ 164, 4, 0, -EUCLEAN, "no rounds" },
		{ SLOT(0, 0), 4, 1, -EUCLEAN, "slot 0 is neither" },
		{ SLOT(0, 4), 4, 0, -EUCLEAN, "slot 0 has no rounds" },
		{ SLOT(0, 4), 4, 0xffffffff, 0, NULL }, /* who tries it bounds it */
		{ SLOT(0, 40), 4, 0, -EUCLEAN, "slot 0 cannot be at sector 0" },
		{ SLOT(0, 40), 4, 1, -EUCLEAN, "slot 0 cannot be" },
		{ SLOT(0, 40), 4, 0xffffffff, -EUCLEAN, "slot 0 cannot be" },
		{ SLOT(7, 40), 4, 4040 - 499, -EUCLEAN, "slot 7 cannot be" },
		{ SLOT(7, 40), 4, 4040 - 500, 0, NULL },
		{ SLOT(7, 40), 4, 8 + 499, -EUCLEAN, "slots 0 and 7 overlap" },
		{ SLOT(0, 44), 4, 3999, -EUCLEAN, "stripes" },
		{ SLOT(0, 44), 4, 0xffffffff, -EUCLEAN, "stripes" },
		{ SLOT(3, 40), 4, 0xffffffff, 0, NULL }, /* it is free */
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(lies); i++) {
		const struct lie *l = &lies[i];
		uint8_t buf[LUKS_HEADER_LEN];
		struct luks_header h;
		struct td_err e = { "" };
		uint64_t area;

		make(&h, &area);
		luks_encode(&h, buf);
		if (l->len == 4)
			td_put_be32(buf + l->at, l->value);
		else if (l->len == 2)
			td_put_be16(buf + l->at, (uint16_t)l->value);
		else
			buf[l->at] = (uint8_t)l->value;
		if (l->code == 0)
			assert_int_equal(luks_decode(buf, sizeof(buf), area, &h, &e), 0);
		else
			assert_refused(luks_decode(buf, sizeof(buf), area, &h, &e), l->code, &e, l->says);
	}
}

static void what_is_cut_off_is_refused(void **state)
{
	uint8_t buf[LUKS_HEADER_LEN];
	struct luks_header h;
	struct td_err e;
	uint64_t area;

	(void)state;
	make(&h, &area);
	luks_encode(&h, buf);
	assert_refused(luks_decode(buf, sizeof(buf) - 1, area, &h, &e), -EUCLEAN, &e, "cut off");
	assert_refused(luks_decode(buf, sizeof(buf), area - 4096, &h, &e), -EUCLEAN, &e, "slot 7");
	memset(buf + 40, 'x', 32);
	assert_refused(luks_decode(buf, sizeof(buf), area, &h, &e), -EUCLEAN, &e, "mode does not end");
}

static void ciphers_by_name(void **state)
{
	static const struct {
		const char *cipher, *mode;
		uint32_t key_len;
		int code;
	} names[] = {
		{ "aes", "xts-plain64", 32, 0 },
		{ "aes", "xts-plain", 64, 0 },
		{ "aes", "xts-plain64:md5", 64, 0 },
		{ "aes", "xts-essiv:sha256", 64, 0 },
		{ "aes", "xts-plain64", 48, -ENOTSUP },
		{ "aes", "xts-plain64", 16, -ENOTSUP },
		{ "aes", "cbc-plain64", 16, 0 },
		{ "aes", "cbc-plain64", 24, 0 },
		{ "aes", "cbc-essiv:sha256", 32, 0 },
		{ "aes", "cbc-essiv", 32, -ENOTSUP },
		{ "aes", "cbc-essiv:", 32, -ENOTSUP },
		{ "aes", "cbc-plain64", 64, -ENOTSUP },
		{ "aes", "cbc", 32, -ENOTSUP },
		{ "aes", "", 32, -ENOTSUP },
		{ "aes", "-", 32, -ENOTSUP },
		{ "aes", "ecb-plain64", 32, -ENOTSUP },
		{ "aes", "xts-plain64be", 64, -ENOTSUP },
		{ "serpent", "xts-plain64", 64, -ENOTSUP },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(names); i++) {
		struct luks_header h = { .key_len = names[i].key_len };
		struct td_err e = { "" };
		struct td_cipher c = { 0 };

		snprintf(h.cipher, sizeof(h.cipher), "%s", names[i].cipher);
		snprintf(h.mode, sizeof(h.mode), "%s", names[i].mode);
		assert_int_equal(luks_cipher(&h, &c, &e), names[i].code);
		if (names[i].code < 0)
			assert_non_null(strstr(e.msg, names[i].cipher));
		else if (strstr(names[i].mode, "essiv"))
			assert_string_equal(c.iv_hash, "sha256");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("a header goes there and back", a_header_goes_there_and_back),
		SAYS("what cannot be is refused", what_cannot_be_is_refused),
		SAYS("what is cut off is refused", what_is_cut_off_is_refused),
		SAYS("ciphers by their names", ciphers_by_name),
	};

	return cmocka_run_group_tests_name("LUKS headers", tests, NULL, NULL);
}
