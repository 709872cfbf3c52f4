// SPDX-License-Identifier: BSD-2-Clause
/*
 * A whole tapback in memory; see world.h.
 */
#include "world.h"

#include <blktap/co.h>
#include <blktap/pool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct backend *tapback;
char world_sysfs[] = "/tmp/tapback-sysfs-XXXXXX";
enum phy world_phy;
unsigned world_threads, world_passes;

const struct guest_disk vbd = { "vbd", 3, 51712 };

static struct td_loop *loop;
static struct td_xs *xs;
static const char *classes[BACKEND_CLASSES] = { "vbd3", "vbd", "qdisk" };
static unsigned nr_classes = 3;
static bool lost;

/* ---- life and death ---- */

int world_setup(void **state)
{
	(void)state;
	strcpy(world_sysfs + strlen(world_sysfs) - 6, "XXXXXX");
	if (!mkdtemp(world_sysfs))
		return -1;
	setenv("BLKTAP_RUN_DIR", world_sysfs, 1);
	fake_xs_reset();
	fake_disk_reset();
	loop = td_loop_new();
	world_phy = PHY_AUTO;
	world_threads = 0;
	world_passes = UINT32_MAX;
	lost = false;
	world_classes((const char *const[]){ "vbd3", "vbd", "qdisk", NULL });
	td_log_level(getenv("TEST_DEBUG") ? TD_LOG_DEBUG : TD_LOG_ERR);
	fake_set("/local/domain/0/memory/target", "4194304");
	fake_set("/local/domain/3/memory/target", "4194304");
	return loop && td_xs_connect(&xs, NULL) == 0 ? 0 : -1;
}

int world_teardown(void **state)
{
	char command[128];

	(void)state;
	if (tapback)
		world_kill();
	td_xs_close(xs);
	td_loop_free(loop);
	td_co_thread_done();
	snprintf(command, sizeof(command), "rm -rf %s", world_sysfs);
	td_ignore(system(command));
	assert_null(fake_disk_wrong());
	fake_disk_reset();
	fake_xs_reset();
	return 0;
}

void world_classes(const char *const *names)
{
	for (nr_classes = 0; names[nr_classes]; nr_classes++)
		classes[nr_classes] = names[nr_classes];
}

static void xenstore_lost(struct backend *b, int r)
{
	(void)b;
	(void)r;
	lost = true;
}

static int start(void *arg)
{
	struct td_err err = { "" };

	return backend_start(arg, &err);
}

void world_start(void)
{
	struct backend *b = calloc(1, sizeof(*b));

	assert_null(tapback);
	b->env.loop = loop;
	b->env.xs = xs;
	b->env.run_dir = "/run/blktap-control";
	b->env.phy = world_phy;
	b->env.max_passes = world_passes;
	b->env.late_ns = 300000000;
	b->env.disk.ops = &fake_disk_ops;
	b->env.disk.pool = world_threads ? td_pool_new(loop, world_threads) : NULL;
	b->probe.root = world_sysfs;
	b->nr_classes = nr_classes;
	memcpy(b->classes, classes, sizeof(classes));
	b->lost = xenstore_lost;
	tapback = b;
	assert_int_equal(td_loop_call(loop, start, b), 0);
	settle();
}

/* What a process takes with it: its watches in xenstore, its connections. */
static void gone(void)
{
	td_loop_unwatch(&tapback->watch);
	backend_free(tapback);
	td_pool_free(tapback->env.disk.pool);
	free(tapback);
	tapback = NULL;
	td_xs_close(xs);
	td_ignore(td_xs_connect(&xs, NULL));
}

void world_stop(void)
{
	backend_stop(tapback);
	wait_until(backend_idle(tapback));
	gone();
}

void world_kill(void)
{
	tapback->env.stopping = true; /* no pass is in the middle of anything: settle() came before */
	wait_until(backend_idle(tapback));
	gone();
}

static bool turn(void)
{
	bool busy = fake_pending() || td_co_any_ready();

	td_loop_turn(loop, false);
	return busy || (tapback && tapback->env.nr_running > 0);
}

void settle(void)
{
	for (unsigned quiet = 0; quiet < 5; quiet++)
		if (turn())
			quiet = 0;
}

void world_turn(void)
{
	td_loop_turn(loop, false);
	usleep(1000);
}

/* ---- disks ---- */

static const char *path(const char *class, unsigned domid, unsigned vdev, const char *key)
{
	static char paths[8][256];
	static unsigned next;
	char *p = paths[next++ % 8];

	if (class)
		snprintf(p, sizeof(paths[0]), "/local/domain/0/backend/%s/%u/%u%s%s", class, domid, vdev,
			 *key ? "/" : "", key);
	else
		snprintf(p, sizeof(paths[0]), "/local/domain/%u/device/vbd/%u%s%s", domid, vdev,
			 *key ? "/" : "", key);
	return p;
}

const char *be_path(const struct guest_disk *g, const char *key)
{
	return path(g->class, g->domid, g->vdev, key);
}

const char *fe_path(const struct guest_disk *g, const char *key)
{
	return path(NULL, g->domid, g->vdev, key);
}

const char *be_get(const struct guest_disk *g, const char *key)
{
	const char *value = fake_get(be_path(g, key));

	return value ? value : "";
}

unsigned be_state(const struct guest_disk *g)
{
	return (unsigned)atoi(be_get(g, "state"));
}

void tool_add(const struct guest_disk *g, const char *script, const char *params)
{
	fake_set(fe_path(g, "backend"), "%s", be_path(g, ""));
	fake_set(fe_path(g, "state"), "1");
	fake_set(be_path(g, "frontend"), "%s", fe_path(g, ""));
	fake_set(be_path(g, "params"), "%s", params);
	if (script)
		fake_set(be_path(g, "script"), "/etc/xen/scripts/%s", script);
	fake_set(be_path(g, "frontend-id"), "%u", g->domid);
	fake_set(be_path(g, "online"), "1");
	fake_set(be_path(g, "mode"), "w");
	fake_set(be_path(g, "discard-enable"), "1");
	fake_set(be_path(g, "device-type"), "disk");
	fake_set(be_path(g, "state"), "1");
}

void tool_detach(const struct guest_disk *g)
{
	fake_set(be_path(g, "online"), "0");
	fake_set(be_path(g, "state"), "5");
}

void tool_remove(const struct guest_disk *g)
{
	fake_rm(be_path(g, ""));
	fake_rm(fe_path(g, ""));
}

void guest_state(const struct guest_disk *g, unsigned state)
{
	fake_set(fe_path(g, "state"), "%u", state);
}

void guest_connect(const struct guest_disk *g)
{
	fake_set(fe_path(g, "ring-ref"), "8");
	fake_set(fe_path(g, "event-channel"), "15");
	fake_set(fe_path(g, "protocol"), "x86_64-abi");
	fake_set(fe_path(g, "feature-persistent"), "1");
	guest_state(g, 3);
}

void guest_reconnect(const struct guest_disk *g)
{
	guest_state(g, 6);
	settle();
	guest_state(g, 1);
	settle();
	guest_connect(g);
	settle();
}

void whole_connect(const struct guest_disk *g, const char *script, const char *params)
{
	tool_add(g, script, params);
	settle();
	assert_int_equal(be_state(g), 2);
	guest_connect(g);
	settle();
	assert_int_equal(be_state(g), 4);
	guest_state(g, 4);
	settle();
}

struct fake_disk *disk_of(const struct guest_disk *g)
{
	char name[40];

	snprintf(name, sizeof(name), "vbd-%u-%u", g->domid, g->vdev);
	return fake_disk_find(name);
}
