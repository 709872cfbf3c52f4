// SPDX-License-Identifier: BSD-2-Clause
/*
 * The tapdisk of one disk: started or found, asked, listened to, ended.
 *
 * Every call here that talks to a process is blocking and runs in the worker pool, so that a slow disk holds up nobody
 * else; the coroutine waits.  What the tapdisk tells by itself becomes a flag, and changed() is called.
 */
#ifndef TAPBACK_DISK_H
#define TAPBACK_DISK_H

#include "announce.h"
#include "frontend.h"
#include <blktap/loop.h>
#include <sys/types.h>

struct td_pool;

/* The face of libctl (blktap/ctl.h), so that tests can have other disks. */
struct disk_ops {
	int (*spawn)(const char *const *args, unsigned timeout_ms, pid_t *ret_pid, struct td_err *ret_err);
	int (*call)(pid_t pid, json_t *request, unsigned timeout_ms, json_t **ret_reply,
		    struct td_err *ret_err);
	int (*events)(pid_t pid, int *ret_fd, struct td_err *ret_err);
	int (*terminate)(pid_t pid, unsigned timeout_ms, struct td_err *ret_err);
	int (*pids)(pid_t **ret_pids, size_t *ret_nr, struct td_err *ret_err);
	int (*make_dead)(pid_t pid,
			 struct td_err *ret_err); /* 0: the process is gone, by SIGKILL if need be */
};

extern const struct disk_ops disk_ops_real;

struct disk_env {
	struct td_loop *loop;
	struct td_pool *pool; /* NULL: everything runs at once, in the caller (tests) */
	const struct disk_ops *ops;
	unsigned poll_us; /* a tapdisk may look at a ring for so long before it sleeps; 0: it sleeps */
};

#define DISK_LINE_MAX 4096

struct disk {
	struct disk_env *env;
	void (*changed)(struct disk *d); /* one of the flags below was set; from the loop */
	uint32_t domid, vdev;
	char name[40]; /* "vbd-DOMID-VDEV" */

	pid_t pid;     /* 0: none */
	bool borrowed; /* a script started it and will end it */
	char *spec;    /* what it has open, or had: to start another */
	bool read_only;
	bool has_ring; /* it serves xen:DOMID.VDEV */
	struct features features;

	/* flags; the device takes them back */
	bool dead;            /* the process ended */
	bool resized, respec; /* another size; perhaps another image */
	char *broken;         /* why the ring stopped by itself */

	struct td_watch watch;
	int fd; /* of the events; -1 */
	size_t have;
	char *line; /* DISK_LINE_MAX bytes, while there is a tapdisk */
};

void disk_init(struct disk *d, struct disk_env *env, uint32_t domid, uint32_t vdev);
void disk_fini(struct disk *d); /* lets go of the tapdisk, which goes on */

/* What a living tapdisk says of itself. */
struct disk_info {
	pid_t pid;
	char name[40];
	char *spec; /* the caller's; NULL: it has no disk */
	int minor;  /* -1: none */
	bool read_only;
	char ring[32]; /* "xen:DOMID.VDEV", or empty */
};

TD_CO TD_CHECK int disk_info(struct disk_env *env, pid_t pid, struct disk_info *ret, struct td_err *ret_err);
/* Of all there are.  The caller's: free each spec, then the array. */
TD_CO TD_CHECK int disk_info_all(struct disk_env *env, struct disk_info **ret, size_t *ret_nr,
				 struct td_err *ret_err);

/* d->pid is 0.  Sets pid, spec, features and listens.  spec is copied. */
TD_CO TD_CHECK int disk_start(struct disk *d, const char *spec, bool read_only, struct td_err *ret_err);
/* The same with one that lives.  info->spec is taken over by copy. */
TD_CO TD_CHECK int disk_adopt(struct disk *d, const struct disk_info *info, bool borrowed,
			      struct td_err *ret_err);
/* It died, or does not answer: make sure of it, so that the image is nobody's, and forget its pid. */
TD_CO TD_CHECK int disk_bury(struct disk *d, struct td_err *ret_err);
/* End it and wait until its image is closed; a borrowed one is only let go. */
TD_CO TD_CHECK int disk_end(struct disk *d, struct td_err *ret_err);

/* Ask again for what may have changed: features, spec. */
TD_CO TD_CHECK int disk_refresh(struct disk *d, struct td_err *ret_err);

TD_CO TD_CHECK int disk_connect(struct disk *d, const struct frontend *f, bool persistent, uint64_t cookie,
				bool recover, struct td_err *ret_err);
/* Drained and unmapped; not connected is success. */
TD_CO TD_CHECK int disk_disconnect(struct disk *d, struct td_err *ret_err);

/*
 * What a tapdisk has noted that it opens instead of what it was started with (tap-ctl unpause -a), before it did: we
 * may have died with it, or not have heard it.  The caller's; NULL: nothing.
 */
char *disk_noted_spec(const struct disk *d);
void disk_forget_spec(const struct disk *d);

/* Remove what a killed tapdisk kept of the requests in flight: nobody waits for them any more. */
void disk_drop_journal(const struct disk *d);

#endif
