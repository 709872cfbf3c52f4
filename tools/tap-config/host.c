// SPDX-License-Identifier: BSD-2-Clause
/*
 * The facts of a host on which a verdict stands.  See host.h.
 */
#include "host.h"

#include <blktap/ctl.h>
#include <blktap/image.h>
#include <blktap/spec.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRIPTS "/etc/xen/scripts"

/* Where builds of Xen have QEMU; the first that is there, else the first. */
static const char *const device_models[] = {
	"/usr/libexec/xen-qemu-system-i386", /* Debian */
	"/usr/lib/xen/bin/qemu-system-i386",       "/usr/libexec/xen/bin/qemu-system-i386",
	"/usr/local/lib/xen/bin/qemu-system-i386", "/usr/local/libexec/xen/bin/qemu-system-i386",
};

/* root and path in one; a new string, NULL: no memory. */
static char *below(const char *root, const char *path)
{
	char *full;

	return asprintf(&full, "%s%s", root, path) < 0 ? NULL : full;
}

static bool exists(const char *root, const char *path, int mode)
{
	td_cleanup(free) char *full = below(root, path);

	return full && access(full, mode) == 0;
}

/* ---- tapback ---- */

/* "PID CLASS..." */
static void read_classes(int fd, struct host *h)
{
	char line[512], *save, *word;
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);

	line[n > 0 ? n : 0] = '\0';
	word = strtok_r(line, " \n", &save);
	while (word && (word = strtok_r(NULL, " \n", &save)) && h->nr_classes < HOST_CLASSES)
		snprintf(h->classes[h->nr_classes++], sizeof(h->classes[0]), "%s", word);
}

/* The lock is only tried where the process lives: one that is just starting wants it too. */
static bool is_alive(int fd)
{
	char text[16];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	long pid;

	text[n > 0 ? n : 0] = '\0';
	pid = strtol(text, NULL, 10);
	return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static int look_for_tapback(const char *root, struct host *h, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	int fd, r = 0;

	if (*root)
		path = below(root, "/run/blktap-control/tapback");
	else
		r = td_run_path(&path, ret_err, "tapback");
	if (r < 0)
		return r;
	fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	if (fd < 0)
		return 0;
	h->tapback = (*root || is_alive(fd)) && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	if (h->tapback)
		read_classes(fd, h);
	close(fd);
	return 0;
}

/* ---- the device model ---- */

static bool is_tap_dm(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strcmp(slash ? slash + 1 : path, "tap-dm") == 0;
}

/* What the path is a link to; a link is followed once, and by its words, since it is absolute below another root. */
static const char *follow(const char *full, char *buf, size_t size)
{
	ssize_t n = readlink(full, buf, size - 1);

	if (n <= 0)
		return NULL;
	buf[n] = '\0';
	return buf;
}

static void look_for_dm(const char *root, const char *dm, struct host *h)
{
	td_cleanup(free) char *full = NULL;
	char buf[1024];
	const char *to;
	bool there;

	for (size_t i = 0; i < TD_NELEMS(device_models) && !dm; i++)
		if (exists(root, device_models[i], F_OK))
			dm = device_models[i];
	if (!dm)
		dm = device_models[0];
	snprintf(h->dm_path, sizeof(h->dm_path), "%s", dm);
	full = below(root, dm);
	to = full ? follow(full, buf, sizeof(buf)) : NULL;
	there = to && *to == '/' ? exists(root, to, X_OK) : full && access(full, X_OK) == 0;
	h->dm = !there ? DM_MISSING : is_tap_dm(to ? to : dm) ? DM_TAP : DM_QEMU;
}

/* ---- Xen ---- */

static unsigned read_number(const char *root, const char *path)
{
	td_cleanup(free) char *full = below(root, path);
	char text[16];
	ssize_t n = -1;
	int fd;

	fd = full ? open(full, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	return (unsigned)strtoul(text, NULL, 10);
}

static unsigned look_for_version(const char *root)
{
	unsigned major = read_number(root, "/sys/hypervisor/version/major");
	unsigned minor = read_number(root, "/sys/hypervisor/version/minor");

	return major && major < 100 && minor < 100 ? major * 100 + minor : 0;
}

int host_look(const char *root, const char *dm, struct host *ret_host, struct td_err *ret_err)
{
	struct host h = { 0 };
	int r;

	r = look_for_tapback(root, &h, ret_err);
	if (r < 0)
		return r;
	look_for_dm(root, dm, &h);
	h.blkback = exists(root, "/sys/module/xen_blkback", F_OK);
	h.version = look_for_version(root);
	*ret_host = h;
	return 0;
}

/* ---- one disk ---- */

#define HEAD_LEN 512
#define TAIL_LEN 512

static const char *format_of(int fd, off_t size)
{
	char head[HEAD_LEN], tail[TAIL_LEN];
	ssize_t head_len = pread(fd, head, sizeof(head), 0), tail_len = -1;

	if (size >= TAIL_LEN)
		tail_len = pread(fd, tail, sizeof(tail), size - TAIL_LEN);
	return td_magic_name(head, head_len > 0 ? (size_t)head_len : 0, tail,
			     tail_len > 0 ? (size_t)tail_len : 0);
}

static void look_at_path(const char *root, const char *path, struct target *t)
{
	td_cleanup(free) char *full = below(root, path);
	struct stat st;
	int fd;

	t->error = ENOMEM;
	if (!full)
		return;
	if (stat(full, &st) < 0) {
		t->error = errno;
		return;
	}
	t->kind = S_ISREG(st.st_mode) ? TARGET_FILE : S_ISBLK(st.st_mode) ? TARGET_DEVICE : TARGET_OTHER;
	t->writable = access(full, W_OK) == 0;
	if (t->kind == TARGET_OTHER)
		return;
	fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return;
	t->format = format_of(fd, lseek(fd, 0, SEEK_END));
	close(fd);
}

/* The format that decides: the first driver that is none of the filters; at the end of the stack, the leaf's. */
static const char *format_driver(const struct td_spec *spec, bool *ret_known)
{
	*ret_known = true;
	for (unsigned i = 0; i < spec->nr; i++) {
		const struct td_driver *drv = td_driver_find(spec->node[i].name);

		if (drv && (drv->flags & TD_FILTER))
			continue;
		*ret_known = drv != NULL;
		return drv ? drv->name : spec->node[i].name;
	}
	return "aio";
}

static void look_at_spec(const char *root, const char *text, struct target *t)
{
	struct td_err err = { .msg = "" };
	struct td_spec *spec;

	if (td_spec_parse(text, &spec, &err) < 0) {
		snprintf(t->spec_error, sizeof(t->spec_error), "%.250s", err.msg);
		return;
	}
	snprintf(t->driver, sizeof(t->driver), "%s", format_driver(spec, &t->has_driver));
	if (spec->path[0] == '/')
		look_at_path(root, spec->path, t);
	else
		snprintf(t->spec_error, sizeof(t->spec_error), "%.200s: the path has to begin with a /",
			 text);
	td_spec_free(spec);
}

static void look_at_script(const char *root, const struct disk *d, struct target *t)
{
	const char *name = d->script && *d->script     ? d->script
			   : d->backend == BACKEND_TAP ? "block-tap"
						       : "block";

	snprintf(t->script, sizeof(t->script), "%s%s", *name == '/' ? "" : SCRIPTS "/", name);
	t->has_script = exists(root, t->script, X_OK);
}

void target_look(const char *root, const struct disk *d, struct target *ret)
{
	td_cleanup(free) char *spec = NULL;

	*ret = (struct target){ .error = ENOENT };
	look_at_script(root, d, ret);
	if (disk_spec(d, &spec) < 0)
		return;
	if (spec)
		look_at_spec(root, spec, ret);
	else if (d->target && *d->target && !(d->script && *d->script))
		look_at_path(root, d->target, ret);
}

/* ---- the configuration ---- */

int read_config(const char *file, char **ret_text, size_t *ret_len, struct td_err *ret_err)
{
	FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
	char *text = f ? malloc(CFG_SIZE_MAX + 2) : NULL;
	size_t n;
	int r = 0;

	if (!f)
		return td_err_set(ret_err, -errno, "%s: %s", file, strerror(errno));
	n = text ? fread(text, 1, CFG_SIZE_MAX + 1, f) : 0;
	if (!text)
		r = -ENOMEM;
	else if (ferror(f))
		r = td_err_set(ret_err, -EIO, "%s: cannot read it: %s", file, strerror(errno));
	if (f != stdin)
		fclose(f);
	if (r < 0) {
		free(text);
		return r;
	}
	text[n] = '\0';
	*ret_text = text;
	*ret_len = n;
	return 0;
}
