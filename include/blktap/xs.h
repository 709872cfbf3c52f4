// SPDX-License-Identifier: BSD-2-Clause
/*
 * Xenstore, in our terms: for tapback and the tools.  Blocking, one round trip to xenstored a call.
 *
 * Where Xen is absent, or this was built without its libraries, td_xs_connect says so and nothing else can be called.
 * Paths are absolute.  A missing node is -ENOENT.  What a guest wrote is untrusted text: numbers are parsed strictly.
 */
#ifndef BLKTAP_XS_H
#define BLKTAP_XS_H

#include <blktap/err.h>

#define TD_XS_VALUE_MAX 4096

struct td_xs;

/* *ret_xs is the caller's to close; closing drops watches and an open transaction.  NULL is fine there. */
TD_CHECK int td_xs_connect(struct td_xs **ret_xs, struct td_err *ret_err);
void td_xs_close(struct td_xs *xs);

/* Is this the control domain of a running Xen? (No connection needed.) */
bool td_xs_is_dom0(void);

/* ---- one node ---- */

/* *ret_value is the caller's (free).  -EINVAL: it holds a zero byte. */
TD_CHECK int td_xs_read(struct td_xs *xs, const char *path, char **ret_value);
TD_CHECK int td_xs_read_u64(struct td_xs *xs, const char *path,
			    uint64_t *ret); /* -EINVAL: no decimal number */
TD_CHECK int td_xs_write(struct td_xs *xs, const char *path, const char *fmt, ...) TD_PRINTF(3, 4);
TD_CHECK int td_xs_remove(struct td_xs *xs, const char *path); /* gone already is success */
/* Names below it. *ret_names and what it holds are one block: free it once. */
TD_CHECK int td_xs_list(struct td_xs *xs, const char *path, char ***ret_names, unsigned *ret_nr);
/* Owner, and one domain that may read. */
TD_CHECK int td_xs_mkdir(struct td_xs *xs, const char *path, unsigned owner, unsigned reader);

/*
 * Several calls at once, seen by others all or none: begin, calls above, commit.  -EAGAIN: somebody else changed what
 * was read, do it all again.  One at a time.
 */
TD_CHECK int td_xs_begin(struct td_xs *xs);
TD_CHECK int td_xs_commit(struct td_xs *xs);
void td_xs_abort(struct td_xs *xs);

/* ---- watches ---- */

/* Fires once at once, then for each change at or below path. */
TD_CHECK int td_xs_watch(struct td_xs *xs, const char *path, const char *token);
void td_xs_unwatch(struct td_xs *xs, const char *path, const char *token);
/* Readable when there is one. */
int td_xs_fd(const struct td_xs *xs);
/* The next change: 1 and both strings in *ret_path (free that one only), 0: none now, or -errno: xenstored is gone. */
TD_CHECK int td_xs_next(struct td_xs *xs, char **ret_path, const char **ret_token);

/* ---- names of devices (xen-vbd-interface(7)) ---- */

/*
 * "xvda" 51712, "xvda1" 51713, "xvdq" 268439552, "hda", "sda", "d5p1", plain numbers (0x: hexadecimal); with or without
 * /dev/ in front.  -EINVAL.
 */
TD_CHECK int td_vdev_parse(const char *name, uint32_t *ret_number);
/* The name that parses to it: xvd, hd or sd where they are defined, else the number.  buf: at least 24 bytes. */
void td_vdev_name(uint32_t number, char *buf, size_t size);

#endif
