// SPDX-License-Identifier: BSD-2-Clause
/*
 * An export: one way by which somebody reaches the disk.  Exports are event-shaped: they read a request, submit it to
 * the vbd, and answer it from done().  Each owns its errno-to-wire map.
 */
#ifndef BLKTAP_EXPORT_H
#define BLKTAP_EXPORT_H

#include <blktap/err.h>
#include <blktap/vbd.h>

struct td_loop;
struct td_export;

struct td_export_ops {
	const char *name; /* "nbd", "fuse" */

	/* address: what stands behind --nbd, --fuse.  The vbd is open.  *ret_export is the caller's. */
	int (*start)(struct td_loop *loop, struct td_vbd *vbd, const char *address,
		     struct td_export **ret_export, struct td_err *ret_err);

	/* Take no new clients and no new requests; what is in flight is still answered.  Returns at once. */
	void (*stop)(struct td_export *e);

	/* Has everything been answered, written out and hung up?  main turns the loop until it is, bounded in time. */
	bool (*stopped)(struct td_export *e);

	/* After stopped(), or by force after the time is up: drop clients, remove sockets and mounts. */
	void (*free)(struct td_export *e);
};

struct td_export {
	const struct td_export_ops *ops;
	struct td_vbd *vbd;
	char *address; /* as given; for list and stats */
	unsigned clients;
	uint64_t bytes_in, bytes_out;

	/*
	 * main's, set after start(): the export ended from outside (somebody unmounted it) and serves nobody any more.
	 * Called from an event, once, never after stop(); the export is stopped and freed by main as ever, not from
	 * inside this call.  NULL: nobody wants to know.
	 */
	void (*ended)(struct td_export *e);
	void *owner; /* main's too, for ended() */
};

extern const struct td_export_ops td_nbd_export, td_fuse_export;

#endif
