// SPDX-License-Identifier: BSD-2-Clause
/* The ring server with an honest guest: each operation in each ABI, order, batches, events, pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <blktap/log.h>
#include <stdio.h>

#define SAYS(sentence, fn)                                                                                   \
	{                                                                                                    \
		sentence, fn, NULL, NULL, NULL                                                               \
	}

static const enum td_blkif_abi abis[] = { TD_BLKIF_X86_64, TD_BLKIF_X86_32, TD_BLKIF_ARM };

static char *page(struct guest *g, unsigned nr)
{
	return g->data + (size_t)nr * TD_BLKIF_PAGE;
}

static void fill(struct guest *g, unsigned nr, unsigned pages, unsigned seed)
{
	for (unsigned i = 0; i < pages * TD_BLKIF_PAGE; i++)
		page(g, nr)[i] = (char)(i * 7 + i / 4096 * 13 + seed);
}

/* ---- operations ---- */

static void check_operations(enum td_blkif_abi abi, unsigned order, unsigned persistent)
{
	struct guest *g = guest_new(abi, order);
	struct td_blkif_req q;

	g->setup.persistent = persistent;
	guest_set_index(g, 0xfffffff0); /* it will wrap */
	guest_serve(g, "ram(size=8M):");

	fill(g, 0, 11, 1);
	q = guest_io(TD_BLKIF_WRITE, 88, 0, 11);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	q = guest_io(TD_BLKIF_READ, 88, 16, 11);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	assert_memory_equal(page(g, 0), page(g, 16), 11 * 4096);

	/* Part of a page: sectors 2..4 of page 40 from sector 90 of the disk. */
	memset(page(g, 40), 0x5a, 4096);
	q = guest_io(TD_BLKIF_READ, 90, 40, 1);
	q.seg[0].first = 2;
	q.seg[0].last = 4;
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	assert_memory_equal(page(g, 40) + 2 * 512, page(g, 0) + 2 * 512, 3 * 512);
	for (unsigned i = 0; i < 4096; i++)
		if (i < 1024 || i >= 2560)
			assert_int_equal(page(g, 40)[i], 0x5a);

	fill(g, 100, 256, 2);
	q = guest_indirect(g, TD_BLKIF_WRITE, 4096, 100, 256, 99);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	q = guest_indirect(g, TD_BLKIF_READ, 4096, 400, 256, 99);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	assert_memory_equal(page(g, 100), page(g, 400), 256 * 4096);

	q = (struct td_blkif_req){ .op = TD_BLKIF_FLUSH, .id = 5 };
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	q = (struct td_blkif_req){ .op = TD_BLKIF_BARRIER, .id = 6, .sector = UINT64_MAX };
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	fill(g, 0, 2, 3);
	q = guest_io(TD_BLKIF_BARRIER, 0, 0, 1);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	q = guest_io(TD_BLKIF_FLUSH, 8, 1, 1); /* with data */
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	q = guest_io(TD_BLKIF_READ, 0, 16, 2);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	assert_memory_equal(page(g, 0), page(g, 16), 2 * 4096);

	q = (struct td_blkif_req){ .op = TD_BLKIF_DISCARD, .id = 7, .sector = 4096, .nr_sectors = 2048 };
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	q = guest_io(TD_BLKIF_READ, 4096, 16, 1);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(page(g, 16)[i], 0);

	assert_int_equal(ring_stats(g->ring)->errors, 0);
	assert_int_equal(ring_stats(g->ring)->requests[TD_BLKIF_INDIRECT], 2);
	assert_int_equal(ring_stats(g->ring)->requests[TD_BLKIF_BARRIER], 2);
	guest_close(g);
}

static void operations_work_in_each_abi_and_size(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(abis); i++) {
		for (unsigned order = 0; order <= TD_BLKIF_MAX_ORDER; order++)
			check_operations(abis[i], order, 0);
		check_operations(abis[i], 0, 64);
		check_operations(abis[i], 0, 1024);
	}
}

/* ---- a random mix ---- */

#define MIX_DISK  (1u << 20)
#define MIX_TAGS  24u
#define MIX_PAGES 64u /* of a tag */

struct mix_tag {
	bool busy;
	struct td_blkif_req q;
	unsigned bytes; /* 0: nothing to transfer */
	struct td_blkif_seg seg[MIX_PAGES];
	unsigned nr;
};

struct mix {
	struct guest *g;
	uint64_t seed;
	char *disk; /* the model */
	bool discarded[MIX_DISK / 512];
	struct mix_tag tag[MIX_TAGS];
	unsigned busy;
};

static bool is_write(const struct td_blkif_req *q)
{
	uint8_t op = q->op == TD_BLKIF_INDIRECT ? q->inner : q->op;

	return op != TD_BLKIF_READ;
}

static bool is_free(const struct mix *m, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; i < MIX_TAGS; i++)
		if (m->tag[i].busy && td_overlap(off, len, m->tag[i].q.sector * 512, m->tag[i].bytes))
			return false;
	return true;
}

/* The bytes of a tag's segments, to or from flat memory. */
static void mix_copy(struct mix *m, const struct mix_tag *t, char *flat, bool to_flat)
{
	for (unsigned i = 0; i < t->nr; i++) {
		char *at = page(m->g, t->seg[i].gref - GUEST_GREF) + t->seg[i].first * 512;
		size_t len = (t->seg[i].last - t->seg[i].first + 1u) * 512;

		memcpy(to_flat ? flat : at, to_flat ? at : flat, len);
		flat += len;
	}
}

static void mix_segs(struct mix *m, struct mix_tag *t, unsigned first_page, unsigned max)
{
	unsigned sectors = 0;

	t->nr = 1 + (unsigned)(test_random(&m->seed) % max);
	for (unsigned i = 0; i < t->nr; i++) {
		struct td_blkif_seg *s = &t->seg[i];

		*s = (struct td_blkif_seg){ .gref = GUEST_GREF + first_page + i, .last = 7 };
		if (test_random(&m->seed) % 4 == 0) {
			s->first = (uint8_t)(test_random(&m->seed) % 8);
			s->last = (uint8_t)(s->first + test_random(&m->seed) % (8u - s->first));
		}
		sectors += s->last - s->first + 1u;
	}
	t->bytes = sectors * 512;
}

static void mix_put(struct mix *m, unsigned n)
{
	static const uint8_t ops[] = { 0, 0, 0, 1, 1, 1, 6, 6, 2, 3, 5 };
	struct mix_tag *t = &m->tag[n];
	uint8_t op = ops[test_random(&m->seed) % TD_NELEMS(ops)];
	unsigned first = n * (MIX_PAGES + 1);

	t->q = (struct td_blkif_req){ .op = op, .id = n | test_random(&m->seed) << 8 };
	t->bytes = t->nr = 0;
	if (op == TD_BLKIF_DISCARD)
		t->bytes = 512 * (unsigned)(test_random(&m->seed) % 64);
	else if (op != TD_BLKIF_FLUSH && (op != TD_BLKIF_BARRIER || test_random(&m->seed) % 4))
		mix_segs(m, t, first, op == TD_BLKIF_INDIRECT ? MIX_PAGES : TD_BLKIF_MAX_DIRECT);
	if (t->bytes > 0) {
		t->q.sector = test_random(&m->seed) % ((MIX_DISK - t->bytes) / 512 + 1);
		if (!is_free(m, t->q.sector * 512, t->bytes))
			return; /* another time */
	}
	for (unsigned i = 0; i < t->nr * TD_BLKIF_PAGE; i++)
		page(m->g, first)[i] = (char)test_random(&m->seed);
	t->q.nr_segs = (uint16_t)t->nr;
	if (op == TD_BLKIF_INDIRECT) {
		t->q.inner = test_random(&m->seed) % 2;
		td_blkif_encode_segs(t->seg, t->nr, page(m->g, first + MIX_PAGES));
		t->q.ipage[0] = GUEST_GREF + first + MIX_PAGES;
	} else if (op == TD_BLKIF_DISCARD) {
		t->q.nr_sectors = t->bytes / 512;
	} else {
		memcpy(t->q.seg, t->seg, t->nr * sizeof(t->seg[0]));
	}
	t->busy = true;
	m->busy++;
	guest_put(m->g, &t->q);
}

/* What was discarded holds what it held, or zeros. */
static void mix_compare(struct mix *m, const struct mix_tag *t, const char *flat)
{
	static const char zeros[512];

	for (uint64_t i = 0; i < t->bytes / 512; i++) {
		uint64_t sector = t->q.sector + i;

		if (!m->discarded[sector] || memcmp(flat + i * 512, zeros, 512) != 0)
			assert_memory_equal(m->disk + sector * 512, flat + i * 512, 512);
	}
}

static void mix_done(struct mix *m, const struct td_blkif_rsp *rsp)
{
	static char flat[MIX_PAGES * TD_BLKIF_PAGE];
	struct mix_tag *t = &m->tag[rsp->id & 0xff];
	char *disk;

	assert_true((rsp->id & 0xff) < MIX_TAGS && t->busy);
	assert_int_equal(rsp->id, t->q.id);
	assert_int_equal(rsp->status, TD_BLKIF_OKAY);
	disk = m->disk + t->q.sector * 512;
	t->busy = false;
	m->busy--;
	if (t->q.op == TD_BLKIF_DISCARD)
		memset(m->discarded + t->q.sector, 1, t->bytes / 512);
	if (t->nr == 0)
		return;
	mix_copy(m, t, flat, true);
	if (is_write(&t->q)) {
		memcpy(disk, flat, t->bytes);
		memset(m->discarded + t->q.sector, 0, t->bytes / 512);
	} else {
		mix_compare(m, t, flat);
	}
}

static void run_mix(enum td_blkif_abi abi, unsigned order, unsigned persistent, uint64_t seed,
		    unsigned rounds)
{
	struct mix *m = calloc(1, sizeof(*m));
	struct td_blkif_rsp rsp;

	assert_non_null(m);
	m->seed = seed;
	m->g = guest_new(abi, order);
	m->disk = calloc(1, MIX_DISK);
	m->g->setup.persistent = persistent;
	m->g->setup.poll_us = seed % 2 ? 50 : 0;
	guest_set_index(m->g, (uint32_t)test_random(&m->seed));
	guest_serve(m->g, "ram(size=%u):", MIX_DISK);
	while (rounds > 0 || m->busy > 0) {
		for (unsigned i = 0; rounds > 0 && i < MIX_TAGS; i++) {
			if (!m->tag[i].busy && test_random(&m->seed) % 2) {
				mix_put(m, i);
				rounds--;
			}
		}
		guest_push(m->g);
		guest_turn(m->g, 1);
		while (guest_reap(m->g, &rsp))
			mix_done(m, &rsp);
	}
	assert_null(ring_failed(m->g->ring));
	assert_true(ring_stats(m->g->ring)->persistent <= persistent);
	guest_close(m->g);
	free(m->disk);
	free(m);
}

static void random_mixes_match_a_model(void **state)
{
	uint64_t seed = test_seed();
	unsigned rounds = test_count("TEST_ROUNDS", 1);

	(void)state;
	for (unsigned n = 0; n < rounds; n++) {
		for (unsigned i = 0; i < 3; i++) {
			run_mix(abis[i], 0, 0, test_random(&seed), 2000);
			run_mix(abis[i], (n + i) % 5, 100, test_random(&seed), 2000);
			run_mix(abis[i], 4, 1500, test_random(&seed), 2000);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("each operation works in each ABI and ring size", operations_work_in_each_abi_and_size),
		SAYS("random mixes match a model", random_mixes_match_a_model),
	};

	td_log_level(TD_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
