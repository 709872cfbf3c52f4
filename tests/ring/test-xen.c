// SPDX-License-Identifier: BSD-2-Clause
/*
 * The Xen transport, with Xen's two libraries played by this file: what is mapped, bound and kept in files after each
 * way in and out, and after each call that can fail.  The guest is guest.c's; its ring's pages have the references
 * RING_GREF + n, its data those that guest.c gives it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <blktap/export.h>
#include <blktap/log.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define RING_GREF 8u
#define DOMID     3u
#define DEVID     51712u
#define PORT      20u /* and those behind it, which the guest offers */
#define NR_PORTS  4u
#define PAGE      ((size_t)TD_BLKIF_PAGE)

/* ---- Xen ---- */

struct xengntdev_handle {
	unsigned pages; /* mapped */
};

struct xenevtchn_handle {
	int pipe[2]; /* of ports that rang */
	bool bound[NR_PORTS];
	unsigned masked, notifies;
};

static struct {
	struct guest *g;
	bool absent;
	int fail_at; /* this call fails; 0: none */
	int calls;
	unsigned grants_open, bells_open; /* handles */
	struct xengntdev_handle grants;
	struct xenevtchn_handle bells;
} xen;

static bool fails(int error)
{
	errno = error;
	return ++xen.calls == xen.fail_at;
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned flags)
{
	assert_non_null(logger);
	assert_int_equal(flags, 0);
	if (xen.absent || fails(EMFILE)) {
		errno = xen.absent ? ENOENT : EMFILE;
		return NULL;
	}
	xen.grants_open++;
	return &xen.grants;
}

int xengnttab_close(xengnttab_handle *h)
{
	assert_int_equal(h->pages, 0);
	xen.grants_open--;
	return 0;
}

/* Offset in the guest's memory, or -1. */
static off_t offset_of(uint32_t gref, int prot)
{
	uint32_t page = gref - GUEST_GREF;

	if (gref - RING_GREF < 16)
		return (off_t)((gref - RING_GREF) * PAGE);
	if (page >= GUEST_PAGES || xen.g->grant[page] == GRANT_NONE ||
	    (xen.g->grant[page] == GRANT_RO && (prot & PROT_WRITE)))
		return -1;
	return (off_t)((16 + page) * PAGE);
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *h, uint32_t nr, uint32_t domid, uint32_t *refs,
				      int prot)
{
	char *at;

	assert_int_equal(domid, DOMID);
	if (fails(EINVAL))
		return NULL;
	at = mmap(NULL, nr * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(at != MAP_FAILED);
	for (uint32_t i = 0; i < nr; i++) {
		off_t from = offset_of(refs[i], prot);

		if (from < 0) {
			munmap(at, nr * PAGE);
			errno = EINVAL;
			return NULL;
		}
		assert_true(mmap(at + i * PAGE, PAGE, prot, MAP_SHARED | MAP_FIXED, xen.g->memfd, from) !=
			    MAP_FAILED);
	}
	h->pages += nr;
	return at;
}

int xengnttab_unmap(xengnttab_handle *h, void *at, uint32_t nr)
{
	assert_true(nr <= h->pages);
	h->pages -= nr;
	return munmap(at, nr * PAGE);
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned flags)
{
	assert_non_null(logger);
	assert_int_equal(flags, 0);
	if (fails(ENOENT))
		return NULL;
	assert_int_equal(pipe2(xen.bells.pipe, O_CLOEXEC), 0);
	xen.bells_open++;
	return &xen.bells;
}

int xenevtchn_close(xenevtchn_handle *h)
{
	for (unsigned i = 0; i < NR_PORTS; i++)
		assert_false(h->bound[i]);
	close(h->pipe[0]);
	close(h->pipe[1]);
	xen.bells_open--;
	return 0;
}

int xenevtchn_fd(xenevtchn_handle *h)
{
	return h->pipe[0];
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *h, uint32_t domid, evtchn_port_t port)
{
	assert_int_equal(domid, DOMID);
	if (fails(EINVAL) || port - PORT >= NR_PORTS || h->bound[port - PORT]) {
		errno = EINVAL;
		return -1;
	}
	h->bound[port - PORT] = true;
	return (int)(port - PORT);
}

int xenevtchn_unbind(xenevtchn_handle *h, evtchn_port_t port)
{
	assert_true(port < NR_PORTS && h->bound[port]);
	h->bound[port] = false;
	return 0;
}

int xenevtchn_notify(xenevtchn_handle *h, evtchn_port_t port)
{
	assert_true(port < NR_PORTS && h->bound[port]);
	h->notifies++;
	return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
	evtchn_port_t port;

	if (read(h->pipe[0], &port, sizeof(port)) != sizeof(port))
		return -1;
	h->masked |= 1u << port;
	return (int)port;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t port)
{
	h->masked &= ~(1u << port);
	return 0;
}

/* The guest rings. */
static void ring_bell(unsigned port)
{
	assert_false(xen.bells.masked & 1u << port);
	assert_int_equal(write(xen.bells.pipe[1], &port, sizeof(port)), sizeof(port));
}

/* ---- the test ---- */

struct test {
	struct guest *g;
	struct td_export *e;
	struct td_xen_setup setup;
	struct td_err err;
	unsigned ended;
};

static void ended(struct td_export *e)
{
	struct test *x = e->owner;

	x->ended++;
}

static unsigned journals(struct test *x)
{
	DIR *d = opendir(x->g->t.dir);
	struct dirent *e;
	unsigned nr = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		nr += strncmp(e->d_name, "ring", 4) == 0;
	closedir(d);
	return nr;
}

static struct test *setup(const char *spec)
{
	struct test *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	td_log_level(TD_LOG_ERR);
	memset(&xen, 0, sizeof(xen));
	x->g = xen.g = guest_new(TD_BLKIF_X86_64, 0);
	assert_int_equal(setenv("BLKTAP_RUN_DIR", x->g->t.dir, 1), 0);
	guest_open(x->g, "%s", spec);
	x->setup =
		(struct td_xen_setup){ .domid = DOMID,
				       .devid = DEVID,
				       .protocol = "x86_64-abi",
				       .cookie = 7,
				       .nr_queues = 1,
				       .queue = { { .nr_refs = 1, .refs = { RING_GREF }, .port = PORT } } };
	return x;
}

static int connect(struct test *x)
{
	int r = td_xen_ring_start(x->g->t.env.loop, x->g->vbd, &x->setup, &x->e, &x->err);

	if (r == 0) {
		x->e->owner = x;
		x->e->ended = ended;
	}
	return r;
}

static void nothing_is_held(void)
{
	assert_int_equal(xen.grants.pages, 0);
	assert_int_equal(xen.grants_open + xen.bells_open, 0);
}

static void disconnect(struct test *x, bool forget)
{
	if (forget)
		x->e->ops->forget(x->e);
	x->e->ops->stop(x->e);
	for (int i = 0; i < 1000 && !x->e->ops->stopped(x->e); i++)
		td_loop_turn(x->g->t.env.loop, true);
	assert_true(x->e->ops->stopped(x->e));
	x->e->ops->free(x->e);
	x->e = NULL;
	nothing_is_held();
}

static void teardown(struct test *x)
{
	if (x->e)
		disconnect(x, true);
	guest_close(x->g);
	free(x);
}

/* One request by the bell: the answer's status. */
static int call(struct test *x, const struct td_blkif_req *q)
{
	struct guest *g = x->g;
	struct td_blkif_rsp rsp = { 0 };

	guest_put(g, q);
	guest_store(g, TD_BLKIF_REQ_PROD, g->req_prod);
	ring_bell(0);
	guest_wait(g, &rsp);
	assert_int_equal(rsp.id, q->id);
	return rsp.status;
}

static void a_disk_is_served(void **state)
{
	struct test *x = setup("ram(size=1M):");
	struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 8, 0, 3), r = guest_io(TD_BLKIF_READ, 8, 5, 3);
	struct td_blkif_req far = guest_io(TD_BLKIF_READ, 8, 9, 2);
	json_t *o = json_object();
	unsigned before;

	(void)state;
	assert_int_equal(connect(x), 0);
	assert_string_equal(x->e->address, "xen:3.51712");
	assert_int_equal(journals(x), 1);
	memset(x->g->data, 'a', 3 * PAGE);
	assert_int_equal(call(x, &w), TD_BLKIF_OKAY);
	assert_int_equal(call(x, &r), TD_BLKIF_OKAY);
	assert_memory_equal(x->g->data + 5 * PAGE, x->g->data, 3 * PAGE);
	assert_true(xen.bells.notifies > 0);
	assert_int_equal(xen.grants.pages, 1); /* the ring itself */
	assert_int_equal(x->e->bytes_in, 3 * PAGE);
	assert_int_equal(x->e->bytes_out, 3 * PAGE);

	/* One page of two that is not granted, or only for reading. */
	before = xen.bells.notifies;
	x->g->grant[10] = GRANT_NONE;
	assert_int_equal(call(x, &far), TD_BLKIF_ERROR);
	x->g->grant[10] = GRANT_RO;
	assert_int_equal(call(x, &far), TD_BLKIF_ERROR);
	assert_int_equal(xen.grants.pages, 1);
	assert_true(xen.bells.notifies > before);
	ring_bell(3); /* of nobody */
	guest_turn(x->g, 5);

	assert_int_equal(x->e->ops->stats(x->e, o), 0);
	assert_string_equal(json_string_value(json_object_get(o, "protocol")), "x86_64-abi");
	assert_int_equal(json_array_size(json_object_get(o, "queues")), 1);
	assert_null(json_object_get(o, "failed"));
	json_decref(o);
	disconnect(x, false);
	assert_int_equal(journals(x), 0); /* all was answered */
	teardown(x);
}

/* For who takes the guest over after a kill. */
static void another_image_is_noted(void **state)
{
	struct test *x = setup("ram(size=1M):");
	char path[256], text[64] = "";
	FILE *f;

	(void)state;
	assert_int_equal(connect(x), 0);
	assert_int_equal(x->e->ops->note_spec(x->e, "qcow2:/a rather long one", NULL), 0);
	assert_int_equal(x->e->ops->note_spec(x->e, "qcow2:/over", NULL), 0);
	(void)snprintf(path, sizeof(path), "%s/spec3.51712", x->g->t.dir);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	(void)fclose(f);
	assert_string_equal(text, "qcow2:/over");
	disconnect(x, false);
	teardown(x);
}

static void pages_stay_mapped_if_both_want_it(void **state)
{
	struct test *x = setup("ram(size=1M):");
	struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 8, 0, 8);

	(void)state;
	x->setup.persistent = true;
	x->setup.max_grants = 5;
	assert_int_equal(connect(x), 0);
	assert_int_equal(call(x, &w), TD_BLKIF_OKAY);
	assert_int_equal(xen.grants.pages, 1 + 5);
	disconnect(x, false);
	teardown(x);
}

static void what_cannot_be_is_refused(void **state)
{
	struct test *x = setup("ram(size=1M):");
	struct td_xen_setup good = x->setup;

	(void)state;
	x->setup.protocol = "sparc-abi";
	assert_int_equal(connect(x), -EINVAL);
	assert_non_null(strstr(x->err.msg, "sparc-abi"));
	x->setup = good;
	x->setup.domid = 0x7ff0;
	assert_int_equal(connect(x), -EINVAL);
	x->setup = good;
	x->setup.nr_queues = 5;
	assert_int_equal(connect(x), -EINVAL);
	x->setup.nr_queues = 0;
	assert_int_equal(connect(x), -EINVAL);
	x->setup = good;
	x->setup.queue[0].nr_refs = 3;
	assert_int_equal(connect(x), -EINVAL);
	x->setup.queue[0].nr_refs = 0;
	assert_int_equal(connect(x), -EINVAL);
	x->setup = good;
	x->setup.queue[0].refs[0] = 77; /* no such reference */
	assert_int_equal(connect(x), -EINVAL);
	assert_non_null(strstr(x->err.msg, "pages"));
	x->setup = good;
	x->setup.queue[0].port = 99;
	assert_int_equal(connect(x), -EINVAL);
	assert_non_null(strstr(x->err.msg, "99"));
	x->setup = good;
	xen.absent = true;
	assert_int_equal(connect(x), -ENODEV);
	nothing_is_held();
	assert_int_equal(journals(x), 0);
	xen.absent = false;
	x->setup.protocol = NULL; /* our own then */
	assert_int_equal(connect(x), 0);
	teardown(x);
}

static void set_two_queues(struct test *x)
{
	x->setup.nr_queues = 2;
	x->setup.queue[1] = (struct td_xen_queue){ .nr_refs = 2,
						   .refs = { RING_GREF + 1, RING_GREF + 2 },
						   .port = PORT + 1 };
}

static void each_call_may_fail(void **state)
{
	struct test *x = setup("ram(size=1M):");
	int fail_at;

	(void)state;
	set_two_queues(x);
	for (fail_at = 1; fail_at < 100; fail_at++) {
		xen.calls = 0;
		xen.fail_at = fail_at;
		if (connect(x) == 0)
			break;
		assert_int_not_equal(x->err.msg[0], '\0');
		nothing_is_held();
		assert_int_equal(journals(x), 0);
	}
	assert_int_equal(fail_at, 7); /* two handles, two maps, two ports */
	assert_int_equal(journals(x), 2);
	teardown(x);
}

/* The second queue's guest breaks the protocol: the first stops with it. */
static void a_broken_queue_stops_the_disk(void **state)
{
	struct test *x = setup("ram(size=1M):");
	struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 8, 0, 3);
	json_t *o = json_object();

	(void)state;
	set_two_queues(x);
	assert_int_equal(connect(x), 0);
	assert_int_equal(call(x, &w), TD_BLKIF_OKAY);
	*(uint32_t *)(void *)(x->g->shared + PAGE) = 0x10000; /* its producer index */
	ring_bell(1);
	guest_turn(x->g, 5);
	assert_int_equal(x->ended, 1);
	assert_int_equal(x->e->ops->stats(x->e, o), 0);
	assert_non_null(json_string_value(json_object_get(o, "failed")));
	json_decref(o);
	guest_put(x->g, &w);
	guest_store(x->g, TD_BLKIF_REQ_PROD, x->g->req_prod);
	ring_bell(0);
	guest_turn(x->g, 5);
	assert_int_equal(guest_load(x->g, TD_BLKIF_RSP_PROD), x->g->rsp_cons);
	assert_int_equal(x->ended, 1);
	teardown(x);
}

/* What waits in a paused disk is given up; unless it is forgotten, another process serves it. */
static void a_paused_disk_lets_go(void **state)
{
	(void)state;
	for (int forget = 0; forget <= 1; forget++) {
		struct test *x = setup("ram(size=1M):");
		struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 8, 0, 3);
		struct td_blkif_rsp rsp;

		assert_int_equal(connect(x), 0);
		assert_int_equal(guest_pause(x->g), 0);
		guest_put(x->g, &w);
		guest_store(x->g, TD_BLKIF_REQ_PROD, x->g->req_prod);
		ring_bell(0);
		guest_turn(x->g, 5);
		disconnect(x, forget);
		assert_int_equal(journals(x), !forget);
		assert_false(guest_reap(x->g, &rsp));
		assert_int_equal(guest_unpause(x->g), 0);

		x->setup.recover = true;
		x->setup.cookie++;
		assert_int_equal(connect(x), forget ? 0 : -ESTALE);
		if (!forget) {
			nothing_is_held();
			x->setup.cookie--;
			assert_int_equal(connect(x), 0);
		}
		guest_wait(x->g, &rsp); /* with the journal from there, else from the ring */
		assert_int_equal(rsp.id, w.id);
		assert_int_equal(rsp.status, TD_BLKIF_OKAY);
		assert_false(guest_reap(x->g, &rsp));
		teardown(x);
	}
}

/* As a kill would leave it: the journal is still there, and nothing in it. */
static void an_idle_ring_is_taken_over(void **state)
{
	(void)state;
	for (int served = 0; served <= 2; served++) {
		struct test *x = setup("ram(size=1M):");
		struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 8, 0, 3);
		char path[128], kept[128];
		unsigned before;

		snprintf(path, sizeof(path), "%s/ring%u.%u.0", x->g->t.dir, DOMID, DEVID);
		snprintf(kept, sizeof(kept), "%s/kept", x->g->t.dir);
		x->setup.persistent = true;
		assert_int_equal(connect(x), 0);
		for (int i = 0; i < served; i++)
			assert_int_equal(call(x, &w), TD_BLKIF_OKAY);
		guest_turn(x->g, 5);
		assert_int_equal(link(path, kept), 0);
		disconnect(x, false);
		assert_int_equal(rename(kept, path), 0);

		x->setup.recover = true;
		before = xen.bells.notifies;
		assert_int_equal(connect(x), 0);
		guest_turn(x->g, 5);
		assert_true(xen.bells.notifies > before);
		assert_int_equal(call(x, &w), TD_BLKIF_OKAY);
		teardown(x);
	}
}

/* Of a file that a process left: the state of its last request, which no process writes so. */
static void damage_journal(const char *path)
{
	const struct {
		uint32_t state, unused;
		uint64_t indices[2];
		unsigned char slot[TD_BLKIF_SLOT_MAX];
	} entry = { .state = 99 };
	struct stat st;
	int fd = open(path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(lseek(fd, st.st_size - (off_t)sizeof(entry), SEEK_SET) > 0);
	assert_int_equal(write(fd, &entry, sizeof(entry)), sizeof(entry));
	close(fd);
}

/* The second queue has a damaged journal, so nothing is taken over: what the first one holds is not lost by that. */
static void a_failed_takeover_keeps_what_waits(void **state)
{
	struct test *x = setup("ram(size=1M):");
	struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 8, 0, 3);
	char second[128], kept[128];
	struct td_blkif_rsp rsp;

	(void)state;
	set_two_queues(x);
	snprintf(second, sizeof(second), "%s/ring%u.%u.1", x->g->t.dir, DOMID, DEVID);
	snprintf(kept, sizeof(kept), "%s/kept", x->g->t.dir);
	assert_int_equal(connect(x), 0);
	assert_int_equal(guest_pause(x->g), 0);
	guest_put(x->g, &w);
	guest_store(x->g, TD_BLKIF_REQ_PROD, x->g->req_prod);
	ring_bell(0);
	guest_turn(x->g, 5);
	assert_int_equal(link(second, kept), 0);
	disconnect(x, false);
	assert_int_equal(rename(kept, second), 0);
	damage_journal(second);
	assert_int_equal(guest_unpause(x->g), 0);

	x->setup.recover = true;
	assert_int_equal(connect(x), -EUCLEAN);
	nothing_is_held();
	assert_int_equal(journals(x), 2);
	assert_int_equal(unlink(second), 0);
	assert_int_equal(connect(x), 0);
	guest_wait(x->g, &rsp);
	assert_int_equal(rsp.id, w.id);
	assert_int_equal(rsp.status, TD_BLKIF_OKAY);
	teardown(x);
}

/* Freed by force while the disk still works on a request. */
static void the_last_request_frees(void **state)
{
	struct test *x = setup("fault(delay-ms=50)/ram(size=1M):");
	struct td_blkif_req w = guest_io(TD_BLKIF_WRITE, 8, 0, 3);

	(void)state;
	assert_int_equal(connect(x), 0);
	guest_put(x->g, &w);
	guest_store(x->g, TD_BLKIF_REQ_PROD, x->g->req_prod);
	ring_bell(0);
	guest_turn(x->g, 5);
	x->e->ops->stop(x->e);
	assert_false(x->e->ops->stopped(x->e));
	x->e->ops->free(x->e);
	x->e = NULL;
	assert_int_equal(xen.grants_open, 1);
	for (int i = 0; i < 10000 && xen.grants_open > 0; i++)
		td_loop_turn(x->g->t.env.loop, true);
	nothing_is_held();
	assert_int_equal(guest_load(x->g, TD_BLKIF_RSP_PROD), x->g->rsp_cons + 1);
	teardown(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_is_served),
		cmocka_unit_test(another_image_is_noted),
		cmocka_unit_test(pages_stay_mapped_if_both_want_it),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(each_call_may_fail),
		cmocka_unit_test(a_broken_queue_stops_the_disk),
		cmocka_unit_test(a_paused_disk_lets_go),
		cmocka_unit_test(an_idle_ring_is_taken_over),
		cmocka_unit_test(a_failed_takeover_keeps_what_waits),
		cmocka_unit_test(the_last_request_frees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
