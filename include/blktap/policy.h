// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which files an image may make us open.  A path that the user named is always allowed, and its directory with it;
 * a path that an image names (a backing file, an extent) must lie, symbolic links resolved, in an allowed directory.
 */
#ifndef BLKTAP_POLICY_H
#define BLKTAP_POLICY_H

#include <blktap/err.h>

#define TD_POLICY_CONF "/etc/blktap/blktap.conf"

#define TD_REQUEST_TIMEOUT_MAX 86400u /* seconds */

struct td_policy_dir {
	char *path; /* real */
	bool write; /* a daemon in its sandbox may open images there for writing too */
};

struct td_policy {
	unsigned nr_dirs;
	struct td_policy_dir *dirs;
	bool probe_backing; /* a backing file without a recorded format may be probed */

	/* For whoever serves disks: what to do where a disk is given nothing else. */
	bool no_sandbox;
	bool pause_on_enospc;
	unsigned request_timeout; /* seconds; 0: none */
};

/*
 * Allow a directory and all below it ("/": everything), or a single file or device.  -ENOENT and friends if it cannot
 * be resolved.
 */
TD_CHECK int td_policy_allow(struct td_policy *p, const char *dir, struct td_err *ret_err);
TD_CHECK int td_policy_allow_write(struct td_policy *p, const char *dir, struct td_err *ret_err);

/* Allow the directory that holds the file the user named. */
TD_CHECK int td_policy_allow_file(struct td_policy *p, const char *path, struct td_err *ret_err);

/*
 * Read "allow DIR" and "NAME = VALUE" lines (blktap.conf(5)).  A missing file is success; a line it does not know is
 * -EINVAL with its number.  path NULL: $BLKTAP_CONF, else TD_POLICY_CONF.
 */
TD_CHECK int td_policy_read(struct td_policy *p, const char *path, struct td_err *ret_err);

/*
 * Open a file that an image names.  Resolves first (O_PATH), checks what was resolved, and opens just that: no
 * symbolic link can be changed in between, and nothing outside is opened.  Only a regular file or a block device is
 * opened.  Returns the descriptor, or -EACCES with a sentence that says which line would permit it.
 */
TD_CHECK int td_policy_open(const struct td_policy *p, const char *path, int open_flags,
			    struct td_err *ret_err);

/* Is real, a resolved path, dir or below it? */
bool td_policy_holds(const char *dir, const char *real);

/* Frees what is in *p, which allows nothing then. */
void td_policy_done(struct td_policy *p);

#endif
