// SPDX-License-Identifier: BSD-2-Clause
/*
 * Encrypted images: the key at open, and the guest's data on its way to and from the disk.
 *
 *	LUKS	a header in clusters of its own, which a header extension names; sectors are encrypted by where they
 *		lie in the file, so that a cluster cannot be moved without its key
 *	AES	of old: the pass phrase itself, cut to 16 bytes, is the key; by where the guest sees them
 *
 * Metadata is never encrypted, and neither are compressed clusters: reading takes them as QEMU does, we write none.
 */
#include "qcow2-int.h"

static bool by_host(const struct qcow2 *q)
{
	return q->h.crypt == QCOW2_CRYPT_LUKS;
}

static struct td_luks_place place(const struct qcow2 *q)
{
	return (struct td_luks_place){ .child = q->child, .off = q->h.crypt_off, .len = q->h.crypt_len };
}

/* ---- the guest's data ---- */

int qcow2_data_read_crypt(struct qcow2 *q, uint64_t guest_off, uint64_t host_off, const struct td_iov *iov)
{
	if (!q->crypt)
		return -ENOKEY;
	return td_crypt_preadv(q->crypt, q->data, host_off, by_host(q) ? host_off : guest_off, iov);
}

int qcow2_data_write_crypt(struct qcow2 *q, uint64_t guest_off, uint64_t host_off, const struct td_iov *iov)
{
	if (!q->crypt)
		return -ENOKEY;
	return td_crypt_pwritev(q->crypt, q->data, host_off, by_host(q) ? host_off : guest_off, iov);
}

/* ---- open ---- */

static int no_secret(const struct qcow2 *q, struct td_err *ret_err)
{
	/* Facts, and the tables, can be read without. */
	if (q->im->flags & (TD_OPEN_CHECK | TD_OPEN_NO_CHAIN))
		return 0;
	return td_err_set(ret_err, -ENOKEY,
			  "the image is encrypted (%s): name a file with its pass phrase by key-file=FILE",
			  by_host(q) ? "LUKS" : "AES");
}

static int open_luks(struct qcow2 *q, const struct td_cipher *c, const struct td_secret *s,
		     struct td_err *ret_err)
{
	struct td_luks_place at = place(q);
	uint8_t *key = NULL;
	unsigned slot;
	int r = td_luks_unlock(&at, &q->luks, s, q->key_rounds, &slot, &key, ret_err);

	if (r == 0)
		r = td_crypt_new(c, key, &q->crypt, ret_err);
	td_locked_free(key, LUKS_KEY_MAX);
	return r;
}

/* A broken header is the check's to tell of. */
static int load_luks(struct qcow2 *q, struct td_cipher *ret, struct td_err *ret_err)
{
	struct td_luks_place at = place(q);
	int r;

	if (at.len == 0)
		r = td_err_set(ret_err, -EUCLEAN, "the image is encrypted, and names no encryption header");
	else
		r = td_luks_load(&at, &q->luks, ret, ret_err);
	q->has_luks = r == 0;
	return r < 0 && (q->im->flags & TD_OPEN_CHECK) ? 0 : r;
}

int qcow2_crypt_open(struct qcow2 *q, struct td_opts *opts, struct td_err *ret_err)
{
	struct td_secret *s = NULL;
	struct td_cipher c = { 0 };
	int r;

	if (q->h.crypt == 0)
		return 0;
	r = td_opts_u64(opts, "key-rounds", 1, UINT64_MAX, &q->key_rounds, ret_err);
	if (r == 0)
		r = td_secret_load(opts, "key-file", "key-fd", q->im->env->notice, &s, ret_err);
	if (r == 0 && by_host(q))
		r = load_luks(q, &c, ret_err);
	if (r == 0 && !s)
		r = no_secret(q, ret_err);
	else if (r == 0 && !by_host(q))
		r = td_crypt_new_old(s, &q->crypt, ret_err);
	else if (r == 0 && q->has_luks)
		r = open_luks(q, &c, s, ret_err);
	td_secret_free(s);
	return r;
}

void qcow2_crypt_done(struct qcow2 *q)
{
	td_crypt_free(q->crypt);
	q->crypt = NULL;
}

/* ---- facts ---- */

static int add_luks_facts(const struct luks_header *h, struct td_opts *ret)
{
	const char *iv = strchr(h->mode, '-') + 1; /* a cipher was read from it */
	char alg[24], mode[LUKS_NAME], slots[2 * LUKS_SLOTS + 1] = "";
	int r;

	(void)snprintf(mode, sizeof(mode), "%.*s", (int)(iv - 1 - h->mode), h->mode);
	(void)snprintf(alg, sizeof(alg), "aes-%u", h->key_len * (strcmp(mode, "xts") == 0 ? 4 : 8));
	for (unsigned i = 0, n = 0; i < LUKS_SLOTS; i++)
		if (h->slot[i].active)
			n += (unsigned)snprintf(slots + n, sizeof(slots) - n, "%s%u", n ? " " : "", i);
	r = td_opts_add(ret, "encrypt.cipher-alg", alg, NULL);
	if (r == 0)
		r = td_opts_add(ret, "encrypt.cipher-mode", mode, NULL);
	if (r == 0)
		r = td_opts_add(ret, "encrypt.ivgen-alg", iv, NULL);
	if (r == 0)
		r = td_opts_add(ret, "encrypt.hash-alg", h->hash, NULL);
	if (r == 0)
		r = td_opts_add(ret, "encrypt.uuid", h->uuid, NULL);
	return r < 0 ? r : td_opts_add(ret, "encrypt.slots-in-use", slots, NULL);
}

int qcow2_crypt_facts(const struct qcow2 *q, struct td_opts *ret)
{
	int r;

	if (q->h.crypt == 0)
		return 0;
	r = td_opts_add(ret, "encrypted", "true", NULL);
	if (r == 0)
		r = td_opts_add(ret, "encrypt.format", by_host(q) ? "luks" : "aes", NULL);
	return r < 0 || !q->has_luks ? r : add_luks_facts(&q->luks, ret);
}
