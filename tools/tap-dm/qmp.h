// SPDX-License-Identifier: BSD-2-Clause
/*
 * QMP, the machine protocol of QEMU's monitor, for one connection: bytes in, replies out.  No sockets here.
 */
#ifndef TAP_DM_QMP_H
#define TAP_DM_QMP_H

#include <blktap/err.h>
#include <jansson.h>

/* libxl's messages have less than a tenth of this. */
#define QMP_MESSAGE_MAX (64u << 10)

/* What all connections speak of. */
struct qmp_dm {
	bool running;                                            /* as opposed to "prelaunch" */
	bool quit;                                               /* somebody said so */
	const json_t *chardevs;                                  /* what query-chardev answers */
	int (*start)(struct qmp_dm *dm, struct td_err *ret_err); /* at the first cont */
};

/* One connection; all-zero before the first byte, qmp_done() after the last. */
struct qmp {
	struct qmp_dm *dm;
	/* Sends one reply, a line with its CR LF.  -errno ends the connection. */
	int (*send)(struct qmp *q, const char *text, size_t len);
	bool negotiated;
	bool in_string, escaped; /* where in a message we are */
	unsigned depth;          /* of braces and brackets; 0: between messages */
	char *buf;
	size_t len;
};

/* What a client is greeted with. */
TD_CHECK int qmp_greet(struct qmp *q);

/* Takes what came; answers what is complete.  -errno: the connection is to be closed. */
TD_CHECK int qmp_feed(struct qmp *q, const char *data, size_t len);

void qmp_done(struct qmp *q);

#endif
