// SPDX-License-Identifier: BSD-2-Clause
/*
 * PBKDF2: a key from a pass phrase, by many rounds of HMAC.  May run in a worker.
 *
 *	block = U1 ^ U2 ^ ... ^ Un	U1 = HMAC(secret, salt | number of the block)	Ui+1 = HMAC(secret, Ui)
 *
 * Each round is two runs of the hash's compression function, from the states that the secret makes, over a message of
 * one block of which only the front changes.  OpenSSL's own PBKDF2 copies contexts for each round, which takes longer
 * than the hashing; and the rounds of an image are as many as its maker's library could do in two seconds.  So this
 * runs OpenSSL's compression functions and nothing beside them: 0.1 us a round of SHA-256 where OpenSSL takes 0.24.
 *
 * Source: RFC 8018, section 5.2; RFC 2104.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* the compression functions, which have no successor */

#include <blktap/crypt.h>
#include <openssl/crypto.h>
#include <openssl/ripemd.h>
#include <openssl/sha.h>
#include <time.h>

#define BLOCK_MAX  128u /* bytes that the longest hash takes at a time */
#define DIGEST_MAX 64u

union state {
	SHA_CTX sha1;
	SHA256_CTX sha256;
	SHA512_CTX sha512;
	RIPEMD160_CTX ripemd;
};

struct hash {
	const char *name;
	unsigned block, len; /* bytes taken at a time; given */
	bool little;         /* numbers in it are little-endian */
	void (*init)(union state *s);
	void (*compress)(union state *s, const uint8_t *block);
	void (*get)(const union state *s, uint8_t *out); /* no less than len bytes */
};

/* ---- the hashes ---- */

static void sha1_init(union state *s)
{
	SHA1_Init(&s->sha1);
}

static void sha1_compress(union state *s, const uint8_t *block)
{
	SHA1_Transform(&s->sha1, block);
}

static void sha1_get(const union state *s, uint8_t *out)
{
	td_put_be32(out, s->sha1.h0);
	td_put_be32(out + 4, s->sha1.h1);
	td_put_be32(out + 8, s->sha1.h2);
	td_put_be32(out + 12, s->sha1.h3);
	td_put_be32(out + 16, s->sha1.h4);
}

static void sha224_init(union state *s)
{
	SHA224_Init(&s->sha256);
}

static void sha256_init(union state *s)
{
	SHA256_Init(&s->sha256);
}

static void sha256_compress(union state *s, const uint8_t *block)
{
	SHA256_Transform(&s->sha256, block);
}

static void sha224_get(const union state *s, uint8_t *out)
{
	for (size_t i = 0; i < 7; i++)
		td_put_be32(out + 4 * i, s->sha256.h[i]);
}

static void sha256_get(const union state *s, uint8_t *out)
{
	for (size_t i = 0; i < 8; i++)
		td_put_be32(out + 4 * i, s->sha256.h[i]);
}

static void sha384_init(union state *s)
{
	SHA384_Init(&s->sha512);
}

static void sha512_init(union state *s)
{
	SHA512_Init(&s->sha512);
}

static void sha512_compress(union state *s, const uint8_t *block)
{
	SHA512_Transform(&s->sha512, block);
}

static void sha384_get(const union state *s, uint8_t *out)
{
	for (size_t i = 0; i < 6; i++)
		td_put_be64(out + 8 * i, s->sha512.h[i]);
}

static void sha512_get(const union state *s, uint8_t *out)
{
	for (size_t i = 0; i < 8; i++)
		td_put_be64(out + 8 * i, s->sha512.h[i]);
}

static void ripemd_init(union state *s)
{
	RIPEMD160_Init(&s->ripemd);
}

static void ripemd_compress(union state *s, const uint8_t *block)
{
	RIPEMD160_Transform(&s->ripemd, block);
}

static void ripemd_get(const union state *s, uint8_t *out)
{
	td_put_le32(out, s->ripemd.A);
	td_put_le32(out + 4, s->ripemd.B);
	td_put_le32(out + 8, s->ripemd.C);
	td_put_le32(out + 12, s->ripemd.D);
	td_put_le32(out + 16, s->ripemd.E);
}

static const struct hash hashes[] = {
	{ "sha1", 64, 20, false, sha1_init, sha1_compress, sha1_get },
	{ "sha224", 64, 28, false, sha224_init, sha256_compress, sha224_get },
	{ "sha256", 64, 32, false, sha256_init, sha256_compress, sha256_get },
	{ "sha384", 128, 48, false, sha384_init, sha512_compress, sha384_get },
	{ "sha512", 128, 64, false, sha512_init, sha512_compress, sha512_get },
	{ "ripemd160", 64, 20, true, ripemd_init, ripemd_compress, ripemd_get },
};

static const struct hash *find(const char *name)
{
	for (unsigned i = 0; i < TD_NELEMS(hashes); i++)
		if (strcmp(hashes[i].name, name) == 0)
			return &hashes[i];
	return NULL;
}

/* ---- HMAC ---- */

/* The inner hash and the outer one: the block with which each begins, and the state after it. */
struct keyed {
	const struct hash *hash;
	uint8_t inner_pad[BLOCK_MAX], outer_pad[BLOCK_MAX];
	union state inner, outer;
};

static int keyed_init(struct keyed *k, const struct hash *hash, const void *secret, size_t len)
{
	int r = 0;

	memset(k, 0, sizeof(*k));
	k->hash = hash;
	if (len > hash->block)
		r = td_hash(hash->name, secret, len, k->inner_pad);
	else if (len > 0)
		memcpy(k->inner_pad, secret, len);
	for (unsigned i = 0; i < hash->block; i++) {
		k->outer_pad[i] = k->inner_pad[i] ^ 0x5c;
		k->inner_pad[i] ^= 0x36;
	}
	hash->init(&k->inner);
	hash->compress(&k->inner, k->inner_pad);
	hash->init(&k->outer);
	hash->compress(&k->outer, k->outer_pad);
	return r;
}

/* HMAC of a salt and a number. */
static int first_round(const struct keyed *k, const struct td_kdf *kdf, uint32_t nr, uint8_t *out)
{
	const struct hash *h = k->hash;
	uint8_t text[BLOCK_MAX + TD_KDF_SALT_MAX + 4];
	int r;

	if (kdf->salt_len > TD_KDF_SALT_MAX)
		return -EINVAL;
	memcpy(text, k->inner_pad, h->block);
	memcpy(text + h->block, kdf->salt, kdf->salt_len);
	td_put_be32(text + h->block + kdf->salt_len, nr);
	r = td_hash(h->name, text, h->block + kdf->salt_len + 4, out);
	if (r == 0) {
		memcpy(text, k->outer_pad, h->block);
		memcpy(text + h->block, out, h->len);
		r = td_hash(h->name, text, h->block + h->len, out);
	}
	OPENSSL_cleanse(text, sizeof(text));
	return r;
}

/* What follows a digest in the only block of a message that comes behind a block of key. */
static void finish_block(const struct hash *h, uint8_t *block)
{
	uint32_t bits = (h->block + h->len) * 8;

	memset(block + h->len, 0, h->block - h->len);
	block[h->len] = 0x80;
	if (h->little)
		td_put_le32(block + h->block - 8, bits);
	else
		td_put_be32(block + h->block - 4, bits);
}

/* ---- rounds ---- */

static void run_rounds(const struct keyed *k, uint8_t *block, uint32_t rounds, uint8_t *out)
{
	const struct hash *h = k->hash;

	finish_block(h, block);
	memcpy(out, block, h->len);
	for (uint32_t i = 1; i < rounds; i++) {
		union state s = k->inner;

		h->compress(&s, block);
		h->get(&s, block);
		s = k->outer;
		h->compress(&s, block);
		h->get(&s, block);
		for (unsigned b = 0; b < h->len; b++)
			out[b] ^= block[b];
	}
}

int td_pbkdf2_block(const struct td_kdf *kdf, uint32_t nr, uint8_t *out)
{
	const struct hash *h = find(kdf->hash);
	uint8_t block[BLOCK_MAX];
	struct keyed k;
	int r = h ? 0 : -ENOTSUP;

	if (r == 0)
		r = keyed_init(&k, h, kdf->secret, kdf->secret_len);
	if (r == 0)
		r = first_round(&k, kdf, nr, block);
	if (r == 0)
		run_rounds(&k, block, kdf->rounds, out);
	OPENSSL_cleanse(&k, sizeof(k));
	OPENSSL_cleanse(block, sizeof(block));
	return r;
}

int td_pbkdf2(const struct td_kdf *kdf, uint8_t *out, size_t len)
{
	const struct hash *h = find(kdf->hash);
	uint8_t block[DIGEST_MAX];
	int r = h ? 0 : -ENOTSUP;

	for (size_t at = 0; r == 0 && at < len; at += h->len) {
		r = td_pbkdf2_block(kdf, (uint32_t)(at / h->len) + 1, block);
		if (r == 0)
			memcpy(out + at, block, TD_MIN(len - at, (size_t)h->len));
	}
	OPENSSL_cleanse(block, sizeof(block));
	return r;
}

/* ---- how many rounds ---- */

static uint64_t thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * In the time that 24 Mi rounds of SHA-256 take.  Genuine images stay below: QEMU gives them what its library can do in
 * two seconds, and an eighth of that for the digest, which is 17 to 21 million blocks on a machine where this is about
 * two seconds as well.
 */
uint64_t td_luks_rounds(const char *hash)
{
	static const struct {
		const char *hash;
		uint64_t rounds;
	} most[] = {
		{ "sha1", 28u << 20 },
		{ "sha384", 7u << 20 },
		{ "sha512", 7u << 20 },
		{ "ripemd160", 5u << 20 },
	};

	for (unsigned i = 0; i < TD_NELEMS(most); i++)
		if (strcmp(most[i].hash, hash) == 0)
			return most[i].rounds;
	return TD_LUKS_ROUNDS_SHA256;
}

int td_pbkdf2_rounds(const char *hash, size_t len, unsigned ms, uint32_t *ret)
{
	static const uint8_t salt[LUKS_SALT] = { 1 };
	struct td_kdf kdf = {
		.hash = hash, .secret = "measure", .secret_len = 7, .salt = salt, .salt_len = sizeof(salt)
	};
	uint8_t out[LUKS_KEY_MAX];
	uint64_t took = 0, want;
	uint32_t n = 1000;
	int r = 0;

	for (; took < 10000000u && n < 1u << 24; n *= 2) {
		uint64_t start = thread_ns();

		kdf.rounds = n;
		r = td_pbkdf2(&kdf, out, len);
		if (r < 0)
			return r;
		took = thread_ns() - start;
	}
	n /= 2;
	want = (uint64_t)n * ms * 1000000u / TD_MAX(took, (uint64_t)1);
	*ret = (uint32_t)TD_MIN(TD_MAX(want, (uint64_t)1000), (uint64_t)INT32_MAX);
	return 0;
}
