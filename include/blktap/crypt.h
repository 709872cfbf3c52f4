// SPDX-License-Identifier: BSD-2-Clause
/*
 * Encrypted disks, for format drivers: secrets that the user gave, and sectors that go through a cipher on their way to
 * the child image.  By OpenSSL, and PBKDF2 by nettle.
 *
 * Pass phrases and keys are in memory of their own that is locked where the system allows it, is in no core dump, and
 * is wiped when it is given back.  A cipher at work has its key in ordinary memory as well; so from the first secret on
 * the process cannot be dumped at all (PR_SET_DUMPABLE).
 */
#ifndef BLKTAP_CRYPT_H
#define BLKTAP_CRYPT_H

#include <blktap/luks.h>

struct td_create;
struct td_image;
struct td_iov;
struct td_opts;
struct td_pool;

/* ---- secret.c ---- */

/* Locked memory, zeroed; NULL: none left.  wipe and give back; NULL is fine. */
void *td_locked_alloc(size_t len);
void td_locked_free(void *p, size_t len);

/* A pass phrase or key; in locked memory. */
struct td_secret {
	size_t len;
	uint8_t bytes[];
};

#define TD_SECRET_MAX 8192u

void td_secret_free(struct td_secret *s); /* NULL is fine */

/*
 * Read what the option `file` names, or else the descriptor that the option `fd` gives (both are option names; fd may
 * be NULL): all bytes, but for one newline at the end.  A descriptor is the process's own from before; of a file it is
 * read from the start each time.  *ret is NULL if neither option is there.  The sentences name the option and the file,
 * never what is in it.  notice: told of a file that others may read; may be NULL.
 */
TD_CHECK int td_secret_load(struct td_opts *opts, const char *file, const char *fd,
			    void (*notice)(const char *line), struct td_secret **ret, struct td_err *ret_err);

/* Of a new image: by the create option encrypt.key-file, or else by key-file or key-fd of the specification. */
TD_CHECK int td_secret_for_new(const struct td_create *c, struct td_secret **ret, struct td_err *ret_err);

/* ---- crypt.c: sectors ---- */

#define TD_CRYPT_SECTOR 512u

struct td_crypt;

/* key: c->key_len bytes, copied.  *ret is the caller's: td_crypt_free.  -ENOTSUP: not in this OpenSSL. */
TD_CHECK int td_crypt_new(const struct td_cipher *c, const uint8_t *key, struct td_crypt **ret,
			  struct td_err *ret_err);

/* The AES of old qcow and qcow2 images: the pass phrase itself, cut or filled up to 16 bytes, is the key. */
TD_CHECK int td_crypt_new_old(const struct td_secret *s, struct td_crypt **ret, struct td_err *ret_err);
void td_crypt_free(struct td_crypt *c); /* NULL is fine */

/* The key that it was made with; it lives as long as c does. */
const uint8_t *td_crypt_key(const struct td_crypt *c);

/* In place, len bytes that begin with this sector; both are whole sectors.  The caller's thread only. */
TD_CHECK int td_crypt_sectors(struct td_crypt *c, bool encrypt, uint64_t sector, void *buf, size_t len);

/*
 * Read from the child, and write to it, what is encrypted there.  iv_off: the byte offset from which the
 * initialization vectors count; where it is a multiple of 512 a sector begins.  Nothing of the caller's memory is
 * changed by a write, and nothing encrypted is ever in it.  Bytes past the child's end are noise.
 *
 * Neither off nor the length need be whole sectors; but the sectors at the ends of a write are then read and written
 * back, and nobody else may write to them meanwhile.
 */
TD_CO TD_CHECK int td_crypt_preadv(struct td_crypt *c, struct td_image *child, uint64_t off, uint64_t iv_off,
				   const struct td_iov *iov);
TD_CO TD_CHECK int td_crypt_pwritev(struct td_crypt *c, struct td_image *child, uint64_t off, uint64_t iv_off,
				    const struct td_iov *iov);

/* ---- crypt-kdf.c, crypt-pbkdf2.c ---- */

/* Bytes of this hash ("sha256"); -ENOTSUP: not in this OpenSSL. */
TD_CHECK int td_hash_len(const char *hash);
TD_CHECK int td_hash(const char *hash, const void *in, size_t len, uint8_t *out);

/* What PBKDF2 makes a key of. */
struct td_kdf {
	const char *hash;
	const void *secret, *salt;
	size_t secret_len, salt_len;
	uint32_t rounds; /* at least 1 */
};

/* len bytes of key. */
TD_CHECK int td_pbkdf2(const struct td_kdf *kdf, uint8_t *out, size_t len);

/* Its block nr (1, 2, ...): as many bytes as the hash has.  Each block costs all of the rounds. */
TD_CHECK int td_pbkdf2_block(const struct td_kdf *kdf, uint32_t nr, uint8_t *out);

/* As many rounds as take this thread so many milliseconds of processor time, for a key of len bytes; at least 1000. */
TD_CHECK int td_pbkdf2_rounds(const char *hash, size_t len, unsigned ms, uint32_t *ret);

/* The anti-forensic splitter of LUKS: a key of len bytes as `stripes` times as many, all of which it takes back. */
TD_CHECK int td_af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out);
TD_CHECK int td_af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *ret_key);

/* len random bytes that are fit for keys.  -EIO: none can be had. */
TD_CHECK int td_random(void *buf, size_t len);

/* ---- crypt-luks.c: a LUKS1 header in an image ---- */

/*
 * Rounds of this hash that finding the slot of a pass phrase may cost when nothing else is said: some two seconds of a
 * machine of 2022, and somewhat more than the one slot of an image that QEMU made there costs.
 */
#define TD_LUKS_ROUNDS_SHA256 (22ull << 20)
uint64_t td_luks_rounds(const char *hash);

/* Where a header is in the child, and what it may take. */
struct td_luks_place {
	struct td_image *child;
	uint64_t off, len;
};

/* Read and check it; *ret_c: its cipher. */
TD_CO TD_CHECK int td_luks_load(const struct td_luks_place *at, struct luks_header *ret,
				struct td_cipher *ret_c, struct td_err *ret_err);

/*
 * Find the slot that this secret opens, and give the master key in locked memory of h->key_len bytes, the caller's to
 * free.  rounds: the most that all slots tried may cost together; 0: td_luks_rounds.  -EACCES: it opens none; -E2BIG:
 * there are slots that were not tried because they would cost more.
 */
TD_CO TD_CHECK int td_luks_unlock(const struct td_luks_place *at, const struct luks_header *h,
				  const struct td_secret *s, uint64_t rounds, unsigned *ret_slot,
				  uint8_t **ret_key, struct td_err *ret_err);

/* What a new header says but for its key. */
struct td_luks_wish {
	const char *cipher_alg, *cipher_mode, *iv_alg, *iv_hash,
		*hash; /* NULL: aes-256, xts, plain64, sha256 */
	unsigned ms;   /* of processor time for each try of a pass phrase; 0: 1000, or less */
};

/* The options of a new image, `encrypt.cipher-alg` and so on; ret points into opts. */
TD_CHECK int td_luks_wished(struct td_opts *opts, struct td_luks_wish *ret, struct td_err *ret_err);

/* Its names and places; no key, no salt, no slot in use. *ret_len: bytes of header and key material. */
TD_CHECK int td_luks_plan(const struct td_luks_wish *w, struct luks_header *ret, uint64_t *ret_len,
			  struct td_err *ret_err);

/* Make a planned one: a new master key, opened by this secret, written to the child. */
TD_CO TD_CHECK int td_luks_create(const struct td_luks_place *at, const struct td_luks_wish *w,
				  struct luks_header *h, const struct td_secret *s, struct td_err *ret_err);

/*
 * Let a secret open the image, too: slot is 0..7, or -1 for the first that is free.  And: empty a slot, of which the
 * last in use is refused (-EPERM).  Both write the header so that a power cut leaves the other slots as they are.
 */
TD_CO TD_CHECK int td_luks_add(const struct td_luks_place *at, struct luks_header *h, const uint8_t *key,
			       const struct td_secret *s, int slot, unsigned ms, struct td_err *ret_err);
TD_CO TD_CHECK int td_luks_erase(const struct td_luks_place *at, struct luks_header *h, unsigned slot,
				 struct td_err *ret_err);

#endif
