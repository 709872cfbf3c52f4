// SPDX-License-Identifier: BSD-2-Clause
/*
 * Xen guests come and go while the disk is open: their rings are exports that a control message starts and ends.
 */
#include "daemon.h"
#include <stdio.h>

#define ADDRESS_MAX  64
#define STOP_POLL_NS 1000000ull

/* The export's address, by which it is found again. */
static struct td_export *find(struct daemon *d, uint32_t domid, uint32_t devid)
{
	char address[ADDRESS_MAX];

	snprintf(address, sizeof(address), "xen:%u.%u", domid, devid);
	for (unsigned i = 0; i < d->nr_exports; i++)
		if (d->exports[i]->ops->one_guest && strcmp(d->exports[i]->address, address) == 0)
			return d->exports[i];
	return NULL;
}

struct connect_call {
	struct daemon *d;
	const struct td_xen_setup *setup;
	struct td_err *err;
};

static int connect_outside(void *arg)
{
	const struct connect_call *c = arg;
	struct td_export *e;
	int r = td_xen_ring_start(c->d->env.loop, c->d->vbd, c->setup, &e, c->err);

	return r < 0 ? r : daemon_add_export(c->d, e);
}

int daemon_ring_connect(struct daemon *d, const struct td_xen_setup *setup, struct td_err *ret_err)
{
	struct connect_call c = { d, setup, ret_err };
	td_co_guard(&d->lock);

	if (d->ending)
		return td_err_set(ret_err, -ESHUTDOWN, "this tapdisk is ending");
	if (td_vbd_state(d->vbd) == TD_VBD_CLOSED)
		return td_err_set(ret_err, -ENODEV, "no disk is open");
	if (find(d, setup->domid, setup->devid))
		return td_err_set(ret_err, -EEXIST, "domain %u disk %u is connected; disconnect it first",
				  setup->domid, setup->devid);
	if (d->nr_exports == DAEMON_MAX_EXPORTS)
		return td_err_set(ret_err, -E2BIG, "at most %d exports", DAEMON_MAX_EXPORTS);
	return daemon_outside(d, connect_outside, &c);
}

struct drop_call {
	struct daemon *d;
	struct td_export *e;
};

static int drop_outside(void *arg)
{
	const struct drop_call *c = arg;

	daemon_drop_export(c->d, c->e);
	return 0;
}

int daemon_ring_disconnect(struct daemon *d, uint32_t domid, uint32_t devid, struct td_err *ret_err)
{
	td_co_guard(&d->lock);
	struct td_export *e = find(d, domid, devid);
	struct drop_call c = { d, e };

	if (!e)
		return td_err_set(ret_err, -ENOENT, "domain %u disk %u is not connected", domid, devid);
	e->ops->forget(e);
	e->ops->stop(e);
	while (!e->ops->stopped(e))
		td_loop_sleep(d->env.loop, STOP_POLL_NS);
	return daemon_outside(d, drop_outside, &c);
}
