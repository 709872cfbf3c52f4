// SPDX-License-Identifier: BSD-2-Clause
/* formats/blkif.c: slots as bytes by hand, Xen's header as it compiles, and every check. */
#include "unit.h"

#include <blktap/blkif.h>

#include "blkif-xen.h"

static const enum td_blkif_abi abis[] = { TD_BLKIF_X86_64, TD_BLKIF_X86_32, TD_BLKIF_ARM };

/* WRITE of two segments, id 0x1122334455667788, sector 0x0102030405060708, handle 0xca00. */
static const uint8_t write_64[112] = {
	1,    2,    0x00, 0xca, 0,    0,    0,    0,    /* op, segments, handle, a hole */
	0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id */
	8,    7,    6,    5,    4,    3,    2,    1,    /* sector */
	0x0d, 0xf0, 0xad, 0xde, 2,    7,    0,    0,    /* 0xdeadf00d, 2..7 */
	9,    0,    0,    0,    0,    3,    0,    0,    /* 9, 0..3 */
};
static const uint8_t write_32[108] = {
	1,    2,    0x00, 0xca,                         /* op, segments, handle */
	0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id at 4 */
	8,    7,    6,    5,    4,    3,    2,    1,    /* sector at 12 */
	0x0d, 0xf0, 0xad, 0xde, 2,    7,    0,    0,    /* at 20 */
	9,    0,    0,    0,    0,    3,    0,    0,
};
static const uint8_t discard_64[112] = {
	5,    1,    0x00, 0xca, 0,    0,    0,    0,    /* op, flag, handle */
	0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id */
	8,    7,    6,    5,    4,    3,    2,    1,    /* sector */
	0x10, 0x20, 0,    0,    0,    0,    0,    0x80, /* how many */
};
static const uint8_t discard_32[108] = {
	5, 1, 0x00, 0xca, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 8, 7,
	6, 5, 4,    3,    2,    1,    0x10, 0x20, 0,    0,    0,    0,    0, 0x80,
};
static const uint8_t indirect_64[112] = {
	6,    1,    0x00, 0x01, 0,    0,    0,    0,    /* op, inner, 256 segments */
	0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id */
	8,    7,    6,    5,    4,    3,    2,    1,    /* sector */
	0x00, 0xca, 0,    0,                            /* handle at 24 */
	1,    0,    0,    0,    2,    0,    0,    0,    3, 0, 0, 0, 4,    0,    0,    0, /* pages at 28 */
	5,    0,    0,    0,    6,    0,    0,    0,    7, 0, 0, 0, 0x78, 0x56, 0x34, 0x12,
};
static const uint8_t indirect_32[108] = {
	6,    1,    0x00, 0x01, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id at 4 */
	8,    7,    6,    5,    4,    3,    2,    1,                            /* sector at 12 */
	0x00, 0xca, 0,    0,                                                    /* handle at 20 */
	1,    0,    0,    0,    2,    0,    0,    0,    3,    0,    0,    0,
	4,    0,    0,    0, /* pages at 24 */
	5,    0,    0,    0,    6,    0,    0,    0,    7,    0,    0,    0,
	0x78, 0x56, 0x34, 0x12,
};

static void check_both_ways(enum td_blkif_abi abi, const uint8_t *golden, struct td_blkif_req *ret_req)
{
	uint8_t slot[TD_BLKIF_SLOT_MAX + 8];

	memset(ret_req, 0xee, sizeof(*ret_req));
	td_blkif_decode_req(abi, golden, ret_req);
	assert_int_equal(ret_req->id, 0x1122334455667788);
	assert_int_equal(ret_req->sector, 0x0102030405060708);
	assert_int_equal(ret_req->handle, 0xca00);
	memset(slot, 0x5a, sizeof(slot));
	td_blkif_encode_req(abi, ret_req, slot);
	assert_memory_equal(slot, golden, td_blkif_slot_size(abi));
	assert_int_equal(slot[td_blkif_slot_size(abi)], 0x5a); /* not a byte further */
}

static void transfers_are_bytes_by_hand(void **state)
{
	struct td_blkif_req q;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(abis); i++) {
		check_both_ways(abis[i], abis[i] == TD_BLKIF_X86_32 ? write_32 : write_64, &q);
		assert_int_equal(q.op, TD_BLKIF_WRITE);
		assert_int_equal(q.nr_segs, 2);
		assert_int_equal(q.seg[0].gref, 0xdeadf00d);
		assert_int_equal(q.seg[0].first, 2);
		assert_int_equal(q.seg[0].last, 7);
		assert_int_equal(q.seg[1].gref, 9);
		assert_int_equal(q.seg[1].first, 0);
		assert_int_equal(q.seg[1].last, 3);
	}
}

static void discards_are_bytes_by_hand(void **state)
{
	struct td_blkif_req q;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(abis); i++) {
		check_both_ways(abis[i], abis[i] == TD_BLKIF_X86_32 ? discard_32 : discard_64, &q);
		assert_int_equal(q.op, TD_BLKIF_DISCARD);
		assert_int_equal(q.flag, TD_BLKIF_DISCARD_SECURE);
		assert_int_equal(q.nr_sectors, 0x8000000000002010);
		assert_int_equal(q.nr_segs, 0);
	}
}

static void indirect_requests_are_bytes_by_hand(void **state)
{
	struct td_blkif_req q;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(abis); i++) {
		check_both_ways(abis[i], abis[i] == TD_BLKIF_X86_32 ? indirect_32 : indirect_64, &q);
		assert_int_equal(q.op, TD_BLKIF_INDIRECT);
		assert_int_equal(q.inner, TD_BLKIF_WRITE);
		assert_int_equal(q.nr_segs, 256);
		for (unsigned k = 0; k < 7; k++)
			assert_int_equal(q.ipage[k], k + 1);
		assert_int_equal(q.ipage[7], 0x12345678);
	}
}

static void segments_of_a_page_are_bytes_by_hand(void **state)
{
	static const uint8_t golden[16] = { 1, 2, 3, 4, 5, 6, 0, 0, 0xff, 0xfe, 0xfd, 0xfc, 0, 7, 0, 0 };
	struct td_blkif_seg seg[2];
	uint8_t page[24];

	(void)state;
	td_blkif_decode_segs(golden, 2, seg);
	assert_int_equal(seg[0].gref, 0x04030201);
	assert_int_equal(seg[0].first, 5);
	assert_int_equal(seg[0].last, 6);
	assert_int_equal(seg[1].gref, 0xfcfdfeff);
	memset(page, 0x5a, sizeof(page));
	td_blkif_encode_segs(seg, 2, page);
	assert_memory_equal(page, golden, sizeof(golden));
	assert_int_equal(page[16], 0x5a);
}

/* 16 bytes, of i386 12, and no stray byte in the holes. */
static void responses_are_bytes_by_hand(void **state)
{
	static const uint8_t golden[16] = {
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 1, 0, 0xfe, 0xff
	};
	const struct td_blkif_rsp rsp = { .id = 0x1122334455667788,
					  .op = TD_BLKIF_WRITE,
					  .status = TD_BLKIF_EOPNOTSUPP };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(abis); i++) {
		size_t want = abis[i] == TD_BLKIF_X86_32 ? 12 : 16;
		uint8_t slot[TD_BLKIF_SLOT_MAX];
		struct td_blkif_rsp back;

		memset(slot, 0x5a, sizeof(slot));
		assert_int_equal(td_blkif_encode_rsp(abis[i], &rsp, slot), want);
		assert_memory_equal(slot, golden, want);
		for (size_t k = want; k < sizeof(slot); k++)
			assert_int_equal(slot[k], 0x5a);
		td_blkif_decode_rsp(abis[i], slot, &back);
		assert_int_equal(back.id, rsp.id);
		assert_int_equal(back.op, rsp.op);
		assert_int_equal(back.status, rsp.status);
	}
}

static void rings_have_as_many_slots_as_fit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(abis); i++) {
		for (unsigned order = 0; order <= TD_BLKIF_MAX_ORDER; order++)
			assert_int_equal(td_blkif_entries(abis[i], order), 32u << order);
		assert_int_equal(td_blkif_slot_size(abis[i]), abis[i] == TD_BLKIF_X86_32 ? 108 : 112);
		assert_int_equal(td_blkif_slot_offset(abis[i], 32, 0xffffffff),
				 64 + 31 * td_blkif_slot_size(abis[i]));
	}
}

static void abis_have_names(void **state)
{
	enum td_blkif_abi abi;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(abis); i++) {
		assert_int_equal(td_blkif_abi_find(td_blkif_abi_name(abis[i]), &abi), 0);
		assert_int_equal(abi, abis[i]);
	}
	assert_string_equal(td_blkif_abi_name(TD_BLKIF_X86_32), "x86_32-abi");
	assert_int_equal(td_blkif_abi_find("x86_64-abi", &abi), 0);
	assert_int_equal(abi, TD_BLKIF_X86_64);
	assert_int_equal(td_blkif_abi_find("x86_64", &abi), -EINVAL);
	assert_int_equal(td_blkif_abi_find("", &abi), -EINVAL);
}

/* Any 112 bytes: encode(decode(x)) loses only what no field holds, so that decoding again gives the same. */
static void any_bytes_survive_a_round(void **state)
{
	uint64_t x = 88172645463325252ull;

	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		enum td_blkif_abi abi = abis[n % TD_NELEMS(abis)];
		uint8_t a[TD_BLKIF_SLOT_MAX], b[TD_BLKIF_SLOT_MAX];
		struct td_blkif_req q, r;

		for (unsigned i = 0; i < sizeof(a); i++)
			x ^= x << 13, x ^= x >> 7, x ^= x << 17, a[i] = (uint8_t)x;
		a[0] = (uint8_t)(n / 3 % 9);
		memset(&q, 0, sizeof(q));
		memset(&r, 0, sizeof(r));
		td_blkif_decode_req(abi, a, &q);
		td_blkif_encode_req(abi, &q, b);
		td_blkif_decode_req(abi, b, &r);
		assert_memory_equal(&q, &r, sizeof(q));
	}
}

/* ---- checks ---- */

static int check(const struct td_blkif_req *q, uint64_t sectors)
{
	const char *why = NULL;
	int r = td_blkif_check_req(q, sectors, &why);

	assert_true((r == 0) == (why == NULL));
	assert_int_equal(td_blkif_check_req(q, sectors, NULL), r);
	return r;
}

static struct td_blkif_req transfer(uint8_t op, unsigned nr, uint64_t sector)
{
	struct td_blkif_req q = { .op = op, .nr_segs = (uint16_t)nr, .sector = sector };

	for (unsigned i = 0; i < TD_BLKIF_MAX_DIRECT; i++)
		q.seg[i] = (struct td_blkif_seg){ .gref = i, .first = 0, .last = 7 };
	return q;
}

static void counts_of_segments_are_checked(void **state)
{
	static const unsigned bad[] = { 12, 13, 128, 255 };
	struct td_blkif_req q;

	(void)state;
	for (uint8_t op = TD_BLKIF_READ; op <= TD_BLKIF_FLUSH; op++) {
		for (unsigned nr = 1; nr <= TD_BLKIF_MAX_DIRECT; nr++) {
			q = transfer(op, nr, 0);
			assert_int_equal(check(&q, 88), 0);
		}
		for (unsigned i = 0; i < TD_NELEMS(bad); i++) {
			q = transfer(op, bad[i], 0);
			assert_int_equal(check(&q, UINT64_MAX), TD_BLKIF_ERROR);
		}
		/* Nothing to transfer: fine for those that order others, wherever they say it is. */
		q = transfer(op, 0, UINT64_MAX);
		assert_int_equal(check(&q, 88), op >= TD_BLKIF_BARRIER ? 0 : TD_BLKIF_ERROR);
	}
}

static void segments_are_checked(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		for (unsigned last = 0; last < 256; last++) {
			struct td_blkif_req q = transfer(TD_BLKIF_READ, 3, 0);
			bool good = first <= last && last <= 7;

			q.seg[2].first = (uint8_t)first;
			q.seg[2].last = (uint8_t)last;
			assert_int_equal(check(&q, 1000), good ? 0 : TD_BLKIF_ERROR);
		}
	}
}

/* Sectors of 512 bytes, and not one beyond the end. */
static void the_end_of_the_disk_is_checked(void **state)
{
	static const uint64_t starts[] = { 73,
					   80,
					   88,
					   89,
					   1ull << 32,
					   1ull << 55,
					   UINT64_MAX / 2,
					   UINT64_MAX - 15,
					   UINT64_MAX - 7,
					   UINT64_MAX };
	struct td_blkif_req q = transfer(TD_BLKIF_WRITE, 2, 72);
	uint64_t sum = 0;

	(void)state;
	assert_int_equal(check(&q, 88), 0);
	assert_int_equal(td_blkif_check_segs(q.seg, 2, 72, 88, &sum, NULL), 0);
	assert_int_equal(sum, 16);
	for (unsigned i = 0; i < TD_NELEMS(starts); i++) {
		q.sector = starts[i];
		assert_int_equal(check(&q, 88), TD_BLKIF_ERROR);
	}
	q.sector = UINT64_MAX - 7;
	assert_int_equal(check(&q, UINT64_MAX), TD_BLKIF_ERROR);
	q.sector = 0;
	assert_int_equal(check(&q, 0), TD_BLKIF_ERROR);
}

static void discards_are_checked(void **state)
{
	struct td_blkif_req q = { .op = TD_BLKIF_DISCARD, .sector = 10, .nr_sectors = 90 };

	(void)state;
	assert_int_equal(check(&q, 100), 0);
	assert_int_equal(check(&q, 99), TD_BLKIF_ERROR);
	q.nr_sectors = UINT64_MAX - 9; /* wraps to 0 */
	assert_int_equal(check(&q, 100), TD_BLKIF_ERROR);
	q.nr_sectors = UINT64_MAX;
	assert_int_equal(check(&q, 100), TD_BLKIF_ERROR);
	q.nr_sectors = 0;
	assert_int_equal(check(&q, 100), 0);
	q.flag = TD_BLKIF_DISCARD_SECURE;
	assert_int_equal(check(&q, 100), TD_BLKIF_EOPNOTSUPP);
}

static void indirect_requests_are_checked(void **state)
{
	struct td_blkif_req q = { .op = TD_BLKIF_INDIRECT, .inner = TD_BLKIF_READ, .nr_segs = 256 };

	(void)state;
	assert_int_equal(check(&q, 4096), 0);
	assert_int_equal(check(&q, 255), TD_BLKIF_ERROR); /* cannot fit, whatever its segments are */
	q.nr_segs = 257;
	assert_int_equal(check(&q, 1 << 20), TD_BLKIF_ERROR);
	q.nr_segs = 4096;
	assert_int_equal(check(&q, 1 << 20), TD_BLKIF_ERROR);
	q.nr_segs = 65535;
	assert_int_equal(check(&q, 1 << 20), TD_BLKIF_ERROR);
	q.nr_segs = 0;
	assert_int_equal(check(&q, 4096), TD_BLKIF_ERROR);
	q.nr_segs = 1;
	for (unsigned inner = 0; inner < 256; inner++) {
		q.inner = (uint8_t)inner;
		assert_int_equal(check(&q, 4096), inner <= TD_BLKIF_WRITE ? 0 : TD_BLKIF_ERROR);
	}
}

static void unknown_operations_are_not_supported(void **state)
{
	(void)state;
	for (unsigned op = 0; op < 256; op++) {
		struct td_blkif_req q = { .op = (uint8_t)op };

		if (op == 4 || op > TD_BLKIF_INDIRECT)
			assert_int_equal(check(&q, 100), TD_BLKIF_EOPNOTSUPP);
		else
			assert_int_not_equal(check(&q, 100), TD_BLKIF_EOPNOTSUPP);
	}
}

/* ---- Xen's header ---- */

#ifdef HAVE_XEN_BLKIF_H
/* Each field gets bytes of its own where the header says; decoding has to find them. */
static void fill(uint8_t *slot, size_t at, uint64_t v, size_t len)
{
	for (size_t i = 0; i < len; i++)
		slot[at + i] = (uint8_t)(v >> 8 * i);
}

static void compare_layout(const struct xen_layout *x, enum td_blkif_abi abi)
{
	uint8_t slot[TD_BLKIF_SLOT_MAX] = { TD_BLKIF_READ, 11 };
	struct td_blkif_req q;

	assert_int_equal(td_blkif_slot_size(abi), x->slot);
	assert_int_equal(x->ring_at, TD_BLKIF_HEAD);
	assert_int_equal(x->req_prod, TD_BLKIF_REQ_PROD);
	assert_int_equal(x->req_event, TD_BLKIF_REQ_EVENT);
	assert_int_equal(x->rsp_prod, TD_BLKIF_RSP_PROD);
	assert_int_equal(x->rsp_event, TD_BLKIF_RSP_EVENT);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(td_blkif_entries(abi, i), x->entries[i]);

	fill(slot, x->id, 0xa1a2a3a4a5a6a7a8, 8);
	fill(slot, x->sector, 0xb1b2b3b4b5b6b7b8, 8);
	for (unsigned i = 0; i < TD_BLKIF_MAX_DIRECT; i++) {
		fill(slot, x->seg + i * x->seg_size, 0xc0000000 + i, 4);
		slot[x->seg + i * x->seg_size + x->seg_first] = (uint8_t)(0x40 + i);
		slot[x->seg + i * x->seg_size + x->seg_last] = (uint8_t)(0x80 + i);
	}
	td_blkif_decode_req(abi, slot, &q);
	assert_int_equal(q.id, 0xa1a2a3a4a5a6a7a8);
	assert_int_equal(q.sector, 0xb1b2b3b4b5b6b7b8);
	for (unsigned i = 0; i < TD_BLKIF_MAX_DIRECT; i++) {
		assert_int_equal(q.seg[i].gref, 0xc0000000 + i);
		assert_int_equal(q.seg[i].first, 0x40 + i);
		assert_int_equal(q.seg[i].last, 0x80 + i);
	}

	memset(slot, 0, sizeof(slot));
	slot[0] = TD_BLKIF_DISCARD;
	slot[x->flag] = 0x77;
	fill(slot, x->discard_id, 0xa1a2a3a4a5a6a7a8, 8);
	fill(slot, x->discard_sector, 0xb1b2b3b4b5b6b7b8, 8);
	fill(slot, x->discard_nr, 0xd1d2d3d4d5d6d7d8, 8);
	td_blkif_decode_req(abi, slot, &q);
	assert_int_equal(q.flag, 0x77);
	assert_int_equal(q.id, 0xa1a2a3a4a5a6a7a8);
	assert_int_equal(q.sector, 0xb1b2b3b4b5b6b7b8);
	assert_int_equal(q.nr_sectors, 0xd1d2d3d4d5d6d7d8);

	memset(slot, 0, sizeof(slot));
	slot[0] = TD_BLKIF_INDIRECT;
	slot[x->inner] = 1;
	fill(slot, x->inner_nr, 0x1234, 2);
	fill(slot, x->indirect_id, 0xa1a2a3a4a5a6a7a8, 8);
	fill(slot, x->indirect_sector, 0xb1b2b3b4b5b6b7b8, 8);
	fill(slot, x->indirect_handle, 0xca01, 2);
	for (unsigned i = 0; i < TD_BLKIF_MAX_IPAGES; i++)
		fill(slot, x->indirect_grefs + 4ull * i, 0xe0000000 + i, 4);
	td_blkif_decode_req(abi, slot, &q);
	assert_int_equal(q.inner, 1);
	assert_int_equal(q.nr_segs, 0x1234);
	assert_int_equal(q.handle, 0xca01);
	for (unsigned i = 0; i < TD_BLKIF_MAX_IPAGES; i++)
		assert_int_equal(q.ipage[i], 0xe0000000 + i);
}

static void compare_response(const struct xen_layout *x, enum td_blkif_abi abi)
{
	const struct td_blkif_rsp rsp = { .id = 0xa1a2a3a4a5a6a7a8, .op = 6, .status = -2 };
	uint8_t want[16] = { 0 }, got[16] = { 0 };

	fill(want, x->rsp_id, rsp.id, 8);
	want[x->rsp_op] = rsp.op;
	fill(want, x->rsp_status, (uint16_t)rsp.status, 2);
	assert_int_equal(td_blkif_encode_rsp(abi, &rsp, got), x->rsp);
	assert_memory_equal(got, want, sizeof(want));
}

static void layouts_are_those_of_xens_header(void **state)
{
	(void)state;
	compare_layout(&xen_layout_x86_64, TD_BLKIF_X86_64);
	compare_response(&xen_layout_x86_64, TD_BLKIF_X86_64);
	compare_layout(&xen_layout_x86_64, TD_BLKIF_ARM);
	compare_layout(&xen_layout_x86_32, TD_BLKIF_X86_32);
	compare_response(&xen_layout_x86_32, TD_BLKIF_X86_32);
}
#else
static void layouts_are_those_of_xens_header(void **state)
{
	(void)state;
	print_message("Xen's headers are not installed (libxen-dev)\n");
	skip();
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("a read or write is these bytes", transfers_are_bytes_by_hand),
		SAYS("a discard is these bytes", discards_are_bytes_by_hand),
		SAYS("an indirect request is these bytes", indirect_requests_are_bytes_by_hand),
		SAYS("an indirect page is these bytes", segments_of_a_page_are_bytes_by_hand),
		SAYS("a response is these bytes, and changes no others", responses_are_bytes_by_hand),
		SAYS("a ring has the largest power of two of slots", rings_have_as_many_slots_as_fit),
		SAYS("ABIs have names", abis_have_names),
		SAYS("any bytes decode, and encode to the same fields", any_bytes_survive_a_round),
		SAYS("layouts are those of Xen's header", layouts_are_those_of_xens_header),
		SAYS("0, 12 and 255 segments are refused", counts_of_segments_are_checked),
		SAYS("a segment lies in its page", segments_are_checked),
		SAYS("nothing reaches past the end, nor wraps", the_end_of_the_disk_is_checked),
		SAYS("discards that wrap are refused", discards_are_checked),
		SAYS("indirect requests are not nested and not long", indirect_requests_are_checked),
		SAYS("unknown operations are not supported", unknown_operations_are_not_supported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
