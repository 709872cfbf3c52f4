// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the simulated disk knows of one file: durable content and the journal of what is not durable yet.  Private to
 * simdisk.c and simfile.c.
 */
#ifndef TESTS_LIB_SIMFILE_H
#define TESTS_LIB_SIMFILE_H

#include <blktap/base.h>
#include <blktap/io.h>

#define SIM_SECTOR   512u
#define SIM_FILE_MAX ((uint64_t)64 << 20)

/* One change of a file; shared by the journal and the states taken from it. */
struct sim_op {
	unsigned refs;
	enum td_io_op op; /* WRITE, FALLOCATE, TRUNCATE */
	int mode;
	uint64_t off, len;
	char *data; /* WRITE */
};

/*
 * The bytes are shared by all copies and copied for one that changes: a loop over every operation takes thousands of
 * states, which differ in little.
 */
struct sim_content {
	char *bytes; /* room for max */
	uint64_t size, max;
	unsigned *sharers; /* how many have these bytes; NULL: there are none */
};

struct sim_file {
	int fd; /* our own, read and write */
	unsigned long long dev, ino;
	struct sim_content durable;
	struct sim_op **op; /* since then */
	uint64_t nr_ops, max_ops;
	uint64_t in_flight; /* from here on, operations that had not taken effect when the power was cut */
	uint64_t gone;      /* operations that were made durable: op[i] is number gone + i of this file */
};

void *sim_alloc(size_t len); /* zeroed; ends the program if there is none */
_Noreturn void sim_die(const char *what);

struct sim_file *sim_file_new(int fd);
struct sim_file *sim_file_clone(const struct sim_file *f);
void sim_file_free(struct sim_file *f);

/* Everything that the file holds now is durable. */
void sim_file_settle(struct sim_file *f);

/* Make the file hold c, sparse where it is zeros, all of it durable.  c is taken. */
void sim_file_fill(struct sim_file *f, struct sim_content c);

/* Note a change; data (may be NULL) is taken. */
void sim_file_note(struct sim_file *f, enum td_io_op op, int mode, uint64_t off, uint64_t len, char *data);

/*
 * The operations up to number mark (of this file, from its beginning) are durable: those pieces which keep() says
 * (NULL: all); the others are lost for good.
 */
void sim_file_sync(struct sim_file *f, uint64_t mark, bool (*keep)(void *arg), void *arg);

/* How many pieces an operation can be torn into. */
uint64_t sim_op_pieces(const struct sim_op *op);

/* Do it to c, those pieces only which keep() says; keep NULL: all. */
void sim_op_apply(struct sim_content *c, const struct sim_op *op, bool (*keep)(void *arg), void *arg);

/* Another holder of the same bytes, until one of the two is changed. */
struct sim_content sim_content_copy(const struct sim_content *c);

#endif
