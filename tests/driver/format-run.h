// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the fault loop, the crash loop and the kill loop of all formats share: images of many kinds on a simulated disk
 * (format-list.c), and workers that do random things to them while a model watches.
 */
#ifndef TESTS_DRIVER_FORMAT_RUN_H
#define TESTS_DRIVER_FORMAT_RUN_H

#include "model.h"
#include "simdisk.h"
#include "testenv.h"

struct fmt {
	const char *name; /* of its driver */
	const char *qemu; /* what qemu-img calls it; NULL: the same */

	/*
	 * A checker that shares nothing with the driver but the codec; NULL: there is none, and the driver's own check
	 * has to do.  0, -1: corrupt, -errno.  Dirty: the next to open it for writing has to put something right.
	 */
	int (*fsck)(const char *path, unsigned *ret_leaks, bool *ret_dirty);
	bool qemu_checks; /* qemu-img check knows it */
	bool compresses, resizes, snapshots;
	bool moves_tables; /* by a resize; the room where they were is not always found */
	bool no_leaks; /* none without a failure; and check repairs all of them, also where nothing can be punched */

	/* NULL: a backing file may be raw.  Else one of this format around the raw file beside it: 0, -errno. */
	int (*make_base)(const char *path, unsigned sectors);
	unsigned thin; /* unless TEST_STRIDE is set, a loop tries one in so many of its points; 0 is 1 */
};

/* One kind of image. */
struct variant {
	const struct fmt *format;
	const char *name;
	const char *create; /* options of create */
	const char *open;   /* options in the specification */
	unsigned sectors;
	bool backing;      /* over a raw image full of data */
	bool from_qemu;    /* made by qemu-img out of data: compressed; and a snapshot of it */
	bool secret;       /* encrypted: opened by a pass phrase */
	unsigned file_kib; /* made longer before it is used: near the end of the refcount table */
	const char *part;  /* the file that is written, if it is another one that the image names */
	const char *data;  /* the file with the guest's data, where the map is not in it */
	bool data_is_disk; /* whoever reads that alone sees the disk */
};

extern const struct fmt fmt_qcow2;
extern const struct variant variants[];
extern const unsigned nr_variants;

struct run {
	struct testenv t;
	struct simdisk *sim;
	struct model *model;
	struct simdisk_state *clean;
	const struct variant *v;
	struct td_image *im;
	char spec[320], path[128];
	char part[128]; /* where data and map are: path, mostly */
	bool has_data;  /* all sectors hold write 1 at first */
	uint64_t random, seed;
	bool closed_ok;
	unsigned fsck_leaks;
	bool fsck_dirty;
	unsigned verified; /* images, so far */
	unsigned workers, steps;
	bool resizes; /* the disk is made longer and shorter too, while all else goes on */
	bool resizing;
};

/* false: this kind cannot be made here (no qemu-img); nothing is left behind. */
bool run_setup(struct run *run, const struct variant *v, uint64_t seed);
void run_teardown(struct run *run);

/*
 * fn on an image of each kind, so many times; seeds from test_seed() on, one an image.  $TEST_FORMAT: of this format
 * alone; $TEST_KIND: of kinds alone whose name holds this.
 */
void run_rounds(unsigned rounds, void (*fn)(struct run *run));

/* test_stride() for the points of this kind of image. */
unsigned run_stride(const struct run *run, unsigned otherwise);

/* Everything as at first: files, model, random numbers. */
void run_begin(struct run *run);

/* For testenv_run.  Open, work, close.  -1 only if a read lied. */
int run_workload(void *arg);

/* Open, read all, compare, close.  -errno if it does not open; -1 if it holds what it must not. */
int run_look(void *arg);

/* Does the checker find corruption?  run->fsck_leaks: how many leaks. */
int run_fsck(struct run *run);

/* Is each leak known, and would be repaired? */
bool run_knows_leaks(const struct run *run);

/*
 * What was found after a failure or a cut: it leaks at most, in the eyes of our checker and of the driver's own
 * check; it holds what it has to.  Every fourth is repaired first, and leaks no more.  0, or it has said what is wrong.
 */
TD_CHECK int run_verify(struct run *run);

#endif
