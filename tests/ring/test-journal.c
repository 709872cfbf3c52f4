// SPDX-License-Identifier: BSD-2-Clause
/*
 * The journal: what files it refuses, and that a kill at any instruction loses no request and doubles none.
 *
 * The proof: a child serves the ring, and the parent lets it go one instruction at a time.  A kill leaves exactly
 * what is in shared memory at that moment; so whenever ring or journal have changed the parent copies them (and the
 * guest's pages, and the disk), takes the copy over as a new process would, and looks that each request is answered
 * once.  The parent is the frontend too, which takes answers and uses their slots again meanwhile.  One of the copies
 * is then taken over by a child that is stepped through in the same way: a kill during recovery.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guest.h"
#include <blktap/log.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MANY_INSTRUCTIONS 1
#else
#define MANY_INSTRUCTIONS RUNNING_ON_VALGRIND
#endif

#define SAYS(sentence, fn)                                                                                   \
	{                                                                                                    \
		sentence, fn, NULL, NULL, NULL                                                               \
	}

#define NR_REQS     30u
#define OUTSTANDING 10u
#define PAGES       (NR_REQS * 4)
#define DISK_BYTES  (NR_REQS * 4 * 4096)
#define SECONDS     300 /* for what takes a moment on a machine that has nothing else to do */
#define FIRST_INDEX 0xfffffffau /* it will wrap */

/* The frontend: what it sent, and what it saw. */
struct front {
	unsigned sent, done;
	uint8_t answered[NR_REQS];
};

/* Everything that a kill leaves, and the frontend. */
struct world {
	struct guest *g;
	struct front f;
	char disk[128], journal[128];
	bool wrong; /* an answer that must not be */
};

/* ---- requests: each has its own four pages of memory and of the disk ---- */

static bool is_refused(unsigned i)
{
	return i % 7 == 5;
}

static bool is_read(unsigned i)
{
	return i % 7 == 1 || i % 7 == 6;
}

static struct td_blkif_req request(struct world *w, unsigned i)
{
	uint64_t sector = i * 32;
	struct td_blkif_req q;

	switch (i % 7) {
	case 0:
		q = guest_io(TD_BLKIF_WRITE, sector, 4 * i, 3);
		break;
	case 1:
		q = guest_io(TD_BLKIF_READ, sector, 4 * i, 3);
		break;
	case 2:
		q = guest_indirect(w->g, TD_BLKIF_WRITE, sector, 4 * i, 3, 4 * i + 3);
		break;
	case 3:
		q = (struct td_blkif_req){ .op = TD_BLKIF_FLUSH };
		break;
	case 4:
		q = guest_io(TD_BLKIF_BARRIER, sector, 4 * i, 2);
		break;
	case 5:
		q = guest_io(TD_BLKIF_WRITE, UINT64_MAX - 8, 4 * i, 2);
		break;
	default:
		q = guest_indirect(w->g, TD_BLKIF_READ, sector, 4 * i, 3, 4 * i + 3);
		break;
	}
	q.id = i;
	return q;
}

static unsigned pages_moved(unsigned i)
{
	static const unsigned pages[] = { 3, 3, 3, 0, 2, 0, 3 };

	return pages[i % 7];
}

static char pattern(unsigned i, unsigned byte, bool disk)
{
	return (char)(i * 31 + byte * 7 + byte / 4096 + (disk ? 101 : 0));
}

static void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static size_t read_file(const char *path, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, buf, len);
	assert_true(n >= 0);
	close(fd);
	return (size_t)n;
}

static struct ring_journal_key key_of(const struct world *w)
{
	return (struct ring_journal_key){ .domid = 3,
					  .devid = 51712,
					  .abi = w->g->abi,
					  .order = w->g->order,
					  .refs = { 8, 9 },
					  .cookie = 0x1234567890 };
}

static struct world *world_new(enum td_blkif_abi abi)
{
	static char disk[DISK_BYTES];
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->g = guest_new(abi, 0);
	guest_set_index(w->g, FIRST_INDEX);
	(void)snprintf(w->disk, sizeof(w->disk), "%s/disk", w->g->t.dir);
	(void)snprintf(w->journal, sizeof(w->journal), "%s/journal", w->g->t.dir);
	for (unsigned i = 0; i < NR_REQS; i++) {
		for (unsigned b = 0; b < 4 * 4096; b++) {
			disk[i * 4 * 4096 + b] = pattern(i, b, true);
			w->g->data[(size_t)i * 4 * 4096 + b] = pattern(i, b, false);
		}
	}
	write_file(w->disk, disk, sizeof(disk));
	return w;
}

static void world_free(struct world *w)
{
	guest_free(w->g);
	free(w);
}

static void copy_file(const char *to, const char *from)
{
	static char buf[1 << 20];

	write_file(to, buf, read_file(from, buf, sizeof(buf)));
}

static void world_copy(struct world *to, const struct world *from)
{
	memcpy(to->g->shared, from->g->shared, TD_BLKIF_PAGE << from->g->order);
	memcpy(to->g->data, from->g->data, (size_t)PAGES * TD_BLKIF_PAGE);
	to->g->req_prod = from->g->req_prod;
	to->g->rsp_cons = from->g->rsp_cons;
	to->f = from->f;
	copy_file(to->disk, from->disk);
	copy_file(to->journal, from->journal);
}

/* ---- the frontend's turn ---- */

/* Takes what was answered, sends what fits.  No cmocka here: it runs while a child is stopped. */
static void front_turn(struct world *w, bool bell)
{
	uint32_t prod = guest_load(w->g, TD_BLKIF_RSP_PROD);
	struct td_blkif_rsp rsp;

	while (w->g->rsp_cons != prod) {
		td_blkif_decode_rsp(w->g->abi, guest_slot(w->g, w->g->rsp_cons++), &rsp);
		if (rsp.id >= NR_REQS || w->f.answered[rsp.id] || rsp.id >= w->f.sent ||
		    rsp.status != (is_refused((unsigned)rsp.id) ? TD_BLKIF_ERROR : TD_BLKIF_OKAY)) {
			w->wrong = true;
			return;
		}
		w->f.answered[rsp.id] = 1;
		w->f.done++;
	}
	while (w->f.sent < NR_REQS && w->f.sent - w->f.done < OUTSTANDING) {
		struct td_blkif_req q = request(w, w->f.sent++);

		guest_put(w->g, &q);
	}
	if (bell)
		guest_push(w->g);
	else
		guest_store(w->g, TD_BLKIF_REQ_PROD, w->g->req_prod);
}

static void check_end(struct world *w)
{
	static char disk[DISK_BYTES];

	assert_false(w->wrong);
	assert_int_equal(w->f.done, NR_REQS);
	assert_int_equal(w->g->rsp_cons, w->g->req_prod);
	assert_int_equal(read_file(w->disk, disk, sizeof(disk)), sizeof(disk));
	for (unsigned i = 0; i < NR_REQS; i++) {
		for (unsigned b = 0; b < pages_moved(i) * 4096; b++) {
			char want = pattern(i, b, is_read(i));

			if (w->g->data[(size_t)i * 4 * 4096 + b] != want || disk[i * 4 * 4096 + b] != want)
				fail_msg("request %u: byte %u is wrong", i, b);
		}
	}
}

/* Take it over in this process, to the end. */
static void finish(struct world *w)
{
	struct ring_journal_key key = key_of(w);
	struct td_err err = { "" };
	unsigned bells = w->g->port.notifies;
	bool answered = guest_load(w->g, TD_BLKIF_RSP_PROD) != FIRST_INDEX;

	guest_open(w->g, "aio:%s", w->disk);
	if (ring_journal_open(w->journal, &key, false, &w->g->setup.journal, &err) < 0)
		fail_msg("%s", err.msg);
	guest_start(w->g);
	guest_turn(w->g, 1);
	if (answered) /* the last process may not have got to its bell */
		assert_true(w->g->port.notifies > bells);
	for (time_t end = time(NULL) + 60; w->f.done < NR_REQS && !w->wrong && time(NULL) < end;) {
		front_turn(w, true);
		td_loop_turn(w->g->t.env.loop, false);
	}
	assert_null(ring_failed(w->g->ring));
	check_end(w);
	guest_stop(w->g);
	ring_journal_close(w->g->setup.journal, true);
	w->g->setup.journal = NULL;
	assert_int_equal(access(w->journal, F_OK), -1);
	guest_shut(w->g);
}

/* ---- one instruction at a time ---- */

/* The child: an environment of its own, no threads; it stops before the ring is set up, and ends when it is told to. */
static void serve(struct world *w, bool fresh)
{
	struct ring_journal_key key = key_of(w);
	struct td_env env = { .policy = &w->g->t.policy };

	env.loop = td_loop_new();
	env.pool = env.loop ? td_pool_new(env.loop, 1) : NULL;
	if (!env.pool || td_engine_new("libaio", env.loop, env.pool, 64, &env.engine, NULL) < 0)
		_exit(77);
	w->g->t.env = env;
	guest_open(w->g, "aio:%s", w->disk);
	if (ring_journal_open(w->journal, &key, fresh, &w->g->setup.journal, NULL) < 0)
		_exit(1);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(77);
	(void)raise(SIGSTOP);
	guest_start(w->g);
	while (__atomic_load_n(&w->g->grant[GUEST_PAGES - 1], __ATOMIC_RELAXED) == 0)
		td_loop_turn(env.loop, false);
	_exit(0);
}

struct seen {
	unsigned char ring[TD_BLKIF_PAGE], journal[16384];
	const unsigned char *live; /* the journal, mapped */
	size_t journal_len;
};

static bool has_changed(struct seen *s, const struct world *w)
{
	if (memcmp(s->ring, w->g->shared, sizeof(s->ring)) == 0 &&
	    memcmp(s->journal, s->live, s->journal_len) == 0)
		return false;
	memcpy(s->ring, w->g->shared, sizeof(s->ring));
	memcpy(s->journal, s->live, s->journal_len);
	return true;
}

static void map_journal(struct seen *s, const struct world *w)
{
	int fd = open(w->journal, O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	s->journal_len = (size_t)st.st_size;
	assert_true(s->journal_len <= sizeof(s->journal));
	s->live = mmap(NULL, s->journal_len, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(s->live != MAP_FAILED);
	close(fd);
}

/* The one of the states that the caller wants to keep: picked at random, each as likely. */
struct pick {
	struct world *world;
	uint64_t seed;
};

static void end_child(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

/* every: of the states that a kill could leave, take over one in so many.  Returns how many there were; 0: cannot. */
static unsigned step_through(struct world *w, bool fresh, struct world *spare, unsigned every,
			     struct pick *pick)
{
	struct seen s = { 0 };
	unsigned states = 0;
	uint64_t steps = 0;
	time_t end = time(NULL) + SECONDS;
	int status;
	pid_t pid;

	w->g->grant[GUEST_PAGES - 1] = 0;
	pid = fork();
	if (pid == 0)
		serve(w, fresh);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSTOPPED(status)) {
		assert_int_equal(WEXITSTATUS(status), 77);
		return 0;
	}
	map_journal(&s, w);
	front_turn(w, false);
	for (;; steps++) {
		if (has_changed(&s, w)) {
			if (pick && test_random(&pick->seed) % (states + 1) == 0)
				world_copy(pick->world, w);
			if (states++ % every == 0) {
				world_copy(spare, w);
				finish(spare);
			}
		}
		front_turn(w, false);
		if (w->wrong || w->f.done == NR_REQS || time(NULL) > end)
			w->g->grant[GUEST_PAGES - 1] = 1;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			break;
	}
	if (!WIFEXITED(status))
		end_child(pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	munmap((void *)(uintptr_t)s.live, s.journal_len);
	printf("# %llu instructions, %u states\n", (unsigned long long)steps, states);
	check_end(w);
	return states;
}

static void a_kill_at_any_instruction_loses_nothing(void **state)
{
	unsigned rounds = test_count("TEST_ROUNDS", 1);
	struct pick pick = { .seed = test_seed() };

	(void)state;
	if (MANY_INSTRUCTIONS && rounds < 2) {
		print_message("a sanitizer or valgrind: thirty times the instructions; TEST_ROUNDS=2 does it "
			      "all the same\n");
		skip();
	}
	for (unsigned n = 0; n < rounds; n++) {
		enum td_blkif_abi abi = n % 2 ? TD_BLKIF_X86_32 : TD_BLKIF_X86_64;
		struct world *w = world_new(abi), *spare = world_new(abi);
		unsigned states;

		pick.world = world_new(abi);
		states = step_through(w, true, spare, rounds > 1 ? 1 : 2, &pick);
		if (states == 0) {
			print_message("no ptrace, or no libaio\n");
			skip();
		}
		assert_true(states > 4 * NR_REQS);
		/* And a kill of the process that took over from one of them. */
		assert_true(step_through(pick.world, false, spare, rounds > 1 ? 1 : 3, NULL) > 0);
		world_free(pick.world);
		world_free(spare);
		world_free(w);
	}
}

/* ---- what the guest rewrote ---- */

/* The journal of a ring with requests in flight. */
static struct world *killed_world(unsigned requests)
{
	struct world *w = world_new(TD_BLKIF_X86_64);
	struct ring_journal_key key = key_of(w);
	struct td_blkif_req q;

	guest_open(w->g, "aio:%s", w->disk);
	assert_int_equal(ring_journal_open(w->journal, &key, true, &w->g->setup.journal, NULL), 0);
	guest_start(w->g);
	assert_int_equal(guest_pause(w->g), 0);
	for (unsigned i = 0; i < requests; i++) {
		q = guest_io(TD_BLKIF_READ, 8 * (uint64_t)i, i, 1);
		guest_put(w->g, &q);
	}
	guest_push(w->g);
	guest_turn(w->g, 3);
	/* What waits is dropped: for the journal this is what a kill would be. */
	ring_cancel(w->g->ring);
	guest_stop(w->g);
	ring_journal_close(w->g->setup.journal, false);
	w->g->setup.journal = NULL;
	assert_int_equal(guest_unpause(w->g), 0);
	return w;
}

/*
 * Five writes for which there is no room, of a guest whose tapdisk ends meanwhile: none is answered, none is lost, and
 * the next tapdisk, which has room, does them.
 */
static void what_had_no_room_is_done_by_the_next(void **state)
{
	struct world *w = world_new(TD_BLKIF_X86_64);
	struct ring_journal_key key = key_of(w);
	struct td_blkif_req q;
	struct td_blkif_rsp rsp;

	(void)state;
	guest_open(w->g, "fault(write-every=1,error=ENOSPC)/aio:%s", w->disk);
	td_vbd_set_policy(w->g->vbd, &(struct td_vbd_policy){ .pause_on_enospc = true });
	assert_int_equal(ring_journal_open(w->journal, &key, true, &w->g->setup.journal, NULL), 0);
	guest_start(w->g);
	for (unsigned i = 0; i < 5; i++) {
		q = guest_io(TD_BLKIF_WRITE, 8 * (uint64_t)i, i, 1);
		guest_put(w->g, &q);
	}
	guest_push(w->g);
	guest_turn(w->g, 5);
	assert_int_equal(td_vbd_state(w->g->vbd), TD_VBD_FULL);
	ring_cancel(w->g->ring);
	guest_stop(w->g);
	assert_false(guest_reap(w->g, &rsp));
	ring_journal_close(w->g->setup.journal, false);
	w->g->setup.journal = NULL;
	assert_int_equal(td_vbd_stats(w->g->vbd)->waiting, 0);
	guest_shut(w->g);

	guest_open(w->g, "aio:%s", w->disk);
	assert_int_equal(ring_journal_open(w->journal, &key, false, &w->g->setup.journal, NULL), 0);
	guest_start(w->g);
	assert_int_equal(ring_stats(w->g->ring)->recovered, 5);
	for (unsigned n = 0; n < 5; n++) {
		guest_wait(w->g, &rsp);
		assert_int_equal(rsp.status, TD_BLKIF_OKAY);
	}
	guest_turn(w->g, 2);
	assert_false(guest_reap(w->g, &rsp));
	assert_int_equal(td_vbd_stats(w->g->vbd)->op[TD_REQ_WRITE].bytes, 5 * 4096);
	guest_stop(w->g);
	ring_journal_close(w->g->setup.journal, true);
	w->g->setup.journal = NULL;
	guest_shut(w->g);
	world_free(w);
}

static void the_guest_cannot_mislead_a_recovery(void **state)
{
	static const uint32_t lies[] = {
		0, 1, 5, 0x7fffffff, 0x80000000, 0xfffffff0, 0xfffffffb, 0xffffffff
	};

	(void)state;
	for (unsigned i = 0; i < TD_NELEMS(lies); i++) {
		struct world *w = killed_world(5);
		struct ring_journal_key key = key_of(w);
		struct td_blkif_rsp rsp;

		guest_store(w->g, TD_BLKIF_RSP_PROD, lies[i]);
		guest_store(w->g, TD_BLKIF_REQ_EVENT, lies[i]);
		assert_int_equal(ring_journal_open(w->journal, &key, false, &w->g->setup.journal, NULL), 0);
		guest_start(w->g);
		assert_int_equal(ring_stats(w->g->ring)->recovered, 5);
		for (unsigned n = 0; n < 5; n++) {
			guest_wait(w->g, &rsp);
			assert_int_equal(rsp.status, TD_BLKIF_OKAY);
		}
		guest_turn(w->g, 2);
		assert_int_equal(guest_load(w->g, TD_BLKIF_RSP_PROD), w->g->req_prod);
		guest_stop(w->g);
		ring_journal_close(w->g->setup.journal, true);
		guest_shut(w->g);
		world_free(w);
	}
}

/* Any bytes: refused, or served, but neither a crash nor a wrong place in memory. */
static void damaged_journals_do_no_harm(void **state)
{
	uint64_t seed = test_seed();
	unsigned rounds = 300 * test_count("TEST_ROUNDS", 1), served = 0;
	struct world *w = killed_world(20);
	struct ring_journal_key key = key_of(w);
	static char good[1 << 16], bad[1 << 16], ring[TD_BLKIF_PAGE];
	size_t len = read_file(w->journal, good, sizeof(good));
	struct td_err err;

	(void)state;
	memcpy(ring, w->g->shared, sizeof(ring));
	for (unsigned n = 0; n < rounds; n++) {
		memcpy(bad, good, len);
		memcpy(w->g->shared, ring, sizeof(ring));
		for (unsigned k = 0; k <= n % 4; k++) {
			size_t at = test_random(&seed) % (len / 8) * 8 + test_random(&seed) % 8;

			bad[at] =
				(char)(test_random(&seed) % 3 ? test_random(&seed) % 5 : test_random(&seed));
		}
		write_file(w->journal, bad, len);
		if (ring_journal_open(w->journal, &key, false, &w->g->setup.journal, &err) < 0)
			continue;
		if (ring_new(w->g->t.env.loop, w->g->vbd, &w->g->setup, &w->g->ring, &err) == 0) {
			served++;
			guest_turn(w->g, 5);
			guest_stop(w->g);
			w->g->stopped = NULL;
		}
		ring_journal_close(w->g->setup.journal, false);
	}
	assert_true(served > 0 && served < rounds);
	guest_shut(w->g);
	world_free(w);
}

/* ---- files ---- */

static int try_open(const char *path, const struct ring_journal_key *key, bool fresh)
{
	struct td_err err = { "" };
	struct ring_journal *j;
	int r = ring_journal_open(path, key, fresh, &j, &err);

	if (r == 0)
		ring_journal_close(j, false);
	else
		assert_true(strlen(err.msg) > 10 && strstr(err.msg, path) != NULL);
	return r;
}

static void foreign_files_are_refused(void **state)
{
	struct world *w = killed_world(3);
	struct ring_journal_key key = key_of(w), other;
	static char buf[1 << 16];
	size_t len = read_file(w->journal, buf, sizeof(buf));
	char link_path[160];
	struct ring_journal *j;
	struct stat st;

	(void)state;
	assert_int_equal(stat(w->journal, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(try_open(w->journal, &key, false), 0);

	other = key;
	other.cookie++;
	assert_int_equal(try_open(w->journal, &other, false), -ESTALE);
	other = key;
	other.refs[1]++;
	assert_int_equal(try_open(w->journal, &other, false), -ESTALE);
	other = key;
	other.order = 3;
	assert_int_equal(try_open(w->journal, &other, false), -ESTALE);
	other.order = 5;
	assert_int_equal(try_open(w->journal, &other, false), -EINVAL);

	assert_int_equal(ring_journal_open(w->journal, &key, false, &j, NULL), 0);
	assert_int_equal(try_open(w->journal, &key, false), -EBUSY);
	ring_journal_close(j, false);

	assert_int_equal(truncate(w->journal, 100), 0);
	assert_int_equal(try_open(w->journal, &key, false), -EUCLEAN);
	assert_int_equal(truncate(w->journal, 0), 0);
	assert_int_equal(try_open(w->journal, &key, false), -EUCLEAN);
	assert_int_equal(truncate(w->journal, (off_t)len), 0); /* zeros */
	assert_int_equal(try_open(w->journal, &key, false), -EUCLEAN);
	write_file(w->journal, buf, len);
	assert_int_equal(chmod(w->journal, 0644), 0);
	assert_int_equal(try_open(w->journal, &key, false), -EPERM);
	assert_int_equal(chmod(w->journal, 0600), 0);
	(void)snprintf(link_path, sizeof(link_path), "%s/link", w->g->t.dir);
	assert_int_equal(symlink(w->journal, link_path), 0);
	assert_int_equal(try_open(link_path, &key, false), -ELOOP);
	assert_int_equal(try_open(testenv_path(&w->g->t, "absent"), &key, false), -ENOENT);

	/* A fresh one takes the place of whatever was there, a link's too, and leaves what that led to alone. */
	assert_int_equal(try_open(link_path, &key, true), 0);
	assert_int_equal(lstat(link_path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(read_file(w->journal, buf, sizeof(buf)), len);
	assert_int_equal(try_open(testenv_path(&w->g->t, "no/such/folder"), &key, true), -ENOENT);
	guest_shut(w->g);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAYS("foreign, truncated and busy files are refused", foreign_files_are_refused),
		SAYS("what had no room is done by the next", what_had_no_room_is_done_by_the_next),
		SAYS("the guest cannot mislead a recovery", the_guest_cannot_mislead_a_recovery),
		SAYS("damaged journals do no harm", damaged_journals_do_no_harm),
		SAYS("a kill at any instruction loses nothing", a_kill_at_any_instruction_loses_nothing),
	};

	td_log_level(TD_LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
