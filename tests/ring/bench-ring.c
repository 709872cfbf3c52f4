// SPDX-License-Identifier: BSD-2-Clause
/*
 * bench-ring [SPEC [DEPTH [ROUNDS [PERSISTENT]]]]: batches of 4 KiB reads through the ring server, for callgrind and perf.  Not
 * a test.  The guest's side is in the same process and costs little: read the numbers of the functions, not the sum.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <stdio.h>
#include <time.h>

static void bench(void **state)
{
	char **argv = *state;
	const char *spec = argv[1] ? argv[1] : "null(size=64M):";
	unsigned depth = argv[1] && argv[2] ? (unsigned)atoi(argv[2]) : 32;
	unsigned rounds = argv[1] && argv[2] && argv[3] ? (unsigned)atoi(argv[3]) : 10000;
	struct guest *g = guest_new(TD_BLKIF_X86_64, 0);
	struct timespec a, b;
	struct td_blkif_rsp rsp;

	if (argv[1] && argv[2] && argv[3] && argv[4])
		g->setup.persistent = (unsigned)atoi(argv[4]);
	guest_serve(g, "%s", spec);
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
	guest_close(g);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { { "bench", bench, NULL, NULL, argv } };

	(void)argc;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
