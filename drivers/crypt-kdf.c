// SPDX-License-Identifier: BSD-2-Clause
/*
 * What LUKS makes of a hash: keys from pass phrases, and keys that are easily destroyed.  All may run in a worker.
 *
 * Source: the LUKS1 on-disk format, version 1.2.1, sections 2.4 (AF splitter) and 4.
 */
#include <blktap/crypt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define HASHES_MAX 64u /* bytes of the longest */

/* Of what is built into OpenSSL: its configuration may lie outside the sandbox, and would load modules. */
static EVP_MD *fetch(const char *hash)
{
	static const char *const known[] = { "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160" };

	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	for (unsigned i = 0; i < TD_NELEMS(known); i++)
		if (strcmp(hash, known[i]) == 0)
			return EVP_MD_fetch(NULL, hash, NULL);
	return NULL;
}

int td_hash_len(const char *hash)
{
	EVP_MD *md = fetch(hash);
	int len = md ? EVP_MD_get_size(md) : -ENOTSUP;

	EVP_MD_free(md);
	return len;
}

int td_hash(const char *hash, const void *in, size_t len, uint8_t *out)
{
	EVP_MD *md = fetch(hash);
	int r = -ENOTSUP;

	if (md)
		r = EVP_Digest(in, len, out, NULL, md, NULL) == 1 ? 0 : -ENOMEM;
	EVP_MD_free(md);
	return r;
}

int td_random(void *buf, size_t len)
{
	return RAND_priv_bytes(buf, (int)len) == 1 ? 0 : -EIO;
}

/* ---- the anti-forensic splitter ---- */

/* Each piece of the block that is as long as the hash becomes the hash of its number and itself. */
static int diffuse_with(EVP_MD_CTX *ctx, const EVP_MD *md, uint8_t *block, size_t len)
{
	size_t piece = (size_t)EVP_MD_get_size(md);
	uint8_t digest[HASHES_MAX], nr[4];
	bool ok = true;

	for (size_t at = 0; ok && at < len; at += piece) {
		size_t n = TD_MIN(piece, len - at);

		td_put_be32(nr, (uint32_t)(at / piece));
		ok = EVP_DigestInit_ex2(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, nr, sizeof(nr)) == 1 &&
		     EVP_DigestUpdate(ctx, block + at, n) == 1 && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
		if (ok)
			memcpy(block + at, digest, n);
	}
	OPENSSL_cleanse(digest, sizeof(digest));
	return ok ? 0 : -ENOMEM;
}

static void add(uint8_t *to, const uint8_t *what, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] ^= what[i];
}

/* What all stripes but the last make of a block of zeros. */
static int mix(const char *hash, const uint8_t *stripe, size_t len, unsigned stripes, uint8_t *block)
{
	EVP_MD *md = fetch(hash);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int r = !md ? -ENOTSUP : ctx ? 0 : -ENOMEM;

	memset(block, 0, len);
	for (unsigned i = 0; r == 0 && i + 1 < stripes; i++) {
		add(block, stripe + (size_t)i * len, len);
		r = diffuse_with(ctx, md, block, len);
	}
	EVP_MD_CTX_free(ctx);
	EVP_MD_free(md);
	return r;
}

int td_af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *ret_key)
{
	uint8_t block[LUKS_KEY_MAX];
	int r = mix(hash, in, len, stripes, block);

	if (r == 0) {
		add(block, in + (size_t)(stripes - 1) * len, len);
		memcpy(ret_key, block, len);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return r;
}

int td_af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out)
{
	uint8_t block[LUKS_KEY_MAX];
	int r = td_random(out, (size_t)(stripes - 1) * len);

	if (r == 0)
		r = mix(hash, out, len, stripes, block);
	if (r == 0) {
		add(block, key, len);
		memcpy(out + (size_t)(stripes - 1) * len, block, len);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return r;
}
