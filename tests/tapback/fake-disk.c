// SPDX-License-Identifier: BSD-2-Clause
/*
 * Tapdisks in memory; see fake-disk.h.  The calls may come from worker threads.
 */
#include "fake-disk.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct fake_disk fake_disks[FAKE_DISKS];
const char *fake_spawn_error, *fake_connect_error;
unsigned fake_spawn_crashes, fake_spawn_ms;
uint64_t fake_sectors;
bool fake_persistent;
unsigned fake_spawns, fake_connects, fake_recovers, fake_disconnects, fake_terminates, fake_buried;

/* What a killed one leaves behind, as the journal of the real one does: of which connection it was. */
struct left {
	uint32_t domid, vdev;
	json_t *request;
};

static struct left left[FAKE_DISKS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pid_t next_pid = 1000;
static const char *wrong;

static void fail(const char *what)
{
	if (!wrong)
		wrong = what;
}

const char *fake_disk_wrong(void)
{
	return wrong;
}

static struct fake_disk *by_pid(pid_t pid)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		if (pid && fake_disks[i].pid == pid)
			return &fake_disks[i];
	return NULL;
}

struct fake_disk *fake_disk_find(const char *name)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		if (fake_disks[i].pid && strcmp(fake_disks[i].name, name) == 0)
			return &fake_disks[i];
	return NULL;
}

unsigned fake_nr_disks(void)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < FAKE_DISKS; i++)
		nr += fake_disks[i].pid != 0;
	return nr;
}

unsigned fake_nr_mapped(void)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < FAKE_DISKS; i++)
		nr += fake_disks[i].pid && fake_disks[i].mapped;
	return nr;
}

static void drop(struct fake_disk *f)
{
	if (f->events >= 0)
		close(f->events);
	json_decref(f->request);
	memset(f, 0, sizeof(*f));
	f->events = -1;
}

void fake_disk_reset(void)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++) {
		if (fake_disks[i].pid)
			drop(&fake_disks[i]);
		json_decref(left[i].request);
		left[i].request = NULL;
	}
	fake_spawn_error = fake_connect_error = wrong = NULL;
	fake_spawn_crashes = fake_spawn_ms = 0;
	fake_sectors = 2048;
	fake_persistent = true;
	fake_spawns = fake_connects = fake_recovers = fake_disconnects = fake_terminates = fake_buried = 0;
}

struct fake_disk *fake_disk_make(const char *name, const char *spec, int minor)
{
	struct fake_disk *f = NULL;

	for (unsigned i = 0; i < FAKE_DISKS; i++) {
		if (fake_disks[i].pid && strcmp(fake_disks[i].spec, spec) == 0)
			fail("an image was opened twice");
		if (!fake_disks[i].pid && !f)
			f = &fake_disks[i];
	}
	f->pid = next_pid++;
	f->events = -1;
	f->minor = minor;
	snprintf(f->name, sizeof(f->name), "%s", name);
	snprintf(f->spec, sizeof(f->spec), "%s", spec);
	return f;
}

static struct left *find_left(uint32_t domid, uint32_t vdev)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		if (left[i].request && left[i].domid == domid && left[i].vdev == vdev)
			return &left[i];
	return NULL;
}

static void leave(struct fake_disk *f)
{
	struct left *l = find_left(f->domid, f->vdev);

	for (unsigned i = 0; i < FAKE_DISKS && !l; i++)
		if (!left[i].request)
			l = &left[i];
	json_decref(l->request);
	*l = (struct left){ f->domid, f->vdev, json_incref(f->request) };
}

void fake_disk_kill(struct fake_disk *f)
{
	if (f->mapped)
		leave(f);
	drop(f);
}

void fake_disk_event(struct fake_disk *f, const char *line)
{
	td_ignore((int)write(f->events, line, strlen(line)));
}

/* ---- the calls ---- */

static int do_spawn(const char *const *args, pid_t *ret_pid, struct td_err *ret_err)
{
	const char *name = "", *spec = "";
	struct fake_disk *f;
	bool read_only = false;

	for (; *args; args++) {
		if (strcmp(*args, "--name") == 0)
			name = *++args;
		else if (strcmp(*args, "-R") == 0)
			read_only = true;
		else
			spec = *args;
	}
	if (fake_spawn_error)
		return td_err_set(ret_err, -ENOENT, "%s: %s", spec, fake_spawn_error);
	if (fake_disk_find(name))
		fail("two tapdisks for one disk");
	f = fake_disk_make(name, spec, -1);
	f->read_only = read_only;
	*ret_pid = f->pid;
	fake_spawns++;
	return 0;
}

static int spawn(const char *const *args, unsigned timeout_ms, pid_t *ret_pid, struct td_err *ret_err)
{
	int r;

	(void)timeout_ms;
	for (unsigned i = 0; args[i]; i++)
		if (strstr(args[i], "slow"))
			usleep(fake_spawn_ms * 1000);
	pthread_mutex_lock(&mutex);
	r = do_spawn(args, ret_pid, ret_err);
	pthread_mutex_unlock(&mutex);
	return r;
}

static json_t *info(struct fake_disk *f)
{
	json_t *exports = json_pack("[{s:s,s:s}]", "type", "nbd", "address", "unix:/x"), *o;
	char address[64];

	if (f->mapped) {
		snprintf(address, sizeof(address), "xen:%u.%u", f->domid, f->vdev);
		json_array_append_new(exports, json_pack("{s:s,s:s}", "type", "xen", "address", address));
	}
	o = json_pack("{s:b,s:i,s:s,s:s,s:b,s:o}", "ok", 1, "pid", f->pid, "name", f->name, "spec", f->spec,
		      "read_only", f->read_only, "exports", exports);
	json_object_set_new(o, "minor", f->minor < 0 ? json_null() : json_integer(f->minor));
	return o;
}

static json_t *features(void)
{
	return json_pack("{s:b,s:I,s:i,s:i,s:i,s:b,s:b,s:b,s:i,s:i,s:i,s:i,s:i,s:b}", "ok", 1, "sectors",
			 (json_int_t)fake_sectors, "sector_size", 512, "physical_sector_size", 512, "info", 0,
			 "flush", 1, "barrier", 1, "discard", 1, "discard_granularity", 4096,
			 "discard_alignment", 0, "max_indirect", 256, "max_order", 4, "max_queues", 4,
			 "persistent", fake_persistent);
}

static int ring_connect(struct fake_disk *f, json_t *request, struct td_err *ret_err)
{
	uint32_t domid = (uint32_t)json_integer_value(json_object_get(request, "domid"));
	uint32_t vdev = (uint32_t)json_integer_value(json_object_get(request, "devid"));
	bool recover = json_is_true(json_object_get(request, "recover"));
	struct left *l = find_left(domid, vdev);

	if (fake_connect_error)
		return td_err_set(ret_err, -EINVAL, "%s", fake_connect_error);
	if (fake_spawn_crashes > 0) {
		fake_spawn_crashes--;
		fake_disk_kill(f);
		return td_err_set(ret_err, -EPIPE, "went away without an answer");
	}
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		if (fake_disks[i].mapped && fake_disks[i].domid == domid && fake_disks[i].vdev == vdev)
			fail("a ring was mapped twice");
	if (recover && l) {
		json_t *was = json_object_get(l->request, "queues"), *is = json_object_get(request, "queues");

		if (!json_equal(was, is) ||
		    !json_equal(json_object_get(l->request, "cookie"), json_object_get(request, "cookie")))
			return td_err_set(ret_err, -ESTALE, "not the ring that was lost");
	}
	if (l) {
		json_decref(l->request);
		l->request = NULL;
	}
	f->mapped = true;
	f->domid = domid;
	f->vdev = vdev;
	f->request = json_incref(request);
	fake_connects += !recover;
	fake_recovers += recover;
	return 0;
}

static int do_call(struct fake_disk *f, json_t *request, json_t **ret_reply, struct td_err *ret_err)
{
	const char *cmd = json_string_value(json_object_get(request, "cmd"));

	if (!f)
		return td_err_set(ret_err, -ECONNREFUSED, "no such tapdisk");
	if (strcmp(cmd, "info") == 0)
		*ret_reply = info(f);
	else if (strcmp(cmd, "ring-features") == 0)
		*ret_reply = features();
	else if (strcmp(cmd, "ring-connect") == 0)
		return ring_connect(f, request, ret_err);
	else if (strcmp(cmd, "ring-disconnect") == 0 && !f->mapped)
		return -ENOENT;
	else if (strcmp(cmd, "ring-disconnect") == 0) {
		f->mapped = false;
		json_decref(f->request);
		f->request = NULL;
		fake_disconnects++;
	}
	return 0;
}

static int call(pid_t pid, json_t *request, unsigned timeout_ms, json_t **ret_reply, struct td_err *ret_err)
{
	int r;

	(void)timeout_ms;
	pthread_mutex_lock(&mutex);
	r = do_call(by_pid(pid), request, ret_reply, ret_err);
	pthread_mutex_unlock(&mutex);
	json_decref(request);
	return r;
}

static int events(pid_t pid, int *ret_fd, struct td_err *ret_err)
{
	struct fake_disk *f;
	int fd[2];

	pthread_mutex_lock(&mutex);
	f = by_pid(pid);
	if (f && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0) {
		if (f->events >= 0)
			close(f->events);
		f->events = fd[0];
		*ret_fd = fd[1];
	}
	pthread_mutex_unlock(&mutex);
	return f ? 0 : td_err_set(ret_err, -ECONNREFUSED, "no such tapdisk");
}

static int terminate(pid_t pid, unsigned timeout_ms, struct td_err *ret_err)
{
	struct fake_disk *f;

	(void)timeout_ms;
	(void)ret_err;
	pthread_mutex_lock(&mutex);
	f = by_pid(pid);
	if (f && f->mapped)
		fail("a tapdisk was ended with its ring mapped");
	if (f)
		drop(f);
	fake_terminates += f != NULL;
	pthread_mutex_unlock(&mutex);
	return 0;
}

static int pids(pid_t **ret_pids, size_t *ret_nr, struct td_err *ret_err)
{
	(void)ret_err;
	*ret_pids = calloc(FAKE_DISKS, sizeof(pid_t));
	*ret_nr = 0;
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		if (fake_disks[i].pid)
			(*ret_pids)[(*ret_nr)++] = fake_disks[i].pid;
	return 0;
}

static int make_dead(pid_t pid, struct td_err *ret_err)
{
	struct fake_disk *f;

	(void)ret_err;
	pthread_mutex_lock(&mutex);
	f = by_pid(pid);
	if (f)
		fake_disk_kill(f);
	fake_buried++;
	pthread_mutex_unlock(&mutex);
	return 0;
}

const struct disk_ops fake_disk_ops = {
	.spawn = spawn,
	.call = call,
	.events = events,
	.terminate = terminate,
	.pids = pids,
	.make_dead = make_dead,
};
