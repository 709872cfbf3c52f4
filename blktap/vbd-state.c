// SPDX-License-Identifier: BSD-2-Clause
/*
 * The states of a virtual block device.
 *
 *	CLOSED --open--> RUNNING --pause--> PAUSING --drained, flushed, closed--> PAUSED
 *	                    ^                  | the flush failed                    |
 *	                    +------------------+---------------unpause---------------+
 *
 * close leads from each of them to CLOSED.  A resize drains too, but stays RUNNING: it holds new requests back.  FULL
 * (vbd-policy.c) is RUNNING and a flag, which a pause leaves as it is and an unpause takes away.
 * Requests are accepted in every state but CLOSED; they go to the image in RUNNING only.
 */
#include "vbd-private.h"
#include <blktap/spec.h>

static void set_state(struct td_vbd *vbd, enum td_vbd_state state)
{
	vbd->state = state;
	vbd_changed(vbd);
}

/* A file of the size that clients were told, and the limits, outlive the image during a pause. */
static void remember_image(struct td_vbd *vbd)
{
	vbd->size = vbd->image->size;
	vbd->read_only = vbd->image->read_only;
	vbd->limits = vbd->image->limits;
}

/* Nothing new starts meanwhile.  Until resume_image() or close_image() no driver holds requests back. */
static void wait_drained(struct td_vbd *vbd)
{
	td_image_drain(vbd->image, true);
	while (vbd->stats.in_flight > 0)
		td_waitq_wait(&vbd->drained);
}

static void resume_image(struct td_vbd *vbd)
{
	td_image_drain(vbd->image, false);
	vbd_start_waiting(vbd);
}

/* On success image and spec are the new ones. On failure nothing has changed. */
static int open_image(struct td_vbd *vbd, const char *text, unsigned flags, struct td_err *ret_err)
{
	td_cleanup(free) char *kept = NULL;
	struct td_spec *spec;
	int r;

	r = td_spec_parse(text, &spec, ret_err);
	if (r < 0)
		return r;
	kept = strdup(spec->text);
	r = kept ? td_image_open(vbd->env, spec, flags, &vbd->image, ret_err)
		 : td_err_set(ret_err, -ENOMEM, "no memory for a disk");
	td_spec_free(spec);
	if (r < 0)
		return r;
	free(vbd->spec);
	vbd->spec = kept;
	kept = NULL;
	remember_image(vbd);
	return 0;
}

static int close_image(struct td_vbd *vbd)
{
	struct td_image *im = vbd->image;

	remember_image(vbd);
	vbd->image = NULL;
	return td_image_close(im);
}

int td_vbd_open(struct td_vbd *vbd, const char *spec, unsigned open_flags, struct td_err *ret_err)
{
	td_co_guard(&vbd->state_lock);
	int r;

	if (vbd->state != TD_VBD_CLOSED)
		return td_err_set(ret_err, -EBUSY, "%s: a disk is open already; close it first", vbd->name);
	r = open_image(vbd, spec, open_flags, ret_err);
	if (r < 0)
		return r;
	vbd->open_flags = open_flags;
	vbd->flush_owed = 0;
	vbd_not_full(vbd);
	set_state(vbd, TD_VBD_RUNNING);
	return 0;
}

/* The state is left to PAUSING while draining, so that nothing new starts meanwhile. */
int td_vbd_close(struct td_vbd *vbd)
{
	td_co_guard(&vbd->state_lock);
	int r = 0, r_close;

	if (vbd->state == TD_VBD_CLOSED)
		return 0;
	if (vbd->image) {
		set_state(vbd, TD_VBD_PAUSING);
		wait_drained(vbd);
		if (!vbd->image->read_only)
			r = td_image_flush(vbd->image);
		r_close = close_image(vbd);
		r = r < 0 ? r : r_close;
	}
	set_state(vbd, TD_VBD_CLOSED);
	vbd_fail_waiting(vbd, -ESHUTDOWN);
	free(vbd->spec);
	vbd->spec = NULL;
	return r;
}

static int run_on(struct td_vbd *vbd, int r, struct td_err *ret_err)
{
	set_state(vbd, TD_VBD_RUNNING);
	resume_image(vbd);
	return td_err_set(ret_err, r, "%s: cannot be paused, the flush failed: %s; it runs on",
			  vbd->image->name, strerrordesc_np(-r));
}

/* It takes no writes any more: running on is of no use, and to open it anew is the way out. */
static bool is_frozen(const struct td_image *im)
{
	while (im && !im->frozen)
		im = im->child;
	return im != NULL;
}

int td_vbd_pause(struct td_vbd *vbd, struct td_err *ret_err)
{
	td_co_guard(&vbd->state_lock);
	int r = 0;

	if (vbd->state == TD_VBD_PAUSED)
		return 0;
	if (vbd->state != TD_VBD_RUNNING)
		return td_err_set(ret_err, -ENODEV, "%s: there is no open disk to pause", vbd->name);
	set_state(vbd, TD_VBD_PAUSING);
	wait_drained(vbd);
	if (!vbd->image->read_only)
		r = td_image_flush(vbd->image);
	if (r < 0 && !is_frozen(vbd->image))
		return run_on(vbd, r, ret_err);
	r = close_image(vbd);
	set_state(vbd, TD_VBD_PAUSED);
	if (r == 0)
		return 0;
	vbd->flush_owed = -EIO;
	return td_err_set(
		ret_err, r,
		"%s: paused, but flushing or closing it failed: %s; check the image before unpausing",
		vbd->spec, strerrordesc_np(-r));
}

int td_vbd_unpause(struct td_vbd *vbd, const char *spec, struct td_err *ret_err)
{
	td_co_guard(&vbd->state_lock);
	int r;

	if (vbd->state == TD_VBD_RUNNING && !spec) {
		vbd_not_full(vbd);
		vbd_start_waiting(vbd);
		return 0;
	}
	if (vbd->state == TD_VBD_RUNNING)
		return td_err_set(ret_err, -EBUSY, "%s: runs; pause it before it changes to another image",
				  vbd->name);
	if (vbd->state != TD_VBD_PAUSED)
		return td_err_set(ret_err, -ENODEV, "%s: there is no paused disk", vbd->name);
	r = open_image(vbd, spec ? spec : vbd->spec, vbd->open_flags, ret_err);
	if (r < 0)
		return r;
	set_state(vbd, TD_VBD_RUNNING);
	vbd_not_full(vbd);
	vbd_start_waiting(vbd);
	return 0;
}

/* ---- resize ---- */

static int check_resize(const struct td_vbd *vbd, uint64_t size, struct td_err *ret_err)
{
	if (vbd->state == TD_VBD_CLOSED)
		return td_err_set(ret_err, -ENODEV, "%s: there is no open disk to resize", vbd->name);
	if (td_vbd_state(vbd) != TD_VBD_RUNNING)
		return td_err_set(ret_err, -EBUSY, "%s: is paused; unpause it before it is resized",
				  vbd->name);
	if (size % 512)
		return td_err_set(ret_err, -EINVAL, "%s: the size of a disk is a multiple of 512",
				  vbd->image->name);
	if (size < vbd->image->size)
		return td_err_set(ret_err, -ENOTSUP,
				  "%s: has %llu bytes; a disk that is served can only become larger",
				  vbd->image->name, (unsigned long long)vbd->image->size);
	return 0;
}

/* Drivers change tables and ends of files here that requests look at: none is in the image meanwhile. */
int td_vbd_resize(struct td_vbd *vbd, uint64_t size, struct td_err *ret_err)
{
	td_co_guard(&vbd->state_lock);
	int r = check_resize(vbd, size, ret_err);

	if (r < 0)
		return r;
	vbd->held = true;
	wait_drained(vbd);
	r = td_image_resize(vbd->image, size, 0, ret_err);
	if (r == 0) {
		r = td_image_flush(vbd->image); /* who is told of the new size may count on it */
		if (r < 0)
			td_err_set(ret_err, r, "%s: resized, but the flush failed: %s", vbd->image->name,
				   strerrordesc_np(-r));
	}
	vbd->held = false;
	vbd_changed(vbd);
	resume_image(vbd);
	return r;
}

/* ---- options ---- */

/* The new specification first: once the driver has the options nothing may fail any more. */
static int set_options(struct td_vbd *vbd, const char *driver, struct td_opts *opts, struct td_err *ret_err)
{
	char *spec = NULL;
	int r = td_spec_change(vbd->spec, driver, opts, &spec, NULL);

	/* What the specification does not name may be in the stack all the same: the image says what is wrong. */
	if (r < 0 && r != -ENOENT)
		return td_err_set(ret_err, r, "%s: cannot be changed: %s", vbd->spec, strerrordesc_np(-r));
	r = td_image_set(vbd->image, driver, opts, ret_err);
	if (r == -ENOENT)
		td_err_set(ret_err, r,
			   "there is no %s in the stack of this disk; a filter is put in front: %s/%s",
			   driver, driver, vbd->spec);
	if (r < 0 || !spec) {
		free(spec);
		return r;
	}
	free(vbd->spec);
	vbd->spec = spec;
	return 0;
}

int td_vbd_set(struct td_vbd *vbd, const char *driver, const char *text, struct td_err *ret_err)
{
	struct td_opts opts = { 0 };
	int r;
	td_co_guard(&vbd->state_lock);

	if (!vbd->image)
		return td_err_set(ret_err, vbd->spec ? -EBUSY : -ENODEV, "%s: %s", vbd->name,
				  vbd->spec ? "is paused: unpause it, with other options if you like"
					    : "there is no open disk");
	r = td_opts_parse(&opts, text, strlen(text), ret_err);
	if (r == 0)
		r = set_options(vbd, driver, &opts, ret_err);
	td_opts_done(&opts);
	return r;
}
