// SPDX-License-Identifier: BSD-2-Clause
/*
 * Between the files of tap-ctl gc: the verb (gc.c), what is said (gc-report.c), and who finds what (the other gc-*.c).
 *
 * Nothing is taken away that a process holds: that is told by locks, by sockets that are listened on and by mounts that
 * answer; a name or a number alone proves nothing.
 */
#ifndef TAP_CTL_GC_H
#define TAP_CTL_GC_H

#include "taps.h"

struct gc {
	bool dry_run, force;
	json_t *list; /* what was found, for --json; NULL: it is printed line by line */
	unsigned failed;
};

/*
 * This is left over, and why.  Unless this is a dry run, remove(arg) is called; either way it is said.  what: "socket
 * /run/...".  remove: 0, or -errno with a sentence.
 */
void gc_orphan(struct gc *gc, const char *what, const char *why,
	       int (*remove)(const void *arg, struct td_err *ret_err), const void *arg);

/* This looks left over and stays, because of why. */
void gc_kept(struct gc *gc, const char *what, const char *why);

/* A plain file: gc_orphan's remove, with its path. */
TD_CHECK int gc_unlink(const void *path, struct td_err *ret_err);

/* One finder each.  -errno: it could not look. */
TD_CHECK int gc_daemons(struct gc *gc, struct td_err *ret_err);  /* sockets and minors */
TD_CHECK int gc_run_dir(struct gc *gc, struct td_err *ret_err);  /* other files there */
TD_CHECK int gc_attached(struct gc *gc, struct td_err *ret_err); /* what block-attach began */
TD_CHECK int gc_mounts(struct gc *gc, struct td_err *ret_err);   /* FUSE, and loop devices on it */

#endif
