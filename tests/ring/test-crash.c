// SPDX-License-Identifier: BSD-2-Clause
/*
 * A server that is killed again and again at any time, with its real loop and doorbell, and one guest that must not
 * notice: each request is answered once, and what was written is read back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <blktap/log.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAYS(sentence, fn)                                                                                   \
	{                                                                                                    \
		sentence, fn, NULL, NULL, NULL                                                               \
	}

#define TAGS      24u
#define TAG_PAGES 12u
#define TABLES    (TAGS * TAG_PAGES) /* pages for indirect segments, behind the data */

/* A tag writes its own part of the disk and reads it back, round after round. */
struct tag {
	bool busy, reading;
	unsigned round, pages;
	uint64_t id;
};

struct crash {
	struct guest *g;
	struct tag tag[TAGS];
	uint64_t seed, answered;
	char disk[128], journal[128];
	int bell; /* an eventfd: the guest's kick */
	pid_t pid;
};

/* ---- the server: a child ---- */

struct doorbell {
	struct td_watch watch;
	struct ring *ring;
};

static void rung(struct td_watch *w, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(w->fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		ring_kick(td_container_of(w, struct doorbell, watch)->ring);
}

static void serve(struct crash *c, bool fresh)
{
	struct ring_journal_key key = { .devid = 1, .abi = c->g->abi, .order = c->g->order, .cookie = 77 };
	struct td_env env = { .policy = &c->g->t.policy };
	struct doorbell d = { .watch.fn = rung };
	struct td_err err;

	env.loop = td_loop_new();
	env.pool = env.loop ? td_pool_new(env.loop, 2) : NULL;
	if (!env.pool || td_engine_new("sync", env.loop, env.pool, 64, &env.engine, &err) < 0)
		_exit(1);
	c->g->t.env = env;
	guest_open(c->g, "aio:%s", c->disk);
	if (ring_journal_open(c->journal, &key, fresh, &c->g->setup.journal, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		_exit(1);
	}
	guest_start(c->g);
	d.ring = c->g->ring;
	if (td_loop_watch(env.loop, &d.watch, c->bell, EPOLLIN) < 0)
		_exit(1);
	td_loop_run(env.loop);
	_exit(2);
}

static void start(struct crash *c, bool fresh)
{
	c->pid = fork();
	assert_true(c->pid >= 0);
	if (c->pid == 0)
		serve(c, fresh);
}

static void kill_it(struct crash *c)
{
	int status;

	assert_int_equal(kill(c->pid, SIGKILL), 0);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	assert_true(WIFSIGNALED(status)); /* it was alive until then */
}

/* ---- the guest ---- */

static char stamp(unsigned tag, unsigned round, size_t byte)
{
	return (char)(tag * 17 + round * 101 + byte * 3 + byte / 4096 * 29);
}

static char *data(struct crash *c, unsigned tag)
{
	return c->g->data + (size_t)tag * TAG_PAGES * TD_BLKIF_PAGE;
}

static void send(struct crash *c, unsigned n)
{
	struct tag *t = &c->tag[n];
	uint8_t op = t->reading ? TD_BLKIF_READ : TD_BLKIF_WRITE;
	struct td_blkif_req q;

	if (!t->reading) {
		t->round++;
		t->pages = 1 + (unsigned)(test_random(&c->seed) % TAG_PAGES);
	}
	for (size_t b = 0; b < t->pages * (size_t)TD_BLKIF_PAGE; b++)
		data(c, n)[b] = t->reading ? 0x5a : stamp(n, t->round, b);
	if (t->pages > TD_BLKIF_MAX_DIRECT || test_random(&c->seed) % 4 == 0)
		q = guest_indirect(c->g, op, n * 8 * TAG_PAGES, n * TAG_PAGES, t->pages, TABLES + n);
	else if (!t->reading && test_random(&c->seed) % 8 == 0)
		q = guest_io(TD_BLKIF_BARRIER, n * 8 * TAG_PAGES, n * TAG_PAGES, t->pages);
	else
		q = guest_io(op, n * 8 * TAG_PAGES, n * TAG_PAGES, t->pages);
	q.id = t->id = n | test_random(&c->seed) << 8;
	guest_put(c->g, &q);
	t->busy = true;
}

static void answered(struct crash *c, const struct td_blkif_rsp *rsp)
{
	unsigned n = rsp->id & 0xff;
	struct tag *t = &c->tag[n];

	assert_true(n < TAGS && t->busy);
	assert_int_equal(rsp->id, t->id);
	assert_int_equal(rsp->status, TD_BLKIF_OKAY);
	for (size_t b = 0; t->reading && b < t->pages * (size_t)TD_BLKIF_PAGE; b++)
		if (data(c, n)[b] != stamp(n, t->round, b))
			fail_msg("tag %u, round %u: byte %zu is not what was written", n, t->round, b);
	t->busy = false;
	t->reading = !t->reading;
	c->answered++;
}

static void ring_bell(struct crash *c)
{
	uint32_t old = guest_load(c->g, TD_BLKIF_REQ_PROD), event;
	uint64_t one = 1;

	guest_store(c->g, TD_BLKIF_REQ_PROD, c->g->req_prod);
	event = guest_load(c->g, TD_BLKIF_REQ_EVENT);
	if (c->g->req_prod - event < c->g->req_prod - old)
		assert_int_equal(write(c->bell, &one, sizeof(one)), sizeof(one));
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* Load until the time is up, or until everything is answered. */
static void load(struct crash *c, uint64_t until, bool drain)
{
	struct td_blkif_rsp rsp;
	unsigned busy = 1;

	while (now_us() < until && !(drain && busy == 0)) {
		while (guest_reap(c->g, &rsp))
			answered(c, &rsp);
		busy = 0;
		for (unsigned n = 0; n < TAGS; n++) {
			if (!drain && !c->tag[n].busy)
				send(c, n);
			busy += c->tag[n].busy;
		}
		ring_bell(c);
		sched_yield();
	}
	if (drain)
		assert_int_equal(busy, 0);
}

/* Until there has been an answer. */
static void load_some(struct crash *c)
{
	uint64_t before = c->answered, until = now_us() + 60000000;

	while (c->answered == before && now_us() < until)
		load(c, now_us() + 500, false);
	assert_true(c->answered > before);
}

static void killed_again_and_again(void **state)
{
	unsigned kills = 200 * test_count("TEST_ROUNDS", 1);
	struct crash *c = calloc(1, sizeof(*c));

	(void)state;
	assert_non_null(c);
	c->seed = test_seed();
	c->g = guest_new(c->seed % 2 ? TD_BLKIF_X86_64 : TD_BLKIF_X86_32, 0);
	(void)snprintf(c->disk, sizeof(c->disk), "%s/disk", c->g->t.dir);
	(void)snprintf(c->journal, sizeof(c->journal), "%s/journal", c->g->t.dir);
	assert_int_equal(
		test_create(&c->g->t, (uint64_t)TAGS * TAG_PAGES * 4096, NULL, false, "aio:%s", c->disk), 0);
	c->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(c->bell >= 0);
	guest_set_index(c->g, (uint32_t)test_random(&c->seed));
	start(c, true);
	load_some(c); /* the journal is there before the first kill */
	for (unsigned n = 0; n < kills; n++) {
		/* One is killed at work, the next may not have got so far. */
		if (n % 2)
			load_some(c);
		load(c, now_us() + test_random(&c->seed) % 8000, false);
		kill_it(c);
		start(c, false);
	}
	load(c, now_us() + 60000000, true);
	kill_it(c);
	printf("# %u kills, %llu answers\n", kills, (unsigned long long)c->answered);
	assert_true(c->answered >= kills / 2);
	close(c->bell);
	guest_free(c->g);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("a guest does not notice that its server is killed", killed_again_and_again),
	};

	td_log_level(TD_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
