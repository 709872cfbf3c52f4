// SPDX-License-Identifier: BSD-2-Clause
/*
 * block-attach's disks in xenstore: what is written, found and removed, and how a disk is taken away from a domain; on
 * a xenstore in memory, where tapback and the guest are played by a function that is called for each change.
 */
#include "unit.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "fake-xs.h"
#include "list.h"
#include "ring.h"

#define BE "/local/domain/0/backend/vbd/7/51712"
#define FE "/local/domain/7/device/vbd/51712"
#define XL "/libxl/7/device/vbd/51712"

static struct td_xs *xs;
static char run_dir[] = "/tmp/bt.XXXXXX";
static int tapback_fd = -1;

static int start(void **state)
{
	(void)state;
	fake_xs_reset();
	fake_set("/local/domain/7/name", "guest");
	fake_set("/local/domain/7/device/suspend/event-channel", "none");
	return td_xs_connect(&xs, NULL);
}

static void tapback_ends(void)
{
	if (tapback_fd >= 0)
		close(tapback_fd);
	tapback_fd = -1;
}

static int stop(void **state)
{
	(void)state;
	td_xs_close(xs);
	tapback_ends();
	return 0;
}

/* Its lock, and the line that says what it serves. */
static void tapback_starts(pid_t pid, const char *classes)
{
	char path[64], line[64];

	snprintf(line, sizeof(line), "%d%s\n", (int)pid, classes);
	snprintf(path, sizeof(path), "%s/tapback", run_dir);
	tapback_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(tapback_fd >= 0);
	assert_int_equal(write(tapback_fd, line, strlen(line)), strlen(line));
	assert_int_equal(flock(tapback_fd, LOCK_EX), 0);
}

static struct ring disk(const char *class)
{
	struct ring n;

	ring_init(&n, 7, 51712, class);
	return n;
}

static void assert_node(const char *path, const char *value)
{
	const char *now = fake_get(path);

	if (!now)
		fail_msg("%s is missing", path);
	assert_string_equal(now, value);
}

/* ---- folders ---- */

static void test_written(void **state)
{
	struct ring n = disk("vbd");

	(void)state;
	assert_int_equal(ring_write(xs, &n, "qcow2:/srv/a b.qcow2", false), 0);
	assert_string_equal(fake_perms(BE), "0 7");
	assert_string_equal(fake_perms(FE), "7 0");
	assert_node(BE "/params", "qcow2:/srv/a b.qcow2");
	assert_node(BE "/script", "/etc/xen/scripts/block-tapdisk");
	assert_node(BE "/frontend", FE);
	assert_node(BE "/frontend-id", "7");
	assert_node(BE "/type", "phy");
	assert_node(BE "/mode", "w");
	assert_node(BE "/dev", "xvda");
	assert_node(BE "/online", "1");
	assert_node(BE "/state", "1");
	assert_node(FE "/backend", BE);
	assert_node(FE "/backend-id", "0");
	assert_node(FE "/virtual-device", "51712");
	assert_node(FE "/state", "1");
	assert_node(XL "/backend", BE);
	assert_node(XL "/frontend", FE);
	assert_node(XL "/params", "qcow2:/srv/a b.qcow2");
	assert_true(ring_is_ours(xs, &n));
}

static void test_written_vbd3(void **state)
{
	struct ring n = disk("vbd3");
	td_cleanup(free) char *spec = NULL;

	(void)state;
	assert_int_equal(ring_write(xs, &n, "qcow2:/srv/a:b", true), 0);
	assert_node("/local/domain/0/backend/vbd3/7/51712/params", "aio:qcow2:/srv/a:b");
	assert_node("/local/domain/0/backend/vbd3/7/51712/type", "tap");
	assert_node("/local/domain/0/backend/vbd3/7/51712/mode", "r");
	assert_int_equal(ring_find(xs, 7, 51712, &n), 0);
	assert_string_equal(n.class, "vbd3");
	spec = ring_spec(xs, &n);
	assert_string_equal(spec, "qcow2:/srv/a:b");
}

static void test_twice(void **state)
{
	struct ring n = disk("vbd"), other = disk("vbd3");
	unsigned nr;

	(void)state;
	assert_int_equal(ring_write(xs, &n, "aio:/a", false), 0);
	nr = fake_nr_below("/");
	assert_int_equal(ring_write(xs, &n, "aio:/b", false), -EEXIST);
	assert_int_equal(ring_write(xs, &other, "aio:/b", false), -EEXIST);
	assert_int_equal(fake_nr_below("/"), nr);
	assert_node(BE "/params", "aio:/a");
}

static void test_conflicts(void **state)
{
	struct ring n = disk("vbd");
	unsigned nr;

	(void)state;
	fake_conflicts = 5;
	assert_int_equal(ring_write(xs, &n, "aio:/a", false), 0);
	assert_node(XL "/params", "aio:/a");
	fake_conflicts = 5;
	assert_int_equal(ring_erase(xs, &n), 0);
	assert_int_equal(fake_conflicts, 0);
	nr = fake_nr_below("");
	fake_conflicts = 1000000; /* it ends */
	assert_int_equal(ring_write(xs, &n, "aio:/a", false), -EAGAIN);
	fake_conflicts = 0;
	assert_int_equal(fake_nr_below(""), nr);
}

static void test_erased(void **state)
{
	struct ring a = disk("vbd"), b;

	(void)state;
	ring_init(&b, 7, 51728, "vbd");
	assert_int_equal(ring_write(xs, &a, "aio:/a", false), 0);
	assert_int_equal(ring_write(xs, &b, "aio:/b", false), 0);
	assert_int_equal(ring_erase(xs, &a), 0);
	assert_null(fake_get(BE));
	assert_null(fake_get(FE));
	assert_null(fake_get(XL));
	assert_non_null(fake_get("/local/domain/0/backend/vbd/7/51728/params"));
	assert_non_null(fake_get("/local/domain/7/device/vbd/51728/state"));
	assert_int_equal(ring_erase(xs, &b), 0);
	assert_null(fake_get("/local/domain/0/backend"));
	assert_null(fake_get("/local/domain/7/device/vbd"));
	assert_null(fake_get("/libxl"));
	assert_non_null(fake_get("/local/domain/7/device/suspend"));
	assert_int_equal(ring_erase(xs, &b), 0); /* again */
}

static void test_found(void **state)
{
	struct ring n;

	(void)state;
	assert_int_equal(ring_find(xs, 7, 51712, &n), -ENOENT);
	fake_set("/local/domain/0/backend/vif/7/51712/state", "4"); /* the same number, another kind */
	assert_int_equal(ring_find(xs, 7, 51712, &n), -ENOENT);
	fake_set("/local/domain/0/backend/qdisk/7/51712/params", "qcow2:/x");
	assert_int_equal(ring_find(xs, 7, 51712, &n), 0);
	assert_string_equal(n.class, "qdisk");
	assert_false(ring_is_ours(xs, &n));
	fake_rm("/local/domain/0/backend/qdisk");
	fake_set(XL "/backend", "gone"); /* what is left of a disk */
	assert_int_equal(ring_find(xs, 7, 51712, &n), 0);
}

static void test_states(void **state)
{
	static const char *const bad[] = {
		"", "0", "7", "-1", "4x", " 4", "99999999999999999999999", "four"
	};

	(void)state;
	assert_int_equal(ring_state(xs, FE), RING_GONE);
	for (size_t i = 0; i < TD_NELEMS(bad); i++) {
		fake_set(FE "/state", "%s", bad[i]);
		assert_int_equal(ring_state(xs, FE), RING_GONE);
	}
	fake_set(FE "/state", "4");
	assert_int_equal(ring_state(xs, FE), RING_CONNECTED);
}

static void test_tapback(void **state)
{
	static const struct {
		const char *line, *class;
	} cases[] = { { " vbd vbd3 qdisk", "vbd3" }, { " vbd3", "vbd3" }, { " qdisk", "" },
		      { " vbd3x xvbd", "" },         { "", "" },          { " qdisk vbd", "vbd" } };
	char class[RING_CLASS_MAX];

	(void)state;
	for (size_t i = 0; i < TD_NELEMS(cases); i++) {
		tapback_starts(getpid(), cases[i].line);
		assert_true(ring_tapback(class));
		assert_string_equal(class, cases[i].class);
		tapback_ends();
	}
	assert_false(ring_tapback(class)); /* the file is there, nobody holds it */
	tapback_starts(4194305, " vbd");
	assert_false(ring_tapback(class)); /* held by one that has not written its line yet */
}

/* ---- the way back ---- */

static bool guest_lets_go;
static const char *said;

static void report(const char *line)
{
	said = strstr(line, "loses the disk") ? "loses" : "?";
}

/* tapback and the guest, when the backend's state is 5. */
static void others(const char *path, const char *value)
{
	if (strcmp(path, BE "/state") != 0 || !value || strcmp(value, "5") != 0 || !guest_lets_go)
		return;
	fake_set(FE "/state", "6");
	if (tapback_fd < 0)
		return;
	fake_set(BE "/state", "6");
	fake_rm(BE "/tapdisk-pid");
}

static struct ring connected(const char *frontend)
{
	struct ring n = disk("vbd");

	assert_int_equal(ring_write(xs, &n, "aio:/a", false), 0);
	fake_set(BE "/state", "%d", strcmp(frontend, "1") == 0 ? 2 : 4);
	fake_set(BE "/tapdisk-pid", "4194305"); /* nobody's */
	fake_set(FE "/state", "%s", frontend);
	fake_on_write = others;
	return n;
}

static void test_released(void **state)
{
	const struct ring_release how = { .timeout_ms = 100000, .report = report };
	struct ring n = connected("4");

	(void)state;
	tapback_starts(getpid(), " vbd");
	guest_lets_go = true;
	assert_int_equal(ring_release(xs, &n, &how, NULL), 0);
	assert_int_equal(ring_find(xs, 7, 51712, &n), -ENOENT);
}

static void test_held(void **state)
{
	struct ring_release how = { .timeout_ms = 300, .report = report };
	struct ring n = connected("4");
	struct td_err err = { .msg = "" };

	(void)state;
	tapback_starts(getpid(), " vbd");
	guest_lets_go = false;
	assert_refused(ring_release(xs, &n, &how, &err), -EBUSY, &err, "domain 7 holds it");
	assert_node(BE "/online", "0");
	assert_node(BE "/state", "5");
	how.force = true;
	said = "";
	assert_int_equal(ring_release(xs, &n, &how, &err), 0);
	assert_string_equal(said, "loses");
	assert_null(fake_get(BE));
	assert_null(fake_get(FE));
}

static void test_without_tapback(void **state)
{
	const struct ring_release how = { .timeout_ms = 100000 };
	struct ring n = connected("4");

	(void)state;
	guest_lets_go = true;
	assert_int_equal(ring_release(xs, &n, &how, NULL), 0);
	assert_null(fake_get(BE));
}

static void test_not_taken(void **state)
{
	const struct ring_release how = { .timeout_ms = 100 };
	struct ring n = connected("1");

	(void)state;
	guest_lets_go = false; /* there is no driver in it */
	assert_int_equal(ring_release(xs, &n, &how, NULL), 0);
	assert_null(fake_get(BE));
}

/* ---- the list ---- */

static void note(void *ctx, const struct row *row)
{
	char *line = ctx;

	sprintf(line + strlen(line), "%u %s %s %s %s;", row->domid, row->vdev, row->mode, row->state,
		row->spec ? row->spec : "?");
}

static void test_listed(void **state)
{
	struct ring n = disk("vbd");
	char line[512] = "";

	(void)state;
	assert_int_equal(ring_write(xs, &n, "aio:/a", false), 0);
	fake_set("/local/domain/0/backend/vbd/9/768/state", "4"); /* the kernel's */
	fake_set("/local/domain/0/backend/qdisk/12/768/state", "4");
	fake_set("/local/domain/0/backend/qdisk/12/768/mode", "w");
	fake_set("/local/domain/0/backend/qdisk/12/768/params", "qcow2:/q");
	fake_set("/local/domain/0/backend/qdisk/12/768/tapdisk-pid", "%d", (int)getpid());
	fake_set("/local/domain/0/backend/qdisk/x/768/tapdisk-pid", "1");
	ring_list(xs, -1, note, line);
	assert_string_equal(line, "7 xvda w starting aio:/a;12 hda w attached qcow2:/q;");
	line[0] = '\0';
	fake_set("/local/domain/0/backend/qdisk/12/768/tapdisk-pid", "4194305");
	ring_list(xs, 12, note, line);
	assert_string_equal(line, "12 hda w broken qcow2:/q;");
}

#define ON_STORE(sentence, fn)                                                                               \
	{                                                                                                    \
		sentence, fn, start, stop, NULL                                                              \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_STORE("three folders are written, as libxl does", test_written),
		ON_STORE("class vbd3 has a word in front of the specification", test_written_vbd3),
		ON_STORE("a disk that is there is not written over", test_twice),
		ON_STORE("a transaction that somebody disturbs is done again, not forever", test_conflicts),
		ON_STORE("a disk that is removed leaves no empty folder, and no other disk's", test_erased),
		ON_STORE("a disk is found in every class, also what is left of one", test_found),
		ON_STORE("a state that a guest wrote is a number from 1 to 6 or none", test_states),
		ON_STORE("a tapback that runs is known by its lock", test_tapback),
		ON_STORE("a disk that the guest lets go leaves nothing", test_released),
		ON_STORE("a disk that the guest holds stays, unless by force", test_held),
		ON_STORE("without tapback the frontend's end is enough", test_without_tapback),
		ON_STORE("a disk that no guest took is removed", test_not_taken),
		ON_STORE("the list has what tapback serves, and nothing else", test_listed),
	};
	char path[64];
	int r;

	if (!mkdtemp(run_dir))
		return 1;
	setenv("BLKTAP_RUN_DIR", run_dir, 1);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	fake_xs_reset();
	snprintf(path, sizeof(path), "%s/tapback", run_dir);
	unlink(path);
	rmdir(run_dir);
	return r;
}
