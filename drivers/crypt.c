// SPDX-License-Identifier: BSD-2-Clause
/*
 * Sectors through a cipher.
 *
 * Each sector is encrypted by itself, with an initialization vector that its number makes.  What is read or written
 * goes through a buffer of ours: the caller's memory may be a guest's, who sees and changes it while we work.
 *
 * A context of OpenSSL serves one thread at a time.  So a request takes one from a list that only the loop's thread
 * knows, and puts it back; there are as many as there were requests at work at the same time, up to a bound.
 */
#include <blktap/crypt.h>
#include <blktap/image.h>
#include <blktap/iov.h>
#include <blktap/pool.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#define IV_LEN       16u
#define HASHES_MAX   64u
#define OLD_KEY      16u
#define CONTEXTS_MAX 32u          /* kept while nobody uses them */
#define PIECE        (256u << 10) /* bytes in one buffer */
/* From here on a request goes to a worker: below it is done before a worker is awake. */
#define WORKER_BYTES (32u << 10)

struct context {
	EVP_CIPHER_CTX *encrypt, *decrypt, *essiv; /* essiv: NULL unless the vector is encrypted */
	struct context *next;
};

struct td_crypt {
	struct td_cipher c;
	uint8_t *key;    /* locked */
	uint8_t *iv_key; /* locked; ESSIV: HASHES_MAX bytes of which iv_key_len count */
	size_t iv_key_len;
	struct context *spare;
	unsigned nr_spare;
};

struct work {
	const struct td_crypt *c;
	struct context *x;
	bool encrypt;
	uint64_t sector;
	uint8_t *buf;
	size_t len;
};

/* ---- contexts ---- */

static EVP_CIPHER_CTX *make(const char *mode, size_t key_bits, const uint8_t *key, bool encrypt)
{
	EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
	EVP_CIPHER *e;
	char name[32];
	bool ok;

	(void)snprintf(name, sizeof(name), "AES-%zu-%s", key_bits, mode);
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	e = EVP_CIPHER_fetch(NULL, name, NULL);
	ok = x && e && EVP_CipherInit_ex2(x, e, key, NULL, encrypt, NULL) == 1 &&
	     EVP_CIPHER_CTX_set_padding(x, 0) == 1;
	EVP_CIPHER_free(e);
	if (ok)
		return x;
	EVP_CIPHER_CTX_free(x);
	return NULL;
}

static void context_free(struct context *x)
{
	EVP_CIPHER_CTX_free(x->encrypt);
	EVP_CIPHER_CTX_free(x->decrypt);
	EVP_CIPHER_CTX_free(x->essiv);
	free(x);
}

static struct context *context_new(const struct td_crypt *c)
{
	bool xts = c->c.mode == TD_CIPHER_XTS;
	size_t bits = (size_t)c->c.key_len * (xts ? 4 : 8);
	struct context *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->encrypt = make(xts ? "XTS" : "CBC", bits, c->key, true);
	x->decrypt = make(xts ? "XTS" : "CBC", bits, c->key, false);
	if (c->c.iv == TD_IV_ESSIV)
		x->essiv = make("ECB", c->iv_key_len * 8, c->iv_key, true);
	if (x->encrypt && x->decrypt && (x->essiv || c->c.iv != TD_IV_ESSIV))
		return x;
	context_free(x);
	return NULL;
}

static struct context *context_take(struct td_crypt *c)
{
	struct context *x = c->spare;

	if (!x)
		return context_new(c);
	c->spare = x->next;
	c->nr_spare--;
	return x;
}

static void context_give(struct td_crypt *c, struct context *x)
{
	if (c->nr_spare == CONTEXTS_MAX) {
		context_free(x);
		return;
	}
	x->next = c->spare;
	c->spare = x;
	c->nr_spare++;
}

/* ---- making one ---- */

/* The vector's key is a hash of the disk's, and its cipher is the AES of that length. */
static int make_iv_key(struct td_crypt *c)
{
	int len = c->c.iv == TD_IV_ESSIV ? td_hash_len(c->c.iv_hash) : 0;

	if (len == 0)
		return 0;
	if (len != 16 && len != 24 && len != 32)
		return -ENOTSUP;
	c->iv_key = td_locked_alloc(HASHES_MAX);
	if (!c->iv_key)
		return -ENOMEM;
	c->iv_key_len = (size_t)len;
	return td_hash(c->c.iv_hash, c->key, c->c.key_len, c->iv_key);
}

int td_crypt_new(const struct td_cipher *cipher, const uint8_t *key, struct td_crypt **ret,
		 struct td_err *ret_err)
{
	struct td_crypt *c = calloc(1, sizeof(*c));
	struct context *x = NULL;
	int r = -ENOMEM;

	if (c) {
		c->c = *cipher;
		c->key = td_locked_alloc(LUKS_KEY_MAX);
	}
	if (c && c->key) {
		memcpy(c->key, key, cipher->key_len);
		r = make_iv_key(c);
	}
	if (r == 0) {
		x = context_new(c);
		r = x ? 0 : -ENOTSUP;
	}
	if (r < 0) {
		td_crypt_free(c);
		return td_err_set(ret_err, r, "the cipher cannot be set up: %s",
				  r == -ENOMEM ? "no memory" : "this OpenSSL does not have it");
	}
	context_give(c, x);
	*ret = c;
	return 0;
}

int td_crypt_new_old(const struct td_secret *s, struct td_crypt **ret, struct td_err *ret_err)
{
	const struct td_cipher c = { .mode = TD_CIPHER_CBC, .iv = TD_IV_PLAIN64, .key_len = OLD_KEY };
	uint8_t *key = td_locked_alloc(OLD_KEY);
	int r;

	if (!key)
		return td_err_set(ret_err, -ENOMEM, "no memory for the key");
	memcpy(key, s->bytes, TD_MIN(s->len, (size_t)OLD_KEY));
	r = td_crypt_new(&c, key, ret, ret_err);
	td_locked_free(key, OLD_KEY);
	return r;
}

void td_crypt_free(struct td_crypt *c)
{
	struct context *x;

	if (!c)
		return;
	while ((x = c->spare) != NULL) {
		c->spare = x->next;
		context_free(x);
	}
	td_locked_free(c->key, LUKS_KEY_MAX);
	td_locked_free(c->iv_key, HASHES_MAX);
	free(c);
}

const uint8_t *td_crypt_key(const struct td_crypt *c)
{
	return c->key;
}

/* ---- sectors ---- */

static bool put_iv(const struct work *w, uint64_t sector, uint8_t iv[IV_LEN])
{
	uint64_t le = htole64(w->c->c.iv == TD_IV_PLAIN ? sector & UINT32_MAX : sector);
	int n;

	memset(iv, 0, IV_LEN);
	memcpy(iv, &le, sizeof(le));
	return !w->x->essiv || EVP_CipherUpdate(w->x->essiv, iv, &n, iv, IV_LEN) == 1;
}

static int run(void *arg)
{
	const struct work *w = arg;
	EVP_CIPHER_CTX *x = w->encrypt ? w->x->encrypt : w->x->decrypt;
	uint64_t sector = w->sector;
	uint8_t iv[IV_LEN];
	int n;

	for (size_t at = 0; at < w->len; at += TD_CRYPT_SECTOR, sector++)
		if (!put_iv(w, sector, iv) || EVP_CipherInit_ex2(x, NULL, NULL, iv, -1, NULL) != 1 ||
		    EVP_CipherUpdate(x, w->buf + at, &n, w->buf + at, TD_CRYPT_SECTOR) != 1)
			return -EIO;
	return 0;
}

static int run_here_or_there(struct td_crypt *c, struct td_pool *pool, bool encrypt, uint64_t sector,
			     void *buf, size_t len)
{
	struct work w = { .c = c, .encrypt = encrypt, .sector = sector, .buf = buf, .len = len };
	int r;

	w.x = context_take(c);
	if (!w.x)
		return -ENOMEM;
	r = pool && len >= WORKER_BYTES ? td_pool_run(pool, run, &w) : run(&w);
	context_give(c, w.x);
	return r;
}

int td_crypt_sectors(struct td_crypt *c, bool encrypt, uint64_t sector, void *buf, size_t len)
{
	return run_here_or_there(c, NULL, encrypt, sector, buf, len);
}

/* ---- the child ---- */

/* Whole sectors into buf, decrypted. */
static int load(struct td_crypt *c, struct td_image *child, uint64_t off, uint64_t iv_off, uint8_t *buf,
		size_t len)
{
	int r = td_image_pread(child, off, buf, len, 0);

	if (r < 0)
		return r;
	return run_here_or_there(c, child->env->pool, false, iv_off / TD_CRYPT_SECTOR, buf, len);
}

/* A part of a request, and the whole sectors that hold it. */
struct piece {
	uint64_t off, iv_off; /* of the first sector */
	size_t head, len;     /* bytes before it in the first sector; of the sectors */
	struct td_iov iov;
	uint8_t *buf;
};

static struct piece piece_of(uint64_t off, uint64_t iv_off, const struct td_iov *iov, uint64_t done)
{
	size_t head = (iv_off + done) % TD_CRYPT_SECTOR;
	uint64_t len = TD_MIN(iov->len - done, (uint64_t)PIECE - head);

	return (struct piece){
		.off = off + done - head,
		.iv_off = iv_off + done - head,
		.head = head,
		.len = td_align_up(head + len, TD_CRYPT_SECTOR),
		.iov = td_iov_slice(iov, done, len),
	};
}

static int read_piece(struct td_crypt *c, struct td_image *child, struct piece *p)
{
	int r = load(c, child, p->off, p->iv_off, p->buf, p->len);
	uint8_t *from = p->buf + p->head;

	if (r == 0)
		td_iov_from_buf(&p->iov, from);
	return r;
}

static int write_piece(struct td_crypt *c, struct td_image *child, struct piece *p)
{
	size_t end = p->head + p->iov.len, last = p->len - TD_CRYPT_SECTOR;
	int r = 0;

	if (p->head > 0)
		r = load(c, child, p->off, p->iv_off, p->buf, TD_CRYPT_SECTOR);
	if (r == 0 && end < p->len && (last > 0 || p->head == 0))
		r = load(c, child, p->off + last, p->iv_off + last, p->buf + last, TD_CRYPT_SECTOR);
	if (r < 0)
		return r;
	td_iov_to_buf(&p->iov, p->buf + p->head);
	r = run_here_or_there(c, child->env->pool, true, p->iv_off / TD_CRYPT_SECTOR, p->buf, p->len);
	return r < 0 ? r : td_image_pwrite(child, p->off, p->buf, p->len, 0);
}

typedef int piece_fn(struct td_crypt *c, struct td_image *child, struct piece *p);

static int each_piece(struct td_crypt *c, struct td_image *child, uint64_t off, uint64_t iv_off,
		      const struct td_iov *iov, piece_fn *fn)
{
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < iov->len;) {
		struct piece p = piece_of(off, iv_off, iov, done);

		p.buf = td_buf_alloc(p.len);
		r = p.buf ? fn(c, child, &p) : -ENOMEM;
		if (p.buf)
			td_buf_free(p.buf, p.len);
		done += p.iov.len;
	}
	return r;
}

int td_crypt_preadv(struct td_crypt *c, struct td_image *child, uint64_t off, uint64_t iv_off,
		    const struct td_iov *iov)
{
	return each_piece(c, child, off, iv_off, iov, read_piece);
}

int td_crypt_pwritev(struct td_crypt *c, struct td_image *child, uint64_t off, uint64_t iv_off,
		     const struct td_iov *iov)
{
	return each_piece(c, child, off, iv_off, iov, write_piece);
}
