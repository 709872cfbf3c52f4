// SPDX-License-Identifier: BSD-2-Clause
/*
 * The handshake: fixed newstyle negotiation.  Its replies are short texts in a buffer of the connection; a client that
 * asks and does not read them is dropped when the buffer is full.
 */
#include "nbd.h"
#include <stdio.h>

/* ---- answering ---- */

/* All that a client in its handshake can make us hold is this buffer. */
static uint8_t *text_room(struct nbd_conn *c, size_t len)
{
	uint8_t *p = c->text + c->text_len;

	if (len > NBD_TEXT_SIZE - c->text_len) {
		nbd_conn_drop(c);
		return NULL;
	}
	c->text_len += len;
	nbd_conn_touch(c);
	return p;
}

/* Room for the data behind a reply's head, or NULL: the client is gone. */
static uint8_t *reply(struct nbd_conn *c, uint32_t option, uint32_t type, size_t data_len)
{
	uint8_t *p = text_room(c, NBD_OPTION_REPLY_SIZE + data_len);

	return p ? p + nbd_put_option_reply(p, option, type, (uint32_t)data_len) : NULL;
}

static void reply_ack(struct nbd_conn *c, uint32_t option)
{
	(void)reply(c, option, NBD_REP_ACK, 0);
}

static void reply_refusal(struct nbd_conn *c, uint32_t option, uint32_t type, const char *sentence)
{
	uint8_t *p = reply(c, option, type, strlen(sentence));

	if (p)
		nbd_put_text(p, sentence, strlen(sentence));
}

int nbd_send_hello(struct nbd_conn *c)
{
	uint8_t *p = text_room(c, NBD_HELLO_SIZE);

	if (!p)
		return -ENOBUFS;
	td_put_be64(p, NBD_MAGIC);
	td_put_be64(p + 8, NBD_OPT_MAGIC);
	td_put_be16(p + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	return 0;
}

/* ---- what the disk is ---- */

static const struct td_vbd *disk(const struct nbd_conn *c)
{
	return c->server->e.vbd;
}

/* The empty name and the disk's own. */
static bool is_our_name(const struct nbd_conn *c, const char *name, size_t len)
{
	const char *ours = td_vbd_name(disk(c));

	return len == 0 || (len == strlen(ours) && memcmp(name, ours, len) == 0);
}

/* Several connections are safe: all go to one disk, and its flush covers what any of them wrote. */
static uint16_t transmission_flags(const struct nbd_conn *c)
{
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;

	if (c->structured)
		flags |= NBD_FLAG_SEND_DF;
	if (td_vbd_read_only(disk(c)))
		return flags | NBD_FLAG_READ_ONLY;
	return flags | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
}

/* The protocol wants a power of two.  Smaller requests are served as well, only slower. */
static uint32_t preferred_block(const struct nbd_conn *c)
{
	uint32_t size = td_vbd_limits(disk(c))->block_size;

	return td_is_pow2(size) ? TD_MIN(TD_MAX(size, 4096u), 1u << 20) : 4096;
}

/* In time: the timer that would have dropped the client ends. */
static void begin_transmission(struct nbd_conn *c)
{
	c->phase = NBD_TRANSMIT;
	td_timer_cancel(&c->timer);
}

/* ---- options ---- */

static void opt_export_name(struct nbd_conn *c, const uint8_t *data, size_t len)
{
	size_t zeroes = c->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES;
	uint8_t *p;

	/* This option has no way to say no. */
	if (!is_our_name(c, (const char *)data, len)) {
		nbd_conn_drop(c);
		return;
	}
	p = text_room(c, 10 + zeroes);
	if (!p)
		return;
	td_put_be64(p, td_vbd_size(disk(c)));
	td_put_be16(p + 8, transmission_flags(c));
	memset(p + 10, 0, zeroes);
	begin_transmission(c);
}

static void opt_list(struct nbd_conn *c, size_t len)
{
	const char *name = td_vbd_name(disk(c));
	uint8_t *p;

	if (len > 0) {
		reply_refusal(c, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "LIST takes no data");
		return;
	}
	p = reply(c, NBD_OPT_LIST, NBD_REP_SERVER, 4 + strlen(name));
	if (!p)
		return;
	td_put_be32(p, (uint32_t)strlen(name));
	nbd_put_text(p + 4, name, strlen(name));
	reply_ack(c, NBD_OPT_LIST);
}

static void info_export(struct nbd_conn *c, uint32_t option)
{
	uint8_t *p = reply(c, option, NBD_REP_INFO, 12);

	if (!p)
		return;
	td_put_be16(p, NBD_INFO_EXPORT);
	td_put_be64(p + 2, td_vbd_size(disk(c)));
	td_put_be16(p + 10, transmission_flags(c));
}

static void info_name(struct nbd_conn *c, uint32_t option)
{
	const char *name = td_vbd_name(disk(c));
	uint8_t *p = reply(c, option, NBD_REP_INFO, 2 + strlen(name));

	if (!p)
		return;
	td_put_be16(p, NBD_INFO_NAME);
	nbd_put_text(p + 2, name, strlen(name));
}

static void info_block_size(struct nbd_conn *c, uint32_t option)
{
	uint8_t *p = reply(c, option, NBD_REP_INFO, 14);

	if (!p)
		return;
	td_put_be16(p, NBD_INFO_BLOCK_SIZE);
	td_put_be32(p + 2, 1); /* the smallest: requests are rounded to what the image takes below */
	td_put_be32(p + 6, preferred_block(c));
	td_put_be32(p + 10, NBD_MAX_PAYLOAD);
}

static void opt_info(struct nbd_conn *c, uint32_t option, const uint8_t *data, size_t len)
{
	struct nbd_info_query q;

	if (nbd_get_info_query(data, len, &q) < 0) {
		reply_refusal(c, option, NBD_REP_ERR_INVALID, "the lengths in this option do not add up");
		return;
	}
	if (!is_our_name(c, q.name, q.name_len)) {
		reply_refusal(c, option, NBD_REP_ERR_UNKNOWN, "no disk of this name");
		return;
	}
	info_export(c, option);
	if (q.want_name)
		info_name(c, option);
	if (q.want_block_size)
		info_block_size(c, option);
	reply_ack(c, option);
	/* The phase is another one if a reply found no room and the client was dropped. */
	if (option == NBD_OPT_GO && c->phase == NBD_OPTIONS)
		begin_transmission(c);
}

static void opt_structured_reply(struct nbd_conn *c, size_t len)
{
	if (len > 0) {
		reply_refusal(c, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID,
			      "STRUCTURED_REPLY takes no data");
		return;
	}
	c->structured = true;
	reply_ack(c, NBD_OPT_STRUCTURED_REPLY);
}

/* ---- meta contexts: what BLOCK_STATUS tells of ---- */

void nbd_forget_contexts(struct nbd_conn *c)
{
	while (c->nr_contexts > 0)
		free(c->context[--c->nr_contexts]);
}

static bool select_context(struct nbd_conn *c, const char *bitmap)
{
	char *copy = bitmap ? strdup(bitmap) : NULL;

	if (c->nr_contexts == NBD_MAX_CONTEXTS || (bitmap && !copy))
		return false;
	c->context[c->nr_contexts++] = copy;
	return true;
}

/* If it is asked for.  bitmap NULL: allocation. */
static void offer(struct nbd_conn *c, uint32_t option, const struct nbd_meta_query *q, const char *bitmap)
{
	bool list = option == NBD_OPT_LIST_META_CONTEXT;
	char *name = NULL;
	size_t len;
	uint8_t *p;

	if (asprintf(&name, "%s%s", bitmap ? NBD_META_BITMAP : NBD_META_ALLOCATION, bitmap ? bitmap : "") < 0)
		return;
	len = strlen(name);
	/* What does not fit is not offered; the end of the list always does. */
	if (nbd_meta_matches(q, name, list) &&
	    NBD_TEXT_SIZE - c->text_len >= len + 4 + 2 * NBD_OPTION_REPLY_SIZE &&
	    (list || select_context(c, bitmap))) {
		p = reply(c, option, NBD_REP_META_CONTEXT, 4 + len);
		if (p) {
			td_put_be32(p, list ? 0 : c->nr_contexts - 1);
			memcpy(p + 4, name, len);
		}
	}
	free(name);
}

/* Bitmaps that are inconsistent are not there for anybody. */
static void offer_bitmaps(struct nbd_conn *c, uint32_t option, const struct nbd_meta_query *q)
{
	const struct td_image *im = td_vbd_image(disk(c));
	struct td_bitmap_list l;

	if (!im || td_image_bitmaps(im, &l) < 0)
		return;
	for (unsigned i = 0; i < l.nr; i++)
		if (l.at[i].valid)
			offer(c, option, q, l.at[i].name);
	td_bitmap_list_done(&l);
}

/* No query lists all there is, and selects nothing. */
static void opt_meta_context(struct nbd_conn *c, uint32_t option, const uint8_t *data, size_t len)
{
	bool set = option == NBD_OPT_SET_META_CONTEXT;
	struct nbd_meta_query q;

	if (set)
		nbd_forget_contexts(c); /* also when it fails */
	if (nbd_get_meta_query(data, len, &q) < 0 || (set && !c->structured)) {
		reply_refusal(c, option, NBD_REP_ERR_INVALID,
			      "the lengths do not add up, or STRUCTURED_REPLY is missing");
		return;
	}
	if (!is_our_name(c, q.name, q.name_len)) {
		reply_refusal(c, option, NBD_REP_ERR_UNKNOWN, "no disk of this name");
		return;
	}
	offer(c, option, &q, NULL);
	offer_bitmaps(c, option, &q);
	reply_ack(c, option);
}

static void opt_abort(struct nbd_conn *c)
{
	reply_ack(c, NBD_OPT_ABORT);
	if (c->phase == NBD_OPTIONS)
		nbd_conn_end(c);
}

static void dispatch(struct nbd_conn *c, uint32_t option, const uint8_t *data, size_t len)
{
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		opt_export_name(c, data, len);
		break;
	case NBD_OPT_ABORT:
		opt_abort(c);
		break;
	case NBD_OPT_LIST:
		opt_list(c, len);
		break;
	case NBD_OPT_STARTTLS:
		reply_refusal(c, option, NBD_REP_ERR_UNSUP, "STARTTLS: this server does not speak TLS");
		break;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		opt_info(c, option, data, len);
		break;
	case NBD_OPT_STRUCTURED_REPLY:
		opt_structured_reply(c, len);
		break;
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		opt_meta_context(c, option, data, len);
		break;
	default:
		reply_refusal(c, option, NBD_REP_ERR_UNSUP, "this server does not know this option");
		break;
	}
}

/* ---- steps: one message of the client each ---- */

bool nbd_step_hello(struct nbd_conn *c)
{
	uint32_t flags;

	if (c->in_end - c->in_start < NBD_CLIENT_FLAGS_SIZE)
		return false;
	flags = td_get_be32(c->in + c->in_start);
	c->in_start += NBD_CLIENT_FLAGS_SIZE;
	/* The protocol has no answer to a flag that is not known but to hang up. */
	if (flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) {
		nbd_conn_drop(c);
		return false;
	}
	c->no_zeroes = flags & NBD_FLAG_C_NO_ZEROES;
	c->phase = NBD_OPTIONS;
	return true;
}

bool nbd_step_option(struct nbd_conn *c)
{
	const uint8_t *p = c->in + c->in_start;
	size_t have = c->in_end - c->in_start, len;

	if (have < NBD_OPTION_SIZE)
		return false;
	len = td_get_be32(p + 12);
	if (td_get_be64(p) != NBD_OPT_MAGIC || len > NBD_MAX_OPTION_LEN || c->nr_options >= NBD_MAX_OPTIONS) {
		nbd_conn_drop(c);
		return false;
	}
	/* Whole options only: the longest one that is let through fits into the buffer. */
	if (have - NBD_OPTION_SIZE < len)
		return false;
	c->nr_options++;
	c->in_start += NBD_OPTION_SIZE + len;
	dispatch(c, td_get_be32(p + 8), p + NBD_OPTION_SIZE, len);
	return c->phase == NBD_OPTIONS || c->phase == NBD_TRANSMIT;
}
