// SPDX-License-Identifier: BSD-2-Clause
#include "guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define RING_BYTES ((size_t)16 * TD_BLKIF_PAGE)
#define DATA_BYTES ((size_t)GUEST_PAGES * TD_BLKIF_PAGE)

/* ---- the port ---- */

static struct guest *guest_of(struct ring_port *p)
{
	return td_container_of(p, struct guest, port.port);
}

static bool may_map(const struct guest *g, uint32_t gref, bool writable)
{
	uint32_t page = gref - GUEST_GREF;
	uint8_t grant = page < GUEST_PAGES ? __atomic_load_n(&g->grant[page], __ATOMIC_RELAXED) : GRANT_NONE;

	return grant == GRANT_RW || (grant == GRANT_RO && !writable);
}

static int port_map(struct ring_port *p, const uint32_t *grefs, unsigned nr, bool writable, void **ret_pages)
{
	struct guest *g = guest_of(p);
	struct guest_port *port = &g->port;
	struct guest_mapping *m;

	port->map_calls++;
	for (unsigned i = 0; i < nr; i++)
		if (!may_map(g, grefs[i], writable))
			return -EINVAL;
	for (unsigned i = 0; i < nr; i++)
		ret_pages[i] =
			(writable ? g->data : g->data_ro) + (size_t)(grefs[i] - GUEST_GREF) * TD_BLKIF_PAGE;
	if (port->nr_open == port->max_open) {
		port->max_open = port->max_open * 2 + 16;
		port->open = reallocarray(port->open, port->max_open, sizeof(*port->open));
	}
	m = &port->open[port->nr_open++];
	m->nr = nr;
	m->pages = malloc(nr * sizeof(void *));
	memcpy(m->pages, ret_pages, nr * sizeof(void *));
	port->maps += nr;
	port->pages_open += nr;
	return 0;
}

static void port_unmap(struct ring_port *p, void *const *pages, unsigned nr)
{
	struct guest_port *port = &guest_of(p)->port;

	for (unsigned i = port->nr_open; i-- > 0;) {
		struct guest_mapping *m = &port->open[i];

		if (m->nr != nr || memcmp(m->pages, pages, nr * sizeof(void *)) != 0)
			continue;
		free(m->pages);
		*m = port->open[--port->nr_open];
		port->unmaps += nr;
		port->pages_open -= nr;
		return;
	}
	port->broken = true;
}

static void port_notify(struct ring_port *p)
{
	guest_of(p)->port.notifies++;
}

static const struct ring_port_ops port_ops = { .map = port_map, .unmap = port_unmap, .notify = port_notify };

/* ---- memory ---- */

static void *map_memory(int fd, size_t at, size_t len, int prot)
{
	void *p = mmap(NULL, len, prot, MAP_SHARED, fd, (off_t)at);

	assert_true(p != MAP_FAILED);
	return p;
}

static void on_stopped(struct ring *r, const char *reason)
{
	struct guest *g = ring_owner(r);

	assert_null(g->stopped);
	g->stopped = reason;
}

struct guest *guest_new(enum td_blkif_abi abi, unsigned order)
{
	struct guest *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	assert_int_equal(testenv_open(&g->t, "sync", NULL), 0);
	g->memfd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(g->memfd >= 0);
	assert_int_equal(ftruncate(g->memfd, (off_t)(RING_BYTES + DATA_BYTES + GUEST_PAGES)), 0);
	g->shared = map_memory(g->memfd, 0, RING_BYTES, PROT_READ | PROT_WRITE);
	g->data = map_memory(g->memfd, RING_BYTES, DATA_BYTES, PROT_READ | PROT_WRITE);
	g->data_ro = map_memory(g->memfd, RING_BYTES, DATA_BYTES, PROT_READ);
	g->grant = map_memory(g->memfd, RING_BYTES + DATA_BYTES, GUEST_PAGES, PROT_READ | PROT_WRITE);
	g->abi = abi;
	g->order = order;
	g->nr = td_blkif_entries(abi, order);
	g->port.port.ops = &port_ops;
	g->setup = (struct ring_setup){ .name = "test ring",
					.abi = abi,
					.order = order,
					.shared = g->shared,
					.port = &g->port.port,
					.stopped = on_stopped,
					.owner = g };
	guest_set_index(g, 0);
	return g;
}

void guest_free(struct guest *g)
{
	munmap(g->shared, RING_BYTES);
	munmap(g->data, DATA_BYTES);
	munmap(g->data_ro, DATA_BYTES);
	munmap(g->grant, GUEST_PAGES);
	close(g->memfd);
	free(g->port.open);
	testenv_close(&g->t);
	free(g);
}

/* ---- the disk ---- */

struct spec_call {
	struct guest *g;
	char spec[512];
	struct td_err err;
};

static int open_it(void *arg)
{
	struct spec_call *c = arg;

	return td_vbd_open(c->g->vbd, c->spec, c->g->open_flags, &c->err);
}

static void TD_PRINTF(2, 0) open_spec(struct guest *g, const char *spec_fmt, va_list ap)
{
	struct spec_call c = { .g = g };

	(void)vsnprintf(c.spec, sizeof(c.spec), spec_fmt, ap);
	g->vbd = td_vbd_new(&g->t.env, "test");
	assert_non_null(g->vbd);
	if (testenv_run(&g->t, open_it, &c) < 0)
		fail_msg("%s: %s", c.spec, c.err.msg);
}

void guest_open(struct guest *g, const char *spec_fmt, ...)
{
	va_list ap;

	va_start(ap, spec_fmt);
	open_spec(g, spec_fmt, ap);
	va_end(ap);
}

void guest_start(struct guest *g)
{
	struct td_err err = { "" };

	if (ring_new(g->t.env.loop, g->vbd, &g->setup, &g->ring, &err) < 0)
		fail_msg("%s", err.msg);
}

void guest_serve(struct guest *g, const char *spec_fmt, ...)
{
	va_list ap;

	va_start(ap, spec_fmt);
	open_spec(g, spec_fmt, ap);
	va_end(ap);
	guest_start(g);
}

void guest_stop(struct guest *g)
{
	ring_stop(g->ring);
	for (int i = 0; i < 100000 && !ring_idle(g->ring); i++)
		td_loop_turn(g->t.env.loop, true);
	assert_true(ring_idle(g->ring));
	ring_free(g->ring);
	g->ring = NULL;
	assert_false(g->port.broken);
	assert_int_equal(g->port.nr_open, 0);
	assert_int_equal(g->port.maps, g->port.unmaps);
}

static int close_it(void *arg)
{
	return td_vbd_close(arg);
}

void guest_shut(struct guest *g)
{
	/* Faults may be planned for the last flush too. */
	td_ignore(testenv_run(&g->t, close_it, g->vbd));
	guest_turn(g, 2);
	assert_true(td_vbd_idle(g->vbd));
	td_vbd_free(g->vbd);
	g->vbd = NULL;
}

void guest_close(struct guest *g)
{
	if (g->ring)
		guest_stop(g);
	if (g->vbd)
		guest_shut(g);
	guest_free(g);
}

static int pause_it(void *arg)
{
	return td_vbd_pause(arg, NULL);
}

static int unpause_it(void *arg)
{
	return td_vbd_unpause(arg, NULL, NULL);
}

int guest_pause(struct guest *g)
{
	return testenv_run(&g->t, pause_it, g->vbd);
}

int guest_unpause(struct guest *g)
{
	return testenv_run(&g->t, unpause_it, g->vbd);
}

/* ---- the frontend ---- */

uint32_t guest_load(struct guest *g, unsigned offset)
{
	return __atomic_load_n((uint32_t *)(void *)(g->shared + offset), __ATOMIC_SEQ_CST);
}

void guest_store(struct guest *g, unsigned offset, uint32_t v)
{
	__atomic_store_n((uint32_t *)(void *)(g->shared + offset), v, __ATOMIC_SEQ_CST);
}

void guest_set_index(struct guest *g, uint32_t index)
{
	g->req_prod = g->rsp_cons = index;
	guest_store(g, TD_BLKIF_REQ_PROD, index);
	guest_store(g, TD_BLKIF_RSP_PROD, index);
	guest_store(g, TD_BLKIF_REQ_EVENT, index + 1);
	guest_store(g, TD_BLKIF_RSP_EVENT, index + 1);
}

void *guest_slot(struct guest *g, uint32_t index)
{
	return g->shared + td_blkif_slot_offset(g->abi, g->nr, index);
}

void guest_put(struct guest *g, const struct td_blkif_req *req)
{
	td_blkif_encode_req(g->abi, req, guest_slot(g, g->req_prod++));
}

bool guest_push(struct guest *g)
{
	uint32_t old = guest_load(g, TD_BLKIF_REQ_PROD), event;

	guest_store(g, TD_BLKIF_REQ_PROD, g->req_prod);
	event = guest_load(g, TD_BLKIF_REQ_EVENT);
	if (g->req_prod - event >= g->req_prod - old)
		return false;
	ring_kick(g->ring);
	return true;
}

bool guest_reap(struct guest *g, struct td_blkif_rsp *ret_rsp)
{
	if (guest_load(g, TD_BLKIF_RSP_PROD) == g->rsp_cons) {
		guest_store(g, TD_BLKIF_RSP_EVENT, g->rsp_cons + 1);
		if (guest_load(g, TD_BLKIF_RSP_PROD) == g->rsp_cons)
			return false;
	}
	td_blkif_decode_rsp(g->abi, guest_slot(g, g->rsp_cons++), ret_rsp);
	return true;
}

void guest_turn(struct guest *g, unsigned turns)
{
	while (turns-- > 0)
		td_loop_turn(g->t.env.loop, false);
}

void guest_wait(struct guest *g, struct td_blkif_rsp *ret_rsp)
{
	for (time_t end = time(NULL) + 60; time(NULL) < end;) {
		if (guest_reap(g, ret_rsp))
			return;
		td_loop_turn(g->t.env.loop, false);
	}
	fail_msg("no answer");
}

int guest_call(struct guest *g, const struct td_blkif_req *req)
{
	struct td_blkif_rsp rsp;

	guest_put(g, req);
	guest_push(g);
	guest_wait(g, &rsp);
	assert_int_equal(rsp.id, req->id);
	assert_int_equal(rsp.op, req->op == TD_BLKIF_INDIRECT ? req->inner : req->op);
	return rsp.status;
}

struct td_blkif_req guest_io(uint8_t op, uint64_t sector, unsigned page, unsigned pages)
{
	struct td_blkif_req q = { .op = op, .nr_segs = (uint16_t)pages, .sector = sector, .id = sector + 7 };

	for (unsigned i = 0; i < TD_MIN(pages, TD_BLKIF_MAX_DIRECT); i++)
		q.seg[i] = (struct td_blkif_seg){ .gref = GUEST_GREF + page + i, .first = 0, .last = 7 };
	return q;
}

struct td_blkif_req guest_indirect(struct guest *g, uint8_t inner, uint64_t sector, unsigned page,
				   unsigned pages, unsigned table)
{
	struct td_blkif_req q = { .op = TD_BLKIF_INDIRECT,
				  .inner = inner,
				  .nr_segs = (uint16_t)pages,
				  .sector = sector,
				  .id = sector + 9 };
	struct td_blkif_seg seg[TD_BLKIF_PAGE_SEGS];

	for (unsigned i = 0; i < TD_MIN(pages, TD_BLKIF_PAGE_SEGS); i++)
		seg[i] = (struct td_blkif_seg){ .gref = GUEST_GREF + page + i, .first = 0, .last = 7 };
	td_blkif_encode_segs(seg, TD_MIN(pages, TD_BLKIF_PAGE_SEGS), g->data + (size_t)table * TD_BLKIF_PAGE);
	q.ipage[0] = GUEST_GREF + table;
	return q;
}
