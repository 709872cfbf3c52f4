// SPDX-License-Identifier: BSD-2-Clause
/*
 * PBKDF2: a key from a pass phrase, by many rounds of HMAC.  May run in a worker.
 *
 *	block = U1 ^ U2 ^ ... ^ Un	U1 = HMAC(secret, salt | number of the block)	Ui+1 = HMAC(secret, Ui)
 *
 * By nettle, whose HMAC keeps the states that the secret makes: 0.11 us a round of SHA-256 where OpenSSL takes 0.22,
 * and the rounds of an image are as many as its maker's library could do in two seconds.  The loop is here because
 * nettle's own always begins with the first block, and the blocks of a key are made beside each other.
 *
 * Source: RFC 8018, section 5.2.
 */
#include <blktap/crypt.h>
#include <nettle/hmac.h>
#include <nettle/memxor.h>
#include <nettle/nettle-meta.h>
#include <time.h>

#define DIGEST_MAX SHA512_DIGEST_SIZE

union state {
	struct sha1_ctx sha1;
	struct sha256_ctx sha256; /* and sha224 */
	struct sha512_ctx sha512; /* and sha384 */
	struct ripemd160_ctx ripemd;
};

struct hmac HMAC_CTX(union state);

static const struct nettle_hash *find(const char *name)
{
	static const struct nettle_hash *const known[] = {
		&nettle_sha1,   &nettle_sha224, &nettle_sha256,
		&nettle_sha384, &nettle_sha512, &nettle_ripemd160
	};

	for (unsigned i = 0; i < TD_NELEMS(known); i++)
		if (strcmp(known[i]->name, name) == 0)
			return known[i];
	return NULL;
}

static void first_round(struct hmac *m, const struct nettle_hash *h, const struct td_kdf *kdf, uint32_t nr,
			uint8_t *u)
{
	uint8_t be[4];

	td_put_be32(be, nr);
	HMAC_SET_KEY(m, h, kdf->secret_len, kdf->secret);
	hmac_update(&m->state, h, kdf->salt_len, kdf->salt);
	hmac_update(&m->state, h, sizeof(be), be);
	HMAC_DIGEST(m, h, h->digest_size, u);
}

/* nettle makes pads of the secret in its frames, which were below the caller's, and leaves them there. */
static __attribute__((noinline)) void wipe_stack(void)
{
	uint8_t below[2048];

	explicit_bzero(below, sizeof(below));
}

int td_pbkdf2_block(const struct td_kdf *kdf, uint32_t nr, uint8_t *out)
{
	const struct nettle_hash *h = find(kdf->hash);
	uint8_t u[DIGEST_MAX];
	struct hmac m;

	if (!h)
		return -ENOTSUP;
	first_round(&m, h, kdf, nr, u);
	memcpy(out, u, h->digest_size);
	for (uint32_t i = 1; i < kdf->rounds; i++) {
		hmac_update(&m.state, h, h->digest_size, u);
		HMAC_DIGEST(&m, h, h->digest_size, u);
		memxor(out, u, h->digest_size);
	}
	explicit_bzero(&m, sizeof(m));
	explicit_bzero(u, sizeof(u));
	wipe_stack();
	return 0;
}

int td_pbkdf2(const struct td_kdf *kdf, uint8_t *out, size_t len)
{
	const struct nettle_hash *h = find(kdf->hash);
	uint8_t block[DIGEST_MAX];
	int r = h ? 0 : -ENOTSUP;

	for (size_t at = 0; r == 0 && at < len; at += h->digest_size) {
		r = td_pbkdf2_block(kdf, (uint32_t)(at / h->digest_size) + 1, block);
		if (r == 0)
			memcpy(out + at, block, TD_MIN(len - at, (size_t)h->digest_size));
	}
	explicit_bzero(block, sizeof(block));
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
 * In the time that 22 Mi rounds of SHA-256 take.  Genuine images stay below: QEMU gives them what its library can do in
 * two seconds, and an eighth of that for the digest, which is 17 to 21 million blocks on a machine where this is some
 * two seconds as well.
 */
uint64_t td_luks_rounds(const char *hash)
{
	static const struct {
		const char *hash;
		uint64_t rounds;
	} most[] = {
		{ "sha1", 24u << 20 },
		{ "sha384", 5u << 20 },
		{ "sha512", 5u << 20 },
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
