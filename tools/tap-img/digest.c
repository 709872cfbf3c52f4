// SPDX-License-Identifier: BSD-2-Clause
/*
 * The SHA-256 of what is copied.  See digest.h.
 *
 * OpenSSL does the counting.
 */
#include "digest.h"

#include <openssl/evp.h>
#include <stdio.h>

#define ZEROS (256u << 10)

static const uint8_t digest_zeros[ZEROS];

int digest_open(struct digest *d, struct td_pool *pool)
{
	*d = (struct digest){ .pool = pool };
	d->ctx = EVP_MD_CTX_new();
	if (!d->ctx || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	return 0;
}

void digest_close(struct digest *d)
{
	EVP_MD_CTX_free(d->ctx);
	d->ctx = NULL;
}

struct digest_work {
	struct digest *d;
	const void *buf;
	uint64_t len;
};

static int digest_work(void *arg)
{
	const struct digest_work *w = arg;

	if (w->buf)
		return EVP_DigestUpdate(w->d->ctx, w->buf, w->len) == 1 ? 0 : -EIO;
	for (uint64_t left = w->len, n; left > 0; left -= n) {
		n = TD_MIN(left, (uint64_t)ZEROS);
		if (EVP_DigestUpdate(w->d->ctx, digest_zeros, n) != 1)
			return -EIO;
	}
	return 0;
}

int digest_add(struct digest *d, uint64_t number, const void *buf, uint64_t len)
{
	struct digest_work w = { .d = d, .buf = buf, .len = len };
	int r;

	if (!d->ctx)
		return 0;
	turns_wait(&d->turns, number);
	r = d->result < 0 ? d->result : td_pool_run(d->pool, digest_work, &w);
	if (r < 0)
		d->result = r;
	turns_pass(&d->turns);
	return r;
}

int digest_text(struct digest *d, char ret[static DIGEST_TEXT])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (d->result < 0 || EVP_DigestFinal_ex(d->ctx, md, &len) != 1 || 2 * len + 1 > DIGEST_TEXT)
		return -EIO;
	for (unsigned i = 0; i < len; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", md[i]);
	return 0;
}
