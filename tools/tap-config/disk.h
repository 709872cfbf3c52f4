// SPDX-License-Identifier: BSD-2-Clause
/*
 * One disk of a configuration: what its string says, as libxl's parser reads it (xl-disk-configuration(5)), and as xm
 * read it where xl refuses it.  Pure.
 */
#ifndef TAP_CONFIG_DISK_H
#define TAP_CONFIG_DISK_H

#include <blktap/err.h>

/* libxl's. */
enum disk_format {
	FORMAT_UNKNOWN,
	FORMAT_RAW,
	FORMAT_QCOW,
	FORMAT_QCOW2,
	FORMAT_VHD,
	FORMAT_EMPTY,
	FORMAT_QED
};
enum disk_backend { BACKEND_UNKNOWN, BACKEND_PHY, BACKEND_TAP, BACKEND_QDISK, BACKEND_STANDALONE };
enum disk_bool { BOOL_DEFAULT, BOOL_NO, BOOL_YES };

struct disk {
	char *target, *vdev, *script, *backend_domain; /* NULL: not given */
	enum disk_format format;
	enum disk_backend backend;
	bool writable, cdrom, removable, direct_io_safe;
	bool virtio;    /* specification=virtio */
	bool xen_given; /* specification=xen, as opposed to nothing */
	enum disk_bool discard, trusted, grant_usage;
	bool colo; /* any of the replication options: not ours, kept as the line is */

	/* Only of disk_parse_wide: */
	bool wide;    /* a format word that libxl does not have goes into driver */
	char *driver; /* "vmdk": a format that only our drivers know; NULL: libxl's format says it */
	bool force;   /* w! or r!: xm's check for other users was switched off */
};

/* Longer ones do not fit into xenstore. */
#define DISK_TEXT_MAX 8192

/* d: all-zero before; disk_done() also after a failure.  -EINVAL: xl refuses it, and why. */
TD_CHECK int disk_parse(const char *text, struct disk *d, struct td_err *ret_err);

/*
 * What xl refuses and is clear all the same: xm's [prefix:]...PATH,vdev[:cdrom|:disk],mode[,backend-domain], and xl's
 * own syntax with a format that libxl does not have.
 */
TD_CHECK int disk_parse_wide(const char *text, struct disk *d, struct td_err *ret_err);

void disk_done(struct disk *d);

/* "raw", "qcow2" ...; "phy", "qdisk" ... */
const char *disk_format_name(enum disk_format f);
const char *disk_backend_name(enum disk_backend b);

/* ---- terms.c ---- */

/* Does libxl run our hotplug script for it? */
bool disk_is_ours(const struct disk *d);

/*
 * The disk as a specification (blktap-spec(7)); a new string of the caller's, NULL where there is none: an empty drive,
 * somebody else's script.
 */
TD_CHECK int disk_spec(const struct disk *d, char **ret_spec);

/*
 * The disk as a string that xl takes.  to_us: as a line for our script, which d has to have a specification for.
 * -EINVAL: there is no such string.
 */
TD_CHECK int disk_render(const struct disk *d, bool to_us, char **ret_text, struct td_err *ret_err);

#endif
