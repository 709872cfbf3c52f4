// SPDX-License-Identifier: BSD-2-Clause
/*
 * The record of an attached disk: <run dir>/attach/VDEV.json, and the lock beside it.
 *
 * It is written whole to another name, synced, and renamed, so that a crash leaves the old one or the new one.
 */
#include "attach.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char *const phases[] = { "starting the daemon", "making the loop device", "making names",
				      "attached", "detaching" };

const char *attach_phase_name(enum attach_phase p)
{
	return phases[p];
}

/* The folder, made if it is not there; real, since it is compared with what the kernel says of files in it. */
static int attach_dir(char **ret_dir, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	char *dir;
	int r;

	r = td_run_path(&path, ret_err, "attach");
	if (r < 0)
		return r;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	dir = realpath(path, NULL);
	if (!dir)
		return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	*ret_dir = dir;
	return 0;
}

/* "<folder>/<vdev><suffix>" */
static int attach_path(char **ret_path, const char *vdev, const char *suffix, struct td_err *ret_err)
{
	td_cleanup(free) char *dir = NULL;
	int r = attach_dir(&dir, ret_err);

	if (r < 0)
		return r;
	if (asprintf(ret_path, "%s/%s%s", dir, vdev, suffix) >= 0)
		return 0;
	td_err_set(ret_err, -ENOMEM, "no memory");
	return -ENOMEM;
}

/* ---- in memory ---- */

int attach_new(const char *vdev, struct attach **ret_a, struct td_err *ret_err)
{
	struct attach *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	snprintf(a->vdev, sizeof(a->vdev), "%s", vdev);
	a->loop = -1;
	r = attach_path(&a->fuse_file, vdev, ".disk", ret_err);
	if (r < 0) {
		free(a);
		return r;
	}
	*ret_a = a;
	return 0;
}

static void drop_names(struct attach *a)
{
	for (unsigned i = 0; i < a->nr_names; i++) {
		free(a->names[i].path);
		free(a->names[i].target);
	}
	a->nr_names = 0;
}

void attach_free(struct attach *a)
{
	if (!a)
		return;
	drop_names(a);
	free(a->spec);
	free(a->fuse_file);
	free(a);
}

int attach_add_name(struct attach *a, const char *path, const char *target, dev_t dev)
{
	struct attach_name *n = &a->names[a->nr_names];

	if (a->nr_names == ATTACH_NAMES_MAX)
		return -E2BIG;
	n->path = strdup(path);
	n->target = target ? strdup(target) : NULL;
	n->dev = dev;
	if (!n->path || (target && !n->target)) {
		free(n->path);
		free(n->target);
		return -ENOMEM;
	}
	a->nr_names++;
	return 0;
}

/* ---- JSON ---- */

static json_t *names_to_json(const struct attach *a)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < a->nr_names; i++) {
		const struct attach_name *n = &a->names[i];
		json_t *o = n->target ? json_pack("{s:s,s:s}", "path", n->path, "target", n->target)
				      : json_pack("{s:s,s:i,s:i}", "path", n->path, "major",
						  (int)major(n->dev), "minor", (int)minor(n->dev));

		if (json_array_append_new(list, o) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

json_t *attach_to_json(const struct attach *a)
{
	return json_pack("{s:s,s:i,s:s?,s:s,s:s,s:i,s:I,s:i,s:s,s:o}", "vdev", a->vdev, "domain", 0, "spec",
			 a->spec, "mode", a->read_only ? "r" : "w", "phase", phases[a->phase], "pid",
			 (int)a->pid, "pid_start", (json_int_t)a->pid_start, "loop", a->loop, "file",
			 a->fuse_file, "names", names_to_json(a));
}

static int name_from_json(struct attach *a, const json_t *o)
{
	const char *path = NULL, *target = NULL;
	int maj = 0, min = 0;

	if (json_unpack((json_t *)(uintptr_t)o, "{s:s,s?s,s?i,s?i}", "path", &path, "target", &target,
			"major", &maj, "minor", &min) < 0)
		return -EUCLEAN;
	return attach_add_name(a, path, target, makedev((unsigned)maj, (unsigned)min));
}

/* Only what the steps need; the paths of ours are worked out anew and not believed. */
static int from_json(struct attach *a, json_t *o)
{
	const char *spec = NULL, *mode, *phase;
	json_int_t start = 0;
	json_t *names = NULL;
	int pid = 0, r = 0;
	size_t i;

	if (json_unpack(o, "{s:s,s:s,s:s,s:i,s:I,s:i,s:o}", "spec", &spec, "mode", &mode, "phase", &phase,
			"pid", &pid, "pid_start", &start, "loop", &a->loop, "names", &names) < 0)
		return -EUCLEAN;
	a->spec = strdup(spec);
	a->read_only = strcmp(mode, "r") == 0;
	a->pid = pid > 0 ? pid : 0;
	a->pid_start = (uint64_t)start;
	a->phase = ATTACH_UNDO;
	for (unsigned p = 0; p < TD_NELEMS(phases); p++)
		if (strcmp(phase, phases[p]) == 0)
			a->phase = (enum attach_phase)p;
	for (i = 0; i < json_array_size(names) && r == 0; i++)
		r = name_from_json(a, json_array_get(names, i));
	return !a->spec ? -ENOMEM : r;
}

/* ---- on disk ---- */

/* *ret_a is set even if the record is damaged (-EUCLEAN): then all that can be there is undone (ATTACH_UNDO). */
int attach_load(const char *vdev, struct attach **ret_a, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	struct attach *a = NULL;
	json_t *o;
	int r;

	r = attach_path(&path, vdev, ".json", ret_err);
	if (r < 0)
		return r;
	if (access(path, F_OK) < 0)
		return td_err_set(ret_err, -errno, "%s: not attached", vdev);
	r = attach_new(vdev, &a, ret_err);
	if (r < 0 || !a)
		return r;
	o = json_load_file(path, 0, NULL);
	r = o ? from_json(a, o) : -EUCLEAN;
	json_decref(o);
	if (r == -ENOMEM) {
		attach_free(a);
		return td_err_set(ret_err, r, "no memory");
	}
	if (r < 0)
		a->phase = ATTACH_UNDO;
	*ret_a = a;
	return r < 0 ? td_err_set(ret_err, -EUCLEAN, "%s: not a record of ours", path) : 0;
}

static int write_synced(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = strlen(text);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		r = errno ? -errno : -ENOSPC;
	else if (fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int sync_dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	td_cleanup(free) char *dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;
	int fd, r;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int attach_save(const struct attach *a, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	td_cleanup(free) char *tmp = NULL;
	td_cleanup(free) char *text = NULL;
	json_t *o = attach_to_json(a);
	int r;

	text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	if (!text)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	r = attach_path(&path, a->vdev, ".json", ret_err);
	if (r == 0)
		r = attach_path(&tmp, a->vdev, ".json.new", ret_err);
	if (r < 0)
		return r;
	errno = 0;
	r = write_synced(tmp, text);
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_dir_of(path);
	return r < 0 ? td_err_set(ret_err, r, "%s: %s", path, strerror(-r)) : 0;
}

/* The record goes last: as long as it is there the detach can be repeated. */
int attach_remove(const char *vdev, struct td_err *ret_err)
{
	td_cleanup(free) char *path = NULL;
	td_cleanup(free) char *tmp = NULL;
	int r;

	r = attach_path(&path, vdev, ".json", ret_err);
	if (r == 0)
		r = attach_path(&tmp, vdev, ".json.new", ret_err);
	if (r < 0)
		return r;
	if ((unlink(tmp) < 0 && errno != ENOENT) || (unlink(path) < 0 && errno != ENOENT))
		return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

int attach_refuse_twice(const char *vdev, struct td_err *ret_err)
{
	struct attach *a = NULL;
	int r = attach_load(vdev, &a, ret_err);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && a)
		r = td_err_set(ret_err, -EBUSY, "%s: in use: %s of %s; block-detach 0 %s frees it", vdev,
			       a->phase == ATTACH_DONE ? "a device" : "what is left of an attach or detach",
			       a->spec, vdev);
	attach_free(a);
	return r;
}

/* ---- the lock ---- */

/* Its file may be removed by who held it before: then what we locked is no longer what others would. */
static bool is_current(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int attach_lock(const char *vdev, unsigned timeout_ms, int *ret_fd, struct td_err *ret_err)
{
	uint64_t deadline = attach_now_ms() + timeout_ms;
	td_cleanup(free) char *path = NULL;
	int fd, r;

	r = attach_path(&path, vdev, ".lock", ret_err);
	while (r == 0) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return td_err_set(ret_err, -errno, "%s: %s", path, strerror(errno));
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_current(fd, path)) {
			*ret_fd = fd;
			return 0;
		}
		close(fd);
		if (attach_now_ms() >= deadline)
			return td_err_set(ret_err, -EBUSY, "%s: another command is at work on it", vdev);
		attach_nap();
	}
	return r;
}

void attach_lock_drop(const char *vdev)
{
	td_cleanup(free) char *path = NULL;

	if (attach_path(&path, vdev, ".lock", NULL) == 0 && path)
		unlink(path); /* left over it does no harm */
}

/* ---- all of them ---- */

static int compare_names(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

static int is_record(const struct dirent *e)
{
	char vdev[ATTACH_VDEV_MAX];
	td_cleanup(free) char *name = strdup(e->d_name);
	char *dot = name ? strchr(name, '.') : NULL;

	if (!dot || strcmp(dot, ".json") != 0)
		return 0;
	*dot = '\0';
	return attach_parse_vdev(name, vdev, NULL) == 0;
}

/* Takes the entries.  A list that lacks a disk would say that it is not attached. */
static int names_of(struct dirent **entries, size_t nr, char **ret_vdevs)
{
	int r = 0;

	for (size_t i = 0; i < nr; i++) {
		ret_vdevs[i] = strndup(entries[i]->d_name, strcspn(entries[i]->d_name, "."));
		if (!ret_vdevs[i])
			r = -ENOMEM;
		free(entries[i]);
	}
	free(entries);
	for (size_t i = 0; i < nr && r < 0; i++)
		free(ret_vdevs[i]);
	return r;
}

int attach_list(char ***ret_vdevs, size_t *ret_nr, struct td_err *ret_err)
{
	td_cleanup(free) char *dir = NULL;
	td_cleanup(free) char **vdevs = NULL;
	struct dirent **entries = NULL;
	int n, r;

	r = attach_dir(&dir, ret_err);
	if (r < 0 || !dir)
		return r;
	n = scandir(dir, &entries, is_record, NULL);
	if (n < 0)
		return td_err_set(ret_err, -errno, "%s: %s", dir, strerror(errno));
	vdevs = calloc((size_t)n + 1, sizeof(*vdevs));
	if (!vdevs || names_of(entries, (size_t)n, vdevs) < 0)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	qsort(vdevs, (size_t)n, sizeof(*vdevs), compare_names);
	*ret_vdevs = vdevs;
	*ret_nr = (size_t)n;
	vdevs = NULL;
	return 0;
}
