// SPDX-License-Identifier: BSD-2-Clause
/*
 * Verified I/O, in a guest (static: a guest has busybox and nothing else).  Each 4 KiB unit of a range of a disk or a
 * file is filled from its own number and a generation, which grows with each write; every read back, at random and at
 * the end, has to be the generation that was last written, whole.
 *
 *	stamps [-d] [-f WRITES] [-t THREADS] [-w MICROSECONDS] [-o OFFSET] [-s SIZE] [-S SEED] PATH
 *
 * -d: O_DIRECT; else through the page cache, which is dropped before each read.  -f: each thread flushes
 * after so many writes.  -w: it waits so long after each call: others need the processor, too.  SIGTERM ends it: flush,
 * read all back, print one line.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT     4096u
#define WORDS    (UNIT / 8)
#define MAX_RUN  64 /* units in one write: more than a request of 11 or 32 segments holds */
#define MAX_NR   (1u << 16)
#define THREADS  8
#define MAX_FAIL 20

struct worker {
	pthread_t thread;
	unsigned first, nr; /* its units */
	uint64_t random;
	uint64_t *buf;
	uint64_t writes, reads, flushes;
};

static uint64_t generations[MAX_NR]; /* of each unit, that was written last */
static const char *path;
static uint64_t offset, seed = 1;
static useconds_t pause_us;
static unsigned nr_units, nr_threads = 4, flush_every = 16;
static bool direct;
static int fd;
static atomic_bool stop;
static atomic_uint failures;

static void die(const char *what)
{
	printf("stamps: %s: %s: %s\n", path, what, strerror(errno));
	exit(1);
}

static uint64_t next_random(struct worker *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random;
}

static void fill(uint64_t *buf, unsigned unit, uint64_t gen)
{
	uint64_t x = (seed << 48) ^ ((uint64_t)unit << 20) ^ gen * 0x9e3779b97f4a7c15u;

	buf[0] = unit;
	buf[1] = gen;
	for (unsigned i = 2; i < WORDS; i++)
		buf[i] = x = x * 6364136223846793005u + 1442695040888963407u;
}

static void write_run(struct worker *w, unsigned unit, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		fill(w->buf + i * WORDS, unit + i, ++generations[unit + i]);
	if (pwrite(fd, w->buf, (size_t)nr * UNIT, (off_t)(offset + (uint64_t)unit * UNIT)) !=
	    (ssize_t)(nr * UNIT))
		die("write");
	w->writes++;
}

static void flush(struct worker *w)
{
	if (fdatasync(fd) < 0)
		die("flush");
	w->flushes++;
}

static void bad(unsigned unit, const uint64_t *got)
{
	if (atomic_fetch_add(&failures, 1) < MAX_FAIL)
		printf("stamps: %s: unit %u: generation %llu; there: unit %llu, generation %llu\n", path,
		       unit, (unsigned long long)generations[unit], (unsigned long long)got[0],
		       (unsigned long long)got[1]);
	if (failures >= MAX_FAIL)
		stop = true;
}

static void compare(unsigned unit, const uint64_t *got)
{
	uint64_t expected[WORDS];

	fill(expected, unit, generations[unit]);
	if (memcmp(expected, got, UNIT) != 0)
		bad(unit, got);
}

static void read_run(struct worker *w, unsigned unit, unsigned nr)
{
	off_t at = (off_t)(offset + (uint64_t)unit * UNIT);

	/* The page cache knows: ask the disk. (What is dirty stays.) */
	if (!direct)
		posix_fadvise(fd, at, (off_t)nr * UNIT, POSIX_FADV_DONTNEED);
	if (pread(fd, w->buf, (size_t)nr * UNIT, at) != (ssize_t)(nr * UNIT))
		die("read");
	for (unsigned i = 0; i < nr; i++)
		compare(unit + i, w->buf + i * WORDS);
	w->reads++;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 1; !stop; i++) {
		unsigned nr = 1 + (unsigned)(next_random(w) % (w->nr < MAX_RUN ? w->nr : MAX_RUN));
		unsigned unit = w->first + (unsigned)(next_random(w) % (w->nr - nr + 1));

		if (next_random(w) % 3 == 0)
			read_run(w, unit, nr);
		else
			write_run(w, unit, nr);
		if (i % flush_every == 0)
			flush(w);
		if (pause_us)
			usleep(pause_us);
	}
	flush(w);
	return NULL;
}

/* All of the range at once, by its first worker's buffer. */
static void each_run(struct worker *w, void (*fn)(struct worker *, unsigned, unsigned))
{
	for (unsigned unit = 0; unit < nr_units; unit += MAX_RUN)
		fn(w, unit, nr_units - unit < MAX_RUN ? nr_units - unit : MAX_RUN);
}

static void on_signal(int sig)
{
	(void)sig;
	stop = true;
}

static void parse(int argc, char **argv)
{
	uint64_t size = 4 << 20;
	int opt;

	while ((opt = getopt(argc, argv, "df:t:w:o:s:S:")) != -1) {
		switch (opt) {
		case 'd':
			direct = true;
			break;
		case 'f':
			flush_every = (unsigned)atoi(optarg);
			break;
		case 't':
			nr_threads = (unsigned)atoi(optarg);
			break;
		case 'w':
			pause_us = (useconds_t)atoi(optarg);
			break;
		case 'o':
			offset = strtoull(optarg, NULL, 0);
			break;
		case 's':
			size = strtoull(optarg, NULL, 0);
			break;
		case 'S':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			exit(2);
		}
	}
	path = optind + 1 == argc ? argv[optind] : NULL;
	nr_units = (unsigned)(size / UNIT);
	if (!path || !nr_threads || nr_threads > THREADS || nr_units < nr_threads || nr_units > MAX_NR ||
	    !flush_every) {
		fputs("usage: stamps [-d] [-f WRITES] [-t THREADS] [-w US] [-o OFFSET] [-s SIZE] [-S SEED] "
		      "PATH\n",
		      stdout);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS];
	uint64_t writes = 0, reads = 0, flushes = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(argc, argv);
	fd = open(path, O_RDWR | O_CREAT | (direct ? O_DIRECT : 0), 0644);
	if (fd < 0)
		die("open");
	signal(SIGTERM, on_signal);
	for (unsigned i = 0; i < nr_threads; i++) {
		struct worker *w = &workers[i];

		w->first = nr_units / nr_threads * i;
		w->nr = i + 1 < nr_threads ? nr_units / nr_threads : nr_units - w->first;
		w->random = (seed + 1) * 0x9e3779b97f4a7c15u + i;
		if (posix_memalign((void **)&w->buf, UNIT, (size_t)MAX_RUN * UNIT) != 0)
			die("memory");
	}
	each_run(&workers[0], write_run);
	for (unsigned i = 0; i < nr_threads; i++)
		flush(&workers[i]);
	puts("stamps: running");
	for (unsigned i = 0; i < nr_threads; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			die("thread");
	for (unsigned i = 0; i < nr_threads; i++) {
		pthread_join(workers[i].thread, NULL);
		writes += workers[i].writes;
		reads += workers[i].reads;
		flushes += workers[i].flushes;
	}
	each_run(&workers[0], read_run);
	printf("stamps: %s: %s: %llu writes, %llu reads, %llu flushes, %u wrong\n", path,
	       failures ? "BAD" : "good", (unsigned long long)writes, (unsigned long long)reads,
	       (unsigned long long)flushes, failures);
	return failures != 0;
}
