// SPDX-License-Identifier: BSD-2-Clause
/*
 * The real engines on real files: random transfers against a model, end of file, full devices, every
 * operation. TD_TEST_SEED repeats a run; TD_TEST_ENGINE_OPS is the number of transfers of each coroutine.
 */
#include "config.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#include <blktap/co.h>
#include <blktap/io.h>
#include <blktap/pool.h>

#define DEPTH     8
#define NR_CO     (3 * DEPTH) /* more than fit in the engine */
#define CO_BYTES  65536       /* each has its own part of the file */
#define FILE_SIZE (NR_CO * CO_BYTES)
#define SECTOR    4096

static struct {
	struct td_loop *loop;
	struct td_pool *pool;
	struct td_engine *e;
	char dir[64];
	int fd;
	unsigned seed;
	unsigned nr_ops;
	bool direct;
	char *model; /* FILE_SIZE */
} t;

static unsigned env_number(const char *name, unsigned otherwise)
{
	const char *s = getenv(name);

	return s ? (unsigned)strtoul(s, NULL, 0) : otherwise;
}

static int open_file(int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/file", t.dir);
	return open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
}

static int engine_setup(void **state)
{
	const char *name = *state;
	struct td_err err = { 0 };
	int r;

	strcpy(t.dir,
	       "/var/tmp/blktap-engine-XXXXXX"); /* a disk where there is one: tmpfs completes inline */
	assert_non_null(mkdtemp(t.dir));
	t.loop = td_loop_new();
	assert_non_null(t.loop);
	t.pool = td_pool_new(t.loop, 2);
	assert_non_null(t.pool);
	t.e = NULL;
	r = td_engine_new(name, t.loop, t.pool, DEPTH, &t.e, &err);
	if (r < 0)
		fprintf(stderr, "skipped: %s\n", err.msg);
	t.direct = true;
	t.fd = open_file(O_DIRECT);
	if (t.fd < 0) {
		t.direct = false;
		t.fd = open_file(0);
	}
	assert_true(t.fd >= 0);
	return 0;
}

static int engine_teardown(void **state)
{
	char path[128];

	(void)state;
	td_engine_free(t.e);
	td_pool_free(t.pool);
	td_loop_free(t.loop);
	td_co_thread_done();
	close(t.fd);
	snprintf(path, sizeof(path), "%s/file", t.dir);
	unlink(path);
	rmdir(t.dir);
	return 0;
}

static int call(int (*fn)(void *arg), void *arg)
{
	return td_loop_call(t.loop, fn, arg);
}

/* ---- random transfers ---- */

struct worker {
	unsigned nr;
	unsigned rand;
	char *buf;
};

static unsigned draw(struct worker *w, unsigned below)
{
	return (unsigned)rand_r(&w->rand) % below;
}

/* [0, len) of buf in up to 5 pieces of whole sectors. */
static struct td_iov cut(struct worker *w, struct iovec *vec, char *buf, size_t len)
{
	unsigned nr = 0;
	size_t at = 0, n;

	while (at < len) {
		n = nr == 4 ? len - at : SECTOR * (1 + draw(w, (unsigned)((len - at) / SECTOR)));
		vec[nr++] = (struct iovec){ buf + at, n };
		at += n;
	}
	return (struct td_iov){ .vec = vec, .nr = nr, .len = len };
}

static int one_transfer(struct worker *w)
{
	size_t base = (size_t)w->nr * CO_BYTES, off = SECTOR * draw(w, CO_BYTES / SECTOR);
	size_t len = SECTOR * (1 + draw(w, (unsigned)((CO_BYTES - off) / SECTOR)));
	struct iovec vec[5];
	struct td_iov iov = cut(w, vec, w->buf, len);
	int64_t n;

	if (draw(w, 20) == 0)
		return td_io_fsync(t.e, t.fd);
	if (draw(w, 2)) {
		memset(w->buf, (int)draw(w, 256), len);
		memcpy(t.model + base + off, w->buf, len);
		return td_io_writev(t.e, t.fd, base + off, &iov);
	}
	memset(w->buf, 0xee, len);
	n = td_io_readv(t.e, t.fd, base + off, &iov);
	if (n < 0)
		return (int)n;
	if (n != (int64_t)len)
		return -ENODATA;
	return memcmp(w->buf, t.model + base + off, len) ? -EILSEQ : 0;
}

static int worker_run(void *arg)
{
	struct worker *w = arg;
	int r = 0;

	for (unsigned i = 0; i < t.nr_ops && r == 0; i++)
		r = one_transfer(w);
	return r;
}

static int run_workers(void *arg)
{
	struct worker *workers = arg;
	struct td_join j = { 0 };

	for (unsigned i = 0; i < NR_CO; i++)
		td_join_start(&j, worker_run, &workers[i]);
	return td_join_wait(&j);
}

static void random_transfers_match_the_model(void **state)
{
	struct worker workers[NR_CO];
	void *mem = NULL;

	(void)state;
	if (!t.e)
		skip();
	assert_int_equal(posix_memalign(&mem, SECTOR, FILE_SIZE), 0);
	t.model = calloc(1, FILE_SIZE);
	assert_non_null(t.model);
	assert_int_equal(ftruncate(t.fd, FILE_SIZE), 0);
	for (unsigned i = 0; i < NR_CO; i++)
		workers[i] = (struct worker){ i, t.seed + i, (char *)mem + i * CO_BYTES };
	assert_int_equal(call(run_workers, workers), 0);
	assert_int_equal(t.e->in_flight, 0);
	assert_in_range(t.e->nr_submits, 1, t.e->nr_requests);
	assert_true(t.e->nr_requests >= NR_CO * t.nr_ops);
	free(t.model);
	free(mem);
}

/* ---- the ends of files ---- */

struct piece {
	int fd;
	uint64_t off;
	struct td_iov iov;
	int64_t result;
};

static int read_piece(void *arg)
{
	struct piece *p = arg;

	p->result = td_io_readv(t.e, p->fd, p->off, &p->iov);
	return 0;
}

static int write_piece(void *arg)
{
	struct piece *p = arg;

	return td_io_writev(t.e, p->fd, p->off, &p->iov);
}

static int64_t read_at(uint64_t off, void *buf, size_t len)
{
	struct iovec v;
	struct piece p = { .fd = t.fd, .off = off, .iov = td_iov_buf(&v, buf, len) };

	assert_int_equal(call(read_piece, &p), 0);
	return p.result;
}

static void read_stops_at_the_end_of_the_file(void **state)
{
	td_cleanup(free) void *mem = NULL;
	char *buf;

	(void)state;
	if (!t.e)
		skip();
	assert_int_equal(posix_memalign(&mem, SECTOR, 4 * SECTOR), 0);
	buf = mem;
	assert_int_equal(ftruncate(t.fd, SECTOR + 1000), 0); /* O_DIRECT: the end is not on a block */
	memset(buf, 0xee, 4 * SECTOR);
	assert_int_equal(read_at(0, buf, 4 * SECTOR), SECTOR + 1000);
	assert_int_equal(buf[SECTOR + 999], 0);
	assert_int_equal(read_at(SECTOR, buf, SECTOR), 1000);
	assert_int_equal(read_at(0, buf, SECTOR), SECTOR);
	assert_int_equal(read_at(4 * SECTOR, buf, SECTOR), 0);
	assert_int_equal(read_at(1ull << 40, buf, SECTOR), 0);
	assert_int_equal(read_at(0, buf, 0), 0);
}

static int write_to(int fd, void *buf, size_t len)
{
	struct iovec v;
	struct piece p = { .fd = fd, .iov = td_iov_buf(&v, buf, len) };

	return call(write_piece, &p);
}

static void full_device_is_enospc(void **state)
{
	char buf[512] = { 0 };
	int fd = open("/dev/full", O_RDWR);

	(void)state;
	assert_true(fd >= 0);
	if (!t.e || strcmp(t.e->ops->name, "libaio") == 0) { /* this device has no write that AIO could use */
		close(fd);
		skip();
	}
	assert_int_equal(write_to(fd, buf, sizeof(buf)), -ENOSPC);
	close(fd);
}

/* The limit cuts the first transfer short; the rest of it must be an error and not success. */
static void file_size_limit_is_efbig_after_a_short_write(void **state)
{
	struct rlimit old, limit;
	td_cleanup(free) void *mem = NULL;
	struct stat st;
	int fd, r;

	(void)state;
	if (!t.e)
		skip();
	assert_int_equal(posix_memalign(&mem, SECTOR, 4 * SECTOR), 0);
	memset(mem, 1, 4 * SECTOR);
	fd = open_file(0);
	assert_true(fd >= 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = 2 * SECTOR;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	r = write_to(fd, mem, 4 * SECTOR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(r, -EFBIG);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 2 * SECTOR);
	close(fd);
}

static void errors_of_the_kernel_come_back(void **state)
{
	char buf[512] = { 0 };
	struct iovec v;
	struct piece p = { .fd = -1, .iov = td_iov_buf(&v, buf, sizeof(buf)) };
	int null_fd = open("/dev/null", O_RDONLY);

	(void)state;
	if (!t.e)
		skip();
	assert_int_equal(call(read_piece, &p), 0);
	assert_int_equal(p.result, -EBADF);
	assert_int_equal(write_to(null_fd, buf, sizeof(buf)), -EBADF);
	close(null_fd);
}

/* ---- vectors ---- */

#define NR_PIECES 3000

static int write_then_read(void *arg)
{
	struct piece *p = arg;
	int r = td_io_writev(t.e, p->fd, p->off, &p->iov);

	if (r < 0)
		return r;
	td_iov_zero(&p->iov);
	p->result = td_io_readv(t.e, p->fd, p->off, &p->iov);
	return 0;
}

/* More pieces than IOV_MAX, empty ones among them, a window that begins and ends inside pieces. */
static void long_vectors_are_cut(void **state)
{
	td_cleanup(free) struct iovec *vec = calloc(NR_PIECES, sizeof(*vec));
	td_cleanup(free) char *buf = malloc(3 * NR_PIECES), *want = malloc(3 * NR_PIECES);
	td_cleanup(free) char *got = malloc(3 * NR_PIECES);
	struct piece p = { .off = 7 };
	struct td_iov all;
	size_t at = 0;

	(void)state;
	if (!t.e)
		skip();
	for (unsigned i = 0; i < NR_PIECES; i++) {
		vec[i] = (struct iovec){ buf + at, i % 4 };
		at += i % 4;
	}
	for (size_t i = 0; i < at; i++)
		buf[i] = (char)(i * 7 % 251);
	all = (struct td_iov){ .vec = vec, .nr = NR_PIECES, .len = at };
	p.iov = td_iov_slice(&all, 5, at - 5 - 2);
	td_iov_to_buf(&p.iov, want);
	p.fd = open_file(0);
	assert_true(p.fd >= 0);
	assert_int_equal(call(write_then_read, &p), 0);
	assert_int_equal(p.result, p.iov.len);
	td_iov_to_buf(&p.iov, got);
	assert_memory_equal(got, want, p.iov.len);
	close(p.fd);
}

/* ---- the other operations ---- */

static int other_operations(void *arg)
{
	int r = td_io_truncate(t.e, t.fd, 1 << 20);

	(void)arg;
	if (r == 0)
		r = td_io_fallocate(t.e, t.fd, 0, 1 << 20, 1 << 20);
	if (r == 0)
		r = td_io_fallocate(t.e, t.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20);
	if (r == 0)
		r = td_io_fsync(t.e, t.fd);
	return r;
}

static int bad_fallocate(void *arg)
{
	(void)arg;
	return td_io_fallocate(t.e, -1, 0, 0, 4096);
}

static int bad_fsync(void *arg)
{
	(void)arg;
	return td_io_fsync(t.e, -1);
}

static int bad_truncate(void *arg)
{
	(void)arg;
	return td_io_truncate(t.e, -1, 0);
}

static void truncate_fallocate_and_fsync_work(void **state)
{
	struct stat st;

	(void)state;
	if (!t.e)
		skip();
	assert_int_equal(call(other_operations, NULL), 0);
	assert_int_equal(fstat(t.fd, &st), 0);
	assert_int_equal(st.st_size, 2 << 20);
	assert_int_equal(st.st_blocks, 0); /* the hole was punched */
	assert_int_equal(call(bad_fallocate, NULL), -EBADF);
	assert_int_equal(call(bad_fsync, NULL), -EBADF);
	assert_int_equal(call(bad_truncate, NULL), -EBADF);
}

/* ---- choosing ---- */

static void unknown_engine_is_named(void **state)
{
	struct td_err err = { 0 };
	struct td_engine *e;

	(void)state;
	assert_int_equal(td_engine_new("aio_turbo", NULL, NULL, 1, &e, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "'aio_turbo'"));
}

/* From here on the process has none of these system calls, as in a sandbox. */
static void forbid(const int *calls, unsigned nr)
{
	struct sock_filter filter[16] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						   offsetof(struct seccomp_data, nr)) };
	unsigned n = 1;

	for (unsigned i = 0; i < nr; i++) {
		filter[n++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
		filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	}
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = { .len = (unsigned short)n, .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		_exit(77);
}

/* In a child: does engine NAME give the engine WANT, or with NULL the error -EPERM and a sentence? */
static bool sandboxed(const int *calls, unsigned nr, const char *name, const char *want)
{
	struct td_engine *e = NULL;
	struct td_err err = { 0 };
	int status, r;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct td_loop *loop = td_loop_new();
		bool good;

		forbid(calls, nr);
		r = td_engine_new(name, loop, NULL, 4, &e, &err);
		if (want)
			good = r == 0 && strcmp(e->ops->name, want) == 0;
		else
			good = r == -EPERM && strstr(err.msg, name);
		if (r == 0)
			td_engine_free(e);
		td_loop_free(loop);
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		fprintf(stderr, "skipped: no seccomp here\n");
		return true;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void auto_takes_what_the_sandbox_allows(void **state)
{
	static const int both[] = { __NR_io_setup, __NR_io_uring_setup };

	(void)state;
#ifdef HAVE_LIBURING
	struct td_loop *loop = td_loop_new();
	struct td_engine *e = NULL;

	if (td_engine_new("io_uring", loop, NULL, 4, &e, NULL) == 0) { /* else it is forbidden here already */
		td_engine_free(e);
		assert_true(sandboxed(both, 1, "auto", "io_uring"));
	}
	td_loop_free(loop);
	assert_true(sandboxed(both + 1, 1, "io_uring", NULL));
#endif
	assert_true(sandboxed(both + 1, 1, "auto", "libaio"));
	assert_true(sandboxed(both, 2, "auto", "sync"));
	assert_true(sandboxed(both, 2, "libaio", NULL));
}

#ifdef HAVE_LIBURING
/* By the engine's own ring, which whoever has taken the process over has too: the kernel opens no file by it. */
static int open_by_ring(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int r;

	if (!sqe)
		return 0;
	io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
	r = io_uring_submit(ring);
	if (r < 0)
		return r;
	r = io_uring_wait_cqe(ring, &cqe);
	if (r < 0)
		return r;
	r = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return r;
}

static void the_ring_takes_nothing_but_transfers(void **state)
{
	struct td_loop *loop = td_loop_new();
	struct td_engine *e = NULL;

	(void)state;
	if (td_engine_new("io_uring", loop, NULL, 4, &e, NULL) < 0) {
		td_loop_free(loop);
		skip();
	}
	/* The ring is what the engine's state begins with. */
	assert_int_equal(open_by_ring(e->state), -EACCES);
	assert_true(io_uring_register_files(e->state, &e->fd, 1) < 0);
	td_engine_free(e);
	td_loop_free(loop);
}
#endif

#define ENGINE_TESTS(engine)                                                                                 \
	{ engine ": random transfers match the model", random_transfers_match_the_model, engine_setup,       \
	  engine_teardown, engine },                                                                         \
		{ engine ": a read stops at the end of the file", read_stops_at_the_end_of_the_file,         \
		  engine_setup, engine_teardown, engine },                                                   \
		{ engine ": a full device is ENOSPC", full_device_is_enospc, engine_setup, engine_teardown,  \
		  engine },                                                                                  \
		{ engine ": a file size limit is EFBIG after a short write",                                 \
		  file_size_limit_is_efbig_after_a_short_write, engine_setup, engine_teardown, engine },     \
		{ engine ": errors of the kernel come back", errors_of_the_kernel_come_back, engine_setup,   \
		  engine_teardown, engine },                                                                 \
		{ engine ": long vectors are cut", long_vectors_are_cut, engine_setup, engine_teardown,      \
		  engine },                                                                                  \
	{                                                                                                    \
		engine ": truncate, fallocate and fsync work", truncate_fallocate_and_fsync_work,            \
			engine_setup, engine_teardown, engine                                                \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ENGINE_TESTS("sync"),
		ENGINE_TESTS("threads"),
		ENGINE_TESTS("libaio"),
		ENGINE_TESTS("io_uring"),
		ENGINE_TESTS("auto"),
		cmocka_unit_test(unknown_engine_is_named),
		cmocka_unit_test(auto_takes_what_the_sandbox_allows),
#ifdef HAVE_LIBURING
		cmocka_unit_test(the_ring_takes_nothing_but_transfers),
#endif
	};

	t.seed = env_number("TD_TEST_SEED", (unsigned)time(NULL));
	t.nr_ops = env_number("TD_TEST_ENGINE_OPS", 60);
	printf("seed %u\n", t.seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
