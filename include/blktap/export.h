// SPDX-License-Identifier: BSD-2-Clause
/*
 * An export: one way by which somebody reaches the disk.  Exports are event-shaped: they read a request, submit it to
 * the vbd, and answer it from done().  Each owns its errno-to-wire map.
 */
#ifndef BLKTAP_EXPORT_H
#define BLKTAP_EXPORT_H

#include <blktap/err.h>
#include <blktap/vbd.h>
#include <jansson.h>

struct td_loop;
struct td_export;

struct td_export_ops {
	const char *name; /* "nbd", "fuse", "ring", "xen" */
	bool one_guest;   /* belongs to one guest; where it ends, the disk lives on and waits for another */

	/* address: what stands behind --nbd, --fuse.  The vbd is open.  *ret_export is the caller's. */
	int (*start)(struct td_loop *loop, struct td_vbd *vbd, const char *address,
		     struct td_export **ret_export, struct td_err *ret_err);

	/* Take no new clients and no new requests; what is in flight is still answered.  Returns at once. */
	void (*stop)(struct td_export *e);

	/* Before stop(): the guest is gone for good, nothing of it need outlive this process.  one_guest only. */
	void (*forget)(struct td_export *e);

	/*
	 * The disk is about to be what spec says.  Note it where whoever takes the guest over after a kill finds
	 * it: what the guest is told is written from then on is there.  NULL: the export does not outlive its
	 * process.
	 */
	int (*note_spec)(const struct td_export *e, const char *spec, struct td_err *ret_err);

	/* Has everything been answered, written out and hung up?  main turns the loop until it is, bounded in time. */
	bool (*stopped)(struct td_export *e);

	/* After stopped(), or by force after the time is up: drop clients, remove sockets and mounts. */
	void (*free)(struct td_export *e);

	/* Add what this kind alone knows to an object of `stats`; 0 or -ENOMEM.  NULL: nothing to add. */
	int (*stats)(const struct td_export *e, json_t *ret_object);
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

extern const struct td_export_ops td_nbd_export;
extern const struct td_export_ops td_fuse_export;     /* the disk as a file; address: that file */
extern const struct td_export_ops td_fuse_dir_export; /* the disk and its partitions; address: a directory */
extern const struct td_export_ops td_ring_export;     /* the ring over shared memory; address: unix:PATH */

/*
 * Who may use FUSE files beside the user that serves them: nobody, root, or whoever their mode lets in, which is then
 * made by the umask.  Before the first such export starts.
 */
enum td_fuse_access { TD_FUSE_OWNER, TD_FUSE_ROOT, TD_FUSE_ALL };
void td_fuse_access(enum td_fuse_access access);

/* What the disk can offer to a ring's frontend, added to an object (blktap-control(7), ring-features). 0 or -ENOMEM. */
TD_CHECK int td_ring_features_json(const struct td_vbd *vbd, json_t *ret_object);

/*
 * A Xen guest's ring.  Its address is "xen:DOMID.DEVID"; started by a control message, not by an option, because it
 * takes what the frontend wrote to xenstore.
 */
#define TD_XEN_MAX_QUEUES 4
#define TD_XEN_MAX_DOMID  0x7fef /* what lies above is no guest */
#define TD_XEN_MAX_GRANTS (1u << 20)
#define TD_XEN_MAX_POLL   1000000u

struct td_xen_queue {
	unsigned nr_refs; /* 1, 2, 4, 8 or 16 */
	uint32_t refs[16];
	uint32_t port; /* the frontend's event channel */
};

struct td_xen_setup {
	uint32_t domid, devid;
	const char *protocol; /* as the frontend wrote it; NULL: it wrote none */
	bool persistent;      /* both sides want it */
	unsigned max_grants;  /* pages that may stay mapped, all queues; 0: the default */
	unsigned poll_us;
	unsigned nr_queues;
	struct td_xen_queue queue[TD_XEN_MAX_QUEUES];
	uint64_t cookie; /* names this connection, for the journal */
	bool recover;    /* the guest was connected already: go on where the last process was killed */
};

/* -ENOSYS: built without Xen's libraries; -ENODEV: no Xen here; -EINVAL: setup says what cannot be. */
TD_CHECK int td_xen_ring_start(struct td_loop *loop, struct td_vbd *vbd, const struct td_xen_setup *setup,
			       struct td_export **ret_export, struct td_err *ret_err);

#endif
