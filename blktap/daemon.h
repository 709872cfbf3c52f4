// SPDX-License-Identifier: BSD-2-Clause
/*
 * One tapdisk: what the disk runs on, the disk, its exports, and the control socket.
 *
 *	main.c		the command line, daemonizing
 *	daemon.c	starting, opening, closing, ending
 *	daemon-ring.c	connecting and disconnecting Xen guests
 *	daemon-sandbox.c	what is left to it in the sandbox
 *	control.c	the control socket: lines in, lines out
 *	control-cmd.c	the commands
 *	control-ring.c	the commands for Xen guests' rings
 *	control-info.c	what info and stats say
 *	control-events.c	what is told to who asked for events
 */
#ifndef BLKTAP_DAEMON_H
#define BLKTAP_DAEMON_H

#include "config.h"
#include "sandbox.h"
#include <blktap/export.h>
#include <blktap/io.h>
#include <blktap/lock.h>
#include <blktap/loop.h>
#include <blktap/policy.h>
#include <blktap/pool.h>

#define DAEMON_MAX_EXPORTS 16

/* A sanitizer looks at files and starts processes of its own: in its builds the sandbox has to be asked for. */
#ifdef TD_SANITIZE
#define DAEMON_SANDBOX_OFF true
#else
#define DAEMON_SANDBOX_OFF false
#endif

struct export_request {
	const struct td_export_ops *ops;
	const char *address;
};

/* From the command line; strings of main's. */
struct daemon_options {
	const char *name, *engine, *spec;
	unsigned depth;
	int minor; /* -1: none */
	bool read_only;
	int on_enospc;       /* 1: wait, 0: report, -1: as blktap.conf says */
	int request_timeout; /* seconds; -1: as blktap.conf says */
	const char *user;    /* in the sandbox; NULL: stay */
	const char *sandbox; /* "on", "off"; NULL: what the configuration says */
	const char *allow[32];
	bool allow_write[32];
	unsigned nr_allow;
	struct export_request exports[DAEMON_MAX_EXPORTS];
	unsigned nr_exports;
};

struct daemon {
	struct td_env env;
	struct td_policy policy;
	struct sandbox sandbox;
	int statm; /* /proc/self/statm, which a sandbox does not open; -1: none */
	struct td_vbd *vbd;
	struct td_export *exports[DAEMON_MAX_EXPORTS];
	unsigned nr_exports;
	int minor;
	int marker;                    /* the minor's, open and locked; -1: none */
	struct td_vbd_policy defaults; /* of a disk that is given no other */
	struct td_mutex lock;          /* one of open, close, end at a time */
	unsigned commands; /* of the control socket, running: the loop turns until they are done */
	bool ending;
	int end_result; /* of the last flush and close */

	/* The control socket's, if there is one: a guest's export stopped by itself.  From an event. */
	void (*guest_stopped)(void *arg, const struct td_export *e);
	void *guest_stopped_arg;
};

/* Loop, engine, signals, disk, exports: everything serves afterwards. */
TD_CHECK int daemon_start(struct daemon *d, const struct daemon_options *o, struct td_err *ret_err);

/* Until SIGTERM or `shutdown`, then in order: exports, disk.  0, or the errno of the last flush or close. */
TD_CHECK int daemon_run(struct daemon *d);

/* After daemon_run, or after a failed daemon_start. */
void daemon_free(struct daemon *d);

/* Begin the end. From anywhere; twice is fine. */
void daemon_end(struct daemon *d);

/* ---- for the control socket: in coroutines ---- */

/*
 * Open spec and start these exports; all or nothing.  nr 0: on nbd<pid>.<minor> in the run-time directory.
 * policy NULL: the default.
 */
TD_CO TD_CHECK int daemon_open(struct daemon *d, const char *spec, unsigned open_flags,
			       const struct td_vbd_policy *policy, const struct export_request *exports,
			       unsigned nr, struct td_err *ret_err);

/* Stop the exports, close the disk. */
TD_CO TD_CHECK int daemon_close(struct daemon *d, struct td_err *ret_err);

/* ---- daemon-sandbox.c ---- */

/* Into the sandbox, unless it is off: with a disk open, outside coroutines. */
TD_CHECK int daemon_sandbox(struct daemon *d, struct td_err *ret_err);

/* What the sandbox would refuse, refused with a sentence. */
TD_CHECK int daemon_may_open(const struct daemon *d, const char *spec, bool read_only,
			     struct td_err *ret_err);
TD_CHECK int daemon_may_listen(const struct daemon *d, const char *address, struct td_err *ret_err);

/* ---- daemon-ring.c: in coroutines again ---- */

/* Serve a guest's ring.  -EEXIST: this guest has one already; -ENODEV: no disk is open, or no Xen. */
TD_CO TD_CHECK int daemon_ring_connect(struct daemon *d, const struct td_xen_setup *setup,
				       struct td_err *ret_err);

/* Answer what is in flight, also on a paused disk, and forget it.  -ENOENT: there is none. */
TD_CO TD_CHECK int daemon_ring_disconnect(struct daemon *d, uint32_t domid, uint32_t devid,
					  struct td_err *ret_err);

/* ---- between the two ---- */

/* Run it outside coroutines, where there is more stack. */
TD_CO TD_CHECK int daemon_outside(struct daemon *d, int (*fn)(void *arg), void *arg);

/* Into the list; out of it and freed (outside coroutines). */
TD_CHECK int daemon_add_export(struct daemon *d, struct td_export *e);
void daemon_drop_export(struct daemon *d, struct td_export *e);

#endif
