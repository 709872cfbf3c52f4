// SPDX-License-Identifier: BSD-2-Clause
/* Windows on iovecs against a flat model: random arrays with empty pieces, slices of slices.  TD_TEST_SEED repeats. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include <blktap/iov.h>

#define SIZE   300
#define PIECES 12

static unsigned rand_state;

static unsigned draw(unsigned below)
{
	return (unsigned)rand_r(&rand_state) % below;
}

struct sample {
	unsigned char mem[PIECES * 64], flat[SIZE];
	struct iovec vec[PIECES];
	struct td_iov iov;
};

/* Pieces of 0 to 40 bytes, apart from each other, so that a byte too many is seen. */
static void sample_init(struct sample *s)
{
	uint64_t len = 0;

	for (unsigned i = 0; i < sizeof(s->mem); i++)
		s->mem[i] = (unsigned char)draw(256);
	for (unsigned i = 0; i < PIECES; i++) {
		size_t n = draw(3) == 0 ? 0 : draw(24);

		s->vec[i] = (struct iovec){ s->mem + 64 * i + 8, n };
		memcpy(s->flat + len, s->vec[i].iov_base, n);
		len += n;
	}
	s->iov = (struct td_iov){ .vec = s->vec, .nr = PIECES, .len = len };
}

static void check_window(const struct td_iov *iov, const unsigned char *want)
{
	unsigned char got[SIZE];
	struct iovec out[PIECES];
	unsigned count = td_iov_count(iov);
	size_t at = 0;

	if (iov->skip > 0)
		assert_true(iov->skip < iov->vec[0].iov_len);
	td_iov_to_buf(iov, got);
	assert_memory_equal(got, want, iov->len);
	assert_int_equal(td_iov_fill(iov, out, PIECES), count);
	for (unsigned i = 0; i < count; i++) {
		assert_true(out[i].iov_len > 0);
		assert_memory_equal(out[i].iov_base, want + at, out[i].iov_len);
		at += out[i].iov_len;
	}
	assert_int_equal(at, iov->len);
	if (count > 0)
		assert_int_equal(td_iov_fill(iov, out, count - 1), -EINVAL);
}

static void slices_match_the_flat_model(void **state)
{
	struct sample s;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		struct td_iov win;
		const unsigned char *flat = s.flat;

		sample_init(&s);
		win = s.iov;
		check_window(&win, flat);
		for (int depth = 0; depth < 4; depth++) {
			uint64_t off = draw((unsigned)win.len + 1), len = draw((unsigned)(win.len - off) + 1);

			win = td_iov_slice(&win, off, len);
			flat += off;
			assert_int_equal(win.len, len);
			check_window(&win, flat);
		}
	}
}

static void from_buf_and_zero_write_the_window_only(void **state)
{
	struct sample s;
	unsigned char before[sizeof(s.mem)], src[SIZE];

	(void)state;
	for (int i = 0; i < 3000; i++) {
		struct td_iov win;
		uint64_t off, len;
		bool zero = draw(2);

		sample_init(&s);
		memcpy(before, s.mem, sizeof(before));
		off = draw((unsigned)s.iov.len + 1);
		len = draw((unsigned)(s.iov.len - off) + 1);
		win = td_iov_slice(&s.iov, off, len);
		for (unsigned k = 0; k < len; k++)
			src[k] = zero ? 0 : (unsigned char)draw(256);
		if (zero)
			td_iov_zero(&win);
		else
			td_iov_from_buf(&win, src);
		check_window(&win, src);
		/* Put the old bytes back by hand: then nothing else may differ. */
		td_iov_from_buf(&win, s.flat + off);
		assert_memory_equal(s.mem, before, sizeof(before));
	}
}

static void alignment_is_of_each_piece(void **state)
{
	static char mem[4096] __attribute__((aligned(1024)));
	struct iovec vec[] = { { mem, 1024 }, { mem + 1, 0 }, { mem + 1024, 512 } };
	struct td_iov all = { .vec = vec, .nr = 3, .len = 1536 }, part;

	(void)state;
	assert_true(td_iov_aligned(&all, 512));
	assert_false(td_iov_aligned(&all, 1024));
	part = td_iov_slice(&all, 512, 512);
	assert_true(td_iov_aligned(&part, 512));
	part = td_iov_slice(&all, 100, 1024);
	assert_false(td_iov_aligned(&part, 512));
	part = td_iov_slice(&all, 7, 0);
	assert_true(td_iov_aligned(&part, 4096));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slices_match_the_flat_model),
		cmocka_unit_test(from_buf_and_zero_write_the_window_only),
		cmocka_unit_test(alignment_is_of_each_piece),
	};

	rand_state = getenv("TD_TEST_SEED") ? (unsigned)strtoul(getenv("TD_TEST_SEED"), NULL, 0)
					    : (unsigned)time(NULL);
	printf("seed %u\n", rand_state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
