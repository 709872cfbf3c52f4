// SPDX-License-Identifier: BSD-2-Clause
/*
 * The block ring's ABI.  The two layouts differ in where the 64-bit fields lie: i386 aligns them to 4 bytes, so that
 * everything behind the first four bytes comes four bytes earlier, and slots and responses are four shorter.
 */
#include <blktap/blkif.h>

struct layout {
	uint8_t slot, rsp;  /* bytes */
	uint8_t id, sector; /* offsets; op 0, nr_segments (flag, inner op) 1, handle (number of segments) 2 */
	uint8_t body;       /* segments; DISCARD: number of sectors; INDIRECT: handle */
	uint8_t ipages;     /* INDIRECT: page references */
};

static const struct layout layouts[] = {
	[TD_BLKIF_X86_64] = { 112, 16, 8, 16, 24, 28 },
	[TD_BLKIF_X86_32] = { 108, 12, 4, 12, 20, 24 },
	[TD_BLKIF_ARM] = { 112, 16, 8, 16, 24, 28 },
};

static const char *const abi_names[] = { "x86_64-abi", "x86_32-abi", "arm-abi" };

#define SEG_BYTES  8u
#define RSP_OP     8u
#define RSP_STATUS 10u

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static void put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

const char *td_blkif_abi_name(enum td_blkif_abi abi)
{
	return abi_names[abi];
}

int td_blkif_abi_find(const char *name, enum td_blkif_abi *ret_abi)
{
	for (unsigned i = 0; i < TD_NELEMS(abi_names); i++) {
		if (strcmp(name, abi_names[i]) == 0) {
			*ret_abi = (enum td_blkif_abi)i;
			return 0;
		}
	}
	return -EINVAL;
}

size_t td_blkif_slot_size(enum td_blkif_abi abi)
{
	return layouts[abi].slot;
}

unsigned td_blkif_entries(enum td_blkif_abi abi, unsigned order)
{
	unsigned room = ((TD_BLKIF_PAGE << order) - TD_BLKIF_HEAD) / layouts[abi].slot, nr = 1;

	while (nr * 2 <= room)
		nr *= 2;
	return nr;
}

/* ---- requests ---- */

void td_blkif_decode_segs(const void *page, unsigned nr, struct td_blkif_seg *ret_seg)
{
	const uint8_t *p = page;

	for (unsigned i = 0; i < nr; i++, p += SEG_BYTES)
		ret_seg[i] = (struct td_blkif_seg){ .gref = get32(p), .first = p[4], .last = p[5] };
}

void td_blkif_encode_segs(const struct td_blkif_seg *seg, unsigned nr, void *page)
{
	uint8_t *p = page;

	for (unsigned i = 0; i < nr; i++, p += SEG_BYTES) {
		put32(p, seg[i].gref);
		p[4] = seg[i].first;
		p[5] = seg[i].last;
		p[6] = p[7] = 0;
	}
}

void td_blkif_decode_req(enum td_blkif_abi abi, const void *slot, struct td_blkif_req *ret_req)
{
	const struct layout *l = &layouts[abi];
	const uint8_t *p = slot;
	struct td_blkif_req *req = ret_req;

	req->op = p[0];
	req->inner = req->flag = 0;
	req->nr_segs = 0;
	req->handle = get16(p + 2);
	req->id = get64(p + l->id);
	req->sector = get64(p + l->sector);
	req->nr_sectors = 0;
	switch (req->op) {
	case TD_BLKIF_DISCARD:
		req->flag = p[1];
		req->nr_sectors = get64(p + l->body);
		break;
	case TD_BLKIF_INDIRECT:
		req->inner = p[1];
		req->nr_segs = get16(p + 2);
		req->handle = get16(p + l->body);
		for (unsigned i = 0; i < TD_BLKIF_MAX_IPAGES; i++)
			req->ipage[i] = get32(p + l->ipages + i * sizeof(uint32_t));
		break;
	default:
		req->nr_segs = p[1];
		td_blkif_decode_segs(p + l->body, TD_MIN(p[1], TD_BLKIF_MAX_DIRECT), req->seg);
		break;
	}
}

void td_blkif_encode_req(enum td_blkif_abi abi, const struct td_blkif_req *req, void *slot)
{
	const struct layout *l = &layouts[abi];
	uint8_t *p = slot;

	memset(p, 0, l->slot);
	p[0] = req->op;
	put16(p + 2, req->handle);
	put64(p + l->id, req->id);
	put64(p + l->sector, req->sector);
	switch (req->op) {
	case TD_BLKIF_DISCARD:
		p[1] = req->flag;
		put64(p + l->body, req->nr_sectors);
		break;
	case TD_BLKIF_INDIRECT:
		p[1] = req->inner;
		put16(p + 2, req->nr_segs);
		put16(p + l->body, req->handle);
		for (unsigned i = 0; i < TD_BLKIF_MAX_IPAGES; i++)
			put32(p + l->ipages + i * sizeof(uint32_t), req->ipage[i]);
		break;
	default:
		p[1] = (uint8_t)req->nr_segs;
		td_blkif_encode_segs(req->seg, TD_MIN(req->nr_segs, TD_BLKIF_MAX_DIRECT), p + l->body);
		break;
	}
}

/* ---- responses ---- */

void td_blkif_decode_rsp(enum td_blkif_abi abi, const void *slot, struct td_blkif_rsp *ret_rsp)
{
	const uint8_t *p = slot;

	(void)abi; /* the same offsets; only the size differs */
	*ret_rsp = (struct td_blkif_rsp){ .id = get64(p),
					  .op = p[RSP_OP],
					  .status = (int16_t)get16(p + RSP_STATUS) };
}

size_t td_blkif_encode_rsp(enum td_blkif_abi abi, const struct td_blkif_rsp *rsp, void *slot)
{
	uint8_t *p = slot;

	memset(p, 0, layouts[abi].rsp);
	put64(p, rsp->id);
	p[RSP_OP] = rsp->op;
	put16(p + RSP_STATUS, (uint16_t)rsp->status);
	return layouts[abi].rsp;
}

/* ---- checks ---- */

static int refuse(int status, const char *why, const char **ret_why)
{
	if (ret_why)
		*ret_why = why;
	return status;
}

int td_blkif_check_segs(const struct td_blkif_seg *seg, unsigned nr, uint64_t sector, uint64_t sectors,
			uint64_t *ret_sectors, const char **ret_why)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < nr; i++) {
		if (seg[i].first > seg[i].last)
			return refuse(TD_BLKIF_ERROR, "a segment ends before it begins", ret_why);
		if (seg[i].last >= TD_BLKIF_PAGE_SECTORS)
			return refuse(TD_BLKIF_ERROR, "a segment leaves its page", ret_why);
		sum += seg[i].last - seg[i].first + 1u;
	}
	if (!td_in_range(sector, sum, sectors))
		return refuse(TD_BLKIF_ERROR, "past the end of the disk", ret_why);
	*ret_sectors = sum;
	return 0;
}

/* A flush or a barrier may carry nothing; what it says of sectors means nothing then. */
static int check_direct(const struct td_blkif_req *req, uint64_t sectors, bool may_be_empty,
			const char **ret_why)
{
	uint64_t sum;

	if (req->nr_segs == 0 && may_be_empty)
		return 0;
	if (req->nr_segs == 0 || req->nr_segs > TD_BLKIF_MAX_DIRECT)
		return refuse(TD_BLKIF_ERROR, "a number of segments that no request can have", ret_why);
	return td_blkif_check_segs(req->seg, req->nr_segs, req->sector, sectors, &sum, ret_why);
}

static int check_discard(const struct td_blkif_req *req, uint64_t sectors, const char **ret_why)
{
	if (req->flag & TD_BLKIF_DISCARD_SECURE)
		return refuse(TD_BLKIF_EOPNOTSUPP, "a secure discard", ret_why);
	if (!td_in_range(req->sector, req->nr_sectors, sectors))
		return refuse(TD_BLKIF_ERROR, "past the end of the disk", ret_why);
	return 0;
}

/* Each segment is at least a sector: what could not fit need not be read. */
static int check_indirect(const struct td_blkif_req *req, uint64_t sectors, const char **ret_why)
{
	if (req->inner != TD_BLKIF_READ && req->inner != TD_BLKIF_WRITE)
		return refuse(TD_BLKIF_ERROR, "an indirect request that is no read and no write", ret_why);
	if (req->nr_segs == 0 || req->nr_segs > TD_BLKIF_MAX_SEGS)
		return refuse(TD_BLKIF_ERROR, "a number of segments that no request can have", ret_why);
	if (!td_in_range(req->sector, req->nr_segs, sectors))
		return refuse(TD_BLKIF_ERROR, "past the end of the disk", ret_why);
	return 0;
}

int td_blkif_check_req(const struct td_blkif_req *req, uint64_t sectors, const char **ret_why)
{
	switch (req->op) {
	case TD_BLKIF_READ:
	case TD_BLKIF_WRITE:
		return check_direct(req, sectors, false, ret_why);
	case TD_BLKIF_BARRIER:
	case TD_BLKIF_FLUSH:
		return check_direct(req, sectors, true, ret_why);
	case TD_BLKIF_DISCARD:
		return check_discard(req, sectors, ret_why);
	case TD_BLKIF_INDIRECT:
		return check_indirect(req, sectors, ret_why);
	default:
		return refuse(TD_BLKIF_EOPNOTSUPP, "an operation that nobody knows", ret_why);
	}
}
