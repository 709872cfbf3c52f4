// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ring server with a hostile guest.  After each attack the ring either serves on or has stopped with a reason;
 * nothing is mapped for longer than it should, and the guest sees nothing of us but its 16 (or 12) bytes of answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <blktap/log.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SAYS(sentence, fn)                                                                                   \
	{                                                                                                    \
		sentence, fn, NULL, NULL, NULL                                                               \
	}

#define DISK_SECTORS 2048u

static const enum td_blkif_abi abis[] = { TD_BLKIF_X86_64, TD_BLKIF_X86_32, TD_BLKIF_ARM };

static struct guest *start(enum td_blkif_abi abi, unsigned persistent)
{
	struct guest *g = guest_new(abi, 0);

	g->setup.persistent = persistent;
	guest_serve(g, "ram(size=1M):");
	guest_turn(g, 2);
	return g;
}

/* It still serves an honest request. */
static void check_alive(struct guest *g)
{
	struct td_blkif_req q = guest_io(TD_BLKIF_READ, 8, 50, 2);

	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	assert_null(ring_failed(g->ring));
}

/* ---- indices ---- */

static void check_stops(uint32_t first, uint32_t prod)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	uint64_t maps;

	guest_set_index(g, first);
	guest_serve(g, "ram(size=1M):");
	guest_turn(g, 2);
	check_alive(g);
	maps = g->port.map_calls;
	guest_store(g, TD_BLKIF_REQ_PROD, prod);
	ring_kick(g->ring);
	guest_turn(g, 5);
	assert_non_null(ring_failed(g->ring));
	assert_string_equal(ring_failed(g->ring), g->stopped);
	assert_int_equal(g->port.map_calls, maps);
	assert_int_equal(guest_load(g, TD_BLKIF_RSP_PROD), first + 1);
	assert_true(ring_idle(g->ring));
	/* It stays so, whatever comes. */
	guest_store(g, TD_BLKIF_REQ_PROD, first + 2);
	ring_kick(g->ring);
	guest_turn(g, 5);
	assert_int_equal(guest_load(g, TD_BLKIF_RSP_PROD), first + 1);
	guest_close(g);
}

static void producers_beyond_the_ring_stop_it(void **state)
{
	static const uint32_t firsts[] = { 0, 31, 0xfffffff0, 0x7ffffff0 };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(firsts); i++) {
		uint32_t f = firsts[i];

		check_stops(f, f + 1 + 33); /* one more than there are slots */
		check_stops(f, f + 1 + 64);
		check_stops(f, f + 0x80000000);
		check_stops(f, f); /* it goes back */
		check_stops(f, f - 1);
		check_stops(f, f - 0x10000);
	}
}

/* 32 requests wait; the guest cannot have sent more. */
static void producers_beyond_what_was_answered_stop_it(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);

	(void)state;
	assert_int_equal(test_create(&g->t, 1 << 20, NULL, false, "aio:%s/disk", g->t.dir), 0);
	guest_serve(g, "aio:%s/disk", g->t.dir);
	assert_int_equal(guest_pause(g), 0);
	for (unsigned i = 0; i < 32; i++) {
		struct td_blkif_req q = guest_io(TD_BLKIF_READ, 8, i, 1);

		guest_put(g, &q);
	}
	guest_push(g);
	guest_turn(g, 3);
	assert_null(ring_failed(g->ring));
	guest_store(g, TD_BLKIF_REQ_PROD, g->req_prod + 1);
	ring_kick(g->ring);
	guest_turn(g, 3);
	assert_non_null(ring_failed(g->ring));
	assert_int_equal(ring_stats(g->ring)->max_in_flight, 32);
	assert_int_equal(guest_unpause(g), 0);
	guest_stop(g); /* what was in flight is answered */
	assert_int_equal(guest_load(g, TD_BLKIF_RSP_PROD), 32);
	guest_close(g);
}

/* Everything of ours in shared memory is rewritten all the time: the guest's own trouble. */
static void our_indices_are_not_read_back(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned n = 0; n < 500; n++) {
		struct guest *g = start(TD_BLKIF_X86_64, 0);

		for (uint32_t i = 1; i <= 8; i++) {
			struct td_blkif_req q = guest_io(TD_BLKIF_READ, 8, i, 1);

			guest_put(g, &q);
			guest_store(g, TD_BLKIF_RSP_PROD, (uint32_t)test_random(&seed));
			guest_store(g, TD_BLKIF_REQ_EVENT, (uint32_t)test_random(&seed));
			guest_store(g, TD_BLKIF_RSP_EVENT, (uint32_t)test_random(&seed));
			guest_store(g, TD_BLKIF_REQ_PROD, g->req_prod);
			ring_kick(g->ring);
			guest_turn(g, 4);
			assert_int_equal(guest_load(g, TD_BLKIF_RSP_PROD), i);
		}
		assert_null(ring_failed(g->ring));
		guest_close(g);
	}
}

/* ---- requests ---- */

static void check_refused(struct guest *g, struct td_blkif_req q, int status)
{
	uint64_t reads = td_vbd_stats(g->vbd)->op[TD_REQ_READ].requests;

	assert_int_equal(guest_call(g, &q), status);
	assert_int_equal(td_vbd_stats(g->vbd)->op[TD_REQ_READ].requests, reads);
	assert_int_equal(td_vbd_stats(g->vbd)->op[TD_REQ_WRITE].requests, 0);
	assert_int_equal(g->port.pages_open, ring_stats(g->ring)->persistent);
}

static void bad_requests_are_errors(void **state)
{
	static const unsigned counts[] = { 0, 12, 255 };
	static const uint64_t sectors[] = { DISK_SECTORS - 7, DISK_SECTORS, 1ull << 54,
					    UINT64_MAX / 512, 1ull << 55,   UINT64_MAX / 2 + 1,
					    UINT64_MAX - 7,   UINT64_MAX };

	(void)state;
	for (unsigned n = 0; n < 6; n++) {
		struct guest *g = start(abis[n / 2], n % 2 ? 32 : 0);
		struct td_blkif_req q;

		for (uint8_t op = TD_BLKIF_READ; op <= TD_BLKIF_WRITE; op++) {
			for (unsigned i = 0; i < TD_NELEMS(counts); i++)
				check_refused(g, guest_io(op, 0, 0, counts[i]), TD_BLKIF_ERROR);
			for (unsigned i = 0; i < TD_NELEMS(sectors); i++)
				check_refused(g, guest_io(op, sectors[i], 0, 1), TD_BLKIF_ERROR);
			q = guest_io(op, 0, 0, 2);
			q.seg[1].first = 5;
			q.seg[1].last = 4;
			check_refused(g, q, TD_BLKIF_ERROR);
			q.seg[1].last = 8;
			check_refused(g, q, TD_BLKIF_ERROR);
			q.seg[1].last = 255;
			check_refused(g, q, TD_BLKIF_ERROR);
		}
		for (unsigned op = 7; op < 256; op += 31)
			check_refused(g, (struct td_blkif_req){ .op = (uint8_t)op }, TD_BLKIF_EOPNOTSUPP);
		check_refused(g, (struct td_blkif_req){ .op = 4 }, TD_BLKIF_EOPNOTSUPP);
		q = (struct td_blkif_req){ .op = TD_BLKIF_DISCARD,
					   .sector = 8,
					   .nr_sectors = UINT64_MAX - 7 };
		check_refused(g, q, TD_BLKIF_ERROR);
		q.nr_sectors = UINT64_MAX;
		check_refused(g, q, TD_BLKIF_ERROR);
		q.nr_sectors = DISK_SECTORS - 7;
		check_refused(g, q, TD_BLKIF_ERROR);
		q.flag = TD_BLKIF_DISCARD_SECURE;
		check_refused(g, q, TD_BLKIF_EOPNOTSUPP);
		check_alive(g);
		guest_close(g);
	}
}

static void bad_indirect_requests_are_errors(void **state)
{
	static const unsigned counts[] = { 0, 257, 512, 513, 4096, 65535 };
	static const uint8_t inners[] = { TD_BLKIF_FLUSH, TD_BLKIF_DISCARD, TD_BLKIF_INDIRECT, 255 };

	(void)state;
	for (unsigned n = 0; n < 6; n++) {
		struct guest *g = start(abis[n / 2], n % 2 ? 32 : 0);
		struct td_blkif_req q;
		struct td_blkif_seg seg = { .gref = GUEST_GREF, .first = 3, .last = 2 };

		for (unsigned i = 0; i < TD_NELEMS(counts); i++)
			check_refused(g, guest_indirect(g, TD_BLKIF_READ, 0, 0, counts[i], 600),
				      TD_BLKIF_ERROR);
		for (unsigned i = 0; i < TD_NELEMS(inners); i++)
			check_refused(g, guest_indirect(g, inners[i], 0, 0, 4, 600), TD_BLKIF_ERROR);
		check_refused(g, guest_indirect(g, TD_BLKIF_READ, DISK_SECTORS - 8, 0, 2, 600),
			      TD_BLKIF_ERROR);
		check_refused(g, guest_indirect(g, TD_BLKIF_READ, UINT64_MAX - 1, 0, 2, 600), TD_BLKIF_ERROR);

		/* Its page does not exist, cannot be read, holds nonsense. */
		q = guest_indirect(g, TD_BLKIF_READ, 0, 0, 4, 600);
		q.ipage[0] = GUEST_GREF + GUEST_PAGES;
		check_refused(g, q, TD_BLKIF_ERROR);
		q.ipage[0] = UINT32_MAX;
		check_refused(g, q, TD_BLKIF_ERROR);
		q = guest_indirect(g, TD_BLKIF_READ, 0, 0, 4, 601);
		g->grant[601] = GRANT_NONE;
		check_refused(g, q, TD_BLKIF_ERROR);
		q = guest_indirect(g, TD_BLKIF_READ, 0, 0, 4, 602);
		td_blkif_encode_segs(&seg, 1, g->data + 602 * 4096 + 8);
		check_refused(g, q, TD_BLKIF_ERROR);
		q = guest_indirect(g, TD_BLKIF_READ, 0, 0, 256, 603);
		memset(g->data + (size_t)603 * 4096, 0xff, 4096);
		check_refused(g, q, TD_BLKIF_ERROR);
		check_alive(g);
		guest_close(g);
	}
}

static void pages_that_do_not_exist_are_errors(void **state)
{
	static const uint32_t grefs[] = { 0, GUEST_GREF - 1, GUEST_GREF + GUEST_PAGES, UINT32_MAX };

	(void)state;
	for (unsigned persistent = 0; persistent <= 8; persistent += 4) {
		struct guest *g = start(TD_BLKIF_X86_64, persistent);

		for (unsigned i = 0; i < TD_NELEMS(grefs); i++) {
			for (unsigned at = 0; at < 11; at++) {
				struct td_blkif_req q = guest_io(TD_BLKIF_READ, 0, 20, 11);

				q.seg[at].gref = grefs[i];
				check_refused(g, q, TD_BLKIF_ERROR);
			}
		}
		check_alive(g);
		guest_close(g);
	}
}

/* Grants come and go between requests, kept pages or not. */
static void grants_that_change_are_no_harm(void **state)
{
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned persistent = 0; persistent <= 60; persistent += 12) {
		struct guest *g = start(TD_BLKIF_X86_64, persistent);

		for (unsigned n = 0; n < 2000; n++) {
			struct td_blkif_req q = guest_io(test_random(&seed) % 2, test_random(&seed) % 1900,
							 (unsigned)(test_random(&seed) % 50),
							 1 + (unsigned)(test_random(&seed) % 11));

			if (n % 3 == 0)
				q = guest_indirect(g, test_random(&seed) % 2, 0,
						   (unsigned)(test_random(&seed) % 50), 20, 100);
			g->grant[test_random(&seed) % 60] = (uint8_t)(test_random(&seed) % 3);
			assert_true(guest_call(g, &q) <= 0);
			assert_int_equal(g->port.pages_open, ring_stats(g->ring)->persistent);
			assert_true(g->port.pages_open <= persistent);
		}
		guest_close(g);
	}
}

/* Identifiers are the guest's; ours are the slots. */
static void identifiers_may_be_the_same(void **state)
{
	struct guest *g = start(TD_BLKIF_X86_64, 0);
	struct td_blkif_rsp rsp;

	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		struct td_blkif_req q = guest_io(TD_BLKIF_READ, 8, i, 1);

		q.id = UINT64_MAX;
		guest_put(g, &q);
	}
	guest_push(g);
	for (unsigned i = 0; i < 32; i++) {
		guest_wait(g, &rsp);
		assert_int_equal(rsp.id, UINT64_MAX);
		assert_int_equal(rsp.status, TD_BLKIF_OKAY);
	}
	guest_close(g);
}

/* ---- nothing of ours ---- */

static void an_answer_changes_its_bytes_only(void **state)
{
	(void)state;
	for (unsigned n = 0; n < TD_NELEMS(abis); n++) {
		size_t slot = td_blkif_slot_size(abis[n]), rsp = abis[n] == TD_BLKIF_X86_32 ? 12 : 16;
		struct guest *g = start(abis[n], 0);
		unsigned char before[TD_BLKIF_PAGE];
		struct td_blkif_rsp r;

		memset(g->shared + 16, 0xa5, TD_BLKIF_PAGE - 16);
		for (unsigned i = 0; i < 32; i++) {
			struct td_blkif_req q =
				i % 3 ? guest_io(TD_BLKIF_READ, 8, i, 1)
				      : (struct td_blkif_req){ .op = (uint8_t)(i * 9), .id = i };

			td_blkif_encode_req(g->abi, &q, guest_slot(g, g->req_prod++));
		}
		memcpy(before, g->shared, sizeof(before));
		guest_push(g);
		for (unsigned i = 0; i < 32; i++)
			guest_wait(g, &r);
		assert_memory_equal(g->shared + 16, before + 16, 48);
		for (size_t at = 64; at < TD_BLKIF_PAGE; at++)
			if (at >= 64 + 32 * slot || (at - 64) % slot >= rsp)
				assert_int_equal((unsigned char)g->shared[at], before[at]);
		for (unsigned i = 0; i < 32; i++) { /* and the holes of an answer are zeros */
			unsigned char *p = guest_slot(g, i);

			assert_int_equal(p[9], 0);
			for (size_t k = 12; k < rsp; k++)
				assert_int_equal(p[k], 0);
		}
		guest_close(g);
	}
}

/* ---- a second processor ---- */

struct attacker {
	struct guest *g;
	uint64_t seed;
	bool stop;
};

static void *attack(void *arg)
{
	struct attacker *a = arg;
	uint32_t *ring = (uint32_t *)(void *)a->g->shared;
	uint32_t *table = (uint32_t *)(void *)(a->g->data + (size_t)600 * TD_BLKIF_PAGE);

	while (!__atomic_load_n(&a->stop, __ATOMIC_RELAXED)) {
		uint64_t x = test_random(&a->seed);
		size_t at = 16 + x % (TD_BLKIF_PAGE / 4 - 16);

		/* Mostly numbers that look like something. */
		__atomic_store_n(&ring[at], x >> 60 ? (uint32_t)(x >> 32) % 1100 : (uint32_t)(x >> 32),
				 __ATOMIC_RELAXED);
		__atomic_store_n(&table[x % 512], GUEST_GREF + (uint32_t)(x >> 40) % 50, __ATOMIC_RELAXED);
		__atomic_store_n(&table[(x >> 9) % 256 * 2 + 1], (uint32_t)(x >> 50) & 0x0f0f,
				 __ATOMIC_RELAXED);
		__atomic_store_n(&a->g->grant[x % 50], (uint8_t)(x >> 33 & 7) % 3, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void slots_rewritten_while_we_read_are_no_harm(void **state)
{
	unsigned rounds = 3000 * test_count("TEST_ROUNDS", 1);

	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		struct guest *g = start(abis[n % 3], n % 2 ? 40 : 0);
		struct attacker a = { .g = g, .seed = test_seed() };
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, attack, &a), 0);
		for (unsigned i = 0; i < rounds; i++) {
			uint32_t rsp = guest_load(g, TD_BLKIF_RSP_PROD);

			g->req_prod = rsp + 1 + i % 32;
			if (i % 5 == 0) { /* an honest start; the other thread does the rest */
				uint32_t *slot = guest_slot(g, rsp);

				__atomic_store_n(slot, 0x00040106, __ATOMIC_RELAXED);
			}
			guest_store(g, TD_BLKIF_REQ_PROD, g->req_prod);
			ring_kick(g->ring);
			for (unsigned k = 0; k < 10000 && guest_load(g, TD_BLKIF_RSP_PROD) != g->req_prod;
			     k++)
				guest_turn(g, 1);
			assert_int_equal(guest_load(g, TD_BLKIF_RSP_PROD), g->req_prod);
			assert_true(g->port.pages_open <= 40);
		}
		__atomic_store_n(&a.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		assert_null(ring_failed(g->ring));
		guest_close(g);
	}
}

/* As many and as large requests as a ring can hold: what we take for them has a bound, and is taken once. */
static void memory_is_bounded(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 4);
	struct td_blkif_rsp rsp;

	(void)state;
	guest_serve(g, "ram(size=1M):");
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 512; i++) {
			struct td_blkif_req q = guest_indirect(g, i % 2, 0, i, 256, 3000);

			guest_put(g, &q);
		}
		guest_push(g);
		for (unsigned i = 0; i < 512; i++) {
			guest_wait(g, &rsp);
			assert_int_equal(rsp.status, TD_BLKIF_OKAY);
		}
	}
	assert_int_equal(ring_stats(g->ring)->max_in_flight, 512);
	guest_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("producers beyond the ring, or going back, stop it", producers_beyond_the_ring_stop_it),
		SAYS("so do more requests than were answered", producers_beyond_what_was_answered_stop_it),
		SAYS("our indices are not read back", our_indices_are_not_read_back),
		SAYS("bad requests are errors", bad_requests_are_errors),
		SAYS("bad indirect requests are errors", bad_indirect_requests_are_errors),
		SAYS("pages that do not exist are errors", pages_that_do_not_exist_are_errors),
		SAYS("grants that change are no harm", grants_that_change_are_no_harm),
		SAYS("identifiers may be the same", identifiers_may_be_the_same),
		SAYS("an answer changes its bytes only", an_answer_changes_its_bytes_only),
		SAYS("slots rewritten while we read are no harm", slots_rewritten_while_we_read_are_no_harm),
		SAYS("memory is bounded", memory_is_bounded),
	};

	td_log_level(TD_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
