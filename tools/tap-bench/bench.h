// SPDX-License-Identifier: BSD-2-Clause
/*
 * tap-bench's insides:
 *
 *	main.c		the command line
 *	run.c		one measurement: lanes (threads), the clock, processor time
 *	load.c		what is asked next; what came back
 *	stamp.c		blocks that say what they are (--verify)
 *	ring.c		a lane's requests through a ring
 *	file.c		a lane's requests straight to a file, by the toolkit's engine
 *	server.c	a tapdisk of our own for a specification; processor time of a process
 *	report.c	text and JSON
 */
#ifndef TAP_BENCH_H
#define TAP_BENCH_H

#include <blktap/err.h>
#include <blktap/hist.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define BENCH_MAX_LANES 4
#define BENCH_MAX_DEPTH 512

/* ---- the job ---- */

struct job {
	unsigned read_percent;
	bool random;
	uint64_t bs, offset, size; /* bytes; size 0: to the end of the disk */
	unsigned depth, lanes;
	uint64_t runtime_ns;  /* 0: once over the size */
	unsigned flush_every; /* a flush after so many writes of a lane; 0: none */
	bool verify;
	uint64_t seed;
	unsigned spin_us;         /* the client looks so long before it sleeps */
	unsigned abi, ring_order; /* ring_order: BENCH_ANY_ORDER */
	unsigned rounds;          /* of --compare-file */
	const char *engine;
	const char *rw; /* as given */
};

#define BENCH_ANY_ORDER ~0u

/* ---- load.c ---- */

enum load_op { LOAD_READ, LOAD_WRITE, LOAD_FLUSH, LOAD_OPS };

struct load_io {
	enum load_op op;
	uint64_t off, len;
	void *buf; /* bs bytes, the target's; set once */
	uint64_t start_ns, block;
	uint32_t generation;
};

/* One lane's part of the disk: blocks of bs bytes. */
struct load {
	const struct job *job;
	uint64_t base, blocks; /* bytes; how many */
	uint64_t rng, next, issued, deadline_ns;
	unsigned writes_since_flush;
	bool checking; /* the pass at the end that reads everything back */

	/* --verify, for each block */
	uint32_t *generation; /* how often it was written; 0: not by us */
	uint8_t *busy;        /* it is in flight */
	uint64_t verified;

	atomic_bool *stop; /* of all lanes: somebody failed */
	struct td_err err;
	int result;
	struct td_hist hist[LOAD_OPS];
};

TD_CHECK int load_init(struct load *l, const struct job *job, unsigned lane, uint64_t base, uint64_t size,
		       atomic_bool *stop, struct td_err *ret_err);
void load_done(struct load *l);
uint64_t load_now(void);

enum load_next { LOAD_ONE, LOAD_WAIT, LOAD_END };

/* The next request into *io.  LOAD_WAIT: not before one in flight is finished. */
enum load_next load_next(struct load *l, struct load_io *io);
/* It came back at this time.  Remembers the first failure and ends the lane. */
void load_finish(struct load *l, const struct load_io *io, int result, uint64_t now_ns);
void load_fail(struct load *l, int result, const char *sentence);
/* Read back what was written: call the lane again after this.  False: nothing to check. */
bool load_check_again(struct load *l);

/* ---- stamp.c ---- */

void stamp_fill(void *buf, uint64_t len, uint64_t off, uint64_t seed, uint32_t generation);
/* Is it what stamp_fill made?  generation 0: any.  -errno and a sentence. */
TD_CHECK int stamp_check(const void *buf, uint64_t len, uint64_t off, uint64_t seed, uint32_t generation,
			 struct td_err *ret_err);

/* ---- targets ---- */

struct target;

struct target_ops {
	/* *ret_size: bytes of the disk. */
	int (*open)(const char *address, const struct job *job, struct target **ret, uint64_t *ret_size,
		    struct td_err *ret_err);
	/* A lane's thread: until load_next() ends and all has come back. */
	void (*lane)(struct target *t, unsigned lane, struct load *l);
	pid_t (*server)(const struct target *t); /* whose processor time counts; 0: nobody else's */
	void (*close)(struct target *t);
};

struct target {
	const struct target_ops *ops;
};

extern const struct target_ops ring_target, file_target;

/* ---- server.c ---- */

struct server {
	pid_t pid;
	char dir[64], address[128];
};

TD_CHECK int server_start(struct server *s, const char *spec, const char *engine, bool read_only,
			  struct td_err *ret_err);
TD_CHECK int server_stop(struct server *s, struct td_err *ret_err);
uint64_t server_cpu_ns(pid_t pid); /* all its threads, since their start; 0: cannot be told */

/* ---- run.c ---- */

struct result {
	struct td_hist hist[LOAD_OPS];
	uint64_t elapsed_ns, client_cpu_ns, server_cpu_ns, verified;
	bool has_server;
};

TD_CHECK int bench_run(const struct target_ops *ops, const char *address, const struct job *job,
		       struct result *ret_result, struct td_err *ret_err);

/* ---- report.c ---- */

uint64_t result_ios(const struct result *r);
double result_iops(const struct result *r);
void report_text(const char *target, const struct job *job, const struct result *r);
json_t *report_json(const char *target, const struct job *job, const struct result *r);
/* nr pairs of runs.  Text: one line. */
void report_ratio_text(const struct result *ring, const struct result *file, unsigned nr);
json_t *report_ratio_json(const struct result *ring, const struct result *file, unsigned nr);

#endif
