// SPDX-License-Identifier: BSD-2-Clause
/*
 * The filter that limits a rate.  Its arithmetic is run on a clock of our own, for hours in a moment; then the filter
 * on the real one, where a slow machine may make it slower than its limit, but nothing may make it faster.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "drivers.h"
#include "model.h"
#include "testenv.h"
#include "throttle-gate.h"
#include "workload.h"

#include <blktap/co.h>

#define S 1000000000ull

static struct testenv env;
static char buf[1 << 20];

/* ---- the arithmetic ---- */

static struct gate gate_of(uint64_t burst_ns, unsigned row, unsigned unit, uint64_t rate)
{
	struct gate g = { .burst_ns = burst_ns };

	gate_rate(&g.limit[row][unit], rate, 0);
	return g;
}

/* Somebody always asks: how many requests of len pass until `end`? */
static uint64_t saturate(struct gate *g, enum gate_kind kind, uint64_t len, uint64_t now, uint64_t end)
{
	uint64_t nr = 0;

	for (;; nr++) {
		now = TD_MAX(now, gate_opens(g, kind));
		if (now >= end)
			return nr;
		gate_pass(g, kind, 1, len, now);
	}
}

static void rates_are_exact(void **state)
{
	static const uint64_t rates[] = { 1, 3, 7, 100, 333, 1000, 299999, 1000000 };

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(rates); i++) {
		struct gate g = gate_of(S / 10, GATE_ALL, GATE_REQUESTS, rates[i]);
		uint64_t nr = saturate(&g, GATE_READ, 512, S, 11 * S), want = 10 * rates[i];

		/* What 0.1 s saved, and the one that went into debt. */
		assert_in_range(nr, want, want + rates[i] / 10 + 1);
	}
}

static void bytes_are_exact(void **state)
{
	static const uint64_t lens[] = { 512, 4096, 100000, 1 << 20, 32 << 20 };
	uint64_t rate = 123456789;

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(lens); i++) {
		struct gate g = gate_of(S / 10, GATE_WRITE, GATE_BYTES, rate);
		uint64_t bytes = saturate(&g, GATE_WRITE, lens[i], 0, 100 * S) * lens[i];

		assert_in_range(bytes, 100 * rate, 100 * rate + rate / 10 + lens[i]);
		assert_int_equal(gate_opens(&g, GATE_READ), 0); /* it is no limit of theirs */
	}
}

static void what_was_not_used_is_saved_for_a_while(void **state)
{
	struct gate g = gate_of(2 * S, GATE_ALL, GATE_REQUESTS, 100);

	(void)state;
	assert_in_range(saturate(&g, GATE_READ, 0, 1000 * S, 1000 * S + 1), 200, 201);
	/* Half a second's worth, then two however long it was idle. */
	assert_in_range(saturate(&g, GATE_READ, 0, 1000 * S + S / 2, 1000 * S + S / 2 + 1), 49, 51);
	assert_in_range(saturate(&g, GATE_READ, 0, 5000 * S, 5000 * S + 1), 200, 201);
}

static void one_larger_than_the_burst_passes_and_is_owed(void **state)
{
	struct gate g = gate_of(S / 10, GATE_ALL, GATE_BYTES, 1 << 20);

	(void)state;
	assert_int_equal(gate_opens(&g, GATE_WRITE), 0);
	gate_pass(&g, GATE_WRITE, 1, 32 << 20, S);
	assert_int_equal(gate_opens(&g, GATE_WRITE), 33 * S - S / 10);
	/* Ten times the rate: what is left to pay takes a tenth of the time. */
	gate_rate(&g.limit[GATE_ALL][GATE_BYTES], 10 << 20, 3 * S);
	assert_int_equal(gate_opens(&g, GATE_WRITE), 6 * S - S / 10);
	gate_rate(&g.limit[GATE_ALL][GATE_BYTES], 0, 3 * S);
	assert_int_equal(gate_opens(&g, GATE_WRITE), 0);
	gate_rate(&g.limit[GATE_ALL][GATE_BYTES], 1, 3 * S);
	gate_pass(&g, GATE_WRITE, 1, UINT64_MAX, 3 * S); /* centuries: no wrap */
	assert_true(gate_opens(&g, GATE_WRITE) > UINT64_MAX / 4);
}

/* ---- the filter ---- */

static int set(struct td_image *im, const char *text)
{
	struct td_opts o = { 0 };
	int r = td_opts_parse(&o, text, strlen(text), NULL);

	if (r == 0)
		r = td_image_set(im, "throttle", &o, &env.err);
	td_opts_done(&o);
	return r;
}

static uint64_t counter(const struct td_image *im, const char *name)
{
	struct td_counters c;

	td_image_counters(im, &c);
	for (unsigned i = 0; i < c.nr; i++)
		if (strcmp(c.counter[i].name, name) == 0)
			return c.counter[i].value;
	return UINT64_MAX;
}

/* Many at the same time, until each has done its share. */
struct crowd {
	struct td_image *im;
	enum gate_kind kind;
	uint64_t len;
	unsigned each, done, running;
	unsigned *nr_order;
	unsigned *at; /* the kinds, as they were done; shared by both */
	int result;
};

static void worker(void *arg)
{
	struct crowd *c = arg;

	c->running++;
	for (unsigned i = 0; i < c->each && c->result == 0; i++) {
		c->result = c->kind == GATE_READ ? td_image_pread(c->im, 0, buf, c->len, 0)
						 : td_image_pwrite(c->im, 0, buf, c->len, 0);
		c->done++;
		if (c->nr_order)
			c->at[(*c->nr_order)++] = c->kind;
	}
	c->running--;
}

static int start(struct crowd *c, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		int r = td_co_start(worker, c);

		if (r < 0)
			return r;
	}
	return 0;
}

static void finish(const struct crowd *c)
{
	while (c->running > 0)
		td_loop_turn(env.env.loop, true);
	assert_int_equal(c->result, 0);
}

static uint64_t now_ns(void)
{
	td_loop_turn(env.env.loop, false);
	return td_loop_now(env.env.loop);
}

/* 320 requests of 4 KiB at 1,000 a second, 16 at a time: 300 of them have to be waited for. */
static void never_faster_than_the_limit(const char *options)
{
	struct crowd c = { .kind = GATE_WRITE, .len = 4096, .each = 20 };
	uint64_t begin;

	assert_int_equal(test_open(&env, &c.im, 0, "throttle(burst-ms=20,%s)/ram(size=1M):", options), 0);
	begin = now_ns();
	assert_int_equal(start(&c, 16), 0);
	finish(&c);
	assert_true(now_ns() - begin >= 299 * S / 1000);
	assert_int_equal(c.done, 320);
	assert_in_range(counter(c.im, "delayed"), 1, 320); /* a loop that stood still lets 20 go at once */
	assert_int_equal(test_close(&env, c.im), 0);
}

static void limits_hold(void **state)
{
	(void)state;
	never_faster_than_the_limit("iops=1000");
	never_faster_than_the_limit("iops-write=1000,bps-read=1");
	never_faster_than_the_limit("bps=4000K");
	never_faster_than_the_limit("bps-write=4000K,iops=100000");
}

/* A second at a limit that any machine keeps up with: not faster, and slower only where the machine is busy. */
static void it_is_not_slower_than_its_limit(void **state)
{
	struct crowd c = { .kind = GATE_READ, .len = 512, .each = 25 };
	uint64_t begin, took;

	(void)state;
	assert_int_equal(test_open(&env, &c.im, 0, "throttle(iops=400,burst-ms=1)/ram(size=1M):"), 0);
	begin = now_ns();
	assert_int_equal(start(&c, 16), 0);
	finish(&c);
	took = now_ns() - begin;
	printf("# 400 at 400 a second: %.3f s\n", (double)took / (double)S);
	assert_true(took >= 99 * S / 100);
	assert_true(took <= 60 * S);
	assert_int_equal(test_close(&env, c.im), 0);
}

/* Readers and writers below one limit take turns, however many there are of one kind. */
static void both_kinds_take_turns(void **state)
{
	struct crowd rd = { .kind = GATE_READ, .len = 512, .each = 1 }, wr = rd;
	unsigned order[40], nr = 0, reads = 0;

	(void)state;
	assert_int_equal(test_open(&env, &rd.im, 0, "throttle(iops=500,burst-ms=1)/ram(size=1M):"), 0);
	wr.im = rd.im;
	wr.kind = GATE_WRITE;
	rd.at = wr.at = order;
	rd.nr_order = wr.nr_order = &nr;
	assert_int_equal(start(&rd, 30), 0);
	assert_int_equal(start(&wr, 10), 0);
	finish(&rd);
	finish(&wr);
	assert_int_equal(nr, 40);
	/* The writers had their ten among the first twenty or so, though all readers were there before. */
	for (unsigned i = 0; i < 24; i++)
		reads += order[i] == GATE_READ;
	assert_in_range(reads, 10, 14);
	assert_int_equal(test_close(&env, rd.im), 0);
}

static void a_limit_of_writes_does_not_hold_reads(void **state)
{
	struct crowd wr = { .kind = GATE_WRITE, .len = 512, .each = 100 };
	struct td_image *im;

	(void)state;
	assert_int_equal(test_open(&env, &im, 0, "throttle(iops-write=1,burst-ms=1)/ram(size=1M):"), 0);
	wr.im = im;
	assert_int_equal(start(&wr, 4), 0);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(test_read(&env, im, 0, buf, 512, 0), 0);
	assert_int_equal(test_flush(&env, im), 0);
	assert_true(wr.done < 400);
	assert_int_equal(set(im, "iops-write=0"), 0);
	finish(&wr);
	assert_int_equal(test_close(&env, im), 0);
}

/* An hour's worth of requests waits; draining lets them go at once, a new limit as well. */
static void draining_lets_them_go(void **state)
{
	struct crowd c = { .kind = GATE_WRITE, .len = 512, .each = 1 };

	(void)state;
	assert_int_equal(test_open(&env, &c.im, 0, "throttle(iops=1)/ram(size=1M):"), 0);
	assert_int_equal(start(&c, 100), 0);
	td_loop_turn(env.env.loop, false);
	assert_true(c.running > 90);
	td_image_drain(c.im, true);
	finish(&c);
	assert_int_equal(start(&c, 10), 0); /* and nothing new is held back */
	finish(&c);
	td_image_drain(c.im, false);
	assert_int_equal(start(&c, 10), 0); /* they are owed */
	td_loop_turn(env.env.loop, false);
	assert_int_equal(c.running, 10);
	assert_int_equal(set(c.im, "iops=1000000"), 0);
	finish(&c);
	assert_int_equal(c.done, 120);
	assert_int_equal(test_close(&env, c.im), 0);
}

static void options_are_all_or_nothing(void **state)
{
	struct td_image *im;

	(void)state;
	assert_int_equal(test_open(&env, &im, 0, "throttle(iops=7,bps-read=1M)/qcow2:/none"), -ENOENT);
	assert_int_equal(test_open(&env, &im, 0, "throttle(iops=seven)/null:"), -EINVAL);
	assert_int_equal(test_open(&env, &im, 0, "throttle(burst-ms=0)/null:"), -EINVAL);
	assert_int_equal(test_open(&env, &im, 0, "throttle(oips=7)/null:"), -EINVAL);
	assert_int_equal(test_open(&env, &im, 0, "throttle(iops=7,bps-read=1M)/null:"), 0);
	assert_int_equal(set(im, "iops=8,bps=x"), -EINVAL);
	assert_int_equal(set(im, "iops=8,bsp=1"), -EINVAL);
	assert_non_null(strstr(env.err.msg, "'bsp'"));
	assert_int_equal(counter(im, "iops"), 7);
	assert_int_equal(set(im, "bps=2M,iops-write=3"), 0);
	assert_int_equal(counter(im, "iops"), 7);
	assert_int_equal(counter(im, "bps"), 2 << 20);
	assert_int_equal(counter(im, "bps-read"), 1 << 20);
	assert_int_equal(counter(im, "iops-write"), 3);
	assert_int_equal(counter(im, "burst-ms"), 100);
	assert_int_equal(test_close(&env, im), 0);
	assert_int_equal(test_open(&env, &im, 0, "null:"), 0);
	assert_int_equal(set(im, "iops=8"), -ENOENT);
	assert_non_null(strstr(env.err.msg, "no throttle"));
	assert_int_equal(test_close(&env, im), 0);
}

/* Zeroing that is fast costs no bytes; zeros that are written out do. */
static void zeros_that_are_written_count(void **state)
{
	struct td_image *im;

	(void)state;
	assert_int_equal(test_open(&env, &im, 0, "throttle(bps=1)/ram(size=1M):"), 0);
	assert_int_equal(test_zero(&env, im, 0, 1 << 20, 0), 0);
	assert_int_equal(test_zero(&env, im, 0, 1 << 20, 0), 0);
	assert_int_equal(test_trim(&env, im, 0, 1 << 20), 0);
	assert_int_equal(counter(im, "delayed"), 0);
	assert_int_equal(test_close(&env, im), 0);
}

static int run_workload(void *arg)
{
	int r = workload_run(arg);

	return r == 0 ? workload_compare(arg, false) : r;
}

static void random_work(const char *spec)
{
	struct workload w = { .model = model_new(2000),
			      .random = test_seed(),
			      .sectors = 2000,
			      .workers = 8,
			      .steps = 60,
			      .max_nr = 300 };

	assert_int_equal(test_open(&env, &w.im, 0, "%s", spec), 0);
	assert_int_equal(testenv_run(&env, run_workload, &w), 0);
	assert_int_equal(test_close(&env, w.im), 0);
	model_free(w.model);
}

static void above_and_below_a_format_it_changes_nothing(void **state)
{
	char spec[300];
	const char *path = testenv_path(&env, "a.qcow2");

	(void)state;
	assert_int_equal(test_create(&env, 2000 * 512, NULL, false, "qcow2:%s", path), 0);
	(void)snprintf(spec, sizeof(spec), "throttle(iops=2000,burst-ms=5)/qcow2:%s", path);
	random_work(spec);
	(void)remove(path);
	assert_int_equal(test_create(&env, 2000 * 512, NULL, false, "qcow2:%s", path), 0);
	(void)snprintf(spec, sizeof(spec), "qcow2/throttle(bps=200M,burst-ms=5)/aio:%s", path);
	random_work(spec);
}

static int setup(void **state)
{
	(void)state;
	return testenv_open(&env, "sync", NULL);
}

static int teardown(void **state)
{
	(void)state;
	testenv_close(&env);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_are_exact),
		cmocka_unit_test(bytes_are_exact),
		cmocka_unit_test(what_was_not_used_is_saved_for_a_while),
		cmocka_unit_test(one_larger_than_the_burst_passes_and_is_owed),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(it_is_not_slower_than_its_limit),
		cmocka_unit_test(both_kinds_take_turns),
		cmocka_unit_test(a_limit_of_writes_does_not_hold_reads),
		cmocka_unit_test(draining_lets_them_go),
		cmocka_unit_test(options_are_all_or_nothing),
		cmocka_unit_test(zeros_that_are_written_count),
		cmocka_unit_test(above_and_below_a_format_it_changes_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
