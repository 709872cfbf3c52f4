// SPDX-License-Identifier: BSD-2-Clause
/*
 * A virtual block device: one image, served.  Exports submit requests by callback; each runs as a coroutine down the
 * image.  Pausing, statistics, error policy and the log line for a failed request live here, and nowhere else.
 */
#ifndef BLKTAP_VBD_H
#define BLKTAP_VBD_H

#include <blktap/hist.h>
#include <blktap/image.h>
#include <blktap/iov.h>
#include <sys/queue.h>

struct td_vbd;

enum td_req_op {
	TD_REQ_READ,
	TD_REQ_WRITE,
	TD_REQ_FLUSH,
	TD_REQ_TRIM,
	TD_REQ_ZERO,
	TD_REQ_EXTENT,
	TD_REQ_OPS
};

/* The export's; valid until done() is called, which is exactly once, never from inside td_vbd_submit. */
struct td_req {
	enum td_req_op op;
	unsigned flags;          /* TD_FUA, TD_MAY_UNMAP, TD_FAST */
	uint64_t off, len;       /* READ and WRITE: len is iov.len */
	struct td_iov iov;       /* READ, WRITE: the export's memory */
	struct td_extent extent; /* EXTENT: the answer */
	const char *
		bitmap; /* EXTENT: of this dirty bitmap; the answer is in extent.len and dirty.  NULL: of data */
	bool dirty;
	void (*done)(struct td_req *req, int result); /* 0 or -errno */
	const void *owner;                            /* for td_vbd_cancel_all; else of no meaning */

	/* the vbd's */
	struct td_vbd *vbd;
	int result;   /* kept until done() is called; of one that waits to be tried again, why it failed */
	bool waiting; /* not in the image */
	bool late;    /* in the image for longer than the policy's timeout */
	uint64_t start_ns;
	TAILQ_ENTRY(td_req) link;
};

struct td_req_stats {
	uint64_t requests, bytes, errors;
	struct td_hist *time; /* from submission to done */
};

struct td_vbd_stats {
	struct td_req_stats op[TD_REQ_OPS];
	unsigned in_flight, waiting; /* in the image; held back by a pause, the bound, or for want of space */
	unsigned max_in_flight;
	unsigned overdue;   /* in the image now for longer than the timeout */
	uint64_t timed_out; /* requests that were not answered in time */
	uint64_t given_up;  /* of these: still waiting, so they were answered with -ETIMEDOUT */
	uint64_t full;      /* times that the disk stopped because the storage was full */
	int full_error;     /* why it did so last: -ENOSPC, -EDQUOT; 0: never */
};

/*
 * FULL: running, but a request failed for want of space and the policy is to wait: it and all others wait for
 * td_vbd_unpause.  The image is open.
 */
enum td_vbd_state { TD_VBD_CLOSED, TD_VBD_RUNNING, TD_VBD_FULL, TD_VBD_PAUSING, TD_VBD_PAUSED };

/* What becomes of requests for which the storage has no room, or takes too long. */
struct td_vbd_policy {
	bool pause_on_enospc; /* -ENOSPC and -EDQUOT are no answers: state FULL; else they are reported */
	unsigned timeout_s;   /* 0: none */
};

/* name: the disk's name, for clients and messages.  NULL: no memory. */
struct td_vbd *td_vbd_new(struct td_env *env, const char *name);
void td_vbd_free(struct td_vbd *vbd); /* closed, nothing waiting */

/*
 * From now on.  A disk that is FULL and is to wait no longer answers the requests that failed with their error, and
 * goes on with the others.  A request that is not answered within timeout_s is logged, counted and told once; one that
 * is still waiting then is answered with -ETIMEDOUT.  One that is in the image is not: the storage may still read or
 * write its memory.
 */
void td_vbd_set_policy(struct td_vbd *vbd, const struct td_vbd_policy *policy);
const struct td_vbd_policy *td_vbd_policy(const struct td_vbd *vbd);

/* Open the image of this specification. */
TD_CO TD_CHECK int td_vbd_open(struct td_vbd *vbd, const char *spec, unsigned open_flags,
			       struct td_err *ret_err);

/* Drain, flush and close it.  The first error of the three is returned; it is closed all the same. */
TD_CO TD_CHECK int td_vbd_close(struct td_vbd *vbd);

/*
 * Pause: new requests wait, those in flight finish, the image is flushed and closed (scripts change files meanwhile).
 * If the flush fails nothing is closed, the disk runs on and the error is returned.
 * Unpause: open spec (NULL: the same as before) and let the waiting requests go.  If that fails the disk stays paused.
 * Of a disk that is FULL, the image stays open and spec is NULL: what failed is tried again, with all that waits.
 */
TD_CO TD_CHECK int td_vbd_pause(struct td_vbd *vbd, struct td_err *ret_err);
TD_CO TD_CHECK int td_vbd_unpause(struct td_vbd *vbd, const char *spec, struct td_err *ret_err);

/*
 * Make it larger, while it is served: requests in flight finish first, new ones wait as long as it takes.  Whoever
 * watches is told.  -ENOTSUP: smaller, or a driver that cannot; -EINVAL: no multiple of 512; -EBUSY: it is paused.
 */
TD_CO TD_CHECK int td_vbd_resize(struct td_vbd *vbd, uint64_t size, struct td_err *ret_err);

/*
 * Change options of a driver in the open image's stack: the uppermost of this name (td_image_set).  opts as in a
 * specification, "iops=100,bps=1M".  They become part of the disk's specification, so that they outlive a pause.
 */
TD_CO TD_CHECK int td_vbd_set(struct td_vbd *vbd, const char *driver, const char *opts,
			      struct td_err *ret_err);

/*
 * Be told of what changed on the disk: its size (a resize, or unpaused onto another image), its state.  fn is called
 * from the loop, outside coroutines, some time after the change; it looks at the disk for what it is now.  It may
 * watch and unwatch, itself and others.  The struct is the caller's.
 */
struct td_vbd_watch {
	void (*fn)(struct td_vbd_watch *w);
	TAILQ_ENTRY(td_vbd_watch) link;
};

/* Neither yields.  Unwatched, fn is not called any more, also if a change was on its way. */
void td_vbd_watch(struct td_vbd *vbd, struct td_vbd_watch *w);
void td_vbd_unwatch(struct td_vbd *vbd, struct td_vbd_watch *w);

/* Not from a coroutine: from an export's event. */
void td_vbd_submit(struct td_vbd *vbd, struct td_req *req);

/*
 * True: the request was still waiting (for an unpause, or behind others), and done() comes with -ECANCELED.  False:
 * the image has it already, or it is finished; done() comes as ever.
 */
bool td_vbd_cancel(struct td_vbd *vbd, struct td_req *req);

/* The same for all of this owner that wait. */
void td_vbd_cancel_all(struct td_vbd *vbd, const void *owner);

/* Has everything submitted been answered? */
bool td_vbd_idle(const struct td_vbd *vbd);

/* Facts, as of now: a yield, or a turn of the loop, may change them, and what pointers lead to. */
enum td_vbd_state td_vbd_state(const struct td_vbd *vbd);
/* "read", "write" ... for messages. */
const char *td_req_op_name(enum td_req_op op);

const char *td_vbd_name(const struct td_vbd *vbd);
const char *td_vbd_spec(const struct td_vbd *vbd);             /* NULL when closed */
const struct td_image *td_vbd_image(const struct td_vbd *vbd); /* NULL when closed or paused */
uint64_t td_vbd_size(const struct td_vbd *vbd);                /* of the last open image */
bool td_vbd_read_only(const struct td_vbd *vbd);
const struct td_limits *td_vbd_limits(const struct td_vbd *vbd);
const struct td_vbd_stats *td_vbd_stats(const struct td_vbd *vbd);

#endif
