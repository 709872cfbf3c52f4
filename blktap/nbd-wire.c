// SPDX-License-Identifier: BSD-2-Clause
/*
 * NBD messages to structs and back, and every check that a message and the disk's size allow.
 * Source: NetworkBlockDevice/nbd doc/proto.md.
 */
#include "nbd-wire.h"

/* ---- requests ---- */

int nbd_get_request(const uint8_t *p, struct nbd_request *ret)
{
	if (td_get_be32(p) != NBD_REQUEST_MAGIC)
		return -EBADMSG;
	ret->flags = td_get_be16(p + 4);
	ret->cmd = td_get_be16(p + 6);
	ret->cookie = td_get_be64(p + 8);
	ret->off = td_get_be64(p + 16);
	ret->len = td_get_be32(p + 24);
	return 0;
}

/* FUA has to be accepted with every command; the others only where they mean something. */
static uint16_t allowed_flags(enum nbd_cmd cmd, const struct nbd_rules *rules)
{
	switch (cmd) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | (rules->structured ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

static int check_range(const struct nbd_request *q, const struct nbd_rules *rules, int beyond)
{
	return td_in_range(q->off, q->len, rules->size) ? 0 : beyond;
}

/* Beyond the end, what would write says "no space", the rest "invalid": so the protocol wants it. */
static int check_write(const struct nbd_request *q, const struct nbd_rules *rules, int beyond)
{
	return rules->read_only ? NBD_EPERM : check_range(q, rules, beyond);
}

int nbd_check_request(const struct nbd_request *q, const struct nbd_rules *rules)
{
	if (q->flags & ~allowed_flags(q->cmd, rules))
		return NBD_EINVAL;
	if ((q->cmd == NBD_CMD_READ || q->cmd == NBD_CMD_WRITE) && q->len > rules->max_payload)
		return NBD_EINVAL;

	switch (q->cmd) {
	case NBD_CMD_READ:
	case NBD_CMD_CACHE:
		return check_range(q, rules, NBD_EINVAL);
	case NBD_CMD_WRITE:
	case NBD_CMD_WRITE_ZEROES:
		return check_write(q, rules, NBD_ENOSPC);
	case NBD_CMD_TRIM:
		return check_write(q, rules, NBD_EINVAL);
	case NBD_CMD_FLUSH:
		return q->off == 0 && q->len == 0 ? 0 : NBD_EINVAL;
	case NBD_CMD_BLOCK_STATUS:
		return rules->block_status && q->len > 0 ? check_range(q, rules, NBD_EINVAL) : NBD_EINVAL;
	default:
		return NBD_EINVAL;
	}
}

/* ---- replies ---- */

enum nbd_error nbd_error_of(int result, bool fast_zero)
{
	switch (-result) {
	case EPERM:
	case EROFS:
	case EACCES:
		return NBD_EPERM;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EINVAL:
		return NBD_EINVAL;
	case ENOMEM:
		return NBD_ENOMEM;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	case ENOTSUP: /* a client may get it for "not fast" only */
		return fast_zero ? NBD_ENOTSUP : NBD_EINVAL;
	default:
		return NBD_EIO;
	}
}

size_t nbd_put_text(uint8_t *p, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)text[i];
	return len;
}

size_t nbd_put_simple(uint8_t *p, uint64_t cookie, enum nbd_error error)
{
	td_put_be32(p, NBD_SIMPLE_REPLY_MAGIC);
	td_put_be32(p + 4, error);
	td_put_be64(p + 8, cookie);
	return NBD_SIMPLE_REPLY_SIZE;
}

size_t nbd_put_chunk(uint8_t *p, uint64_t cookie, uint16_t type, uint32_t payload_len)
{
	td_put_be32(p, NBD_STRUCTURED_REPLY_MAGIC);
	td_put_be16(p + 4, NBD_REPLY_FLAG_DONE);
	td_put_be16(p + 6, type);
	td_put_be64(p + 8, cookie);
	td_put_be32(p + 16, payload_len);
	return NBD_STRUCTURED_REPLY_SIZE;
}

size_t nbd_put_chunk_more(uint8_t *p, uint64_t cookie, uint16_t type, uint32_t payload_len)
{
	size_t n = nbd_put_chunk(p, cookie, type, payload_len);

	td_put_be16(p + 4, 0);
	return n;
}

size_t nbd_put_data_head(uint8_t *p, uint64_t cookie, uint64_t off, uint32_t len)
{
	size_t n = nbd_put_chunk(p, cookie, NBD_REPLY_TYPE_OFFSET_DATA, 8 + len);

	td_put_be64(p + n, off);
	return n + 8;
}

size_t nbd_put_error_chunk(uint8_t *p, uint64_t cookie, enum nbd_error error, const char *sentence)
{
	size_t text = TD_MIN(strlen(sentence), (size_t)64);
	size_t n = nbd_put_chunk(p, cookie, NBD_REPLY_TYPE_ERROR, (uint32_t)(6 + text));

	td_put_be32(p + n, error);
	td_put_be16(p + n + 4, (uint16_t)text);
	return n + 6 + nbd_put_text(p + n + 6, sentence, text);
}

/* ---- options ---- */

size_t nbd_put_option_reply(uint8_t *p, uint32_t option, uint32_t type, uint32_t data_len)
{
	td_put_be64(p, NBD_REP_MAGIC);
	td_put_be32(p + 8, option);
	td_put_be32(p + 12, type);
	td_put_be32(p + 16, data_len);
	return NBD_OPTION_REPLY_SIZE;
}

/* What is left of an option's data. */
struct reader {
	const uint8_t *p;
	size_t left;
};

static const uint8_t *take(struct reader *r, size_t len)
{
	const uint8_t *p = r->p;

	if (len > r->left)
		return NULL;
	r->p += len;
	r->left -= len;
	return p;
}

/* 32 bits of length, then so many bytes. */
static const uint8_t *take_string(struct reader *r, uint32_t *ret_len)
{
	const uint8_t *p = take(r, 4);

	if (!p)
		return NULL;
	*ret_len = td_get_be32(p);
	return *ret_len <= NBD_NAME_MAX ? take(r, *ret_len) : NULL;
}

int nbd_get_info_query(const uint8_t *p, size_t len, struct nbd_info_query *ret)
{
	struct reader r = { p, len };
	struct nbd_info_query q = { 0 };
	const uint8_t *name, *nr, *type;

	name = take_string(&r, &q.name_len);
	nr = name ? take(&r, 2) : NULL;
	if (!nr || r.left != 2 * (size_t)td_get_be16(nr))
		return -EINVAL;
	q.name = (const char *)name;
	while ((type = take(&r, 2))) {
		q.want_name |= td_get_be16(type) == NBD_INFO_NAME;
		q.want_block_size |= td_get_be16(type) == NBD_INFO_BLOCK_SIZE;
	}
	*ret = q;
	return 0;
}

int nbd_get_meta_query(const uint8_t *p, size_t len, struct nbd_meta_query *ret)
{
	struct reader r = { p, len };
	struct nbd_meta_query q = { 0 };
	const uint8_t *name, *nr;
	uint32_t text_len;

	name = take_string(&r, &q.name_len);
	nr = name ? take(&r, 4) : NULL;
	if (!nr)
		return -EINVAL;
	q.name = (const char *)name;
	q.nr = td_get_be32(nr);
	q.queries = r.p;
	for (uint32_t i = q.nr; i > 0; i--)
		if (!take_string(&r, &text_len))
			return -EINVAL;
	if (r.left != 0)
		return -EINVAL;
	*ret = q;
	return 0;
}

bool nbd_meta_matches(const struct nbd_meta_query *q, const char *context, bool list)
{
	const uint8_t *p = q->queries;
	size_t want = strlen(context);

	for (uint32_t i = 0, len; i < q->nr; i++, p += len) {
		len = td_get_be32(p);
		p += 4;
		if (len == want && memcmp(p, context, len) == 0)
			return true;
		if (list && len > 0 && len < want && p[len - 1] == ':' && memcmp(p, context, len) == 0)
			return true;
	}
	return list && q->nr == 0;
}
