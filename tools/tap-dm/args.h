// SPDX-License-Identifier: BSD-2-Clause
/*
 * QEMU's command line, as far as libxl gives it to the device model of a PV or PVH domain.
 */
#ifndef TAP_DM_ARGS_H
#define TAP_DM_ARGS_H

#include <blktap/err.h>

#define DM_SOCKETS 4

/* A -chardev socket: where QMP is spoken. */
struct dm_socket {
	char id[32];
	char path[108]; /* empty: fd */
	int fd;         /* a listening socket that was handed over; -1: path */
	bool control;   /* a -mon names it */
};

struct dm_args {
	int domid;           /* -1: not given */
	char machine[32];    /* "xenpv", "none", ...; "" not given */
	bool paused;         /* -S */
	bool daemonize;      /* in the background when ready */
	bool no_xenstore;    /* --no-xenstore */
	bool help, version;  /* to be answered, and nothing else */
	const char *pidfile; /* argv's own */
	unsigned nr_sockets;
	struct dm_socket socket[DM_SOCKETS];
};

/*
 * -ENOTSUP with a sentence for whatever a real QEMU would do and this does not: an HVM machine, a display, a device.
 * -EINVAL for what no QEMU understands either.
 */
TD_CHECK int dm_args_parse(int argc, char *const *argv, struct dm_args *ret_args, struct td_err *ret_err);

#endif
