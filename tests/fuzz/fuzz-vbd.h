// SPDX-License-Identifier: BSD-2-Clause
/* A small disk in memory, and what is done to it from a coroutine: for the targets that fuzz what serves it. */
#ifndef TESTS_FUZZ_VBD_H
#define TESTS_FUZZ_VBD_H

#include <blktap/vbd.h>

static struct td_vbd *vbd;

static int open_it(void *arg)
{
	(void)arg;
	return td_vbd_open(vbd, "ram(size=256K):", 0, NULL);
}

static int pause_it(void *arg)
{
	(void)arg;
	return td_vbd_pause(vbd, NULL);
}

static int unpause_it(void *arg)
{
	(void)arg;
	return td_vbd_unpause(vbd, NULL, NULL);
}

#endif
