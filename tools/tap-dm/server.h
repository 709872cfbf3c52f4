// SPDX-License-Identifier: BSD-2-Clause
/*
 * The sockets on which QMP is spoken, and the loop that serves them.
 */
#ifndef TAP_DM_SERVER_H
#define TAP_DM_SERVER_H

#include "args.h"
#include "qmp.h"

struct dm_conn {
	struct qmp q;
	int fd; /* -1: nobody is connected */
	int listen_fd;
	const struct dm_socket *socket;
};

struct dm_server {
	struct qmp_dm dm;
	unsigned nr;
	struct dm_conn conn[DM_SOCKETS]; /* one client at a time each, as with QEMU; the others wait */
	json_t *chardevs;
};

/* a stays the caller's as long as the server is there. */
TD_CHECK int dm_server_open(struct dm_server *s, const struct dm_args *a, struct td_err *ret_err);

/* Until a client says quit, or signal_fd (a signalfd) is readable. */
TD_CHECK int dm_server_run(struct dm_server *s, int signal_fd, struct td_err *ret_err);

/* Also after a failed open.  Removes the sockets that it made. */
void dm_server_close(struct dm_server *s);

#endif
