// SPDX-License-Identifier: BSD-2-Clause
/*
 * NBD messages to structs and back.  Pure: bytes in, bytes out.
 */
#ifndef BLKTAP_NBD_WIRE_H
#define BLKTAP_NBD_WIRE_H

#include "nbd-proto.h"
#include <blktap/base.h>

struct nbd_request {
	uint16_t flags, cmd;
	uint64_t cookie, off;
	uint32_t len;
};

/* p: NBD_REQUEST_SIZE bytes.  -EBADMSG: wrong magic, the stream cannot be followed any more. */
TD_CHECK int nbd_get_request(const uint8_t *p, struct nbd_request *ret);

/* What the protocol allows this disk to be asked for. */
struct nbd_rules {
	uint64_t size;
	uint32_t max_payload;
	bool read_only;
	bool structured;   /* structured replies were negotiated */
	bool block_status; /* a meta context was selected */
};

/* The error that a request deserves for what it says, or 0.  Nothing of it is trusted. */
TD_CHECK int nbd_check_request(const struct nbd_request *q, const struct nbd_rules *rules);

/* Negative errno of a request that failed, to what goes on the wire.  fast_zero: it was asked with FAST_ZERO. */
enum nbd_error nbd_error_of(int result, bool fast_zero);

/* The longest head that is written below, with the sentence of an error. */
#define NBD_HEAD_MAX (NBD_STRUCTURED_REPLY_SIZE + 6 + 64)

/* All return the bytes written to p. */
size_t nbd_put_simple(uint8_t *p, uint64_t cookie, enum nbd_error error);
size_t nbd_put_chunk(uint8_t *p, uint64_t cookie, uint16_t type, uint32_t payload_len);      /* with DONE */
size_t nbd_put_chunk_more(uint8_t *p, uint64_t cookie, uint16_t type, uint32_t payload_len); /* without */
size_t nbd_put_data_head(uint8_t *p, uint64_t cookie, uint64_t off, uint32_t len); /* the data follow */
size_t nbd_put_error_chunk(uint8_t *p, uint64_t cookie, enum nbd_error error, const char *sentence);

/* ---- options ---- */

struct nbd_info_query {
	const char *name; /* not terminated */
	uint32_t name_len;
	bool want_name, want_block_size;
};

/* Data of INFO and GO.  -EINVAL if the lengths in it do not add up. */
TD_CHECK int nbd_get_info_query(const uint8_t *p, size_t len, struct nbd_info_query *ret);

struct nbd_meta_query {
	const char *name;
	uint32_t name_len, nr;  /* nr: queries */
	const uint8_t *queries; /* whose lengths were checked */
};

/* Data of LIST_META_CONTEXT and SET_META_CONTEXT.  Likewise. */
TD_CHECK int nbd_get_meta_query(const uint8_t *p, size_t len, struct nbd_meta_query *ret);

/* Is this context asked for, by its name or (list) by what it begins with, up to a colon? */
bool nbd_meta_matches(const struct nbd_meta_query *q, const char *context, bool list);

/* A string without an end mark: its length stands elsewhere.  Returns len. */
size_t nbd_put_text(uint8_t *p, const char *text, size_t len);

size_t nbd_put_option_reply(uint8_t *p, uint32_t option, uint32_t type, uint32_t data_len);

#endif
