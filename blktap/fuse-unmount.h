// SPDX-License-Identifier: BSD-2-Clause
/*
 * Who unmounts for a daemon in its sandbox, which may do that no more: a small process beside it.
 */
#ifndef BLKTAP_FUSE_UNMOUNT_H
#define BLKTAP_FUSE_UNMOUNT_H

#include <blktap/err.h>

/* As given to --fuse or --fuse-dir. */
struct fuse_place {
	const char *address;
	bool dir;
};

/*
 * Start it, for these places only, while this process has neither threads nor descriptors of importance.  argv: main's,
 * which is overwritten there so that nobody takes it for the daemon.
 */
TD_CHECK int fuse_unmounter_start(const struct fuse_place *places, unsigned nr, char **argv,
				  struct td_err *ret_err);

bool fuse_unmounter_runs(void);

/* path: absolute; unmount it, and then remove the file under the mount, if that is empty. */
TD_CHECK int fuse_unmounter_ask(const char *path, bool unmount, bool remove);

/* Unmount, lazily, by ourselves. */
TD_CHECK int fuse_unmount(const char *path);

/* Its directory resolved, its last part as it is: a dead mount there must not be looked at.  The caller frees it. */
TD_CHECK int fuse_absolute_path(const char *path, char **ret_path, struct td_err *ret_err);

/* A directory may be ".", and a link to one; not where a dead mount has to be found first. */
TD_CHECK int fuse_absolute_dir(const char *path, char **ret_path, struct td_err *ret_err);

#endif
