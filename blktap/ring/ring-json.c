// SPDX-License-Identifier: BSD-2-Clause
/*
 * A ring's counters as JSON, for `stats` of both transports; what a disk offers, for `ring-features`.  The names are
 * documented in blktap-control(7).
 */
#include "ring.h"
#include <blktap/export.h>

/* ---- counters ---- */

static int put(json_t *o, const char *name, uint64_t n)
{
	return json_object_set_new(o, name, json_integer((json_int_t)n));
}

/* By what the guest asked for; what nobody knows is counted in the reserved number. */
static int put_requests(json_t *o, const struct ring_stats *s)
{
	static const char *const names[TD_NELEMS(s->requests)] = {
		[TD_BLKIF_READ] = "read",
		[TD_BLKIF_WRITE] = "write",
		[TD_BLKIF_BARRIER] = "barrier",
		[TD_BLKIF_FLUSH] = "flush",
		[TD_BLKIF_DISCARD] = "discard",
		[TD_BLKIF_INDIRECT] = "indirect",
		[4] = "unknown",
	};
	int r = 0;

	for (size_t i = 0; i < TD_NELEMS(names) && r == 0; i++)
		r = put(o, names[i], s->requests[i]);
	return r;
}

int ring_stats_json(const struct ring *r, json_t *ret_object)
{
	const struct ring_stats *s = ring_stats(r);
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{ "segments", s->segs },
		{ "indirect_segments", s->indirect_segs },
		{ "errors", s->errors },
		{ "batches", s->batches },
		{ "kicks", s->kicks },
		{ "notifies", s->notifies },
		{ "notifies_saved", s->notifies_saved },
		{ "polls", s->polls },
		{ "poll_hits", s->poll_hits },
		{ "grants_mapped", s->grants_mapped },
		{ "grants_reused", s->grants_reused },
		{ "grants_evicted", s->grants_evicted },
		{ "grants_kept", s->persistent },
		{ "recovered", s->recovered },
		{ "in_flight", ring_in_flight(r) },
		{ "max_in_flight", s->max_in_flight },
	};
	const char *failed = ring_failed(r);
	json_t *requests = json_object();

	if (json_object_set_new(ret_object, "requests", requests) < 0 || put_requests(requests, s) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < TD_NELEMS(counters); i++)
		if (put(ret_object, counters[i].name, counters[i].value) < 0)
			return -ENOMEM;
	if (failed && json_object_set_new(ret_object, "failed", json_string(failed)) < 0)
		return -ENOMEM;
	return 0;
}

/* ---- features ---- */

int td_ring_features_json(const struct td_vbd *vbd, json_t *ret_object)
{
	struct ring_features f;
	json_t *o;
	int r;

	ring_features(vbd, &f);
	o = json_pack("{s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:b}", "sectors",
		      (json_int_t)f.sectors, "sector_size", (json_int_t)f.sector_size, "physical_sector_size",
		      (json_int_t)f.physical_sector_size, "info", (json_int_t)f.info, "flush", f.flush,
		      "barrier", f.barrier, "discard", f.discard, "discard_granularity",
		      (json_int_t)f.discard_granularity, "discard_alignment", (json_int_t)f.discard_alignment,
		      "max_indirect", (json_int_t)f.max_indirect, "max_order", (json_int_t)f.max_order,
		      "max_queues", (json_int_t)f.max_queues, "persistent", f.persistent);
	r = o ? json_object_update(ret_object, o) : -ENOMEM;
	json_decref(o);
	return r < 0 ? -ENOMEM : 0;
}
