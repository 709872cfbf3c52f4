// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which disk a backend folder means, and whether it is ours to serve.  Pure: what had to be looked up is handed in.
 *
 * More than one daemon may watch a class: xapi's tapback has vbd3, QEMU has qdisk, the kernel's xen-blkback has vbd.
 * What is not surely ours is SOURCE_FOREIGN, and then nothing is ever written there.
 */
#ifndef TAPBACK_SOURCE_H
#define TAPBACK_SOURCE_H

#include <blktap/err.h>
#include <sys/types.h>

enum source_file { SOURCE_FILE_NONE, SOURCE_FILE_REGULAR, SOURCE_FILE_BLOCK };

/* The folder's nodes; NULL: there is none of that name. */
struct source_in {
	const char *class, *script, *params, *mode, *device_type, *phys_path;
	const char *run_dir;   /* where our tapdisks' sockets are */
	enum source_file kind; /* of params, if that is a path */
	bool blkback;          /* plain block devices are xen-blkback's */
	bool taken;            /* a kernel driver is bound to it */
	bool marked;           /* it bears our tapdisk-pid or ring-cookie */
	unsigned state;
};

enum source_verdict {
	SOURCE_OURS,    /* we start a tapdisk for it */
	SOURCE_LATER,   /* its script will start one, and say so in physical-device-path */
	SOURCE_BORROW,  /* its script has started one: pid and minor; ours if it answers us */
	SOURCE_FOREIGN, /* why: a word for the log; by_script: our script waits, and is told so */
	SOURCE_BAD,     /* ours, and it cannot be served: ret_err says why */
};

struct source {
	char *spec; /* OURS: the caller's, for source_free */
	pid_t pid;  /* BORROW */
	int minor;
	const char *why;
	bool read_only, cdrom;
	bool by_script;  /* our script waits for what we write to hotplug-status */
	bool needs_plug; /* connect only after a script wrote hotplug-status=connected */
};

enum source_verdict source_of(const struct source_in *in, struct source *ret, struct td_err *ret_err);
void source_free(struct source *s);

/* Does params have to be looked at (source_in.kind)? The path, or NULL. */
const char *source_path(const char *class, const char *script, const char *params);

#endif
