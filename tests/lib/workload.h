// SPDX-License-Identifier: BSD-2-Clause
/*
 * Random requests of several coroutines at the same time on one image, each noted in the model.  Requests may fail;
 * what may not happen is a read that returns what the model does not allow.
 */
#ifndef TESTS_LIB_WORKLOAD_H
#define TESTS_LIB_WORKLOAD_H

#include <blktap/image.h>

#define WORKLOAD_WORKERS 16u

struct model;

struct workload {
	struct td_image *im;
	struct model *model;
	uint64_t random;         /* state of the random numbers */
	uint64_t sectors;        /* of the image */
	unsigned workers, steps; /* coroutines; requests of each */
	uint64_t max_nr;         /* sectors of one request */
	bool apart; /* each in a part of its own: on real files a sector is not read whole while written */
	unsigned failed; /* requests that failed, so far */
};

/* 0, or -1 if a read lied (there is a line on stderr then). */
TD_CO TD_CHECK int workload_run(struct workload *w);

/* Read it all and compare.  crashed: with what may be found after a crash; else with what is live. */
TD_CO TD_CHECK int workload_compare(struct workload *w, bool crashed);

#endif
