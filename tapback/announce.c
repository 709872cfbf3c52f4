// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a disk is announced with; see announce.h.
 */
#include "announce.h"

#define MAX_ORDER     4u
#define MAX_QUEUES    4u
#define MAX_SEGS      256u
#define SLOTS         32u /* of a ring of one page */
#define PAGE_KIB      4u
#define MIN_GUEST_KIB (64u << 10) /* if xenstore does not tell: the smallest that anybody boots */

static bool take(json_t *reply, const char *name, json_int_t max, json_int_t *ret)
{
	json_t *v = json_object_get(reply, name);

	if (!json_is_integer(v))
		return false;
	*ret = json_integer_value(v);
	return *ret >= 0 && *ret <= max;
}

static bool take_u32(json_t *reply, const char *name, json_int_t max, uint32_t *ret)
{
	json_int_t n = 0;

	if (!take(reply, name, max, &n))
		return false;
	*ret = (uint32_t)n;
	return true;
}

static bool take_bool(json_t *reply, const char *name, bool *ret)
{
	json_t *v = json_object_get(reply, name);

	*ret = json_is_true(v);
	return json_is_boolean(v);
}

int announce_parse(json_t *reply, struct features *ret)
{
	struct features f = { 0 };
	json_int_t sectors = 0;
	bool ok = take(reply, "sectors", INT64_MAX >> 9, &sectors);

	ok = ok && take_u32(reply, "sector_size", 65536, &f.sector_size);
	ok = ok && take_u32(reply, "physical_sector_size", 1 << 21, &f.physical_sector_size);
	ok = ok && take_u32(reply, "info", 0xffff, &f.info);
	ok = ok && take_bool(reply, "flush", &f.flush) && take_bool(reply, "barrier", &f.barrier);
	ok = ok && take_bool(reply, "discard", &f.discard) && take_bool(reply, "persistent", &f.persistent);
	ok = ok && take_u32(reply, "discard_granularity", UINT32_MAX, &f.discard_granularity);
	ok = ok && take_u32(reply, "discard_alignment", UINT32_MAX, &f.discard_alignment);
	ok = ok && take_u32(reply, "max_indirect", 4096, &f.max_segs);
	ok = ok && take_u32(reply, "max_order", 16, &f.max_order);
	ok = ok && take_u32(reply, "max_queues", 1024, &f.max_queues);
	if (!ok || f.max_queues == 0 || f.sector_size == 0 || f.physical_sector_size < f.sector_size)
		return -EPROTO;
	f.sectors = (uint64_t)sectors;
	f.max_segs = TD_MIN(f.max_segs, MAX_SEGS);
	f.max_order = TD_MIN(f.max_order, MAX_ORDER);
	f.max_queues = TD_MIN(f.max_queues, MAX_QUEUES);
	*ret = f;
	return 0;
}

uint64_t announce_budget(uint64_t memory_kib, unsigned nr_disks)
{
	if (memory_kib == 0)
		memory_kib = MIN_GUEST_KIB;
	return memory_kib / PAGE_KIB / ANNOUNCE_PART / TD_MAX(nr_disks, 1u);
}

uint64_t announce_pages(unsigned queues, unsigned order, unsigned segs)
{
	return (uint64_t)queues * (SLOTS << order) * (segs + 1);
}

/*
 * A second queue is worth more than a larger ring: blkfront takes one for each processor by default, while it takes
 * more than one page only where somebody asked for them.  So: two queues, then smaller rings, then one queue.
 */
void announce_offer(struct features *f, uint64_t budget)
{
	if (!f->persistent)
		return;
	while (f->max_queues > 2 && announce_pages(f->max_queues, f->max_order, ANNOUNCE_MIN_SEGS) > budget)
		f->max_queues--;
	while (f->max_order > 0 && announce_pages(f->max_queues, f->max_order, ANNOUNCE_MIN_SEGS) > budget)
		f->max_order--;
	if (f->max_queues > 1 && announce_pages(f->max_queues, f->max_order, ANNOUNCE_MIN_SEGS) > budget)
		f->max_queues = 1;
	announce_settle(f, budget, f->max_queues, f->max_order, true);
}

void announce_settle(struct features *f, uint64_t budget, unsigned queues, unsigned order, bool fe_persistent)
{
	uint64_t segs = budget / announce_pages(queues, order, 0);

	f->persistent = f->persistent && fe_persistent;
	if (!f->persistent || f->max_segs < ANNOUNCE_MIN_SEGS)
		return;
	if (segs < ANNOUNCE_MIN_SEGS + 1)
		f->persistent = false;
	else
		f->max_segs = (unsigned)TD_MIN(segs - 1, (uint64_t)f->max_segs);
}
