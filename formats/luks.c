// SPDX-License-Identifier: BSD-2-Clause
/*
 * The LUKS1 header.  See luks.h.
 *
 * Source: the LUKS1 on-disk format, version 1.2.1, section 2; the names of modes are those of dm-crypt.
 */
#include <blktap/luks.h>

/* Where the fields are. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 6,
	AT_CIPHER = 8,
	AT_MODE = 40,
	AT_HASH = 72,
	AT_PAYLOAD = 104,
	AT_KEY_LEN = 108,
	AT_DIGEST = 112,
	AT_SALT = 132,
	AT_ROUNDS = 164,
	AT_UUID = 168,
	AT_SLOTS = 208,
};

enum {
	SLOT_ACTIVE = 0,
	SLOT_ROUNDS = 4,
	SLOT_SALT = 8,
	SLOT_SECTOR = 40,
	SLOT_STRIPES = 44,
	SLOT_LEN = 48,
};

#define SLOT_ON       0x00ac71f3u
#define SLOT_OFF      0x0000deadu
#define FIRST_SECTOR  8u /* key material begins with a page */
#define ALIGN_SECTORS 8u

static const uint8_t luks_magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

uint32_t luks_material_len(const struct luks_header *h)
{
	return h->key_len * LUKS_STRIPES;
}

static uint32_t material_sectors(const struct luks_header *h)
{
	return (luks_material_len(h) + LUKS_SECTOR - 1) / LUKS_SECTOR;
}

/* ---- decode ---- */

/* A name ends inside its field, and is fit to be shown. */
static int read_name(const uint8_t *p, size_t room, char *to, const char *what, struct td_err *ret_err)
{
	size_t n = strnlen((const char *)p, room);

	if (n == room)
		return td_err_set(ret_err, -EUCLEAN, "the encryption header's %s does not end", what);
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return td_err_set(ret_err, -EUCLEAN, "the encryption header's %s is not a name",
					  what);
	memcpy(to, p, n);
	to[n] = '\0';
	return 0;
}

static int read_names(const uint8_t *p, struct luks_header *h, struct td_err *ret_err)
{
	int r = read_name(p + AT_CIPHER, LUKS_NAME, h->cipher, "cipher", ret_err);

	if (r == 0)
		r = read_name(p + AT_MODE, LUKS_NAME, h->mode, "cipher mode", ret_err);
	if (r == 0)
		r = read_name(p + AT_HASH, LUKS_NAME, h->hash, "hash", ret_err);
	return r < 0 ? r : read_name(p + AT_UUID, LUKS_UUID, h->uuid, "UUID", ret_err);
}

static int read_slot(const uint8_t *p, unsigned nr, struct luks_slot *s, struct td_err *ret_err)
{
	uint32_t state = td_get_be32(p + SLOT_ACTIVE);

	if (state != SLOT_ON && state != SLOT_OFF)
		return td_err_set(ret_err, -EUCLEAN, "key slot %u is neither in use nor free (%#x)", nr,
				  state);
	s->active = state == SLOT_ON;
	s->rounds = td_get_be32(p + SLOT_ROUNDS);
	memcpy(s->salt, p + SLOT_SALT, LUKS_SALT);
	s->sector = td_get_be32(p + SLOT_SECTOR);
	s->stripes = td_get_be32(p + SLOT_STRIPES);
	return 0;
}

static int check_slot(const struct luks_header *h, unsigned nr, uint64_t area, struct td_err *ret_err)
{
	const struct luks_slot *s = &h->slot[nr];

	if (s->rounds == 0)
		return td_err_set(ret_err, -EUCLEAN, "key slot %u has no rounds", nr);
	if (s->stripes != LUKS_STRIPES)
		return td_err_set(ret_err, -EUCLEAN, "key slot %u has %u stripes: there are always %u", nr,
				  s->stripes, LUKS_STRIPES);
	if (s->sector * (uint64_t)LUKS_SECTOR < LUKS_HEADER_LEN ||
	    !td_in_range(s->sector * (uint64_t)LUKS_SECTOR, luks_material_len(h), area))
		return td_err_set(ret_err, -EUCLEAN, "the key material of slot %u cannot be at sector %u", nr,
				  s->sector);
	return 0;
}

static int check_slots(const struct luks_header *h, uint64_t area, struct td_err *ret_err)
{
	uint32_t n = material_sectors(h);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++) {
		if (!h->slot[i].active)
			continue;
		r = check_slot(h, i, area, ret_err);
		for (unsigned k = 0; r == 0 && k < i; k++)
			if (h->slot[k].active && td_overlap(h->slot[i].sector, n, h->slot[k].sector, n))
				r = td_err_set(ret_err, -EUCLEAN,
					       "the key material of slots %u and %u overlaps", k, i);
	}
	return r;
}

static int check_head(const uint8_t *p, size_t len, struct td_err *ret_err)
{
	unsigned version;

	if (len < LUKS_HEADER_LEN)
		return td_err_set(ret_err, -EUCLEAN, "the encryption header is cut off");
	if (memcmp(p, luks_magic, sizeof(luks_magic)) != 0)
		return td_err_set(ret_err, -EUCLEAN, "the encryption header is not one of LUKS");
	version = td_get_be16(p + AT_VERSION);
	if (version != 1)
		return td_err_set(ret_err, -ENOTSUP, "LUKS version %u is not supported (1 is)", version);
	return 0;
}

int luks_decode(const void *buf, size_t len, uint64_t area, struct luks_header *ret, struct td_err *ret_err)
{
	const uint8_t *p = buf;
	struct luks_header h = { 0 };
	int r = check_head(p, len, ret_err);

	if (r == 0)
		r = read_names(p, &h, ret_err);
	if (r < 0)
		return r;
	h.payload_sector = td_get_be32(p + AT_PAYLOAD);
	h.key_len = td_get_be32(p + AT_KEY_LEN);
	h.rounds = td_get_be32(p + AT_ROUNDS);
	memcpy(h.digest, p + AT_DIGEST, LUKS_DIGEST);
	memcpy(h.salt, p + AT_SALT, LUKS_SALT);
	if (h.key_len == 0 || h.rounds == 0)
		return td_err_set(ret_err, -EUCLEAN, "the encryption header has no %s",
				  h.rounds == 0 ? "rounds" : "key length");
	if (h.key_len > LUKS_KEY_MAX)
		return td_err_set(ret_err, -ENOTSUP, "a master key of %u bytes: %u are the most", h.key_len,
				  LUKS_KEY_MAX);
	for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
		r = read_slot(p + AT_SLOTS + (size_t)i * SLOT_LEN, i, &h.slot[i], ret_err);
	if (r == 0)
		r = check_slots(&h, area, ret_err);
	if (r == 0)
		*ret = h;
	return r;
}

/* ---- the cipher's names ---- */

/* MODE-IV[:HASH]; dm-crypt ignores a hash where the IV has no use for one. */
static int parse_mode(const char *text, struct td_cipher *c)
{
	const char *iv = strchr(text, '-'), *hash = iv ? strchr(iv, ':') : NULL;
	size_t mode_len, iv_len;

	if (!iv)
		return -ENOTSUP;
	mode_len = (size_t)(iv - text);
	iv++;
	iv_len = hash ? (size_t)(hash - iv) : strlen(iv);
	if (mode_len != 3 || (memcmp(text, "xts", 3) != 0 && memcmp(text, "cbc", 3) != 0))
		return -ENOTSUP;
	c->mode = *text == 'x' ? TD_CIPHER_XTS : TD_CIPHER_CBC;
	if (iv_len == 5 && memcmp(iv, "plain", 5) == 0)
		c->iv = TD_IV_PLAIN;
	else if (iv_len == 7 && memcmp(iv, "plain64", 7) == 0)
		c->iv = TD_IV_PLAIN64;
	else if (iv_len == 5 && memcmp(iv, "essiv", 5) == 0 && hash && hash[1])
		c->iv = TD_IV_ESSIV;
	else
		return -ENOTSUP;
	if (c->iv == TD_IV_ESSIV)
		memcpy(c->iv_hash, hash + 1, strlen(hash + 1)); /* a part of a name: it fits, and ends */
	return 0;
}

/* 128 or 256 bits, twice for XTS; CBC also takes 192. */
static bool key_fits(const struct td_cipher *c)
{
	if (c->mode == TD_CIPHER_XTS)
		return c->key_len == 32 || c->key_len == 64;
	return c->key_len == 16 || c->key_len == 24 || c->key_len == 32;
}

int luks_cipher(const struct luks_header *h, struct td_cipher *ret, struct td_err *ret_err)
{
	struct td_cipher c = { .key_len = h->key_len };

	if (strcmp(h->cipher, "aes") != 0 || parse_mode(h->mode, &c) < 0 || !key_fits(&c))
		return td_err_set(
			ret_err, -ENOTSUP,
			"the image is encrypted by %s-%s with a key of %u bits, which is not supported",
			h->cipher, h->mode, h->key_len * 8);
	*ret = c;
	return 0;
}

/* ---- encode ---- */

static void put_name(uint8_t *p, const char *name, size_t room)
{
	memset(p, 0, room);
	memcpy(p, name, strnlen(name, room - 1));
}

void luks_encode(const struct luks_header *h, uint8_t buf[LUKS_HEADER_LEN])
{
	memcpy(buf, luks_magic, sizeof(luks_magic));
	td_put_be16(buf + AT_VERSION, 1);
	put_name(buf + AT_CIPHER, h->cipher, LUKS_NAME);
	put_name(buf + AT_MODE, h->mode, LUKS_NAME);
	put_name(buf + AT_HASH, h->hash, LUKS_NAME);
	td_put_be32(buf + AT_PAYLOAD, h->payload_sector);
	td_put_be32(buf + AT_KEY_LEN, h->key_len);
	memcpy(buf + AT_DIGEST, h->digest, LUKS_DIGEST);
	memcpy(buf + AT_SALT, h->salt, LUKS_SALT);
	td_put_be32(buf + AT_ROUNDS, h->rounds);
	put_name(buf + AT_UUID, h->uuid, LUKS_UUID);
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		const struct luks_slot *s = &h->slot[i];
		uint8_t *p = buf + AT_SLOTS + (size_t)i * SLOT_LEN;

		td_put_be32(p + SLOT_ACTIVE, s->active ? SLOT_ON : SLOT_OFF);
		td_put_be32(p + SLOT_ROUNDS, s->rounds);
		memcpy(p + SLOT_SALT, s->salt, LUKS_SALT);
		td_put_be32(p + SLOT_SECTOR, s->sector);
		td_put_be32(p + SLOT_STRIPES, s->stripes);
	}
}

uint64_t luks_layout(struct luks_header *h)
{
	uint32_t each = (material_sectors(h) + ALIGN_SECTORS - 1) / ALIGN_SECTORS * ALIGN_SECTORS;

	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		h->slot[i].sector = FIRST_SECTOR + i * each;
		h->slot[i].stripes = LUKS_STRIPES;
	}
	h->payload_sector = FIRST_SECTOR + LUKS_SLOTS * each;
	return (uint64_t)h->payload_sector * LUKS_SECTOR;
}
