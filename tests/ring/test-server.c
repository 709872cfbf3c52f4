// SPDX-License-Identifier: BSD-2-Clause
/* How the ring server goes about it: bells, batches, polling, pages that stay mapped, pauses, barriers, features. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <blktap/log.h>
#include <time.h>

#define SAYS(sentence, fn)                                                                                   \
	{                                                                                                    \
		sentence, fn, NULL, NULL, NULL                                                               \
	}

static struct guest *ram_guest(unsigned persistent, unsigned poll_us)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);

	g->setup.persistent = persistent;
	g->setup.poll_us = poll_us;
	guest_serve(g, "ram(size=8M):");
	guest_turn(g, 1);
	return g;
}

/* All answers, each of this status. */
static void reap_all(struct guest *g, unsigned nr, int status)
{
	struct td_blkif_rsp rsp;

	for (unsigned i = 0; i < nr; i++) {
		guest_wait(g, &rsp);
		assert_int_equal(rsp.status, status);
	}
	assert_false(guest_reap(g, &rsp));
}

static void put_reads(struct guest *g, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		struct td_blkif_req q = guest_io(TD_BLKIF_READ, 8 * (uint64_t)i, 2 * i, 1);

		guest_put(g, &q);
	}
}

/* ---- bells ---- */

static void a_batch_is_one_of_everything(void **state)
{
	struct guest *g = ram_guest(0, 0);
	const struct ring_stats *s = ring_stats(g->ring);

	(void)state;
	for (unsigned round = 1; round <= 5; round++) {
		put_reads(g, 32);
		assert_true(guest_push(g));
		reap_all(g, 32, TD_BLKIF_OKAY);
		assert_int_equal(s->batches, round);
		assert_int_equal(s->kicks, round);
		assert_int_equal(g->port.notifies, round); /* one for 32 answers */
		guest_turn(g, 2);
	}
	assert_int_equal(s->requests[TD_BLKIF_READ], 160);
	assert_int_equal(s->max_in_flight, 32);
	guest_close(g);
}

/* The answers of the first turns are there while the rest is served; a guest that asks once is still rung for once. */
static void a_turn_takes_no_more_than_it_may(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	const struct ring_stats *s;

	(void)state;
	g->setup.take_max = 8;
	guest_serve(g, "ram(size=8M):");
	guest_turn(g, 1);
	s = ring_stats(g->ring);
	put_reads(g, 30);
	assert_true(guest_push(g));
	guest_turn(g, 20);
	assert_int_equal(s->batches, 4);
	assert_int_equal(s->max_in_flight, 8);
	assert_int_equal(g->port.notifies, 1);
	reap_all(g, 30, TD_BLKIF_OKAY);
	guest_close(g);
}

/* While the server is at work the guest need not ring; before it sleeps it asks for the bell again. */
static void the_guest_rings_only_a_sleeping_server(void **state)
{
	struct guest *g = ram_guest(0, 0);

	(void)state;
	put_reads(g, 1);
	assert_true(guest_push(g));
	put_reads(g, 1);
	assert_false(guest_push(g)); /* it has been rung for already */
	reap_all(g, 2, TD_BLKIF_OKAY);
	guest_turn(g, 3);
	assert_int_equal(guest_load(g, TD_BLKIF_REQ_EVENT), g->req_prod + 1);
	put_reads(g, 1);
	assert_true(guest_push(g));
	reap_all(g, 1, TD_BLKIF_OKAY);
	guest_close(g);
}

static void the_server_rings_only_a_guest_that_asks(void **state)
{
	struct guest *g = ram_guest(0, 0);

	(void)state;
	guest_store(g, TD_BLKIF_RSP_EVENT, 5); /* the fifth answer */
	for (unsigned i = 1; i <= 8; i++) {
		put_reads(g, 1);
		guest_push(g);
		guest_turn(g, 4);
		assert_int_equal(guest_load(g, TD_BLKIF_RSP_PROD), i);
		assert_int_equal(g->port.notifies, i >= 5);
	}
	assert_int_equal(ring_stats(g->ring)->notifies, 1);
	assert_int_equal(ring_stats(g->ring)->notifies_saved, 7);
	guest_close(g);
}

/* A bell that got lost on the way would be a hang: what was produced between the look and the sleep is seen. */
static void requests_without_a_bell_are_seen_before_sleeping(void **state)
{
	struct guest *g = ram_guest(0, 0);

	(void)state;
	guest_turn(g, 2);
	put_reads(g, 3);
	guest_store(g, TD_BLKIF_REQ_PROD, g->req_prod); /* and no kick */
	reap_all(g, 3, TD_BLKIF_OKAY);
	guest_close(g);
}

static void a_million_kicks_are_no_work(void **state)
{
	struct guest *g = ram_guest(0, 0);
	uint64_t maps = g->port.map_calls;

	(void)state;
	for (unsigned i = 0; i < 1000000; i++) {
		ring_kick(g->ring);
		if (i % 1000 == 0)
			guest_turn(g, 1);
	}
	assert_int_equal(g->port.map_calls, maps);
	assert_int_equal(g->port.notifies, 0);
	assert_int_equal(ring_stats(g->ring)->batches, 0);
	guest_close(g);
}

/* ---- polling ---- */

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void polling_begins_when_bells_come_soon(void **state)
{
	struct guest *g = ram_guest(0, 1000000); /* far more than any turn takes */
	const struct ring_stats *s = ring_stats(g->ring);

	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		put_reads(g, 1);
		guest_push(g);
		reap_all(g, 1, TD_BLKIF_OKAY);
		guest_turn(g, 1);
	}
	assert_true(s->polls > 0);
	assert_true(s->poll_hits > 0);
	assert_true(s->poll_hits <= s->polls);
	assert_true(s->kicks < 200); /* what was found by looking was not rung for */
	guest_close(g);
}

static void polling_is_off_without_the_option(void **state)
{
	struct guest *g = ram_guest(0, 0);

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		put_reads(g, 1);
		assert_true(guest_push(g));
		reap_all(g, 1, TD_BLKIF_OKAY);
		guest_turn(g, 2);
	}
	assert_int_equal(ring_stats(g->ring)->polls, 0);
	assert_int_equal(ring_stats(g->ring)->kicks, 100);
	guest_close(g);
}

struct alarm_clock {
	struct td_timer timer;
	struct td_loop *loop;
};

static void wake_up(struct td_timer *t)
{
	td_loop_stop(td_container_of(t, struct alarm_clock, timer)->loop);
}

static void an_idle_ring_sleeps(void **state)
{
	struct guest *g = ram_guest(0, 200);
	struct alarm_clock a = { .timer.fn = wake_up, .loop = g->t.env.loop };
	uint64_t before;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		put_reads(g, 1);
		guest_push(g);
		reap_all(g, 1, TD_BLKIF_OKAY);
	}
	td_timer_arm(g->t.env.loop, &a.timer, 300000000);
	before = cpu_ns();
	td_loop_run(g->t.env.loop);
	assert_true(cpu_ns() - before < 100000000); /* of 300 ms; it is about one */
	assert_int_equal(guest_load(g, TD_BLKIF_REQ_EVENT), g->req_prod + 1);
	guest_close(g);
}

/* ---- pages ---- */

static void persistent_pages_are_mapped_once(void **state)
{
	struct guest *g = ram_guest(64, 0);

	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		put_reads(g, 32);
		guest_push(g);
		reap_all(g, 32, TD_BLKIF_OKAY);
	}
	assert_int_equal(g->port.maps, 32);
	assert_int_equal(ring_stats(g->ring)->grants_reused, 9 * 32);
	assert_int_equal(ring_stats(g->ring)->persistent, 32);
	guest_close(g);
}

/* More pages than may be kept: never more than the bound between requests, and the longest unused go first. */
static void the_pages_kept_are_bounded(void **state)
{
	struct guest *g = ram_guest(40, 0);
	const struct ring_stats *s = ring_stats(g->ring);
	uint64_t seed = test_seed();

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		unsigned nr = 1 + (unsigned)(test_random(&seed) % 32);

		for (unsigned i = 0; i < nr; i++) {
			unsigned first = (unsigned)(test_random(&seed) % 500);
			struct td_blkif_req q = guest_io(test_random(&seed) % 2, 8 * (uint64_t)i, first,
							 1 + (unsigned)(test_random(&seed) % 11));

			guest_put(g, &q);
		}
		guest_push(g);
		reap_all(g, nr, TD_BLKIF_OKAY);
		assert_true(s->persistent <= 40);
		assert_int_equal(g->port.pages_open, s->persistent);
	}
	assert_true(s->grants_evicted > 0);
	guest_close(g);
}

static void the_longest_unused_page_goes_first(void **state)
{
	struct guest *g = ram_guest(2, 0);
	struct td_blkif_req q[3] = { guest_io(TD_BLKIF_READ, 0, 0, 1), guest_io(TD_BLKIF_READ, 0, 1, 1),
				     guest_io(TD_BLKIF_READ, 0, 2, 1) };
	static const unsigned order[] = { 0, 1, 0, 2, 0, 1 }; /* 2 puts out 1, not 0 */

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(order); i++)
		assert_int_equal(guest_call(g, &q[order[i]]), TD_BLKIF_OKAY);
	assert_int_equal(ring_stats(g->ring)->grants_reused, 2);
	assert_int_equal(ring_stats(g->ring)->grants_evicted, 2);
	assert_int_equal(g->port.maps, 4);
	guest_close(g);
}

/* A page granted to read only serves writes; a read into it fails; if the guest grants more later, that works. */
static void pages_granted_read_only_serve_writes(void **state)
{
	(void)state;
	for (unsigned persistent = 0; persistent <= 16; persistent += 16) {
		struct guest *g = ram_guest(persistent, 0);
		struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 0, 3, 2),
				    r = guest_io(TD_BLKIF_READ, 0, 3, 2);

		g->grant[3] = GRANT_RO;
		assert_int_equal(guest_call(g, &w), TD_BLKIF_OKAY);
		assert_int_equal(guest_call(g, &r), TD_BLKIF_ERROR);
		assert_int_equal(guest_call(g, &w), TD_BLKIF_OKAY);
		g->grant[3] = GRANT_RW;
		assert_int_equal(guest_call(g, &r), TD_BLKIF_OKAY);
		assert_int_equal(guest_call(g, &r), TD_BLKIF_OKAY);
		guest_close(g);
	}
}

/* The same page several times in a request, and in several requests. */
static void a_page_may_be_named_twice(void **state)
{
	(void)state;
	for (unsigned persistent = 0; persistent <= 4; persistent += 2) {
		struct guest *g = ram_guest(persistent, 0);

		for (unsigned n = 0; n < 20; n++) {
			struct td_blkif_req q = guest_io(n % 2, 8, 0, 6);

			for (unsigned i = 0; i < 6; i++)
				q.seg[i].gref = GUEST_GREF + i % 3;
			guest_put(g, &q);
		}
		guest_push(g);
		reap_all(g, 20, TD_BLKIF_OKAY);
		guest_close(g);
	}
}

/* ---- pauses and sizes ---- */

static void requests_wait_for_the_end_of_a_pause(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct td_blkif_rsp rsp;

	(void)state;
	assert_int_equal(test_create(&g->t, 1 << 20, NULL, false, "aio:%s/disk", g->t.dir), 0);
	guest_serve(g, "aio:%s/disk", g->t.dir);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(guest_pause(g), 0);
		put_reads(g, 20);
		guest_push(g);
		guest_turn(g, 20);
		assert_false(guest_reap(g, &rsp));
		assert_int_equal(ring_in_flight(g->ring), 20);
		assert_int_equal(guest_unpause(g), 0);
		reap_all(g, 20, TD_BLKIF_OKAY);
	}
	guest_close(g);
}

/* What waits is given up unanswered; a ring that is only stopped waits for the unpause. */
static void a_paused_ring_can_be_given_up(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct td_blkif_req barrier = guest_io(TD_BLKIF_BARRIER, 0, 100, 1);
	struct td_blkif_rsp rsp;

	(void)state;
	assert_int_equal(test_create(&g->t, 1 << 20, NULL, false, "aio:%s/disk", g->t.dir), 0);
	for (unsigned with_barrier = 0; with_barrier < 3; with_barrier++) {
		guest_serve(g, "aio:%s/disk", g->t.dir);
		assert_int_equal(guest_pause(g), 0);
		if (with_barrier < 2)
			put_reads(g, 5);
		if (with_barrier)
			guest_put(g, &barrier);
		put_reads(g, 2);
		guest_push(g);
		guest_turn(g, 5);
		ring_stop(g->ring);
		guest_turn(g, 5);
		assert_false(ring_idle(g->ring));
		ring_cancel(g->ring);
		guest_stop(g);
		assert_false(guest_reap(g, &rsp));
		assert_int_equal(guest_unpause(g), 0);
		guest_set_index(g, g->req_prod);
		guest_start(g);
		put_reads(g, 5);
		guest_push(g);
		reap_all(g, 5, TD_BLKIF_OKAY);
		guest_stop(g);
		guest_shut(g);
	}
	guest_free(g);
}

struct resize_call {
	struct td_vbd *vbd;
	uint64_t size;
};

static int resize_it(void *arg)
{
	struct resize_call *c = arg;

	return td_vbd_resize(c->vbd, c->size, NULL);
}

static void a_resize_is_seen_at_once(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_32, 0);
	struct td_blkif_req q = guest_io(TD_BLKIF_WRITE, 2048, 0, 1);
	struct ring_features f;
	struct resize_call c;

	(void)state;
	assert_int_equal(test_create(&g->t, 1 << 20, NULL, false, "aio:%s/disk", g->t.dir), 0);
	guest_serve(g, "aio:%s/disk", g->t.dir);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_ERROR);
	c = (struct resize_call){ g->vbd, 2 << 20 };
	assert_int_equal(testenv_run(&g->t, resize_it, &c), 0);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	ring_features(g->vbd, &f);
	assert_int_equal(f.sectors, 4096);
	guest_close(g);
}

/* ---- barriers ---- */

/* Each request sleeps 3 ms, so that they would overlap if they were let. */
static void a_barrier_keeps_order(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	const struct td_vbd_stats *s;
	struct td_blkif_req b = guest_io(TD_BLKIF_BARRIER, 64, 40, 1);
	struct td_blkif_rsp rsp;

	(void)state;
	guest_serve(g, "fault(delay-ms=3)/ram(size=1M):");
	s = td_vbd_stats(g->vbd);
	put_reads(g, 6);
	b.id = 1000;
	guest_put(g, &b);
	put_reads(g, 6);
	guest_push(g);
	for (unsigned i = 0; i < 13; i++) {
		while (!guest_reap(g, &rsp))
			td_loop_turn(g->t.env.loop, true);
		assert_int_equal(rsp.status, TD_BLKIF_OKAY);
		assert_true((rsp.id == 1000) == (i == 6)); /* behind six, before six */
		if (i < 6) /* none behind it has begun, nor its own flush before the last is done */
			assert_true(s->op[TD_REQ_READ].requests <= 6 && s->op[TD_REQ_WRITE].requests == 0);
		if (i == 6) {
			assert_int_equal(s->op[TD_REQ_FLUSH].requests, 1);
			assert_int_equal(s->op[TD_REQ_WRITE].requests, 1);
			assert_int_equal(s->op[TD_REQ_READ].requests, 6);
		}
	}
	guest_close(g);
}

/* A flush before it that fails is its failure: what came before is not durable. */
static void a_barrier_tells_of_a_failed_flush(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct td_blkif_req b = guest_io(TD_BLKIF_BARRIER, 64, 40, 1);

	(void)state;
	guest_serve(g, "fault(flush-every=1,once=on)/ram(size=1M):");
	assert_int_equal(guest_call(g, &b), TD_BLKIF_ERROR);
	assert_int_equal(td_vbd_stats(g->vbd)->op[TD_REQ_WRITE].requests, 0);
	assert_int_equal(guest_call(g, &b), TD_BLKIF_OKAY);
	guest_close(g);
}

/* ---- disks that fail, and what is announced ---- */

static void a_failing_disk_is_an_error(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct td_blkif_req r = guest_io(TD_BLKIF_READ, 0, 0, 1), w = guest_io(TD_BLKIF_WRITE, 0, 0, 1);

	(void)state;
	guest_serve(g, "fault(read-every=2,write-every=3)/ram(size=1M):");
	for (unsigned i = 1; i <= 12; i++) {
		assert_int_equal(guest_call(g, &r), i % 2 ? TD_BLKIF_OKAY : TD_BLKIF_ERROR);
		assert_int_equal(guest_call(g, &w), i % 3 ? TD_BLKIF_OKAY : TD_BLKIF_ERROR);
	}
	guest_close(g);
}

static void what_is_announced_works(void **state)
{
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct td_blkif_req d = { .op = TD_BLKIF_DISCARD, .nr_sectors = 8 };
	struct ring_features f;

	(void)state;
	guest_serve(g, "ram(size=1M):");
	ring_features(g->vbd, &f);
	assert_int_equal(f.sectors, 2048);
	assert_int_equal(f.sector_size, 512);
	assert_int_equal(f.info, 0);
	assert_true(f.flush && f.barrier && f.discard && f.persistent);
	assert_int_equal(f.discard_granularity, 65536);
	assert_int_equal(f.max_indirect, 256);
	assert_int_equal(f.max_order, 4);
	assert_int_equal(guest_call(g, &d), TD_BLKIF_OKAY);
	guest_close(g);

	/* A filter that cannot discard. */
	g = guest_new(TD_BLKIF_X86_64, 0);
	guest_serve(g, "fault/ram(size=1M):");
	ring_features(g->vbd, &f);
	assert_int_equal(guest_call(g, &d), f.discard ? TD_BLKIF_OKAY : TD_BLKIF_EOPNOTSUPP);
	guest_close(g);
}

static void a_read_only_disk_refuses_changes(void **state)
{
	static const uint8_t writes[] = { TD_BLKIF_WRITE, TD_BLKIF_BARRIER, TD_BLKIF_FLUSH };
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct td_blkif_req q;
	struct ring_features f;

	(void)state;
	g->open_flags = TD_OPEN_RDONLY;
	assert_int_equal(test_create(&g->t, 1 << 20, NULL, false, "aio:%s/disk", g->t.dir), 0);
	guest_serve(g, "aio:%s/disk", g->t.dir);
	ring_features(g->vbd, &f);
	assert_int_equal(f.info, TD_BLKIF_READONLY);
	assert_true(!f.flush && !f.barrier && !f.discard);
	for (unsigned i = 0; i < TD_NELEMS(writes); i++) {
		q = guest_io(writes[i], 0, 0, 1);
		assert_int_equal(guest_call(g, &q), TD_BLKIF_ERROR);
	}
	q = guest_indirect(g, TD_BLKIF_WRITE, 0, 0, 4, 10);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_ERROR);
	q = (struct td_blkif_req){ .op = TD_BLKIF_DISCARD, .nr_sectors = 8 };
	assert_int_equal(guest_call(g, &q), TD_BLKIF_EOPNOTSUPP);
	q = guest_io(TD_BLKIF_READ, 0, 0, 1);
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	q = (struct td_blkif_req){ .op = TD_BLKIF_FLUSH };
	assert_int_equal(guest_call(g, &q), TD_BLKIF_OKAY);
	guest_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("32 requests are one batch, one kick, one bell", a_batch_is_one_of_everything),
		SAYS("a turn takes no more than it may", a_turn_takes_no_more_than_it_may),
		SAYS("the guest rings only a sleeping server", the_guest_rings_only_a_sleeping_server),
		SAYS("the server rings only a guest that asks", the_server_rings_only_a_guest_that_asks),
		SAYS("what comes before sleeping is seen", requests_without_a_bell_are_seen_before_sleeping),
		SAYS("a million kicks are no work", a_million_kicks_are_no_work),
		SAYS("polling begins when bells come soon", polling_begins_when_bells_come_soon),
		SAYS("polling is off without the option", polling_is_off_without_the_option),
		SAYS("an idle ring sleeps", an_idle_ring_sleeps),
		SAYS("persistent pages are mapped once", persistent_pages_are_mapped_once),
		SAYS("the pages kept are bounded", the_pages_kept_are_bounded),
		SAYS("the longest unused page goes first", the_longest_unused_page_goes_first),
		SAYS("pages granted read-only serve writes", pages_granted_read_only_serve_writes),
		SAYS("a page may be named twice", a_page_may_be_named_twice),
		SAYS("requests wait for the end of a pause", requests_wait_for_the_end_of_a_pause),
		SAYS("a paused ring can be given up", a_paused_ring_can_be_given_up),
		SAYS("a resize is seen at once", a_resize_is_seen_at_once),
		SAYS("a barrier keeps order", a_barrier_keeps_order),
		SAYS("a barrier tells of a failed flush", a_barrier_tells_of_a_failed_flush),
		SAYS("a failing disk is an error", a_failing_disk_is_an_error),
		SAYS("what is announced works", what_is_announced_works),
		SAYS("a read-only disk refuses changes", a_read_only_disk_refuses_changes),
	};

	td_log_level(TD_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
