// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the files of this folder know of each other: the drivers' tables, and the few calls that are nobody else's.
 * A new driver is declared here and listed in registry.c.
 */
#ifndef DRIVERS_DRIVERS_H
#define DRIVERS_DRIVERS_H

#include <blktap/err.h>
#include <blktap/image.h>
#include <blktap/iov.h>
#include <blktap/opts.h>
#include <blktap/policy.h>
#include <blktap/spec.h>

extern const struct td_driver td_aio, td_fault, td_null, td_qcow, td_qcow2, td_ram, td_stdout, td_throttle,
	td_vdi, td_vhd, td_vhdx, td_vmdk;

/* An image never ends beyond this, so that every offset is a positive off_t. */
#define TD_IMAGE_MAX ((uint64_t)INT64_MAX)

/* What of a file's head and tail the format probe looks at. */
#define TD_PROBE_HEAD 65536u
#define TD_PROBE_TAIL 512u

/* Where a stack is opened: what its drivers run on, and which files they may open. */
struct td_place {
	struct td_env *env;
	const struct td_policy *policy;
	struct td_opts *leaf_opts; /* of the stack that is being opened; set by stack.c */
};

/* Further files of an image that is being made. */
struct td_made {
	const struct td_policy *policy;
	struct td_opts *leaf_opts; /* of the image's own leaf */
	char **path;               /* those that were not there before */
	unsigned nr;
};

/* ---- part.c ---- */

void td_made_done(struct td_made *made, bool remove);

/* ---- stack.c ---- */

/* Open one driver above child (NULL under a leaf).  The child stays the caller's on failure. */
TD_CO TD_CHECK int td_node_open(const struct td_place *at, const struct td_driver *drv, const char *path,
				struct td_opts *opts, unsigned flags, struct td_image *child,
				struct td_image **ret_im, struct td_err *ret_err);

/*
 * The drivers of a specification, from the top to the leaf: drv[TD_SPEC_NODES + 1], *ret_nr of them, auto resolved and
 * the leaf that was left out added.
 */
TD_CO TD_CHECK int td_stack_drivers(const struct td_place *at, struct td_spec *spec, unsigned flags,
				    const struct td_driver **drv, unsigned *ret_nr, struct td_err *ret_err);

/* Open them from number from (0: the top) down to the leaf, without backing images. */
TD_CO TD_CHECK int td_stack_open_from(const struct td_place *at, struct td_spec *spec,
				      const struct td_driver *const *drv, unsigned nr, unsigned from,
				      unsigned flags, struct td_image **ret_im, struct td_err *ret_err);
TD_CO TD_CHECK int td_stack_open(const struct td_place *at, struct td_spec *spec, unsigned flags,
				 struct td_image **ret_im, struct td_err *ret_err);

/* Close without a flush; the backing images are the caller's. */
TD_CO TD_CHECK int td_stack_close(struct td_image *im);

/* The memory of a closed image. */
void td_image_free(struct td_image *im);

/* -EINVAL if an option was given that no driver used. */
TD_CHECK int td_spec_unused(const struct td_spec *spec, struct td_err *ret_err);

/* ---- the rest ---- */

/* Which driver reads this file?  *ret_drv is a format or aio; a format without a driver is refused by its name. */
TD_CO TD_CHECK int td_probe_image(struct td_image *leaf, const struct td_driver **ret_drv,
				  struct td_err *ret_err);

/* A copy of src (may be NULL), with the directories of path, which the user named, allowed too.  td_policy_done. */
TD_CHECK int td_policy_copy(struct td_policy *dst, const struct td_policy *src, const char *path,
			    struct td_err *ret_err);

/* A specification of one node, made of its parts; td_spec_free. */
TD_CHECK int td_spec_make(const char *driver, const char *path, struct td_spec **ret_spec,
			  struct td_err *ret_err);

#endif
