// SPDX-License-Identifier: BSD-2-Clause
/*
 * The LUKS1 header as it stands inside an encrypted qcow2 image: bytes to struct and back, and every check that it
 * allows.  Pure; whoever tries a pass phrase is drivers/crypt-luks.c.
 *
 *	| 592 bytes: header | ... | key material of slot 0 | ... | key material of slot 7 |
 *	0                      4096
 *
 * The disk is encrypted by the master key, which nobody is told.  Each slot keeps it, encrypted by a key that many
 * rounds of a hash make from a pass phrase and the slot's salt, and blown up to LUKS_STRIPES times its length so that
 * to overwrite a part of it is to destroy it.  A digest tells whether a master key is the right one.
 *
 * Source: the LUKS1 on-disk format, version 1.2.1 (cryptsetup); docs/interop/qcow2.rst of QEMU for where it is.
 */
#ifndef BLKTAP_LUKS_H
#define BLKTAP_LUKS_H

#include <blktap/err.h>

#define LUKS_SECTOR     512u
#define LUKS_HEADER_LEN 592u
#define LUKS_SLOTS      8u
#define LUKS_STRIPES    4000u /* the only number in use */
#define LUKS_SALT       32u
#define LUKS_DIGEST     20u
#define LUKS_NAME       32u
#define LUKS_UUID       40u
#define LUKS_KEY_MAX    64u        /* bytes of a master key: two of 256 bits for XTS */
#define LUKS_AREA_MAX   (8u << 20) /* ours: what a header with its key material may take in an image */

/* How sectors of 512 bytes are encrypted, each by itself. */
enum td_cipher_mode { TD_CIPHER_XTS, TD_CIPHER_CBC };

/* What the initialization vector is made of: the sector's number, in 32 or 64 bits, or that encrypted. */
enum td_cipher_iv { TD_IV_PLAIN, TD_IV_PLAIN64, TD_IV_ESSIV };

/* A cipher; always AES. */
struct td_cipher {
	enum td_cipher_mode mode;
	enum td_cipher_iv iv;
	char iv_hash[LUKS_NAME + 1]; /* ESSIV */
	uint32_t key_len;            /* bytes; XTS: both halves */
};

struct luks_slot {
	bool active;
	uint32_t rounds; /* active: at least 1 */
	uint8_t salt[LUKS_SALT];
	uint32_t sector; /* of its key material, from the header on */
	uint32_t stripes;
};

struct luks_header {
	char cipher[LUKS_NAME + 1], mode[LUKS_NAME + 1],
		hash[LUKS_NAME + 1]; /* "aes", "xts-plain64", "sha256" */
	uint32_t payload_sector;     /* says nothing inside qcow2, but for where the last key material ends */
	uint32_t key_len;            /* bytes, up to LUKS_KEY_MAX */
	uint8_t digest[LUKS_DIGEST], salt[LUKS_SALT];
	uint32_t rounds; /* of the digest, at least 1 */
	char uuid[LUKS_UUID + 1];
	struct luks_slot slot[LUKS_SLOTS];
};

/*
 * Decode and check.  buf: the first len bytes, all of them or more; area: how many bytes header and key material have
 * in the image.  Active slots have key material of the right length, inside the area, behind the header, apart from
 * each other.  -EUCLEAN: not so; -ENOTSUP: another version, or a master key longer than any that AES takes.
 */
TD_CHECK int luks_decode(const void *buf, size_t len, uint64_t area, struct luks_header *ret,
			 struct td_err *ret_err);
void luks_encode(const struct luks_header *h, uint8_t buf[LUKS_HEADER_LEN]);

/* The names in it as a cipher.  -ENOTSUP by name: not AES, or a mode that is not ours. */
TD_CHECK int luks_cipher(const struct luks_header *h, struct td_cipher *ret, struct td_err *ret_err);

/* Bytes of one slot's key material. */
uint32_t luks_material_len(const struct luks_header *h);

/* Give slots and payload the places that they have in a new header, from key_len.  Returns the bytes of all of it. */
uint64_t luks_layout(struct luks_header *h);

#endif
