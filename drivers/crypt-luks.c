// SPDX-License-Identifier: BSD-2-Clause
/*
 * A LUKS1 header inside an image: opening it by a pass phrase, making one, and its key slots.
 *
 * What costs rounds of hashing runs in a worker.  How many an image may ask for is bounded before the first of them:
 * the counts are the image's word, and it could ask for hours.
 */
#include "drivers.h"

#include <blktap/co.h>
#include <blktap/crypt.h>
#include <blktap/pool.h>
#include <inttypes.h>
#include <openssl/crypto.h>

#define DEFAULT_MS    1000u
#define DIGEST_PART   8u    /* the digest of the master key costs this part of a pass phrase's time */
#define HEADER_WINDOW 1024u /* whole sectors that hold the header */
#define BLOCKS_MAX    4u    /* of the shortest hash in the longest key */
#define SLOT_KEY_ROOM 128u  /* for that many blocks */

/* ---- reading ---- */

int td_luks_load(const struct td_luks_place *at, struct luks_header *ret, struct td_cipher *ret_c,
		 struct td_err *ret_err)
{
	uint8_t buf[LUKS_HEADER_LEN];
	int r;

	if (at->len < sizeof(buf) || at->len > LUKS_AREA_MAX)
		return td_err_set(ret_err, -EUCLEAN, "no encryption header has %" PRIu64 " bytes", at->len);
	r = td_image_pread(at->child, at->off, buf, sizeof(buf), TD_EXACT);
	if (r < 0)
		return td_err_set(ret_err, r, "cannot read the encryption header: %s", strerror(-r));
	r = luks_decode(buf, sizeof(buf), at->len, ret, ret_err);
	if (r == 0)
		r = luks_cipher(ret, ret_c, ret_err);
	if (r == 0 && td_hash_len(ret->hash) < 0)
		r = td_err_set(ret_err, -ENOTSUP,
			       "the encryption header uses the hash %s, which is not supported", ret->hash);
	return r;
}

/* ---- one slot ---- */

/* In a worker: a secret, a slot and its key material to a master key, or the reverse. */
struct slot_work {
	const struct luks_header *h;
	const struct luks_slot *slot;
	const struct td_secret *secret;
	struct td_cipher cipher;
	uint8_t *material; /* locked */
	size_t material_len;
	uint8_t *key;      /* locked */
	uint8_t *slot_key; /* locked; what the secret makes of the slot's salt */
};

static size_t material_room(const struct luks_header *h)
{
	return td_align_up(luks_material_len(h), TD_CRYPT_SECTOR);
}

static void work_done(struct slot_work *w)
{
	td_locked_free(w->material, w->material_len);
	td_locked_free(w->slot_key, SLOT_KEY_ROOM);
}

static int work_init(struct slot_work *w, const struct luks_header *h, const struct td_secret *s,
		     uint8_t *key)
{
	*w = (struct slot_work){ .h = h, .secret = s, .key = key, .material_len = material_room(h) };
	w->material = td_locked_alloc(w->material_len);
	w->slot_key = td_locked_alloc(SLOT_KEY_ROOM);
	if (w->material && w->slot_key)
		return luks_cipher(h, &w->cipher, NULL);
	work_done(w);
	return -ENOMEM;
}

struct block_work {
	struct td_pool *pool;
	struct td_kdf kdf;
	uint32_t nr;
	uint8_t *out;
};

static int block_work(void *arg)
{
	const struct block_work *w = arg;

	return td_pbkdf2_block(&w->kdf, w->nr, w->out);
}

static int block_co(void *arg)
{
	const struct block_work *w = arg;

	return td_pool_run(w->pool, block_work, arg);
}

/* The slot's key, each block of it in a worker of its own: it is most of what opening an image takes. */
static int make_slot_key(const struct td_luks_place *at, const struct slot_work *w)
{
	const struct td_secret *s = w->secret;
	uint32_t len = (uint32_t)td_hash_len(w->h->hash), nr = (uint32_t)td_div_up(w->h->key_len, len);
	struct block_work block[BLOCKS_MAX];
	struct td_join j = { 0 };

	for (uint32_t i = 0; i < TD_MIN(nr, BLOCKS_MAX); i++) {
		block[i] = (struct block_work){
			.pool = at->child->env->pool,
			.kdf = { w->h->hash, s->bytes, w->slot->salt, s->len, LUKS_SALT, w->slot->rounds },
			.nr = i + 1,
			.out = w->slot_key + (size_t)i * len,
		};
		td_join_start(&j, block_co, &block[i]);
	}
	return td_join_wait(&j);
}

/* The key material through the cipher, by the slot's key. */
static int material_crypt(struct slot_work *w, bool encrypt)
{
	struct td_crypt *c = NULL;
	int r = td_crypt_new(&w->cipher, w->slot_key, &c, NULL);

	if (r == 0)
		r = td_crypt_sectors(c, encrypt, 0, w->material, w->material_len);
	td_crypt_free(c);
	return r;
}

static int key_digest(const struct luks_header *h, const uint8_t *key, uint8_t digest[LUKS_DIGEST])
{
	const struct td_kdf kdf = { h->hash, key, h->salt, h->key_len, LUKS_SALT, h->rounds };

	return td_pbkdf2(&kdf, digest, LUKS_DIGEST);
}

/* -EACCES: this secret is not the slot's. */
static int unlock_work(void *arg)
{
	struct slot_work *w = arg;
	uint8_t digest[LUKS_DIGEST];
	int r = material_crypt(w, false);

	if (r == 0)
		r = td_af_merge(w->h->hash, w->material, w->h->key_len, w->slot->stripes, w->key);
	if (r == 0)
		r = key_digest(w->h, w->key, digest);
	if (r == 0 && CRYPTO_memcmp(digest, w->h->digest, LUKS_DIGEST) != 0)
		r = -EACCES;
	return r;
}

static int lock_work(void *arg)
{
	struct slot_work *w = arg;
	int r = td_af_split(w->h->hash, w->key, w->h->key_len, w->slot->stripes, w->material);

	return r < 0 ? r : material_crypt(w, true);
}

/* ---- opening ---- */

/* Blocks of hashing that a try costs: what the image asks for, in the unit in which it is paid. */
static uint64_t cost(const struct luks_header *h, const struct luks_slot *s)
{
	uint64_t len = (uint64_t)td_hash_len(h->hash);

	return s->rounds * td_div_up(h->key_len, len) + h->rounds * td_div_up(LUKS_DIGEST, len);
}

static int try_slot(const struct td_luks_place *at, struct slot_work *w, unsigned i)
{
	int r;

	w->slot = &w->h->slot[i];
	r = td_image_pread(at->child, at->off + (uint64_t)w->slot->sector * LUKS_SECTOR, w->material,
			   luks_material_len(w->h), TD_EXACT);
	if (r == 0)
		r = make_slot_key(at, w);
	return r < 0 ? r : td_pool_run(at->child->env->pool, unlock_work, w);
}

/* skipped: a slot that was not tried, or -1. */
static int not_opened(const struct luks_header *h, int skipped, struct td_err *ret_err)
{
	uint64_t all = 0;

	if (skipped < 0)
		return td_err_set(ret_err, -EACCES, "the pass phrase opens no key slot of the image");
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		all += h->slot[i].active ? cost(h, &h->slot[i]) : 0;
	return td_err_set(ret_err, -E2BIG,
			  "key slot %d was not tried: it asks for %" PRIu32 " and %" PRIu32
			  " rounds of hashing, which could take very long; the option key-rounds=%" PRIu64
			  " lets all slots be tried",
			  skipped, h->slot[skipped].rounds, h->rounds, all);
}

static int try_slots(const struct td_luks_place *at, struct slot_work *w, uint64_t rounds, unsigned *ret_slot,
		     struct td_err *ret_err)
{
	const struct luks_header *h = w->h;
	int r = -EACCES, skipped = -1;

	for (unsigned i = 0; r == -EACCES && i < LUKS_SLOTS; i++) {
		uint64_t price = cost(h, &h->slot[i]);

		if (!h->slot[i].active)
			continue;
		if (price > rounds) {
			skipped = skipped < 0 ? (int)i : skipped;
			continue;
		}
		rounds -= price;
		r = try_slot(at, w, i);
		*ret_slot = i;
	}
	if (r == -EACCES)
		return not_opened(h, skipped, ret_err);
	return r < 0 ? td_err_set(ret_err, r, "the key slots cannot be read: %s", strerror(-r)) : 0;
}

int td_luks_unlock(const struct td_luks_place *at, const struct luks_header *h, const struct td_secret *s,
		   uint64_t rounds, unsigned *ret_slot, uint8_t **ret_key, struct td_err *ret_err)
{
	uint8_t *key = td_locked_alloc(LUKS_KEY_MAX);
	struct slot_work w = { 0 };
	int r = key ? work_init(&w, h, s, key) : -ENOMEM;

	if (r < 0) {
		td_locked_free(key, LUKS_KEY_MAX);
		return td_err_set(ret_err, r, "no memory for the keys");
	}
	r = try_slots(at, &w, rounds ? rounds : td_luks_rounds(h->hash), ret_slot, ret_err);
	work_done(&w);
	if (r < 0)
		td_locked_free(key, LUKS_KEY_MAX);
	else
		*ret_key = key;
	return r;
}

/* ---- writing ---- */

static int write_header(const struct td_luks_place *at, const struct luks_header *h)
{
	size_t len = TD_MIN((uint64_t)HEADER_WINDOW, at->len);
	uint8_t buf[HEADER_WINDOW];
	int r = td_image_pread(at->child, at->off, buf, len, 0);

	if (r == 0) {
		luks_encode(h, buf);
		r = td_image_pwrite(at->child, at->off, buf, len, 0);
	}
	return r < 0 ? r : td_image_flush(at->child);
}

static int write_material(const struct td_luks_place *at, const struct luks_slot *s, const uint8_t *buf,
			  size_t len)
{
	int r = td_image_pwrite(at->child, at->off + (uint64_t)s->sector * LUKS_SECTOR, buf, len, 0);

	return r < 0 ? r : td_image_flush(at->child);
}

static int find_free(const struct luks_header *h, int slot, unsigned *ret, struct td_err *ret_err)
{
	if (slot >= 0 && h->slot[slot].active)
		return td_err_set(ret_err, -EEXIST, "key slot %d is in use", slot);
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		if (!h->slot[i].active && (slot < 0 || i == (unsigned)slot)) {
			*ret = i;
			return 0;
		}
	return td_err_set(ret_err, -ENOSPC, "all %u key slots are in use", LUKS_SLOTS);
}

/* What a header says of a slot that was free was not looked at before. */
static int check_place(const struct td_luks_place *at, const struct luks_header *h, struct td_err *ret_err)
{
	uint8_t buf[LUKS_HEADER_LEN];
	struct luks_header read_back;

	luks_encode(h, buf);
	return luks_decode(buf, sizeof(buf), at->len, &read_back, ret_err);
}

/*
 * Rounds for ms, or as nobody said how long: of which two slots can be tried before anybody has to allow it, each with
 * sixteenths/16 of the bound for this key, and the digest with the rest of its half.
 */
static int rounds_for(const struct luks_header *h, size_t len, unsigned ms, unsigned part,
		      unsigned sixteenths, uint32_t *ret)
{
	uint64_t blocks = td_div_up(len, (uint64_t)td_hash_len(h->hash));
	int r = td_pbkdf2_rounds(h->hash, len, (ms ? ms : DEFAULT_MS) / part, ret);

	if (r == 0 && ms == 0)
		*ret = (uint32_t)TD_MIN((uint64_t)*ret, td_luks_rounds(h->hash) * sixteenths / 16 / blocks);
	return r;
}

static int slot_begin(struct luks_header *h, unsigned nr, unsigned ms)
{
	struct luks_slot *s = &h->slot[nr];
	int r = rounds_for(h, h->key_len, ms, 1, 7, &s->rounds);

	s->active = true;
	return r < 0 ? r : td_random(s->salt, LUKS_SALT);
}

/* The key material first: until the header names it, it is nothing. */
static int slot_write(const struct td_luks_place *at, const struct luks_header *h, unsigned nr,
		      const struct td_secret *secret, uint8_t *key)
{
	struct slot_work w;
	int r = work_init(&w, h, secret, key);

	if (r < 0)
		return r;
	w.slot = &h->slot[nr];
	r = make_slot_key(at, &w);
	if (r == 0)
		r = td_pool_run(at->child->env->pool, lock_work, &w);
	if (r == 0)
		r = write_material(at, w.slot, w.material, luks_material_len(h));
	work_done(&w);
	return r < 0 ? r : write_header(at, h);
}

/* The key in memory that a worker may use. */
static int with_key(const struct td_luks_place *at, const struct luks_header *h, unsigned nr,
		    const struct td_secret *secret, const uint8_t *key)
{
	uint8_t *copy = td_locked_alloc(LUKS_KEY_MAX);
	int r;

	if (!copy)
		return -ENOMEM;
	memcpy(copy, key, h->key_len);
	r = slot_write(at, h, nr, secret, copy);
	td_locked_free(copy, LUKS_KEY_MAX);
	return r;
}

int td_luks_add(const struct td_luks_place *at, struct luks_header *h, const uint8_t *key,
		const struct td_secret *s, int slot, unsigned ms, struct td_err *ret_err)
{
	struct luks_header next = *h;
	unsigned nr = 0;
	int r = find_free(h, slot, &nr, ret_err);

	if (r < 0)
		return r;
	r = slot_begin(&next, nr, ms);
	if (r == 0 && check_place(at, &next, ret_err) < 0)
		return -EUCLEAN;
	if (r == 0)
		r = with_key(at, &next, nr, s, key);
	if (r < 0)
		return td_err_set(ret_err, r, "key slot %u cannot be written: %s", nr, strerror(-r));
	*h = next;
	return 0;
}

static unsigned slots_in_use(const struct luks_header *h)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		n += h->slot[i].active;
	return n;
}

/* Noise over the key material, and only then the word that it is gone: after a power cut this can be done again. */
int td_luks_erase(const struct td_luks_place *at, struct luks_header *h, unsigned slot,
		  struct td_err *ret_err)
{
	struct luks_header next = *h;
	size_t len = luks_material_len(h);
	uint8_t *noise;
	int r;

	if (!h->slot[slot].active)
		return td_err_set(ret_err, -ENOENT, "key slot %u is not in use", slot);
	if (slots_in_use(h) == 1)
		return td_err_set(ret_err, -EPERM,
				  "key slot %u is the last in use: nobody could read the image without it",
				  slot);
	next.slot[slot].active = false;
	next.slot[slot].rounds = 0;
	memset(next.slot[slot].salt, 0, LUKS_SALT);
	noise = td_buf_alloc(len);
	r = noise ? td_random(noise, len) : -ENOMEM;
	if (r == 0)
		r = write_material(at, &h->slot[slot], noise, len);
	if (r == 0)
		r = write_header(at, &next);
	if (noise)
		td_buf_free(noise, len);
	if (r < 0)
		return td_err_set(ret_err, r, "key slot %u cannot be erased: %s", slot, strerror(-r));
	*h = next;
	return 0;
}

/* ---- a new header ---- */

int td_luks_wished(struct td_opts *opts, struct td_luks_wish *ret, struct td_err *ret_err)
{
	uint64_t ms = 0;
	int r = td_opts_u64(opts, "encrypt.iter-time", 1, 60000, &ms, ret_err);

	*ret = (struct td_luks_wish){
		.cipher_alg = td_opts_get(opts, "encrypt.cipher-alg"),
		.cipher_mode = td_opts_get(opts, "encrypt.cipher-mode"),
		.iv_alg = td_opts_get(opts, "encrypt.ivgen-alg"),
		.iv_hash = td_opts_get(opts, "encrypt.ivgen-hash-alg"),
		.hash = td_opts_get(opts, "encrypt.hash-alg"),
		.ms = (unsigned)ms,
	};
	return r;
}

static int plan_key(const char *alg, const char *mode, uint32_t *ret, struct td_err *ret_err)
{
	/* Not aes-192: its key material ends inside a sector, which makes some versions of QEMU abort. */
	static const char *const names[] = { "aes-128", "aes-256" };
	unsigned i = 1;

	if (alg)
		for (i = 0; i < TD_NELEMS(names) && strcmp(alg, names[i]) != 0;)
			i++;
	if (i == TD_NELEMS(names))
		return td_err_set(ret_err, -EINVAL, "encrypt.cipher-alg=%s: it is aes-128 or aes-256", alg);
	*ret = 16 << i;
	if (strcmp(mode, "xts") == 0)
		*ret *= 2;
	return 0;
}

int td_luks_plan(const struct td_luks_wish *w, struct luks_header *ret, uint64_t *ret_len,
		 struct td_err *ret_err)
{
	const char *mode = w->cipher_mode ? w->cipher_mode : "xts", *iv = w->iv_alg ? w->iv_alg : "plain64";
	bool essiv = strcmp(iv, "essiv") == 0;
	struct luks_header h = { .cipher = "aes" };
	struct td_cipher c;
	int r = plan_key(w->cipher_alg, mode, &h.key_len, ret_err), len;

	if (r < 0)
		return r;
	len = snprintf(h.mode, sizeof(h.mode), "%s-%s%s%s", mode, iv, essiv ? ":" : "",
		       !essiv       ? ""
		       : w->iv_hash ? w->iv_hash
				    : "sha256");
	if (len >= (int)LUKS_NAME || luks_cipher(&h, &c, NULL) < 0 || (essiv && td_hash_len(c.iv_hash) < 0))
		return td_err_set(ret_err, -EINVAL, "encrypt: aes in mode %s-%s with %u bits is not possible",
				  mode, iv, h.key_len * 8);
	len = snprintf(h.hash, sizeof(h.hash), "%s", w->hash ? w->hash : "sha256");
	if (len >= (int)LUKS_NAME || td_hash_len(h.hash) < 0)
		return td_err_set(
			ret_err, -EINVAL,
			"encrypt.hash-alg=%s: it is sha1, sha224, sha256, sha384, sha512 or ripemd160",
			w->hash);
	*ret_len = luks_layout(&h);
	*ret = h;
	return 0;
}

static int make_uuid(char uuid[LUKS_UUID + 1])
{
	uint8_t b[16];
	int r = td_random(b, sizeof(b));

	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	(void)snprintf(uuid, LUKS_UUID + 1,
		       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		       b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		       b[15]);
	return r;
}

static int make_key(struct luks_header *h, unsigned ms, uint8_t *key)
{
	int r = make_uuid(h->uuid);

	if (r == 0)
		r = td_random(key, h->key_len);
	if (r == 0)
		r = td_random(h->salt, LUKS_SALT);
	if (r == 0)
		r = rounds_for(h, LUKS_DIGEST, ms, DIGEST_PART, 1, &h->rounds);
	return r < 0 ? r : key_digest(h, key, h->digest);
}

int td_luks_create(const struct td_luks_place *at, const struct td_luks_wish *w, struct luks_header *h,
		   const struct td_secret *s, struct td_err *ret_err)
{
	uint8_t *key = td_locked_alloc(LUKS_KEY_MAX);
	int r = key ? make_key(h, w->ms, key) : -ENOMEM;

	/* What was on a device before is no key material. */
	if (r == 0)
		r = td_image_zero(at->child, at->off, at->len, 0);
	if (r == 0)
		r = td_luks_add(at, h, key, s, 0, w->ms, ret_err);
	else
		td_err_set(ret_err, r, "the encryption header cannot be made: %s", strerror(-r));
	td_locked_free(key, LUKS_KEY_MAX);
	return r;
}
