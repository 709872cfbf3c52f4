// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-ctl gc: files in the run-time directory that outlive their process on purpose.
 *
 *	keepX.Y		metadata of an image whose tapdisk was killed: what was answered and is not in the image.  The
 *			next one that opens the image adopts it, so it stays, unless it can be of no use to anybody
 *	ringA.B.C	requests of a guest that were not answered.  tapback starts another tapdisk, which serves them:
 *			it stays as long as the guest lives
 *	specA.B		which image a guest's disk was moved onto; the same
 *
 * The first two are locked by the process that uses them.
 */
#include <blktap/ctl.h>
#include <blktap/keep.h>
#include <blktap/xs.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gc.h"

#define UNFINISHED_S 60

/* ---- images ---- */

static void keep(struct gc *gc, const char *path, const char *what)
{
	struct td_keep_about about;
	char why[1400];
	int fd = -1;
	int r = td_keep_look(path, &about, &fd);

	if (r == -EUCLEAN)
		gc_kept(gc, what,
			"it is not, or not wholly, what a killed tapdisk leaves; look at it and remove it by "
			"hand");
	if (r < 0)
		return; /* a process has it, or it is gone */
	if (about.useless) {
		gc_orphan(gc, what,
			  "what it holds is of no use: the machine was started anew since, or its image is "
			  "gone",
			  gc_unlink, path);
	} else if (gc->force) {
		snprintf(why, sizeof(why),
			 "given up: writes to %s that tapdisk %d answered and did not finish", about.image,
			 about.pid);
		gc_orphan(gc, what, why, gc_unlink, path);
	} else {
		snprintf(why, sizeof(why),
			 "holds writes to %s that tapdisk %d answered and did not finish: whoever opens the "
			 "image "
			 "next finishes them; --force gives them up",
			 about.image, about.pid);
		gc_kept(gc, what, why);
	}
	close(fd);
}

/* ---- rings ---- */

/* NULL: it is gone; else why its journal has to stay. */
static const char *guest_lives(unsigned long domid)
{
	struct td_xs *xs = NULL;
	const char *why = NULL;
	char path[48];
	char *value = NULL;
	int r;

	if (!td_xs_is_dom0())
		return NULL; /* no Xen, no guests */
	if (td_xs_connect(&xs, NULL) < 0)
		return "xenstore does not answer: its guest may live";
	snprintf(path, sizeof(path), "/local/domain/%lu", domid);
	r = td_xs_read(xs, path, &value);
	if (r != -ENOENT)
		why = "its guest lives: it is for the next tapdisk of this disk";
	free(value);
	td_xs_close(xs);
	return why;
}

static void guests_file(struct gc *gc, const char *path, const char *name, const char *what)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	const char *why;
	char *end;
	unsigned long domid = strtoul(name + 4, &end, 10); /* ring7.51712.0, spec7.51712 */

	if (fd < 0)
		return;
	if (*end == '.' && flock(fd, LOCK_EX | LOCK_NB) == 0) {
		why = guest_lives(domid);
		if (why)
			gc_kept(gc, what, why);
		else
			gc_orphan(gc, what, "its guest is gone", gc_unlink, path);
	}
	close(fd);
}

/* ---- */

static bool is_made_of(const char *name, const char *chars)
{
	return *name && strspn(name, chars) == strlen(name);
}

/* Made under another name, and locked a moment later. */
static void unfinished(struct gc *gc, const char *path, const char *what)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 &&
	    time(NULL) - st.st_ctime > UNFINISHED_S)
		gc_orphan(gc, what, "whoever was making it is gone", gc_unlink, path);
	close(fd);
}

static bool is_guests(const char *name)
{
	return strncmp(name, "ring", 4) == 0 || strncmp(name, "spec", 4) == 0;
}

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && strcmp(name + n - m, end) == 0;
}

static int one_file(struct gc *gc, const char *dir, const char *name)
{
	td_cleanup(free) char *path = NULL, *what = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (asprintf(&what, "file %s", path) < 0) {
		what = NULL;
		return -ENOMEM;
	}
	if ((strncmp(name, "keep", 4) == 0 || is_guests(name)) && ends_in(name, ".new"))
		unfinished(gc, path, what);
	else if (strncmp(name, "keep", 4) == 0 && is_made_of(name + 4, "0123456789abcdef."))
		keep(gc, path, what);
	else if (is_guests(name) && is_made_of(name + 4, "0123456789."))
		guests_file(gc, path, name, what);
	return 0;
}

int gc_run_dir(struct gc *gc, struct td_err *ret_err)
{
	struct dirent *e;
	const char *dir;
	DIR *d;
	int r = td_run_dir_open(&dir, &d, ret_err);

	if (r < 0)
		return r;
	while (r == 0 && (e = readdir(d)))
		r = one_file(gc, dir, e->d_name);
	closedir(d);
	return r;
}
