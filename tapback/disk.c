// SPDX-License-Identifier: BSD-2-Clause
/*
 * The tapdisk of one disk: started, found, listened to, ended; see disk.h.
 */
#include "disk.h"
#include "job.h"
#include <blktap/ctl.h>
#include <blktap/log.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define NOTED_MAX 16384 /* bytes of a specification that a tapdisk noted */

#define TERMINATE_MS 60000u /* its last flush may take long; it is not hurried by a kill */

void disk_init(struct disk *d, struct disk_env *env, uint32_t domid, uint32_t vdev)
{
	memset(d, 0, sizeof(*d));
	d->env = env;
	d->domid = domid;
	d->vdev = vdev;
	d->fd = -1;
	snprintf(d->name, sizeof(d->name), "vbd-%u-%u", domid, vdev);
}

/* ---- what it tells by itself ---- */

static void stop_listening(struct disk *d)
{
	if (d->fd < 0)
		return;
	td_loop_unwatch(&d->watch);
	close(d->fd);
	d->fd = -1;
	free(d->line);
	d->line = NULL;
}

/* Only noted here, in the loop: the device's next pass asks what it has to know. */
static void take_event(struct disk *d, json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "event"));
	const char *reason = json_string_value(json_object_get(event, "reason"));

	if (!name)
		return;
	if (strcmp(name, "size") == 0)
		d->resized = true;
	if (strcmp(name, "state") == 0)
		d->respec = true;
	if (strcmp(name, "ring-stopped") == 0 && !d->broken)
		d->broken = strdup(reason ? reason : "no reason given");
}

/* Whole lines at the begin of d->line; the rest stays. */
static void take_lines(struct disk *d)
{
	char *nl;

	while ((nl = memchr(d->line, '\n', d->have))) {
		size_t len = (size_t)(nl - d->line);
		json_t *event = json_loadb(d->line, len, 0, NULL);

		if (event)
			take_event(d, event);
		json_decref(event);
		d->have -= len + 1;
		memmove(d->line, nl + 1, d->have);
	}
	if (d->have == DISK_LINE_MAX)
		d->have = 0; /* nothing that ours writes */
}

/* The end of the connection is the end of the process, seen without waiting for a signal: it is no child of ours. */
static void on_event(struct td_watch *w, uint32_t epoll_events)
{
	struct disk *d = td_container_of(w, struct disk, watch);
	ssize_t n = recv(d->fd, d->line + d->have, DISK_LINE_MAX - d->have, MSG_DONTWAIT);

	(void)epoll_events;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		stop_listening(d);
		d->dead = true;
	} else {
		d->have += (size_t)n;
		take_lines(d);
	}
	d->changed(d);
}

TD_CO static int listen_to(struct disk *d, struct td_err *ret_err)
{
	int fd = -1, r;

	r = job_events(d->env, d->pid, &fd, ret_err);
	if (r < 0)
		return r;
	d->line = malloc(DISK_LINE_MAX);
	d->have = 0;
	d->watch.fn = on_event;
	r = d->line ? td_loop_watch(d->env->loop, &d->watch, fd, EPOLLIN) : -ENOMEM;
	if (r < 0) {
		free(d->line);
		d->line = NULL;
		close(fd);
		return td_err_set(ret_err, r, "tapdisk %d: cannot listen to it: %s", d->pid, strerror(-r));
	}
	d->fd = fd;
	d->dead = false;
	return 0;
}

static void let_go(struct disk *d)
{
	stop_listening(d);
	free(d->broken);
	d->broken = NULL;
	d->pid = 0;
	d->borrowed = d->has_ring = d->dead = d->resized = d->respec = false;
}

void disk_fini(struct disk *d)
{
	let_go(d);
	free(d->spec);
	d->spec = NULL;
}

/* ---- what it is asked ---- */

static int parse_exports(json_t *list, struct disk_info *info)
{
	json_t *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		const char *address = json_string_value(json_object_get(e, "address"));

		if (address && strncmp(address, "xen:", 4) == 0 && strlen(address) < sizeof(info->ring))
			memcpy(info->ring, address, strlen(address) + 1);
	}
	return 0;
}

/* Another program may stand behind the socket: all is checked before anything is believed. */
static int parse_info(json_t *reply, struct disk_info *ret)
{
	struct disk_info info = { .pid = ret->pid, .minor = -1 };
	const char *name = NULL, *spec;
	json_t *exports = NULL, *minor;
	int read_only = 0;

	if (json_unpack(reply, "{s:s,s:b,s:o}", "name", &name, "read_only", &read_only, "exports", &exports) <
	    0)
		return -EPROTO;
	spec = json_string_value(json_object_get(reply, "spec")); /* null: it has no disk */
	minor = json_object_get(reply, "minor");
	if (json_is_integer(minor))
		info.minor = (int)json_integer_value(minor);
	snprintf(info.name, sizeof(info.name), "%s", name);
	info.read_only = read_only;
	parse_exports(exports, &info);
	info.spec = spec ? strdup(spec) : NULL;
	if (spec && !info.spec)
		return -ENOMEM;
	*ret = info;
	return 0;
}

int disk_info(struct disk_env *env, pid_t pid, struct disk_info *ret, struct td_err *ret_err)
{
	struct disk_info info = { .pid = pid };
	json_t *reply = NULL;
	int r;

	r = job_call(env, pid, json_pack("{s:s}", "cmd", "info"), JOB_ASK_MS, &reply, ret_err);
	if (r < 0)
		return r;
	r = parse_info(reply, &info);
	json_decref(reply);
	if (r < 0)
		return td_err_set(ret_err, r, "tapdisk %d: what it says of itself is nothing of ours", pid);
	*ret = info;
	return 0;
}

/* One that does not answer is left out: nothing could be asked of it. */
int disk_info_all(struct disk_env *env, struct disk_info **ret, size_t *ret_nr, struct td_err *ret_err)
{
	td_cleanup(free) pid_t *pids = NULL;
	struct disk_info *all;
	size_t nr = 0, have = 0;
	int r;

	r = job_pids(env, &pids, &nr, ret_err);
	if (r < 0)
		return r;
	all = calloc(nr + 1, sizeof(*all));
	if (!all)
		return td_err_set(ret_err, -ENOMEM, "no memory for %zu tapdisks", nr);
	for (size_t i = 0; i < nr; i++)
		if (disk_info(env, pids[i], &all[have], NULL) == 0)
			have++;
	*ret = all;
	*ret_nr = have;
	return 0;
}

TD_CO static int ask_features(struct disk *d, struct td_err *ret_err)
{
	json_t *reply = NULL;
	int r;

	r = job_call(d->env, d->pid, json_pack("{s:s}", "cmd", "ring-features"), JOB_ASK_MS, &reply, ret_err);
	if (r < 0)
		return r;
	r = announce_parse(reply, &d->features);
	json_decref(reply);
	return r < 0 ? td_err_set(ret_err, r, "tapdisk %d: does not tell what its disk can do", d->pid) : 0;
}

static int keep_spec(struct disk *d, const char *spec, struct td_err *ret_err)
{
	char *copy;

	if (!spec || (d->spec && strcmp(spec, d->spec) == 0))
		return 0;
	copy = strdup(spec);
	if (!copy)
		return td_err_set(ret_err, -ENOMEM, "no memory");
	free(d->spec);
	d->spec = copy;
	return 0;
}

int disk_refresh(struct disk *d, struct td_err *ret_err)
{
	struct disk_info info = { 0 };
	int r;

	d->resized = d->respec = false;
	r = disk_info(d->env, d->pid, &info, ret_err);
	if (r == 0)
		r = keep_spec(d, info.spec, ret_err);
	free(info.spec);
	if (r == 0)
		r = ask_features(d, ret_err);
	return r;
}

/* ---- begin and end ---- */

/* d->pid is set: it has to answer, or it is none of ours. */
TD_CO static int begin(struct disk *d, struct td_err *ret_err)
{
	int r = listen_to(d, ret_err);

	return r < 0 ? r : ask_features(d, ret_err);
}

int disk_start(struct disk *d, const char *spec, bool read_only, struct td_err *ret_err)
{
	const char *args[6] = { "--name", d->name };
	unsigned n = 2;
	pid_t pid = 0;
	int r;

	r = keep_spec(d, spec, ret_err);
	if (r < 0)
		return r;
	d->read_only = read_only;
	if (read_only)
		args[n++] = "-R";
	args[n++] = "--"; /* whatever the name of an image is, it is no option */
	args[n++] = d->spec;
	r = job_spawn(d->env, args, &pid, ret_err);
	if (r < 0)
		return r;
	d->pid = pid;
	r = begin(d, ret_err);
	if (r < 0) {
		td_ignore(
			job_terminate(d->env, pid, TERMINATE_MS, NULL)); /* begin() has said what is wrong */
		let_go(d);
	}
	return r;
}

int disk_adopt(struct disk *d, const struct disk_info *info, bool borrowed, struct td_err *ret_err)
{
	char ring[32];
	int r = keep_spec(d, info->spec, ret_err);

	if (r < 0)
		return r;
	d->pid = info->pid;
	r = begin(d, ret_err);
	if (r < 0) {
		let_go(d);
		return r;
	}
	snprintf(ring, sizeof(ring), "xen:%u.%u", d->domid, d->vdev);
	d->has_ring = strcmp(ring, info->ring) == 0;
	d->read_only = info->read_only;
	d->borrowed = borrowed;
	return 0;
}

/* Its number may be another disk's tapdisk by now, if it died while nobody watched. */
TD_CO static bool is_anothers(struct disk *d)
{
	struct disk_info info = { 0 };
	bool other;

	if (d->borrowed || disk_info(d->env, d->pid, &info, NULL) < 0)
		return false;
	other = strcmp(info.name, d->name) != 0;
	free(info.spec);
	return other;
}

int disk_bury(struct disk *d, struct td_err *ret_err)
{
	int r = d->pid && !is_anothers(d) ? job_make_dead(d->env, d->pid, ret_err) : 0;

	if (r == 0)
		let_go(d);
	return r;
}

int disk_end(struct disk *d, struct td_err *ret_err)
{
	int r = 0;

	if (d->pid && !d->borrowed)
		r = job_terminate(d->env, d->pid, TERMINATE_MS, ret_err);
	if (r == 0)
		let_go(d);
	return r;
}

/* ---- the ring ---- */

static json_t *queues_json(const struct frontend *f)
{
	json_t *queues = json_array();

	for (unsigned q = 0; q < f->nr_queues; q++) {
		json_t *refs = json_array();

		for (unsigned i = 0; i < 1u << f->order; i++)
			json_array_append_new(refs, json_integer(f->queue[q].refs[i]));
		json_array_append_new(
			queues, json_pack("{s:o,s:I}", "refs", refs, "port", (json_int_t)f->queue[q].port));
	}
	return queues;
}

int disk_connect(struct disk *d, const struct frontend *f, bool persistent, uint64_t cookie, bool recover,
		 struct td_err *ret_err)
{
	json_t *request = json_pack("{s:s,s:I,s:I,s:s*,s:b,s:I,s:I,s:b,s:o}", "cmd", "ring-connect", "domid",
				    (json_int_t)d->domid, "devid", (json_int_t)d->vdev, "protocol",
				    f->protocol[0] ? f->protocol : NULL, "persistent", persistent, "poll_us",
				    (json_int_t)d->env->poll_us, "cookie", (json_int_t)cookie, "recover",
				    recover, "queues", queues_json(f));
	int r = job_call(d->env, d->pid, request, JOB_CONNECT_MS, NULL, ret_err);

	if (r == 0)
		d->has_ring = true;
	return r;
}

/* -ENOENT: the tapdisk has let the ring go by itself. */
int disk_disconnect(struct disk *d, struct td_err *ret_err)
{
	json_t *request = json_pack("{s:s,s:I,s:I}", "cmd", "ring-disconnect", "domid", (json_int_t)d->domid,
				    "devid", (json_int_t)d->vdev);
	int r = job_call(d->env, d->pid, request, JOB_DISCONNECT_MS, NULL, ret_err);

	if (r == -ENOENT)
		r = 0;
	if (r < 0)
		return r;
	d->has_ring = false;
	free(d->broken);
	d->broken = NULL;
	return 0;
}

/* A note that fills the buffer was cut off, and is none. */
char *disk_noted_spec(const struct disk *d)
{
	td_cleanup(free) char *path = NULL;
	char *text;
	ssize_t n;
	int fd;

	if (td_run_path(&path, NULL, "spec%u.%u", d->domid, d->vdev) < 0)
		return NULL;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	text = calloc(1, NOTED_MAX + 1);
	n = text ? read(fd, text, NOTED_MAX) : -1;
	(void)close(fd);
	if (n > 0 && n < NOTED_MAX)
		return text;
	free(text);
	return NULL;
}

void disk_forget_spec(const struct disk *d)
{
	td_cleanup(free) char *path = NULL;

	if (td_run_path(&path, NULL, "spec%u.%u", d->domid, d->vdev) == 0)
		(void)unlink(path);
}

void disk_drop_journal(const struct disk *d)
{
	for (unsigned q = 0; q < FRONTEND_QUEUES; q++) {
		td_cleanup(free) char *path = NULL;

		if (td_run_path(&path, NULL, "ring%u.%u.%u", d->domid, d->vdev, q) == 0)
			unlink(path);
	}
}
