// SPDX-License-Identifier: BSD-2-Clause
/*
 * Not a test: what an engine costs.  bench-engine ENGINE FILE read|write|fsync DEPTH [BYTES [SECONDS]]
 *
 * DEPTH coroutines do random aligned transfers (fsync: a write and an fsync) on a file, made 256 MiB if it is smaller.
 * Prints thousands of requests a second, processor time a request (all threads), and calls and wake-ups a request.
 */
#include "config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blktap/co.h>
#include <blktap/io.h>
#include <blktap/pool.h>

#define FILE_BYTES (256u << 20)

static struct {
	struct td_loop *loop;
	struct td_engine *e;
	int fd;
	enum td_io_op op;
	size_t bytes;
	uint64_t end_ns, nr_done;
	unsigned rand;
} b;

static int run_one(void *arg)
{
	char *buf = arg;
	struct iovec v;
	struct td_iov iov = td_iov_buf(&v, buf, b.bytes);

	while (td_loop_now(b.loop) < b.end_ns) {
		uint64_t off = (uint64_t)rand_r(&b.rand) % (FILE_BYTES / b.bytes) * b.bytes;
		int64_t r;

		if (b.op == TD_IO_READ)
			r = td_io_readv(b.e, b.fd, off, &iov);
		else
			r = td_io_writev(b.e, b.fd, off, &iov);
		if (r >= 0 && b.op == TD_IO_FSYNC)
			r = td_io_fsync(b.e, b.fd);
		if (r < 0)
			return (int)r;
		b.nr_done++;
	}
	return 0;
}

struct crew {
	unsigned depth;
	char *mem;
};

static int run_all(void *arg)
{
	struct crew *crew = arg;
	struct td_join j = { 0 };

	for (unsigned i = 0; i < crew->depth; i++)
		td_join_start(&j, run_one, crew->mem + i * b.bytes);
	return td_join_wait(&j);
}

static double cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

/* Written, not only made longer: the first write to a hole is another thing than the next. */
static int open_file(const char *path)
{
	static char zeros[1 << 20];
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), direct;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	for (off_t at = st.st_size; at < FILE_BYTES; at += sizeof(zeros))
		if (pwrite(fd, zeros, sizeof(zeros), at) != sizeof(zeros))
			return -1;
	if (fsync(fd) < 0)
		return -1;
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	close(fd);
	return direct;
}

static int bench(const char *engine, unsigned depth, double seconds)
{
	struct td_err err = { 0 };
	struct crew crew = { .depth = depth };
	struct td_pool *pool;
	double cpu;
	void *mem;
	int r;

	b.loop = td_loop_new();
	pool = td_pool_new(b.loop, 4);
	if (!b.loop || !pool || posix_memalign(&mem, 4096, depth * b.bytes))
		return 1;
	memset(mem, 'x', depth * b.bytes);
	crew.mem = mem;
	if (td_engine_new(engine, b.loop, pool, depth, &b.e, &err) < 0) {
		fprintf(stderr, "bench-engine: %s\n", err.msg);
		return 1;
	}
	cpu = cpu_seconds();
	b.end_ns = td_loop_now(b.loop) + (uint64_t)(seconds * 1e9);
	r = td_loop_call(b.loop, run_all, &crew);
	cpu = cpu_seconds() - cpu;
	printf("%-8s depth %3u  %7.1f k/s  %6.2f us cpu/request  %.3f submits  %.3f wake-ups\n",
	       b.e->ops->name, depth, (double)b.nr_done / seconds / 1e3, cpu * 1e6 / (double)b.nr_done,
	       (double)b.e->nr_submits / (double)b.e->nr_requests,
	       (double)b.e->nr_reaps / (double)b.e->nr_requests);
	td_engine_free(b.e);
	td_pool_free(pool);
	td_loop_free(b.loop);
	td_co_thread_done();
	free(mem);
	if (r < 0)
		fprintf(stderr, "bench-engine: %s\n", strerror(-r));
	return r < 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		enum td_io_op op;
	} ops[] = { { "read", TD_IO_READ }, { "write", TD_IO_WRITE }, { "fsync", TD_IO_FSYNC } };
	unsigned i = 0;

	while (argc >= 5 && i < TD_NELEMS(ops) && strcmp(argv[3], ops[i].name) != 0)
		i++;
	if (argc < 5 || i == TD_NELEMS(ops)) {
		fprintf(stderr, "Usage: bench-engine ENGINE FILE read|write|fsync DEPTH [BYTES [SECONDS]]\n");
		return 2;
	}
	b.op = ops[i].op;
	b.bytes = argc > 5 ? strtoul(argv[5], NULL, 0) : 4096;
	b.fd = open_file(argv[2]);
	if (b.fd < 0) {
		perror(argv[2]);
		return 1;
	}
	return bench(argv[1], (unsigned)strtoul(argv[4], NULL, 0), argc > 6 ? strtod(argv[6], NULL) : 1);
}
