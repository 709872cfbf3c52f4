// SPDX-License-Identifier: BSD-2-Clause
/*
 * Secrets, hashes and ciphers: against published vectors; a LUKS header made, opened, and its slots filled and emptied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blktap/crypt.h>

#include "testenv.h"

static struct testenv t;

static void from_hex(uint8_t *to, const char *hex)
{
	unsigned v;

	for (; *hex && sscanf(hex, "%2x", &v) == 1; hex += 2)
		*to++ = (uint8_t)v;
}

static void assert_hex(const uint8_t *is, const char *hex)
{
	uint8_t want[64];

	from_hex(want, hex);
	assert_memory_equal(is, want, strlen(hex) / 2);
}

/* ---- hashes ---- */

static int pbkdf2(const char *hash, const char *secret, const char *salt, uint32_t rounds, uint8_t *out,
		  size_t len)
{
	const struct td_kdf kdf = { hash, secret, salt, strlen(secret), strlen(salt), rounds };

	return td_pbkdf2(&kdf, out, len);
}

/* RFC 6070; for sha256 the vectors that go round with it. */
static void keys_from_pass_phrases(void **state)
{
	uint8_t out[64];

	(void)state;
	assert_int_equal(pbkdf2("sha1", "password", "salt", 2, out, 20), 0);
	assert_hex(out, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
	assert_int_equal(pbkdf2("sha1", "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt",
				4096, out, 25),
			 0);
	assert_hex(out, "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038");
	assert_int_equal(pbkdf2("sha256", "password", "salt", 4096, out, 32), 0);
	assert_hex(out, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a");
	assert_int_equal(pbkdf2("md4", "password", "salt", 1, out, 16), -ENOTSUP);
}

/* Ours is the loop over nettle's HMAC: all hashes, secrets below, at and above a block, many lengths. */
static void keys_are_those_of_openssl(void **state)
{
	static const char *const hashes[] = { "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160" };
	uint8_t secret[200], salt[64], is[LUKS_KEY_MAX], want[LUKS_KEY_MAX];

	(void)state;
	for (unsigned i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)(i * 37 + 1);
	memcpy(salt, secret + 20, sizeof(salt));
	for (unsigned i = 0; i < TD_NELEMS(hashes); i++)
		for (size_t n = 0; n <= sizeof(secret); n++) {
			size_t len = 1 + n % sizeof(want), salt_len = n % (sizeof(salt) + 1);
			struct td_kdf kdf = { hashes[i], secret, salt, n, salt_len, 1 + (uint32_t)n % 7 };

			assert_int_equal(PKCS5_PBKDF2_HMAC((const char *)secret, (int)n, salt, (int)salt_len,
							   (int)kdf.rounds, EVP_get_digestbyname(hashes[i]),
							   (int)len, want),
					 1);
			assert_int_equal(td_pbkdf2(&kdf, is, len), 0);
			assert_memory_equal(is, want, len);
		}
}

/* What `qemu-img create` of 7.2 gave images on one machine, in blocks of hashing: slot and digest. */
static void images_of_others_are_not_too_costly(void **state)
{
	(void)state;
	assert_true(td_luks_rounds("sha256") > 8544458u * 2 + 2180799u);
	assert_true(td_luks_rounds("sha1") > 4676464u * 4 + 2318361u);
	assert_true(td_luks_rounds("sha512") > 4072580u + 505785u);
}

/* By an implementation of its own, in another language. */
static void a_split_key_comes_together(void **state)
{
	uint8_t in[64 * 5], key[64], again[64], split[64 * 4000];

	(void)state;
	for (unsigned i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 31 + 7);
	assert_int_equal(td_af_merge("sha256", in, 48, 5, key), 0);
	assert_hex(key, "07b11e67ba988e98acb8c281f7154e90f5b556a7631ceb472c1d35ea440da5d6fc9eae76364b46898f8a"
			"05a38d608166");
	assert_int_equal(td_af_merge("sha1", in, 64, 5, key), 0);
	assert_hex(key, "3c77f84b71ba4901c8e4d75d32f7eec89db79f8a154cf169cb1719035d785f6fbd0c87b3d2c6be50e717"
			"0759a3b68be1af7e55f2339a5a923c72bc41e63ce16a");
	for (size_t len = 16; len <= 64; len += 16) {
		assert_int_equal(td_af_split("sha512", key, len, 4000, split), 0);
		assert_int_equal(td_af_merge("sha512", split, len, 4000, again), 0);
		assert_memory_equal(again, key, len);
		split[len * 1234] ^= 1;
		assert_int_equal(td_af_merge("sha512", split, len, 4000, again), 0);
		assert_memory_not_equal(again, key, len);
	}
}

/* ---- ciphers ---- */

static struct td_crypt *cipher(enum td_cipher_mode mode, enum td_cipher_iv iv, const char *key)
{
	struct td_cipher c = { .mode = mode, .iv = iv, .iv_hash = "sha256" };
	struct td_crypt *crypt = NULL;
	uint8_t bytes[64];

	from_hex(bytes, key);
	c.key_len = (uint32_t)strlen(key) / 2;
	assert_int_equal(td_crypt_new(&c, bytes, &crypt, NULL), 0);
	return crypt;
}

/* IEEE 1619-2007, vectors 4 and 10: the beginning of a unit of 512 bytes. */
static void xts_as_published(void **state)
{
	static const struct {
		const char *key;
		uint64_t sector;
		const char *begins;
	} v[] = {
		{ "27182818284590452353602874713526"
		  "31415926535897932384626433832795",
		  0, "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c" },
		{ "2718281828459045235360287471352662497757247093699959574966967627"
		  "3141592653589793238462643383279502884197169399375105820974944592",
		  0xff, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b" },
	};
	uint8_t sector[512];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(v); i++) {
		struct td_crypt *c = cipher(TD_CIPHER_XTS, TD_IV_PLAIN64, v[i].key);

		for (unsigned k = 0; k < sizeof(sector); k++)
			sector[k] = (uint8_t)k;
		assert_int_equal(td_crypt_sectors(c, true, v[i].sector, sector, sizeof(sector)), 0);
		assert_hex(sector, v[i].begins);
		assert_int_equal(td_crypt_sectors(c, false, v[i].sector, sector, sizeof(sector)), 0);
		for (unsigned k = 0; k < sizeof(sector); k++)
			assert_int_equal(sector[k], (uint8_t)k);
		td_crypt_free(c);
	}
}

/* The vector says where a sector is; "plain" forgets the upper half of its number. */
static void sectors_differ_by_their_numbers(void **state)
{
	static const char key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
	const enum td_cipher_iv ivs[] = { TD_IV_PLAIN, TD_IV_PLAIN64, TD_IV_ESSIV };
	uint8_t a[1024], b[512];

	(void)state;
	for (unsigned i = 0; i < 2 * TD_NELEMS(ivs); i++) {
		enum td_cipher_iv iv = ivs[i / 2];
		struct td_crypt *c = cipher(i & 1 ? TD_CIPHER_XTS : TD_CIPHER_CBC, iv, key);

		memset(a, 0, sizeof(a));
		memset(b, 0, sizeof(b));
		assert_int_equal(td_crypt_sectors(c, true, 7, a, sizeof(a)), 0);
		assert_memory_not_equal(a, a + 512, 512);
		assert_int_equal(td_crypt_sectors(c, true, 7 + (1ull << 32), b, sizeof(b)), 0);
		assert_int_equal(memcmp(a, b, 512) == 0, iv == TD_IV_PLAIN);
		assert_int_equal(td_crypt_sectors(c, false, 8, a + 512, 512), 0);
		assert_true(td_is_zero(a + 512, 512));
		td_crypt_free(c);
	}
}

/* ---- through a child ---- */

struct io {
	struct td_crypt *c;
	struct td_image *im;
	uint64_t off, iv_off;
	uint8_t *buf;
	size_t len;
	bool write;
};

static int io_co(void *arg)
{
	const struct io *io = arg;
	struct iovec v[3] = { { io->buf, 1 },
			      { io->buf + 1, io->len / 2 },
			      { io->buf + 1 + io->len / 2, 0 } };
	struct td_iov iov = { .vec = v, .nr = 3, .len = io->len };

	v[2].iov_len = io->len - 1 - io->len / 2;
	return io->write ? td_crypt_pwritev(io->c, io->im, io->off, io->iv_off, &iov)
			 : td_crypt_preadv(io->c, io->im, io->off, io->iv_off, &iov);
}

static int io(struct td_crypt *c, struct td_image *im, bool write, uint64_t off, uint8_t *buf, size_t len)
{
	struct io io = { c, im, off, off + 4096, buf, len, write };

	return testenv_run(&t, io_co, &io);
}

#define DISK (1u << 20)

/* Any offsets and lengths, small and in a worker, against a copy in memory. */
static void requests_of_any_length(void **state)
{
	struct td_crypt *c = cipher(TD_CIPHER_XTS, TD_IV_PLAIN64,
				    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	uint8_t *model = malloc(DISK), *buf = malloc(DISK), *was = malloc(DISK);
	uint64_t seed = test_seed();
	struct td_image *im;

	(void)state;
	memset(model, 0, DISK);
	assert_int_equal(test_open(&t, &im, 0, "ram(size=1M):"), 0);
	assert_int_equal(io(c, im, true, 0, model, DISK), 0);
	for (unsigned i = 0; i < 300; i++) {
		size_t most = i % 10 ? 3000 : 400000, len = 2 + test_random(&seed) % most;
		uint64_t off = test_random(&seed) % (DISK - len);

		for (size_t k = 0; k < len; k++)
			buf[k] = (uint8_t)test_random(&seed);
		memcpy(was, buf, len);
		memcpy(model + off, buf, len);
		assert_int_equal(io(c, im, true, off, buf, len), 0);
		assert_memory_equal(buf, was, len); /* the guest's memory is the guest's */
		off = test_random(&seed) % (DISK - len);
		assert_int_equal(io(c, im, false, off, buf, len), 0);
		assert_memory_equal(buf, model + off, len);
	}
	assert_int_equal(test_read(&t, im, 0, buf, DISK, 0), 0);
	assert_memory_not_equal(buf, model, 512);
	assert_int_equal(td_crypt_sectors(c, false, 8, buf, DISK), 0);
	assert_memory_equal(buf, model, DISK);
	assert_int_equal(test_close(&t, im), 0);
	td_crypt_free(c);
	free(model);
	free(buf);
	free(was);
}

/* ---- LUKS ---- */

struct luks_job {
	struct td_luks_place at;
	struct luks_header h;
	struct td_luks_wish wish;
	struct td_secret *one, *two;
	uint64_t rounds;
	unsigned slot;
	int slot_asked;
	uint8_t *key;
	struct td_err err;
};

static int create_co(void *arg)
{
	struct luks_job *j = arg;

	return td_luks_create(&j->at, &j->wish, &j->h, j->one, &j->err);
}

static int unlock_co(void *arg)
{
	struct luks_job *j = arg;
	struct td_cipher c;
	int r = td_luks_load(&j->at, &j->h, &c, &j->err);

	td_locked_free(j->key, LUKS_KEY_MAX);
	j->key = NULL;
	return r < 0 ? r : td_luks_unlock(&j->at, &j->h, j->one, j->rounds, &j->slot, &j->key, &j->err);
}

static int add_co(void *arg)
{
	struct luks_job *j = arg;

	return td_luks_add(&j->at, &j->h, j->key, j->two, j->slot_asked, 1, &j->err);
}

static int erase_co(void *arg)
{
	struct luks_job *j = arg;

	return td_luks_erase(&j->at, &j->h, (unsigned)j->slot_asked, &j->err);
}

static struct td_secret *secret(const char *text)
{
	struct td_opts o = { 0 };
	struct td_secret *s = NULL;
	FILE *f = fopen(testenv_path(&t, "secret"), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(td_opts_add(&o, "key-file", testenv_path(&t, "secret"), NULL), 0);
	assert_int_equal(td_secret_load(&o, "key-file", "key-fd", NULL, &s, NULL), 0);
	td_opts_done(&o);
	return s;
}

static void swap_secrets(struct luks_job *j)
{
	struct td_secret *s = j->one;

	j->one = j->two;
	j->two = s;
}

static void with_cipher(const char *alg, const char *mode, const char *iv, const char *hash)
{
	struct luks_job j = { .wish = { alg, mode, iv, NULL, hash, 1 }, .rounds = 1u << 20, .slot_asked = 6 };
	uint8_t first[LUKS_KEY_MAX];
	struct td_image *im;

	j.one = secret("the first\n");
	j.two = secret("the second");
	assert_int_equal(td_luks_plan(&j.wish, &j.h, &j.at.len, &j.err), 0);
	assert_int_equal(test_open(&t, &im, 0, "ram(size=4M):"), 0);
	j.at.child = im;
	j.at.off = 65536;
	assert_int_equal(testenv_run(&t, create_co, &j), 0);
	assert_int_equal(testenv_run(&t, unlock_co, &j), 0);
	assert_int_equal(j.slot, 0);
	memcpy(first, j.key, j.h.key_len);

	/* Another one, in a slot that lies in two sectors; both give the same key. */
	assert_int_equal(testenv_run(&t, add_co, &j), 0);
	assert_int_equal(testenv_run(&t, add_co, &j), -EEXIST);
	swap_secrets(&j);
	assert_int_equal(testenv_run(&t, unlock_co, &j), 0);
	assert_int_equal(j.slot, 6);
	assert_memory_equal(j.key, first, j.h.key_len);

	/* The first one goes; the last one stays. */
	j.slot_asked = 0;
	assert_int_equal(testenv_run(&t, erase_co, &j), 0);
	assert_int_equal(testenv_run(&t, erase_co, &j), -ENOENT);
	j.slot_asked = 6;
	assert_int_equal(testenv_run(&t, erase_co, &j), -EPERM);
	assert_int_equal(testenv_run(&t, unlock_co, &j), 0);
	swap_secrets(&j);
	assert_int_equal(testenv_run(&t, unlock_co, &j), -EACCES);
	assert_null(strstr(j.err.msg, "first"));

	/* What an image may ask for is bounded. */
	swap_secrets(&j);
	j.rounds = 1000;
	assert_int_equal(testenv_run(&t, unlock_co, &j), -E2BIG);
	assert_non_null(strstr(j.err.msg, "key-rounds="));

	assert_int_equal(test_close(&t, im), 0);
	td_secret_free(j.one);
	td_secret_free(j.two);
	td_locked_free(j.key, LUKS_KEY_MAX);
}

static void key_slots_come_and_go(void **state)
{
	(void)state;
	with_cipher(NULL, NULL, NULL, NULL);
	with_cipher("aes-128", "cbc", "essiv", "sha1");
	with_cipher("aes-256", "cbc", "plain", "sha512");
	with_cipher("aes-128", "xts", "plain64", "ripemd160");
}

static void wishes_that_cannot_be(void **state)
{
	static const struct td_luks_wish wish[] = {
		{ .cipher_alg = "aes-192" },
		{ .cipher_alg = "serpent-256" },
		{ .cipher_mode = "ecb" },
		{ .cipher_mode = "xts-plain64-" },
		{ .iv_alg = "plain65" },
		{ .hash = "md5" },
		{ .iv_alg = "essiv", .iv_hash = "x" },
		{ .hash = "a name that is longer than there is room for it" },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(wish); i++) {
		struct luks_header h;
		uint64_t len;

		t.err.msg[0] = '\0';
		assert_int_equal(td_luks_plan(&wish[i], &h, &len, &t.err), -EINVAL);
		assert_non_null(strstr(t.err.msg, "encrypt"));
	}
}

/* ---- secrets ---- */

static unsigned notices;

static void count_notice(const char *line)
{
	notices += strstr(line, "chmod 600") != NULL;
}

static int load(const char *option, const char *value, struct td_secret **ret)
{
	struct td_opts o = { 0 };
	int r = td_opts_add(&o, option, value, NULL);

	*ret = NULL;
	if (r == 0)
		r = td_secret_load(&o, "key-file", "key-fd", count_notice, ret, &t.err);
	td_opts_done(&o);
	return r;
}

static void refused(const char *path, int code)
{
	struct td_secret *s;

	t.err.msg[0] = '\0';
	assert_int_equal(load("key-file", path, &s), code);
	assert_null(s);
	assert_non_null(strstr(t.err.msg, "key-file="));
}

static const char *file_of(const char *name, const char *text, size_t len)
{
	const char *path = testenv_path(&t, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, text, len), len);
	close(fd);
	return path;
}

static void pass_phrases_of_files(void **state)
{
	char *large = calloc(1, TD_SECRET_MAX + 2);
	struct td_secret *s;

	(void)state;
	memset(large, 'x', TD_SECRET_MAX + 1);
	notices = 0;
	assert_int_equal(load("key-file", file_of("a", "two words\n\n", 11), &s), 0);
	assert_int_equal(s->len, 10);
	assert_memory_equal(s->bytes, "two words\n", 10);
	td_secret_free(s);
	assert_int_equal(load("key-file", file_of("a", "\0\1", 2), &s), 0);
	assert_int_equal(s->len, 2);
	td_secret_free(s);
	assert_int_equal(load("key-file", file_of("a", large, TD_SECRET_MAX), &s), 0);
	assert_int_equal(s->len, TD_SECRET_MAX);
	td_secret_free(s);
	refused(file_of("a", large, TD_SECRET_MAX + 1), -EINVAL);
	refused(file_of("a", "\n", 1), -EINVAL);
	refused(file_of("a", "", 0), -EINVAL);
	refused(t.dir, -EISDIR);
	refused("/nonexistent/key", -ENOENT);
	assert_int_equal(mkfifo(testenv_path(&t, "fifo"), 0600), 0);
	refused(testenv_path(&t, "fifo"), -EINVAL); /* nobody writes to it: empty, and no wait */
	assert_int_equal(notices, 0);
	assert_int_equal(chmod(file_of("a", "x", 1), 0640), 0);
	assert_int_equal(load("key-file", testenv_path(&t, "a"), &s), 0);
	td_secret_free(s);
	assert_int_equal(notices, 1);
	free(large);
}

static void pass_phrases_of_descriptors(void **state)
{
	int fd = open(file_of("a", "again and again", 15), O_RDONLY), pipes[2];
	struct td_secret *s;
	char text[16];

	(void)state;
	snprintf(text, sizeof(text), "%d", fd);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(load("key-fd", text, &s), 0);
		assert_int_equal(s->len, 15);
		td_secret_free(s);
	}
	close(fd);
	assert_int_equal(load("key-fd", text, &s), -EBADF);
	assert_int_equal(load("key-fd", "x", &s), -EINVAL);

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], "once", 4), 4);
	close(pipes[1]);
	snprintf(text, sizeof(text), "%d", pipes[0]);
	assert_int_equal(load("key-fd", text, &s), 0);
	assert_int_equal(s->len, 4);
	td_secret_free(s);
	assert_int_equal(load("key-fd", text, &s), -EINVAL);
	close(pipes[0]);
}

static int open_env(void **state)
{
	(void)state;
	return testenv_open(&t, "auto", NULL);
}

static int close_env(void **state)
{
	(void)state;
	testenv_close(&t);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_from_pass_phrases),
		cmocka_unit_test(keys_are_those_of_openssl),
		cmocka_unit_test(images_of_others_are_not_too_costly),
		cmocka_unit_test(a_split_key_comes_together),
		cmocka_unit_test(xts_as_published),
		cmocka_unit_test(sectors_differ_by_their_numbers),
		cmocka_unit_test(requests_of_any_length),
		cmocka_unit_test(key_slots_come_and_go),
		cmocka_unit_test(wishes_that_cannot_be),
		cmocka_unit_test(pass_phrases_of_files),
		cmocka_unit_test(pass_phrases_of_descriptors),
	};

	return cmocka_run_group_tests_name("secrets and ciphers", tests, open_env, close_env);
}
