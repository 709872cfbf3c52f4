// SPDX-License-Identifier: BSD-2-Clause
/* What is offered to guests of all sizes, and what both sides agree on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "announce.h"

#define MIB 1024ull /* KiB */

static const struct features full = {
	.sectors = 2048,
	.sector_size = 512,
	.physical_sector_size = 4096,
	.flush = true,
	.barrier = true,
	.discard = true,
	.discard_granularity = 65536,
	.max_segs = 256,
	.max_order = 4,
	.max_queues = 4,
	.persistent = true,
};

static void offers(void **state)
{
	static const struct {
		uint64_t mib;
		unsigned disks, queues, order, segs;
		bool persistent;
	} guests[] = {
		{ 96, 1, 2, 0, 47, true },   { 96, 2, 1, 0, 47, true },     { 96, 3, 1, 0, 256, false },
		{ 128, 1, 2, 0, 63, true },  { 256, 1, 2, 1, 63, true },    { 512, 1, 2, 2, 63, true },
		{ 4096, 1, 4, 4, 63, true }, { 65536, 1, 4, 4, 256, true }, { 4096, 4, 2, 3, 63, true },
		{ 0, 1, 1, 0, 63, true },
	};

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(guests); i++) {
		struct features f = full;
		uint64_t budget = announce_budget(guests[i].mib * MIB, guests[i].disks);

		announce_offer(&f, budget);
		print_message("%5llu MiB, %u disk(s): %u queues, order %u, %u segments%s\n",
			      (unsigned long long)guests[i].mib, guests[i].disks, f.max_queues, f.max_order,
			      f.max_segs, f.persistent ? ", persistent" : "");
		assert_int_equal(f.max_queues, guests[i].queues);
		assert_int_equal(f.max_order, guests[i].order);
		assert_int_equal(f.max_segs, guests[i].segs);
		assert_int_equal(f.persistent, guests[i].persistent);
	}
}

/* The rule itself, for every guest, and whatever it takes of what it was offered. */
static void no_guest_starves(void **state)
{
	(void)state;
	for (uint64_t mib = 32; mib <= 16384; mib += 32) {
		struct features offer = full;
		uint64_t budget = announce_budget(mib * MIB, 1);

		announce_offer(&offer, budget);
		for (unsigned queues = 1; queues <= offer.max_queues; queues++) {
			for (unsigned order = 0; order <= offer.max_order; order++) {
				struct features f = full;

				announce_settle(&f, budget, queues, order, true);
				assert_true(f.max_segs >= ANNOUNCE_MIN_SEGS);
				assert_true(f.max_segs <= full.max_segs);
				assert_true(f.max_segs >= offer.max_segs || !offer.persistent);
				if (f.persistent)
					assert_true(announce_pages(queues, order, f.max_segs) * 4 <=
						    mib * MIB / 8);
				else
					assert_int_equal(f.max_segs, full.max_segs);
			}
		}
	}
}

static void persistent_wants_both(void **state)
{
	struct features f = full;

	(void)state;
	announce_settle(&f, 1 << 20, 1, 0, false);
	assert_false(f.persistent);
	f = full;
	f.persistent = false;
	announce_settle(&f, 1 << 20, 1, 0, true);
	assert_false(f.persistent);
	announce_offer(&f, 1); /* costs the guest nothing: nothing is taken away */
	assert_int_equal(f.max_queues, 4);
	assert_int_equal(f.max_order, 4);
}

static json_t *reply(void)
{
	return json_pack("{s:I,s:i,s:i,s:i,s:b,s:b,s:b,s:i,s:i,s:i,s:i,s:i,s:b}", "sectors", (json_int_t)2048,
			 "sector_size", 512, "physical_sector_size", 4096, "info", 4, "flush", 1, "barrier",
			 0, "discard", 1, "discard_granularity", 4096, "discard_alignment", 0, "max_indirect",
			 4096, "max_order", 9, "max_queues", 100, "persistent", 1);
}

static void a_reply_is_checked(void **state)
{
	struct features f = { 0 };
	json_t *good = reply();
	const char *key;
	json_t *value;

	(void)state;
	assert_int_equal(announce_parse(good, &f), 0);
	assert_int_equal(f.sectors, 2048);
	assert_int_equal(f.max_segs, 256); /* what this program knows how to deal with */
	assert_int_equal(f.max_order, 4);
	assert_int_equal(f.max_queues, 4);
	assert_false(f.barrier);
	json_object_foreach(good, key, value)
	{
		json_t *bad = json_copy(good);

		json_object_del(bad, key);
		assert_int_equal(announce_parse(bad, &f), -EPROTO);
		json_object_set_new(bad, key, json_string("5"));
		assert_int_equal(announce_parse(bad, &f), -EPROTO);
		if (json_is_integer(value)) {
			json_object_set_new(bad, key, json_integer(-1));
			assert_int_equal(announce_parse(bad, &f), -EPROTO);
			json_object_set_new(bad, key, json_integer(INT64_MAX));
			assert_int_equal(announce_parse(bad, &f), -EPROTO);
		}
		json_decref(bad);
	}
	json_decref(good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers),
		cmocka_unit_test(no_guest_starves),
		cmocka_unit_test(persistent_wants_both),
		cmocka_unit_test(a_reply_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
