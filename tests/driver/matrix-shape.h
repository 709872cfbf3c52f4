// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a disk of the matrix looks like: chosen by a seed, made by qemu-img and qemu-io, or by our own create.  qcow2 is
 * matrix-shape.c's, the other formats are matrix-formats.c's.
 */
#ifndef TESTS_DRIVER_MATRIX_SHAPE_H
#define TESTS_DRIVER_MATRIX_SHAPE_H

#include "testenv.h"

#define SHAPE_LAYERS 4

struct layer {
	bool raw;
	uint32_t version, cluster_bits, refcount_order;
	bool lazy, zstd, extended;
	const char *prealloc; /* NULL: not */
	bool data, data_raw;  /* the top alone: its data is in the file "data", which is the disk by itself */
	uint64_t size;
	char name[16];
	const char *opts, *qemu; /* other formats: options of our create; or of qemu-img's, which made it */
};

struct shape {
	uint64_t seed, rnd;
	const char *format;    /* NULL: qcow2 */
	const char *qemu_opts; /* format: what qemu-img calls it */
	bool packs;            /* writes may be compressed */
	bool may_leak;         /* format: our check may find leaks */
	bool qemu_reads;       /* format: and it can */
	unsigned nr;           /* layers; the last one is the disk, the others its backing chain */
	struct layer layer[SHAPE_LAYERS];
	bool ours;         /* our create makes the top */
	bool snapshot;     /* the top has one, "before" */
	const char *crypt; /* the top is encrypted: "luks", "aes"; by the pass phrase in the file key */
	const char *engine, *base; /* for testenv_open */
	char spec[200];            /* how we open it */
	char text[512];            /* for humans */
};

uint64_t shape_below(struct shape *s, uint64_t n); /* a random number below n */
bool shape_chance(struct shape *s, unsigned percent);

void shape_choose(struct shape *s, uint64_t seed);

/* A disk of another format; only: of this one, or NULL. */
void shape_choose_other(struct shape *s, uint64_t seed, const char *only);

/* The same for it, and model.raw, which is what it holds. */
TD_CHECK int shape_make_other(struct shape *s, struct testenv *t);

/* Our own check of the closed disk: 0, or it has said what is wrong. */
TD_CHECK int shape_check_other(struct shape *s, struct testenv *t);

/* Make the files in t->dir.  0, or -errno after saying what failed. */
TD_CHECK int shape_make(struct shape *s, struct testenv *t);

/* Fill the free clusters of the (closed) disk's file with noise.  Says how many. */
TD_CHECK int shape_scribble(struct shape *s, struct testenv *t, unsigned *ret_count);

static inline struct layer *shape_top(struct shape *s)
{
	return &s->layer[s->nr - 1];
}

/* A layer as an operand of qemu-img and qemu-io, qcow2's by its name; the disk by --image-opts.  Till the next call. */
const char *shape_operand(const struct shape *s, const struct layer *l);
const char *shape_image_opts(const struct shape *s);

/* Run a shell command in dir; its output is shown only if it fails.  0 or -EIO. */
TD_CHECK int shape_sh(const char *dir, const char *fmt, ...) TD_PRINTF(2, 3);

#endif
