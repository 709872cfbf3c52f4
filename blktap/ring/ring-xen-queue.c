// SPDX-License-Identifier: BSD-2-Clause
/*
 * One queue of a Xen guest: the ring's pages, the guest's pages, the event channel, the journal.
 *
 * Guest pages are mapped where the engine reads and writes them itself.  Measured on Linux 6.12 as PV dom0: sync,
 * libaio and io_uring all take such pages, with O_DIRECT on ext4 over virtio-blk and without, on tmpfs too; no copy
 * is needed.
 *
 * A process that is killed takes its mappings and its end of the event channel with it; the guest's end waits, and the
 * next process binds and maps the same numbers again.
 */
#include "config.h"

#ifdef HAVE_XEN

#include "ring-xen.h"
#include <blktap/ctl.h>
#include <blktap/log.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PERSISTENT_DEFAULT 2048u /* pages, all queues: 8 MiB of address space */

/* ---- the guest's pages ---- */

/* The library says 0 or an address in one piece. A page that the guest does not grant fails all of them. */
static int map_pages(struct ring_port *p, const uint32_t *grefs, unsigned nr, bool writable, void **ret_pages)
{
	struct xen_queue *q = td_container_of(p, struct xen_queue, port);
	uint32_t refs[TD_BLKIF_MAX_SEGS]; /* the library's argument is not const */
	char *at;

	if (nr > TD_NELEMS(refs))
		return -EINVAL;
	memcpy(refs, grefs, nr * sizeof(*refs));
	at = xengnttab_map_domain_grant_refs(q->x->grants, nr, q->x->domid, refs,
					     PROT_READ | (writable ? PROT_WRITE : 0));
	if (!at)
		return errno > 0 ? -errno : -EFAULT;
	for (unsigned i = 0; i < nr; i++)
		ret_pages[i] = at + (size_t)i * TD_BLKIF_PAGE;
	return 0;
}

static void unmap_pages(struct ring_port *p, void *const *pages, unsigned nr)
{
	struct xen_queue *q = td_container_of(p, struct xen_queue, port);

	if (xengnttab_unmap(q->x->grants, pages[0], nr) < 0)
		td_error("%s: cannot unmap %u pages: %s", q->name, nr, strerror(errno));
}

static void notify(struct ring_port *p)
{
	struct xen_queue *q = td_container_of(p, struct xen_queue, port);

	if (xenevtchn_notify(q->x->bells, (evtchn_port_t)q->bell) < 0)
		td_error("%s: cannot notify the guest: %s", q->name, strerror(errno));
}

static const struct ring_port_ops port_ops = { .map = map_pages, .unmap = unmap_pages, .notify = notify };

/* ---- the journal ---- */

/*
 * With `recover` and no file the last process ended in order, with nothing in flight: the ring's own indices say where
 * to go on.
 */
static int open_journal(struct xen_queue *q, const struct td_xen_setup *s, unsigned nr,
			struct td_err *ret_err)
{
	const struct td_xen_queue *from = &s->queue[nr];
	struct ring_journal_key key = {
		.domid = s->domid,
		.devid = s->devid,
		.queue = nr,
		.port = from->port,
		.abi = q->x->abi,
		.order = (uint32_t)__builtin_ctz(from->nr_refs),
		.cookie = s->cookie,
	};
	td_cleanup(free) char *path = NULL;
	bool fresh = !s->recover;
	int r;

	memcpy(key.refs, from->refs, from->nr_refs * sizeof(key.refs[0]));
	r = td_run_path(&path, ret_err, "ring%u.%u.%u", s->domid, s->devid, nr);
	if (r < 0)
		return r;
	if (!fresh && access(path, F_OK) < 0 && errno == ENOENT) {
		td_info("%s: nothing was in flight", q->name);
		fresh = true;
	}
	return ring_journal_open(path, &key, fresh, &q->journal, ret_err);
}

/* ---- the queue ---- */

static int map_ring(struct xen_queue *q, const struct td_xen_queue *from, struct td_err *ret_err)
{
	uint32_t refs[TD_NELEMS(from->refs)];

	memcpy(refs, from->refs, sizeof(refs));
	q->shared = xengnttab_map_domain_grant_refs(q->x->grants, from->nr_refs, q->x->domid, refs,
						    PROT_READ | PROT_WRITE);
	if (!q->shared)
		return td_err_set(ret_err, errno > 0 ? -errno : -EFAULT,
				  "%s: cannot map the ring's %u pages: %s; does the guest still grant them?",
				  q->name, from->nr_refs, strerror(errno));
	q->nr_refs = from->nr_refs;
	return 0;
}

static int bind_bell(struct xen_queue *q, uint32_t port, struct td_err *ret_err)
{
	q->bell = xenevtchn_bind_interdomain(q->x->bells, q->x->domid, port);
	if (q->bell < 0)
		return td_err_set(ret_err, errno > 0 ? -errno : -EINVAL,
				  "%s: cannot bind event channel %u: %s; does the guest still offer it?",
				  q->name, port, strerror(errno));
	return 0;
}

int xen_queue_open(struct xen_queue *q, const struct td_xen_setup *s, unsigned nr, struct td_err *ret_err)
{
	int r;

	q->port.ops = &port_ops;
	snprintf(q->name, sizeof(q->name), "domain %u disk %u queue %u", s->domid, s->devid, nr);
	r = map_ring(q, &s->queue[nr], ret_err);
	if (r == 0)
		r = bind_bell(q, s->queue[nr].port, ret_err);
	if (r == 0)
		r = open_journal(q, s, nr, ret_err);
	return r;
}

int xen_queue_start(struct xen_queue *q, const struct td_xen_setup *s,
		    void (*stopped)(struct ring *r, const char *reason), struct td_err *ret_err)
{
	unsigned grants = s->max_grants > 0 ? s->max_grants : PERSISTENT_DEFAULT;
	struct ring_setup setup = {
		.name = q->name,
		.abi = q->x->abi,
		.order = (unsigned)__builtin_ctz(q->nr_refs),
		.shared = q->shared,
		.port = &q->port,
		.persistent = s->persistent ? grants / s->nr_queues : 0,
		.poll_us = s->poll_us,
		.journal = q->journal,
		.stopped = stopped,
		.owner = q,
		.export = &q->x->pub,
	};

	return ring_new(q->x->loop, q->x->pub.vbd, &setup, &q->ring, ret_err);
}

void xen_queue_close(struct xen_queue *q, bool forget)
{
	/* Without a ring it was not even read. */
	bool answered = q->ring && ring_in_flight(q->ring) == 0;

	ring_free(q->ring);
	if (q->journal)
		ring_journal_close(q->journal, forget || answered);
	if (q->bell >= 0 && xenevtchn_unbind(q->x->bells, (evtchn_port_t)q->bell) < 0)
		td_error("%s: cannot unbind its event channel: %s", q->name, strerror(errno));
	if (q->shared && xengnttab_unmap(q->x->grants, q->shared, q->nr_refs) < 0)
		td_error("%s: cannot unmap the ring: %s", q->name, strerror(errno));
}

#endif
