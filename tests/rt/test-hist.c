// SPDX-License-Identifier: BSD-2-Clause
/* The histogram: each time in its bucket, no percentile told too small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <blktap/hist.h>

static struct td_hist h, other;

static void buckets_follow_each_other(void **state)
{
	unsigned last = 0;

	(void)state;
	for (uint64_t ns = 0; ns < 100000; ns++) {
		unsigned b = td_hist_bucket(ns);

		assert_true(b == last || b == last + 1);
		assert_true(ns <= td_hist_upper(b));
		assert_true(b == 0 || ns > td_hist_upper(b - 1));
		last = b;
	}
	for (unsigned b = 0; b < TD_HIST_BUCKETS - 1; b++) {
		assert_int_equal(td_hist_bucket(td_hist_upper(b)), b);
		assert_int_equal(td_hist_bucket(td_hist_upper(b) + 1), b + 1);
	}
	assert_int_equal(td_hist_bucket(UINT64_MAX), TD_HIST_BUCKETS - 1);
	assert_int_equal(td_hist_bucket((1ull << 44) - 1), TD_HIST_BUCKETS - 1);
	assert_int_equal(td_hist_bucket(1ull << 44), TD_HIST_BUCKETS - 1);
}

/* 1 .. 1,000,000 once each: the p-th percentile is p per cent of it, or up to a 32nd more. */
static void percentiles_are_near_and_not_too_small(void **state)
{
	static const double percent[] = { 1, 50, 90, 99, 99.9 };

	(void)state;
	h = (struct td_hist){ 0 };
	for (uint64_t ns = 1; ns <= 1000000; ns++)
		td_hist_add(&h, ns);
	for (unsigned i = 0; i < TD_NELEMS(percent); i++) {
		double exact = percent[i] * 10000;

		assert_true((double)td_hist_percentile(&h, percent[i]) >= exact);
		assert_true((double)td_hist_percentile(&h, percent[i]) <= exact * 33 / 32);
	}
	assert_int_equal(td_hist_percentile(&h, 100), 1000000);
	assert_int_equal(td_hist_mean(&h), 500000);
	assert_int_equal(h.max, 1000000);
}

static void empty_and_merged(void **state)
{
	(void)state;
	h = other = (struct td_hist){ 0 };
	assert_int_equal(td_hist_percentile(&h, 99), 0);
	assert_int_equal(td_hist_mean(&h), 0);
	td_hist_add(&h, 10);
	td_hist_add(&other, UINT64_MAX / 2);
	td_hist_merge(&h, &other);
	assert_int_equal(h.nr, 2);
	assert_int_equal(td_hist_percentile(&h, 50), 10);
	assert_true(td_hist_percentile(&h, 99) == UINT64_MAX / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_follow_each_other),
		cmocka_unit_test(percentiles_are_near_and_not_too_small),
		cmocka_unit_test(empty_and_merged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
