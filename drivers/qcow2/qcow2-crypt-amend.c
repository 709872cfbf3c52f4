// SPDX-License-Identifier: BSD-2-Clause
/*
 * Key slots of an encrypted image: another pass phrase that opens it, or one less.  The options are named after QEMU's.
 *
 *	encrypt.new-key-file	a pass phrase to be let in, to encrypt.keyslot or the first that is free
 *	encrypt.old-key-file	a pass phrase to be kept out: all slots that it opens
 *	encrypt.state=inactive	empty encrypt.keyslot
 *
 * With a new and an old one the new one is let in first.
 */
#include "qcow2-crypt.h"

static int read_change(struct qcow2 *q, struct td_opts *opts, struct qcow2_crypt_change *c,
		       struct td_err *ret_err)
{
	uint64_t slot = UINT64_MAX, ms = 0;
	const char *state = td_opts_get(opts, "encrypt.state");
	int r = td_opts_u64(opts, "encrypt.keyslot", 0, LUKS_SLOTS - 1, &slot, ret_err);

	if (r == 0 && state && strcmp(state, "active") != 0 && strcmp(state, "inactive") != 0)
		r = td_err_set(ret_err, -EINVAL, "encrypt.state=%s: it is active or inactive", state);
	if (r == 0)
		r = td_opts_u64(opts, "encrypt.iter-time", 1, 60000, &ms, ret_err);
	if (r == 0)
		r = td_secret_load(opts, "encrypt.new-key-file", NULL, q->im->env->notice, &c->new, ret_err);
	if (r == 0)
		r = td_secret_load(opts, "encrypt.old-key-file", NULL, q->im->env->notice, &c->old, ret_err);
	c->slot = slot == UINT64_MAX ? -1 : (int)slot;
	c->erase = state && strcmp(state, "inactive") == 0;
	c->ms = (unsigned)ms;
	return r;
}

static int check_change(const struct qcow2 *q, const struct qcow2_crypt_change *c, struct td_err *ret_err)
{
	if (!q->has_luks)
		return td_err_set(ret_err, -EINVAL, "encrypt: the image has no key slots: only LUKS has");
	if (c->new && c->erase)
		return td_err_set(ret_err, -EINVAL,
				  "encrypt.new-key-file and encrypt.state=inactive exclude each other");
	if (!c->new && !c->old && !(c->erase && c->slot >= 0))
		return td_err_set(ret_err, -EINVAL,
				  "encrypt: say what to do: encrypt.new-key-file, encrypt.old-key-file, or "
				  "encrypt.state=inactive with encrypt.keyslot");
	if (c->new && !q->crypt)
		return td_err_set(ret_err, -ENOKEY,
				  "encrypt.new-key-file: the image has to be opened by a pass phrase that it "
				  "knows: key-file=FILE in the specification");
	return 0;
}

/* A slot that this one opens, not `but`; -EACCES: none. */
static int find_slot(struct qcow2 *q, const struct td_luks_place *at, const struct td_secret *s, int but,
		     unsigned *ret, struct td_err *ret_err)
{
	struct luks_header h = q->luks;
	uint8_t *key = NULL;
	int r;

	if (but >= 0)
		h.slot[but].active = false;
	r = td_luks_unlock(at, &h, s, q->key_rounds, ret, &key, ret_err);
	td_locked_free(key, LUKS_KEY_MAX);
	return r;
}

static int erase_old(struct qcow2 *q, const struct td_luks_place *at, const struct qcow2_crypt_change *c,
		     int but, struct td_err *ret_err)
{
	unsigned slot, nr = 0;
	int r;

	while ((r = find_slot(q, at, c->old, but, &slot, ret_err)) == 0) {
		r = td_luks_erase(at, &q->luks, slot, ret_err);
		if (r < 0)
			return r;
		nr++;
	}
	if (r == -EACCES && nr > 0)
		return 0;
	return r == -EACCES
		       ? td_err_set(ret_err, r, "encrypt.old-key-file: it opens no key slot of the image")
		       : r;
}

static int add_new(struct qcow2 *q, const struct td_luks_place *at, const struct qcow2_crypt_change *c,
		   int *ret_slot, struct td_err *ret_err)
{
	struct luks_header was = q->luks;
	int r = td_luks_add(at, &q->luks, td_crypt_key(q->crypt), c->new, c->slot, c->ms, ret_err);

	for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
		if (q->luks.slot[i].active && !was.slot[i].active)
			*ret_slot = (int)i;
	return r;
}

static bool is_asked(const struct td_opts *opts)
{
	for (unsigned i = 0; i < opts->nr; i++)
		if (strncmp(opts->opt[i].name, "encrypt.", 8) == 0)
			return true;
	return false;
}

int qcow2_crypt_wished(struct qcow2 *q, struct td_opts *opts, struct qcow2_crypt_change *ret,
		       struct td_err *ret_err)
{
	int r;

	*ret = (struct qcow2_crypt_change){ .asked = is_asked(opts) };
	if (!ret->asked)
		return 0;
	r = read_change(q, opts, ret, ret_err);
	if (r == 0)
		r = check_change(q, ret, ret_err);
	if (r == 0)
		return 0;
	qcow2_crypt_change_done(ret);
	return td_err_prefix(ret_err, r, "%s", q->im->name);
}

int qcow2_crypt_change(struct qcow2 *q, const struct qcow2_crypt_change *c, struct td_err *ret_err)
{
	struct td_luks_place at = { .child = q->child, .off = q->h.crypt_off, .len = q->h.crypt_len };
	int added = -1, r = 0;

	if (c->new)
		r = add_new(q, &at, c, &added, ret_err);
	if (r == 0 && c->old)
		r = erase_old(q, &at, c, added, ret_err);
	else if (r == 0 && c->erase)
		r = td_luks_erase(&at, &q->luks, (unsigned)c->slot, ret_err);
	return r < 0 ? td_err_prefix(ret_err, r, "%s", q->im->name) : 0;
}

void qcow2_crypt_change_done(struct qcow2_crypt_change *c)
{
	td_secret_free(c->new);
	td_secret_free(c->old);
	c->new = c->old = NULL;
}
