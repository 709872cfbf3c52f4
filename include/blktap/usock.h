// SPDX-License-Identifier: BSD-2-Clause
/*
 * A listening unix socket as a file: only for its owner (0600), a dead one in the way is replaced, one that somebody
 * listens on is not, and at the end only the file that we made is removed.
 */
#ifndef BLKTAP_USOCK_H
#define BLKTAP_USOCK_H

#include <blktap/err.h>
#include <sys/types.h>

struct td_usock {
	int fd;     /* non-blocking */
	char *path; /* NULL: not open */
	dev_t dev;
	ino_t ino;
};

/* type: SOCK_STREAM, SOCK_SEQPACKET; what: "nbd", for sentences.  td_usock_close() also after a failure. */
TD_CHECK int td_usock_listen(struct td_usock *s, const char *what, const char *path, int type, int backlog,
			     struct td_err *ret_err);
void td_usock_close(struct td_usock *s);

#endif
