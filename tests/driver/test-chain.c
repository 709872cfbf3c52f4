// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reading down a chain, on a toy format: each layer has its own size, and a map that says for each block of 64 bytes
 * whether it holds data, zeros, or nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "drivers.h"
#include "testenv.h"

#define BLOCK    64u
#define MAX_SIZE 4000u

static struct testenv env;

struct toy {
	unsigned char map[MAX_SIZE / BLOCK + 1]; /* enum td_extent_kind */
	unsigned char byte;                      /* all its data */
	bool broken;                             /* its answers are errors */
};

static int toy_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret)
{
	struct toy *toy = im->state;
	uint64_t n = BLOCK - off % BLOCK;

	if (toy->broken)
		return -EUCLEAN;
	while (n < len && toy->map[(off + n) / BLOCK] == toy->map[off / BLOCK])
		n += BLOCK;
	*ret = (struct td_extent){ .kind = toy->map[off / BLOCK], .allocated = true, .len = TD_MIN(n, len) };
	return 0;
}

static int toy_piece(struct td_image *im, uint64_t off, const struct td_iov *iov)
{
	struct toy *toy = im->state;
	static unsigned char data[MAX_SIZE]; /* static: layers nest; nothing yields while it is filled */

	switch ((enum td_extent_kind)toy->map[off / BLOCK]) {
	case TD_EXTENT_DATA:
		memset(data, toy->byte, iov->len);
		td_iov_from_buf(iov, data);
		return 0;
	case TD_EXTENT_ZERO:
		td_iov_zero(iov);
		return 0;
	case TD_EXTENT_BACKING:
		break;
	}
	return td_chain_read(im, off, iov);
}

/* Reads that are inside a layer at the same time. */
static unsigned now_deep, deepest;

static int toy_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags)
{
	int r = 0;

	(void)flags;
	now_deep++;
	deepest = TD_MAX(deepest, now_deep);
	for (uint64_t done = 0; r == 0 && done < iov->len;) {
		struct td_extent e = { 0 };
		struct td_iov part;

		r = toy_extent(im, off + done, iov->len - done, &e);
		if (r < 0)
			break;
		part = td_iov_slice(iov, done, e.len);
		r = toy_piece(im, off + done, &part);
		done += e.len;
	}
	now_deep--;
	return r;
}

static const struct td_driver toy_driver = {
	.name = "toy",
	.flags = TD_FORMAT,
	.state_size = sizeof(struct toy),
	.preadv = toy_preadv,
	.extent = toy_extent,
};

static struct td_image *toy_new(uint64_t size, unsigned char byte)
{
	struct td_image *im = calloc(1, sizeof(*im));
	struct toy *toy = calloc(1, sizeof(*toy));

	im->drv = &toy_driver;
	im->env = &env.env;
	im->size = size;
	im->read_only = true;
	im->name = strdup("toy");
	im->state = toy;
	toy->byte = byte;
	memset(toy->map, TD_EXTENT_BACKING, sizeof(toy->map));
	return im;
}

/* What a guest should see, byte for byte, by the definition. */
static unsigned char oracle(const struct td_image *im, uint64_t off, bool *ret_top)
{
	const struct td_image *top = im;

	for (; im && off < im->size; im = im->backing) {
		const struct toy *toy = im->state;

		if (toy->map[off / BLOCK] == TD_EXTENT_BACKING)
			continue;
		*ret_top = im == top;
		return toy->map[off / BLOCK] == TD_EXTENT_DATA ? toy->byte : 0;
	}
	*ret_top = false;
	return 0;
}

static struct td_image *random_chain(uint64_t *random, unsigned depth)
{
	struct td_image *top = NULL;

	for (unsigned i = 0; i < depth; i++) {
		struct td_image *im =
			toy_new(1 + test_random(random) % MAX_SIZE, (unsigned char)(i % 255 + 1));
		struct toy *toy = im->state;
		unsigned dense = 2 + (unsigned)(test_random(random) % 6);

		for (unsigned k = 0; k < sizeof(toy->map); k++) {
			uint64_t what = test_random(random) % (2 * dense);

			toy->map[k] = what == 0   ? TD_EXTENT_DATA
				      : what == 1 ? TD_EXTENT_ZERO
						  : TD_EXTENT_BACKING;
		}
		im->backing = top;
		top = im;
	}
	return top;
}

static void compare_reads(struct td_image *im, uint64_t *random)
{
	static unsigned char buf[MAX_SIZE];

	for (unsigned i = 0; i < 20; i++) {
		uint64_t off = test_random(random) % im->size,
			 len = 1 + test_random(random) % (im->size - off);
		bool top;

		assert_int_equal(test_read(&env, im, off, buf, len, 0), 0);
		for (uint64_t k = 0; k < len; k++)
			assert_int_equal(buf[k], oracle(im, off + k, &top));
	}
}

/* Extents cover everything once, and agree with the bytes. */
static void compare_extents(struct td_image *im)
{
	struct td_extent e;

	for (uint64_t off = 0; off < im->size; off += e.len) {
		assert_int_equal(test_extent(&env, im, off, im->size - off, &e), 0);
		assert_in_range(e.len, 1, im->size - off);
		assert_int_not_equal(e.kind, TD_EXTENT_BACKING);
		for (uint64_t k = 0; k < e.len; k++) {
			bool top = false;
			unsigned char byte = oracle(im, off + k, &top);

			assert_int_equal(byte == 0, e.kind == TD_EXTENT_ZERO);
			assert_int_equal(top, e.allocated);
		}
	}
}

static void chains_of_mixed_sizes_read_as_they_should(void **state)
{
	uint64_t random = test_seed();

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		struct td_image *im = random_chain(&random, 1 + (unsigned)(test_random(&random) % 6));

		compare_reads(im, &random);
		compare_extents(im);
		assert_int_equal(test_close(&env, im), 0);
	}
}

static void five_hundred_layers_need_no_more_stack_than_two(void **state)
{
	uint64_t random = test_seed();
	struct td_image *im = random_chain(&random, 500);

	(void)state;
	im->size = MAX_SIZE;
	memset(((struct toy *)im->state)->map, TD_EXTENT_BACKING, sizeof(((struct toy *)im->state)->map));
	deepest = 0;
	compare_reads(im, &random);
	compare_extents(im);
	assert_in_range(deepest, 1, 2);
	assert_int_equal(test_close(&env, im), 0);
}

static void a_shorter_layer_hides_what_lies_below_its_end(void **state)
{
	struct td_image *top = toy_new(1000, 1), *mid = toy_new(100, 2), *base = toy_new(1000, 3);
	unsigned char buf[1000];

	(void)state;
	top->backing = mid;
	mid->backing = base;
	memset(((struct toy *)base->state)->map, TD_EXTENT_DATA, sizeof(((struct toy *)base->state)->map));
	assert_int_equal(test_read(&env, top, 0, buf, 1000, 0), 0);
	assert_int_equal(buf[99], 3);
	assert_int_equal(buf[100], 0);
	assert_int_equal(buf[999], 0);
	assert_int_equal(test_close(&env, top), 0);
}

static void a_broken_layer_is_an_error_never_zeros(void **state)
{
	struct td_image *top = toy_new(1000, 1), *mid = toy_new(1000, 2), *base = toy_new(1000, 3);
	struct td_extent e = { .len = 77 };
	unsigned char buf[1000];

	(void)state;
	top->backing = mid;
	mid->backing = base;
	((struct toy *)mid->state)->broken = true;
	assert_int_equal(test_read(&env, top, 0, buf, 1000, 0), -EUCLEAN);
	assert_int_equal(test_extent(&env, top, 0, 1000, &e), -EUCLEAN);
	assert_int_equal(e.len, 77);
	((struct toy *)mid->state)->broken = false;
	((struct toy *)base->state)->broken = true;
	assert_int_equal(test_read(&env, top, 0, buf, 1000, 0), -EUCLEAN);
	assert_int_equal(test_close(&env, top), 0);
}

static void leaves_stand_at_the_bottom_of_a_chain(void **state)
{
	struct td_image *top = toy_new(3000, 1), *leaf;
	unsigned char buf[3000];
	struct td_extent e;

	(void)state;
	assert_int_equal(test_open(&env, &leaf, 0, "ram(size=2048):"), 0);
	memset(buf, 9, sizeof(buf));
	assert_int_equal(test_write(&env, leaf, 0, buf, 2048, 0), 0);
	top->backing = leaf;
	((struct toy *)top->state)->map[1] = TD_EXTENT_ZERO;
	assert_int_equal(test_read(&env, top, 0, buf, 3000, 0), 0);
	assert_int_equal(buf[63], 9);
	assert_int_equal(buf[64], 0);
	assert_int_equal(buf[128], 9);
	assert_int_equal(buf[2047], 9);
	assert_int_equal(buf[2048], 0);
	assert_int_equal(test_extent(&env, top, 2000, 1000, &e), 0);
	assert_int_equal(e.kind, TD_EXTENT_DATA);
	assert_int_equal(e.len, 48);
	assert_false(e.allocated);
	assert_int_equal(test_close(&env, top), 0);
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
		cmocka_unit_test(chains_of_mixed_sizes_read_as_they_should),
		cmocka_unit_test(five_hundred_layers_need_no_more_stack_than_two),
		cmocka_unit_test(a_shorter_layer_hides_what_lies_below_its_end),
		cmocka_unit_test(a_broken_layer_is_an_error_never_zeros),
		cmocka_unit_test(leaves_stand_at_the_bottom_of_a_chain),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
