// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a tapdisk needs of the system once its disk is open, to be left to it in the sandbox.
 *
 *	the allowed directories		to read; to write where that was said (allow-write)
 *	the image's directory		to read, and to write if the disk is writable: a live snapshot is an overlay
 *					there that `unpause` opens.  Nothing is made or removed in it
 *	a block device			itself alone: in /dev there are too many others
 *	key files			themselves, to read: unpause opens the images anew
 *	the run-time directory		all: sockets, what outlives a kill, rings' journals
 *	directories of sockets		to remove them at the end
 *	/dev/xen/gntdev, evtchn		for guests that connect later
 *
 * What /proc, the time zone or a library's generator of random numbers tell is asked before, once.
 */
#include "daemon.h"
#include <blktap/ctl.h>
#include <blktap/keep.h>
#include <blktap/spec.h>
#include <malloc.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- images ---- */

static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
}

/* The directory of path; but for "/", or everything would be allowed for the sake of /disk.img. */
static int add_parent(struct sandbox *s, const char *path, unsigned rights, struct td_err *ret_err)
{
	td_cleanup(free) char *dir = parent_of(path);

	if (!dir)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
	return strcmp(dir, "/") == 0 ? 0 : sandbox_add(s, dir, rights, ret_err);
}

/*
 * What its directory does not bring with it: a device, and a file in "/".  No other file is named itself, because a
 * rule holds on to what it names: when the disk has moved on, the old image's space would not be free until the process
 * ends.
 */
static int add_itself(struct sandbox *s, const char *path, unsigned rights, struct td_err *ret_err)
{
	td_cleanup(free) char *real = realpath(path, NULL);
	struct stat st;
	int r = 0;

	if (!real || stat(real, &st) < 0)
		return 0;
	if (S_ISBLK(st.st_mode)) /* what its queue can do is told in /sys */
		r = sandbox_add(s, "/sys/devices", SANDBOX_READ, ret_err);
	else if (strrchr(real, '/') != real)
		return 0;
	return r < 0 ? r : sandbox_add(s, real, rights, ret_err);
}

/* Where an overlay of the image would be: beside it, or beside a symbolic link to it. */
static int add_around(struct sandbox *s, const char *path, unsigned rights, struct td_err *ret_err)
{
	td_cleanup(free) char *real = realpath(path, NULL);
	struct stat st;
	int r;

	if (!real || stat(real, &st) < 0 || S_ISBLK(st.st_mode))
		return 0;
	r = add_parent(s, real, rights, ret_err);
	return r < 0 ? r : add_parent(s, path, rights, ret_err);
}

/*
 * Further files of the image.  They lie in allowed directories, where they can be read; to be written when the disk is
 * opened again after a pause, those that are not beside the image need a rule of their own.
 */
static int add_parts(struct sandbox *s, const struct td_image *im, unsigned rights, struct td_err *ret_err)
{
	int r = 0;

	for (const struct td_image *p = im->parts; p && r == 0; p = p->next_part) {
		td_cleanup(free) char *real = realpath(p->path, NULL);

		if (real && !sandbox_has(s, real, rights))
			r = sandbox_add(s, real, rights, ret_err);
	}
	return r;
}

static int add_images(struct sandbox *s, const struct td_image *top, bool read_only, struct td_err *ret_err)
{
	unsigned rights = SANDBOX_READ | (read_only ? 0 : SANDBOX_WRITE);
	const struct td_image *layer = top, *next;
	int r = 0;

	for (; layer && r == 0; layer = next) {
		const struct td_image *leaf = layer;

		next = layer->backing;
		for (; leaf->child; leaf = leaf->child)
			next = leaf->child->backing ? leaf->child->backing : next;
		if (*leaf->path)
			r = add_itself(s, leaf->path, layer == top ? rights : SANDBOX_READ, ret_err);
		if (r == 0 && *leaf->path && layer == top)
			r = add_around(s, leaf->path, rights, ret_err);
		for (const struct td_image *im = layer; im && r == 0 && layer == top; im = im->child)
			r = add_parts(s, im, rights, ret_err);
	}
	return r;
}

/* ---- key files ---- */

typedef int key_fn(void *arg, const char *path, struct td_err *ret_err);

/* fn of each key file that a specification names. */
static int each_key(const char *text, key_fn *fn, void *arg, struct td_err *ret_err)
{
	struct td_spec *spec;
	int r = td_spec_parse(text, &spec, ret_err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < spec->nr; i++) {
		const char *path = td_opts_get(&spec->node[i].opts, "key-file");

		if (r == 0 && path)
			r = fn(arg, path, ret_err);
	}
	td_spec_free(spec);
	return r;
}

static int add_key(void *arg, const char *path, struct td_err *ret_err)
{
	return sandbox_add(arg, path, SANDBOX_READ, ret_err);
}

/* ---- the rest ---- */

static int add_allowed(struct sandbox *s, const struct td_policy *p, bool read_only, struct td_err *ret_err)
{
	int r = 0;

	for (unsigned i = 0; i < p->nr_dirs && r == 0; i++)
		r = sandbox_add(s, p->dirs[i].path,
				SANDBOX_READ | (p->dirs[i].write && !read_only ? SANDBOX_WRITE : 0), ret_err);
	return r;
}

static int add_run_dir(struct sandbox *s, struct td_err *ret_err)
{
	const char *dir;

	if (td_run_dir(&dir, NULL) < 0) /* then there is no control socket, and nothing is kept */
		return 0;
	return sandbox_add(s, dir, SANDBOX_READ | SANDBOX_WRITE | SANDBOX_MAKE | SANDBOX_SOCKET, ret_err);
}

static int add_devices(struct sandbox *s, struct td_err *ret_err)
{
	static const char *const nodes[] = { "/dev/null", "/dev/xen/gntdev", "/dev/xen/evtchn" };
	int r = 0;

	for (unsigned i = 0; i < TD_NELEMS(nodes) && r == 0; i++)
		r = sandbox_add(s, nodes[i], SANDBOX_READ | SANDBOX_WRITE, ret_err);
	return r;
}

/* The path of an export on a unix socket. */
static const char *unix_path(const struct td_export *e)
{
	return strncmp(e->address, "unix:", 5) == 0 ? e->address + 5 : NULL;
}

static int add_sockets(struct daemon *d, struct td_err *ret_err)
{
	int r = 0;

	for (unsigned i = 0; i < d->nr_exports && r == 0; i++)
		if (unix_path(d->exports[i]))
			r = add_parent(&d->sandbox, unix_path(d->exports[i]), SANDBOX_SOCKET, ret_err);
	return r;
}

static int add_places(struct daemon *d, struct td_err *ret_err)
{
	bool read_only = td_vbd_read_only(d->vbd);
	int r = add_allowed(&d->sandbox, &d->policy, read_only, ret_err);

	if (r == 0)
		r = add_images(&d->sandbox, td_vbd_image(d->vbd), read_only, ret_err);
	if (r == 0)
		r = each_key(td_vbd_spec(d->vbd), add_key, &d->sandbox, ret_err);
	if (r == 0)
		r = add_run_dir(&d->sandbox, ret_err);
	if (r == 0)
		r = add_devices(&d->sandbox, ret_err);
	return r < 0 ? r : add_sockets(d, ret_err);
}

/* ---- another user ---- */

static int give(const char *path, const struct sandbox *s, struct td_err *ret_err)
{
	return lchown(path, s->uid, s->gid) < 0
		       ? td_err_set(ret_err, -errno, "%s: cannot be given to user %s: %m", path, s->user_name)
		       : 0;
}

/*
 * The sockets become the user's, who alone talks to the daemon from then on.  In a run-time directory not his own he
 * could neither remove them nor keep what a kill must not lose.
 */
static int give_to_user(struct daemon *d, struct td_err *ret_err)
{
	const struct sandbox *s = &d->sandbox;
	td_cleanup(free) char *control = NULL;
	const char *dir;
	struct stat st;
	int r = td_run_dir(&dir, ret_err);

	if (r == 0)
		r = td_run_path(&control, ret_err, "ctl%d", getpid());
	if (r < 0 || !control)
		return r;
	if (stat(dir, &st) < 0 || st.st_uid != s->uid)
		return td_err_set(ret_err, -EPERM,
				  "--user %s: the run-time directory %s is not this user's: set "
				  "BLKTAP_RUN_DIR to one that "
				  "is",
				  s->user_name, dir);
	if (access(control, F_OK) == 0)
		r = give(control, s, ret_err);
	for (unsigned i = 0; i < d->nr_exports && r == 0; i++)
		if (unix_path(d->exports[i]))
			r = give(unix_path(d->exports[i]), s, ret_err);
	return r;
}

/* ---- in ---- */

int daemon_sandbox(struct daemon *d, struct td_err *ret_err)
{
	int r = 0;

	if (d->sandbox.off || d->sandbox.on)
		return 0;
	tzset();
	json_object_seed(0);
	td_keep_prepare();
	if (d->sandbox.user_name)
		r = give_to_user(d, ret_err);
	if (r == 0)
		r = add_places(d, ret_err);
	if (r < 0)
		return r;
	/* A thread that is there already would stay outside. */
	td_pool_end_threads(d->env.pool);
	r = sandbox_enter(&d->sandbox, ret_err);
	malloc_trim(0); /* the filter's making took more than the daemon does */
	return r;
}

/* ---- what is refused later ---- */

static int may_open(const struct sandbox *s, const char *path, bool read_only, struct td_err *ret_err)
{
	unsigned rights = SANDBOX_READ | (read_only ? 0 : SANDBOX_WRITE);
	td_cleanup(free) char *real = NULL;
	const char *slash;
	int len;

	if (sandbox_allows(s, path, rights))
		return 0;
	real = realpath(path, NULL);
	slash = real ? strrchr(real, '/') : NULL;
	len = slash > real ? (int)(slash - real) : 1;
	return td_err_set(ret_err, -EACCES,
			  "%s: the sandbox of this tapdisk keeps it from %s this file: start it with "
			  "--allow-write %.*s, put the line \"allow-write %.*s\" in " TD_POLICY_CONF
			  ", or go without (--sandbox=off)",
			  path, read_only ? "reading" : "writing", len, real ? real : "/", len,
			  real ? real : "/");
}

static int may_read_key(void *arg, const char *path, struct td_err *ret_err)
{
	return may_open(arg, path, true, ret_err);
}

int daemon_may_open(const struct daemon *d, const char *text, bool read_only, struct td_err *ret_err)
{
	struct td_spec *spec;
	int r;

	if (!d->sandbox.on)
		return 0;
	r = td_spec_parse(text, &spec, ret_err);
	if (r < 0)
		return r;
	if (*spec->path)
		r = may_open(&d->sandbox, spec->path, read_only, ret_err);
	td_spec_free(spec);
	/* Only asked: nothing is changed through it. */
	return r < 0 ? r : each_key(text, may_read_key, (void *)(uintptr_t)&d->sandbox, ret_err);
}

int daemon_may_listen(const struct daemon *d, const char *address, struct td_err *ret_err)
{
	const char *path = strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
	td_cleanup(free) char *dir = path ? parent_of(path) : NULL;

	if (!d->sandbox.on || (path && !dir) || (path && sandbox_allows(&d->sandbox, dir, SANDBOX_SOCKET)))
		return 0;
	return td_err_set(
		ret_err, -EACCES,
		"%s: this tapdisk is in its sandbox, where it can listen only on unix sockets in the "
		"run-time "
		"directory and in those that it was started with: name the address when it is started, or go "
		"without (--sandbox=off)",
		address);
}
