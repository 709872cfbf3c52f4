// SPDX-License-Identifier: BSD-2-Clause
/*
 * All that is there: daemons, their disks, and what is left of dead ones, as one table.
 */
#ifndef TAP_CTL_TAPS_H
#define TAP_CTL_TAPS_H

#include <blktap/err.h>
#include <jansson.h>
#include <sys/types.h>

/* Bits of "state=", as scripts know them from other tapdisks. */
#define TAP_DEAD              0x01
#define TAP_CLOSED            0x02
#define TAP_QUIESCE_REQUESTED 0x04
#define TAP_QUIESCED          0x08
#define TAP_PAUSE_REQUESTED   0x10
#define TAP_PAUSED            0x20

enum tap_kind {
	TAP_LIVE,  /* a daemon; it may have no disk */
	TAP_GONE,  /* the socket of a daemon that is no more */
	TAP_MUTE,  /* a daemon that takes connections and does not answer */
	TAP_MARKER /* a minor that no daemon has */
};

struct tap {
	enum tap_kind kind;
	pid_t pid;    /* -1: none */
	int minor;    /* -1: none */
	pid_t marked; /* what the minor's marker holds; -1: nothing, or there is no marker */
	int state;    /* TAP_* bits; -1: no disk, or not known */
	char *spec;   /* NULL: no disk */
	json_t *info; /* the daemon's own answer; NULL unless LIVE */
};

struct taps {
	struct tap *tap;
	size_t nr;
};

/* *ret is the caller's: taps_done. */
TD_CHECK int taps_read(struct taps *ret, struct td_err *ret_err);
void taps_done(struct taps *t);

/*
 * The one that is meant by a pid, a minor, or both (-1: not given).  -ENOENT: there is none; -EINVAL: neither
 * number is given, or more than one disk fits, or both are given and do not belong together.
 */
TD_CHECK int taps_find(const struct taps *t, int pid, int minor, const struct tap **ret,
		       struct td_err *ret_err);

/* taps_find for a verb that talks to the daemon: there has to be one. */
TD_CHECK int tap_resolve(int pid, int minor, pid_t *ret_pid, int *ret_minor, struct td_err *ret_err);

#endif
