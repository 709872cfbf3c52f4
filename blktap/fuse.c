// SPDX-License-Identifier: BSD-2-Clause
/*
 * The FUSE export: the disk as one file, mounted over a regular file.  This file mounts, receives, and unmounts; the
 * session's descriptor is one more descriptor of the daemon's own loop.
 *
 * While it serves, nothing here looks at the mounted file: the answer would have to come from ourselves.
 *
 * The end, by SIGTERM: stop() serves what the kernel has queued already and then reads no more; when all of it is
 * answered, free() closes the session and unmounts, lazily where somebody still has the file open: they get
 * ENOTCONN from then on.  The end, from outside (umount, fusermount3 -u): the kernel hangs up, main is told.
 */
#include "fuse.h"
#include "fuse-unmount.h"
#include <blktap/log.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BATCH      32u               /* requests for one wake-up: other descriptors want their turn */
#define STOP_BATCH (4u * FUSE_SLOTS) /* queued requests that are still served when stopping */
#define STALE_MAX  16

/* ---- libfuse's complaints ---- */

static char last_words[256]; /* its last error: the reason for a failed mount */

TD_PRINTF(2, 0)
static void fuse_says(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[sizeof(last_words)];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	if (level <= FUSE_LOG_ERR)
		memcpy(last_words, line, sizeof(line));
	td_debug("fuse: %s", line);
}

/* ---- receiving ---- */

static void session_gone(struct fuse_export *e)
{
	e->gone = true;
	fuse_session_exit(e->session); /* answers to nobody are not worth a complaint */
	td_loop_unwatch(&e->watch);
	if (!e->stopping && e->pub.ended)
		e->pub.ended(&e->pub);
}

/*
 * One request into a slot of its own, handed to libfuse, which calls fuse_ops.  read() and not
 * fuse_session_receive_buf(): that one's idea of the buffer's size differs between releases.
 * 1: received; 0: nothing there, or no slot; -errno.
 */
static int receive_one(struct fuse_export *e)
{
	struct fuse_slot *s = fuse_slot_get(e);
	struct fuse_buf buf = { 0 };
	ssize_t n;

	if (!s) {
		e->full = true;
		return td_loop_rewatch(&e->watch, 0);
	}
	buf.mem = s->data - FUSE_HEAD;
	n = read(fuse_session_fd(e->session), buf.mem, FUSE_HEAD + FUSE_IO_MAX);
	if (n < (ssize_t)sizeof(struct fuse_in_header)) {
		int r = n < 0 ? -errno : -EIO;

		fuse_slot_put(s);
		if (r == -EINTR || r == -ENOENT) /* ENOENT: it was interrupted before we had it */
			return 1;
		return r == -EAGAIN ? 0 : r;
	}
	buf.size = (size_t)n;
	e->nr_received++;
	e->current = s;
	fuse_session_process_buf(e->session, &buf);
	e->current = NULL;
	if (!s->fr)
		fuse_slot_put(s);
	return 1;
}

static void receive(struct fuse_export *e, unsigned max)
{
	int r = 1;

	while (r > 0 && max-- > 0)
		r = receive_one(e);
	if (!e->trim.loop)
		fuse_slots_trim_later(e);
	if (r == 0 || r == 1)
		return;
	if (r != -ENODEV)
		td_error("fuse %s: reading requests: %s", e->path, strerror(-r));
	session_gone(e);
}

static void session_event(struct td_watch *w, uint32_t epoll_events)
{
	struct fuse_export *e = td_container_of(w, struct fuse_export, watch);

	/* While full only a hang-up wakes us; it is not read, so it is told by the event. */
	if (e->full && (epoll_events & (EPOLLERR | EPOLLHUP)))
		session_gone(e);
	else
		receive(e, BATCH);
}

static void export_destroy(struct fuse_export *e);

static void answered(struct fuse_export *e)
{
	if (e->full && e->watch.loop) {
		int r = td_loop_rewatch(&e->watch, EPOLLIN);

		if (r < 0)
			td_error("fuse %s: epoll: %s", e->path, strerror(-r));
	}
	e->full = false;
	if (e->freed && e->in_flight == 0)
		export_destroy(e);
}

/* ---- the file under the mount ---- */

static bool is_mount_point(const char *path, const struct stat *st)
{
	td_cleanup(free) char *dir = strdup(path);
	struct stat parent;

	if (!dir)
		return false;
	*(strrchr(dir, '/') + 1) = '\0';
	return stat(dir, &parent) == 0 && parent.st_dev != st->st_dev;
}

/* By statfs: attributes may still be in the kernel's cache when the server is gone. */
static bool is_dead_mount(const char *path)
{
	struct statfs sf;

	return statfs(path, &sf) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* The file, made if it is not there. */
static int need_file(struct fuse_export *e, struct td_err *ret_err)
{
	struct stat st;
	int fd;

	fd = open(e->path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	e->made_file = fd >= 0;
	if (fd >= 0)
		close(fd);
	else if (errno != EEXIST)
		return td_err_set(ret_err, -errno, "%s: %s", e->path, strerror(errno));
	if (lstat(e->path, &st) < 0)
		return td_err_set(ret_err, -errno, "%s: %s", e->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return td_err_set(ret_err, -EINVAL, "%s: not a regular file; the disk is mounted over one",
				  e->path);
	return 0;
}

static int need_dir(const struct fuse_export *e, struct td_err *ret_err)
{
	struct stat st;

	if (lstat(e->path, &st) < 0)
		return td_err_set(ret_err, -errno, "%s: %s", e->path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return td_err_set(ret_err, -ENOTDIR, "%s: not a directory; the disk is mounted over one",
				  e->path);
	return 0;
}

/* A file or directory that nothing living is mounted on. */
static int prepare(struct fuse_export *e, struct td_err *ret_err)
{
	struct stat st;
	int r = 0;

	for (int i = 0; i < STALE_MAX && r == 0 && is_dead_mount(e->path); i++) {
		td_info("fuse %s: removing the mount of a daemon that is gone", e->path);
		r = fuse_unmount(e->path);
	}
	if (r < 0)
		return td_err_set(
			ret_err, r,
			"%s: a dead mount is in the way and cannot be removed: %s; try: umount -l %s",
			e->path, strerror(-r), e->path);
	r = e->dir ? need_dir(e, ret_err) : need_file(e, ret_err);
	if (r < 0)
		return r;
	if (lstat(e->path, &st) < 0)
		return td_err_set(ret_err, -errno, "%s: %s", e->path, strerror(errno));
	if (is_mount_point(e->path, &st))
		return td_err_set(ret_err, -EBUSY,
				  "%s: something is mounted there; umount it or take another place", e->path);
	return 0;
}

/* ---- mounting ---- */

static enum td_fuse_access access_for;

void td_fuse_access(enum td_fuse_access access)
{
	access_for = access;
}

/* Root serves whoever the mode of the file lets in. */
static const char *access_option(void)
{
	if (geteuid() == 0 || access_for == TD_FUSE_ALL)
		return ",allow_other";
	return access_for == TD_FUSE_ROOT ? ",allow_root" : "";
}

/* For others the usual mask decides.  (There is no other way to ask for it; nobody else is there yet.) */
static mode_t file_mode(void)
{
	mode_t mask;

	if (access_for != TD_FUSE_ALL)
		return 0600;
	mask = umask(077);
	umask(mask);
	return (mode_t)(0666 & ~mask) | 0600;
}

static int mount_session(struct fuse_export *e, struct td_err *ret_err)
{
	char options[256];
	char *argv[] = { (char *)"tapdisk", (char *)"-o", options };
	struct fuse_args args = FUSE_ARGS_INIT(TD_NELEMS(argv), argv);
	int flags;

	snprintf(options, sizeof(options),
		 "fsname=tapdisk,subtype=tapdisk,default_permissions,max_read=%u%s%s", FUSE_IO_MAX,
		 access_option(), td_vbd_read_only(e->pub.vbd) ? ",ro" : "");
	last_words[0] = '\0';
	fuse_set_log_func(fuse_says);
	e->session = e->dir ? fuse_session_new(&args, &fuse_dir_ops, sizeof(fuse_dir_ops), e)
			    : fuse_session_new(&args, &fuse_file_ops, sizeof(fuse_file_ops), e);
	fuse_opt_free_args(&args);
	if (!e->session)
		return td_err_set(ret_err, -EIO, "%s: no FUSE session: %s", e->path, last_words);
	if (fuse_session_mount(e->session, e->path) < 0) {
		fuse_session_destroy(e->session);
		e->session = NULL;
		return td_err_set(ret_err, -EIO, "%s: cannot mount: %s", e->path,
				  last_words[0] ? last_words : "see the lines above; is there a /dev/fuse?");
	}
	flags = fcntl(fuse_session_fd(e->session), F_GETFL);
	if (flags < 0 || fcntl(fuse_session_fd(e->session), F_SETFL, flags | O_NONBLOCK) < 0)
		return td_err_set(ret_err, -errno, "%s: fcntl: %s", e->path, strerror(errno));
	return 0;
}

/* ---- the export ---- */

/*
 * The kernel asks for the size anew.  A negative offset: attributes alone, so that this cannot wait for pages that
 * are on their way to us.  -ENOENT: it has forgotten them already.
 */
static void disk_changed(struct td_vbd_watch *w)
{
	struct fuse_export *e = td_container_of(w, struct fuse_export, disk);

	fuse_ino_t ino = e->dir ? FUSE_DISK_INO : FUSE_ROOT_ID;

	if (e->dir)
		fuse_dir_changed(e->dir, ino);
	if (e->gone || e->size == td_vbd_size(e->pub.vbd))
		return;
	e->size = td_vbd_size(e->pub.vbd);
	td_ignore(fuse_lowlevel_notify_inval_inode(e->session, ino, -1, 0));
}

/* From the loop, not from stop(): main may be in a coroutine, and requests are submitted outside of any. */
static void last_look(struct td_timer *t)
{
	struct fuse_export *e = td_container_of(t, struct fuse_export, last_look);

	if (!e->gone)
		receive(e, STOP_BATCH);
	td_loop_unwatch(&e->watch);
	e->last_look_due = false;
}

static void fuse_stop(struct td_export *x)
{
	struct fuse_export *e = td_container_of(x, struct fuse_export, pub);

	if (e->stopping)
		return;
	e->stopping = true;
	e->last_look_due = true;
	e->last_look.fn = last_look;
	td_timer_arm(e->loop, &e->last_look, 0);
}

static bool fuse_stopped(struct td_export *x)
{
	const struct fuse_export *e = td_container_of(x, struct fuse_export, pub);

	return e->stopping && !e->last_look_due && e->in_flight == 0;
}

/*
 * Closes the session first: an unmount with it open could ask us something.  Then nothing can be in the way.  What was
 * unmounted from outside (gone) is not looked for again: something else may be mounted there by now.
 */
static void unmount(struct fuse_export *e)
{
	int r;

	if (!fuse_unmounter_runs()) {
		fuse_session_unmount(e->session);
		fuse_session_destroy(e->session);
		return;
	}
	fuse_session_destroy(e->session);
	if (e->gone && !e->made_file)
		return;
	r = fuse_unmounter_ask(e->path, !e->gone, e->made_file);
	if (r < 0)
		td_warn("fuse %s: cannot be unmounted: %s; try: umount -l %s", e->path, strerror(-r),
			e->path);
	e->made_file = false;
}

static void export_destroy(struct fuse_export *e)
{
	td_timer_cancel(&e->last_look);
	td_loop_unwatch(&e->watch);
	td_vbd_unwatch(e->pub.vbd, &e->disk);
	if (e->session)
		unmount(e);
	if (e->made_file && unlink(e->path) < 0 && errno != ENOENT)
		td_warn("fuse %s: cannot remove the file that was made for the mount: %s", e->path,
			strerror(errno));
	fuse_slots_free(e);
	fuse_dir_free(e->dir);
	free(e->pub.address);
	free(e->path);
	free(e);
}

/* Requests in flight are the vbd's; they come back even when main's patience is over. */
static void fuse_free(struct td_export *x)
{
	struct fuse_export *e = td_container_of(x, struct fuse_export, pub);

	e->stopping = true;
	td_loop_unwatch(&e->watch);
	if (e->in_flight > 0)
		e->freed = true;
	else
		export_destroy(e);
}

static int export_start(struct td_loop *loop, struct td_vbd *vbd, const char *address, bool dir,
			struct td_export **ret_export, struct td_err *ret_err)
{
	struct fuse_export *e = calloc(1, sizeof(*e));
	int r = -ENOMEM;

	if (!e)
		return td_err_set(ret_err, r, "no memory for a FUSE export");
	e->pub = (struct td_export){ .ops = dir ? &td_fuse_dir_export : &td_fuse_export,
				     .vbd = vbd,
				     .address = strdup(address) };
	e->loop = loop;
	e->answered = answered;
	e->watch.fn = session_event;
	e->size = td_vbd_size(vbd);
	e->disk.fn = disk_changed;
	td_vbd_watch(vbd, &e->disk);
	SLIST_INIT(&e->free_slots);
	SLIST_INIT(&e->waiting);
	e->mode = file_mode();
	clock_gettime(CLOCK_REALTIME, &e->since);
	if (!e->pub.address) {
		r = td_err_set(ret_err, r, "no memory for a FUSE export");
		goto fail;
	}
	r = dir ? fuse_absolute_dir(address, &e->path, ret_err)
		: fuse_absolute_path(address, &e->path, ret_err);
	if (r == 0 && dir)
		r = fuse_dir_new(e, &e->dir, ret_err);
	if (r == 0)
		r = prepare(e, ret_err);
	if (r == 0)
		r = mount_session(e, ret_err);
	if (r == 0) {
		r = td_loop_watch(loop, &e->watch, fuse_session_fd(e->session), EPOLLIN);
		if (r < 0)
			r = td_err_set(ret_err, r, "%s: epoll: %s", e->path, strerror(-r));
	}
	if (r < 0)
		goto fail;
	*ret_export = &e->pub;
	return 0;
fail:
	export_destroy(e);
	return r;
}

static int fuse_start(struct td_loop *loop, struct td_vbd *vbd, const char *address,
		      struct td_export **ret_export, struct td_err *ret_err)
{
	return export_start(loop, vbd, address, false, ret_export, ret_err);
}

static int fuse_dir_start(struct td_loop *loop, struct td_vbd *vbd, const char *address,
			  struct td_export **ret_export, struct td_err *ret_err)
{
	return export_start(loop, vbd, address, true, ret_export, ret_err);
}

const struct td_export_ops td_fuse_export = {
	.name = "fuse",
	.start = fuse_start,
	.stop = fuse_stop,
	.stopped = fuse_stopped,
	.free = fuse_free,
};

const struct td_export_ops td_fuse_dir_export = {
	.name = "fuse-dir",
	.start = fuse_dir_start,
	.stop = fuse_stop,
	.stopped = fuse_stopped,
	.free = fuse_free,
};
