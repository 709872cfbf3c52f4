// SPDX-License-Identifier: BSD-2-Clause
/*
 * bench-ring [SPEC [DEPTH [ROUNDS [PERSISTENT [JOURNAL]]]]]: batches of 4 KiB reads through the ring server, for
 * callgrind and perf.  Not a test.  The guest's side is in the same process and costs little: read the numbers of the
 * functions, not the sum.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <stdio.h>
#include <time.h>

struct args {
	const char *spec;
	unsigned depth, rounds, persistent;
	const char *journal;
};

static void start(struct guest *g, const struct args *a)
{
	struct ring_journal_key key = { .abi = g->abi };

	if (a->journal)
		assert_int_equal(ring_journal_open(a->journal, &key, true, &g->setup.journal, NULL), 0);
	g->setup.persistent = a->persistent;
	guest_serve(g, "%s", a->spec);
}

static void bench(void **state)
{
	const struct args *args = *state;
	unsigned depth = args->depth, rounds = args->rounds;
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct timespec a, b;
	struct td_blkif_rsp rsp;

	start(g, args);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (unsigned n = 0; n < rounds; n++) {
		for (unsigned i = 0; i < depth; i++) {
			struct td_blkif_req q = guest_io(TD_BLKIF_READ, 8 * (uint64_t)i, i, 1);

			guest_put(g, &q);
		}
		guest_push(g);
		for (unsigned i = 0; i < depth; i++)
			guest_wait(g, &rsp);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%.0f ns a request\n",
	       ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / depth / rounds);
	guest_stop(g);
	ring_journal_close(g->setup.journal, true);
	guest_close(g);
}

static unsigned number(int argc, char **argv, int i, unsigned otherwise)
{
	return argc > i ? (unsigned)strtoul(argv[i], NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
	struct args a = { .spec = argc > 1 ? argv[1] : "null(size=64M):",
			  .depth = number(argc, argv, 2, 32),
			  .rounds = number(argc, argv, 3, 10000),
			  .persistent = number(argc, argv, 4, 0),
			  .journal = argc > 5 ? argv[5] : NULL };
	const struct CMUnitTest tests[] = { { "bench", bench, NULL, NULL, &a } };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
