// SPDX-License-Identifier: BSD-2-Clause
/* What every unit test includes: CMocka in the order it wants, and sentences as test names. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <blktap/qcow2.h>

/* A test whose name is a sentence. */
#define SAYS(sentence, fn)                                                                                   \
	{                                                                                                    \
		sentence, fn, NULL, NULL, NULL                                                               \
	}

/* r is code, and the sentence of e holds every word of it. */
static inline void assert_refused(int r, int code, const struct td_err *e, const char *part)
{
	assert_int_equal(r, code);
	if (strstr(e->msg, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", e->msg, part);
}

/* The geometry of a version 3 image. */
static inline struct qcow2_geom geom(uint32_t cluster_bits, uint32_t refcount_order)
{
	struct qcow2_header h = { .version = 3,
				  .cluster_bits = cluster_bits,
				  .refcount_order = refcount_order };
	struct qcow2_geom g;

	qcow2_geom_of(&h, &g);
	return g;
}

#endif
