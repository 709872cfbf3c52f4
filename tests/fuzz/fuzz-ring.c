// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ring server under a program of guest actions: requests put and rewritten, indices moved, grants taken away,
 * kicks, pauses, resizes, stops, and takeovers by the journal.  The first bytes choose ABI, size, persistent pages,
 * polling and the first index; then an action a byte, with its arguments behind it.  What is not there is 0.
 *
 * Ring and pages are allocations of their own, so that the sanitizers see a byte too far.  Checked besides: what is
 * mapped is unmapped, exactly as it was mapped; never more requests in flight than slots; every ring can be stopped.
 */
#include "fuzz-vbd.h"
#include "fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "ring.h"
#include "testenv.h"
#include <blktap/log.h>

#define PAGES    24u
#define GREFS    32u /* of these so many exist */
#define MAX_MAPS 4096u

static struct testenv t;

struct program {
	const uint8_t *at, *end;
};

struct mapping {
	unsigned nr;
	void *page[TD_BLKIF_MAX_SEGS];
};

static struct {
	struct ring_port port;
	struct ring_setup setup;
	struct ring *ring;
	struct ring_journal *journal;
	unsigned char *shared;
	void *page[PAGES];
	uint8_t grant[GREFS]; /* 0: both, 1: read only, 2: none */
	struct mapping map[MAX_MAPS];
	unsigned nr_maps, pages_mapped;
	unsigned nr;
	uint32_t req_prod;
	char path[128];
} g;

static uint8_t byte(struct program *p)
{
	return p->at < p->end ? *p->at++ : 0;
}

static uint64_t number(struct program *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)byte(p) << 8 * i;
	return v;
}

/* ---- the port ---- */

static int port_map(struct ring_port *port, const uint32_t *grefs, unsigned nr, bool writable,
		    void **ret_pages)
{
	struct mapping *m = &g.map[g.nr_maps];

	(void)port;
	FUZZ_CHECK(nr > 0 && nr <= TD_BLKIF_MAX_SEGS && g.nr_maps < MAX_MAPS);
	for (unsigned i = 0; i < nr; i++) {
		if (grefs[i] >= PAGES || g.grant[grefs[i]] == 2 || (writable && g.grant[grefs[i]] == 1))
			return -EINVAL;
		ret_pages[i] = m->page[i] = g.page[grefs[i]];
	}
	m->nr = nr;
	g.nr_maps++;
	g.pages_mapped += nr;
	return 0;
}

static void port_unmap(struct ring_port *port, void *const *pages, unsigned nr)
{
	(void)port;
	for (unsigned i = g.nr_maps; i-- > 0;) {
		struct mapping *m = &g.map[i];

		if (m->nr == nr && memcmp(m->page, pages, nr * sizeof(*pages)) == 0) {
			g.pages_mapped -= nr;
			*m = g.map[--g.nr_maps];
			return;
		}
	}
	FUZZ_CHECK(!"unmapped what was not mapped");
}

static void port_notify(struct ring_port *port)
{
	(void)port;
}

static const struct ring_port_ops port_ops = { port_map, port_unmap, port_notify };

/* ---- the disk ---- */

static int resize_it(void *arg)
{
	return td_vbd_resize(vbd, *(const uint64_t *)arg, NULL);
}

static void call(int (*fn)(void *arg), void *arg)
{
	td_ignore(td_loop_call(t.env.loop, fn, arg));
}

static void set_up_once(void)
{
	if (vbd)
		return;
	FUZZ_CHECK(testenv_open(&t, "sync", NULL) == 0);
	td_log_level(TD_LOG_ERR);

	vbd = td_vbd_new(&t.env, "fuzz");
	FUZZ_CHECK(vbd && td_loop_call(t.env.loop, open_it, NULL) == 0);
	for (unsigned i = 0; i < PAGES; i++)
		FUZZ_CHECK(posix_memalign(&g.page[i], TD_BLKIF_PAGE, TD_BLKIF_PAGE) == 0);
	(void)snprintf(g.path, sizeof(g.path), "%s/journal", t.dir);
	g.port.ops = &port_ops;
}

/* ---- the ring ---- */

static void turn(unsigned turns)
{
	while (turns-- > 0)
		td_loop_turn(t.env.loop, false);
	if (g.ring) {
		FUZZ_CHECK(ring_in_flight(g.ring) <= g.nr);
		FUZZ_CHECK(ring_stats(g.ring)->persistent <= g.setup.persistent);
		if (ring_in_flight(g.ring) == 0)
			FUZZ_CHECK(g.pages_mapped == ring_stats(g.ring)->persistent);
	}
}

static void start(bool fresh)
{
	struct ring_journal_key key = { .abi = g.setup.abi, .order = g.setup.order };

	g.setup.journal = g.journal = NULL;
	if (!fresh || g.setup.order == 1) { /* one size has a journal */
		if (ring_journal_open(g.path, &key, fresh, &g.journal, NULL) < 0)
			return;
		g.setup.journal = g.journal;
	}
	if (ring_new(t.env.loop, vbd, &g.setup, &g.ring, NULL) < 0)
		g.ring = NULL;
}

static void stop(bool remove)
{
	unsigned turns = 0;

	if (g.ring) {
		ring_cancel(g.ring);
		while (!ring_idle(g.ring)) {
			FUZZ_CHECK(turns++ < 10000);
			turn(1);
		}
		ring_free(g.ring);
		g.ring = NULL;
	}
	FUZZ_CHECK(g.nr_maps == 0 && g.pages_mapped == 0);
	ring_journal_close(g.journal, remove);
	g.journal = NULL;
}

static void store(unsigned offset, uint32_t v)
{
	__atomic_store_n((uint32_t *)(void *)(g.shared + offset), v, __ATOMIC_SEQ_CST);
}

static uint32_t load(unsigned offset)
{
	return __atomic_load_n((uint32_t *)(void *)(g.shared + offset), __ATOMIC_SEQ_CST);
}

/* ---- actions ---- */

static struct td_blkif_seg segment(struct program *p)
{
	uint8_t gref = byte(p), where = byte(p);

	return (struct td_blkif_seg){ .gref = gref == 255 ? UINT32_MAX : gref % GREFS,
				      .first = where & 7,
				      .last = where & 0x80 ? where >> 3 : (where >> 3 & 7) | (where & 7) };
}

static uint64_t sector(struct program *p)
{
	uint8_t b = byte(p);

	return b == 255 ? number(p, 8) : b == 254 ? UINT64_MAX - byte(p) : b * 2u;
}

/* Any operation in any shape, most of them possible ones. */
static void put(struct program *p, uint8_t op)
{
	uint8_t nr = byte(p);
	struct td_blkif_req q = { .op = op, .nr_segs = nr, .id = nr, .sector = sector(p) };

	if (op == TD_BLKIF_DISCARD) {
		q.flag = nr & 1;
		q.nr_sectors = sector(p);
	} else if (op == TD_BLKIF_INDIRECT) {
		struct td_blkif_seg seg[TD_BLKIF_PAGE_SEGS];
		unsigned page = byte(p) % GREFS, given = TD_MIN(nr, 24u);

		q.inner = nr > 250 ? nr : nr & 1;
		q.nr_segs = nr > 240 ? (uint16_t)number(p, 2) : nr;
		q.ipage[0] = page;
		for (unsigned i = 0; i < given; i++)
			seg[i] = segment(p);
		for (unsigned i = given; i < TD_BLKIF_PAGE_SEGS; i++)
			seg[i] = (struct td_blkif_seg){ .gref = i % PAGES, .last = given > 0 ? 0 : 7 };
		if (page < PAGES)
			td_blkif_encode_segs(seg, TD_BLKIF_PAGE_SEGS, g.page[page]);
	} else {
		for (unsigned i = 0; i < TD_MIN(nr, TD_BLKIF_MAX_DIRECT); i++)
			q.seg[i] = segment(p);
	}
	td_blkif_encode_req(g.setup.abi, &q,
			    g.shared + td_blkif_slot_offset(g.setup.abi, g.nr, g.req_prod++));
}

static void scribble(struct program *p)
{
	size_t size = (size_t)TD_BLKIF_PAGE << g.setup.order, at = number(p, 2) % size;

	for (unsigned nr = byte(p) % 16; nr > 0; nr--, at = (at + 1) % size)
		g.shared[at] = byte(p);
}

static void change_disk(uint8_t how)
{
	uint64_t size = (how >> 2) * 4096u + 4096u;

	if (how % 4 == 0)
		call(resize_it, &size);
	else
		call(how % 4 == 1 ? pause_it : unpause_it, NULL);
}

static void again(uint8_t how)
{
	bool journal = g.journal != NULL;

	stop(how & 1);
	if (how & 1 || !journal) {
		g.req_prod = load(TD_BLKIF_RSP_PROD);
		store(TD_BLKIF_REQ_PROD, g.req_prod);
	}
	start(how & 1 || !journal);
}

static void kick(unsigned turns)
{
	if (g.ring)
		ring_kick(g.ring);
	turn(turns);
}

static void act(struct program *p)
{
	uint8_t action = byte(p), arg;

	switch (action % 16) {
	case 0 ... 6:
		put(p, action % 16);
		break;
	case 7:
		put(p, byte(p));
		break;
	case 8:
	case 9:
		store(TD_BLKIF_REQ_PROD, g.req_prod);
		kick(action >> 4);
		break;
	case 10:
		turn(1 + byte(p) % 4);
		break;
	case 11:
		arg = byte(p);
		g.grant[arg % GREFS] = (arg >> 5) % 3;
		break;
	case 12:
		scribble(p);
		break;
	case 13:
		change_disk(byte(p));
		break;
	case 14:
		store((unsigned)byte(p) % 4 * 4, (uint32_t)(load(TD_BLKIF_RSP_PROD) + (int8_t)byte(p)));
		kick(1);
		break;
	default:
		again(byte(p));
		break;
	}
}

/* ---- one input ---- */

static void begin(struct program *p)
{
	static const unsigned kept[] = { 0, 1, 3, 40 };
	static const uint32_t firsts[] = { 0, 0xfffffff8, 0x7ffffff8, 31 };
	uint8_t shape = byte(p), more = byte(p);

	memset(g.grant, 0, sizeof(g.grant));
	g.setup = (struct ring_setup){ .name = "fuzz",
				       .abi = shape % 3,
				       .order = shape / 3 % 3,
				       .port = &g.port,
				       .persistent = kept[more % 4],
				       .poll_us = more & 4 ? 100 : 0 };
	g.nr = td_blkif_entries(g.setup.abi, g.setup.order);
	FUZZ_CHECK(posix_memalign((void **)&g.shared, TD_BLKIF_PAGE,
				  (size_t)TD_BLKIF_PAGE << g.setup.order) == 0);
	memset(g.shared, 0, (size_t)TD_BLKIF_PAGE << g.setup.order);
	g.setup.shared = g.shared;
	g.req_prod = firsts[more >> 3 & 3];
	store(TD_BLKIF_REQ_PROD, g.req_prod);
	store(TD_BLKIF_RSP_PROD, g.req_prod);
	start(true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program p = { data, data + size };
	uint64_t small = 256 << 10;

	set_up_once();
	begin(&p);
	while (p.at < p.end)
		act(&p);
	turn(2);
	stop(true);
	call(unpause_it, NULL);
	call(resize_it, &small);
	turn(2);
	FUZZ_CHECK(td_vbd_idle(vbd));
	free(g.shared);
	return 0;
}
