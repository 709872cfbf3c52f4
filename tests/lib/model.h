// SPDX-License-Identifier: BSD-2-Clause
/*
 * The model disk: what a guest may read back, for each sector of 512 bytes.
 *
 * Every write gets a number, from which the bytes of each of its sectors follow; so a sector that is read tells which
 * write it is from.  A sector may hold what any write left there that nothing later has surely replaced:
 *
 *	live		what a read may return while all runs: a write is replaced by one that began after it ended
 *			and has succeeded
 *	after a crash	what may be found: a write is replaced only by one that, moreover, a flush has made durable
 *			which began after that one had ended, and has succeeded
 *
 * A write that failed, or is in flight, may have reached each of its sectors or not; so may a trim (its sectors hold
 * what they held, or zeros).
 */
#ifndef TESTS_LIB_MODEL_H
#define TESTS_LIB_MODEL_H

#include <blktap/base.h>

#define MODEL_SECTOR 512u

struct model;

/* nr_sectors of zeros, durable. */
struct model *model_new(uint64_t nr_sectors);
void model_free(struct model *m);

enum model_kind { MODEL_WRITE, MODEL_ZERO, MODEL_TRIM };

/*
 * A change begins.  buf (WRITE only): filled with what is to be written.  Returns its number for model_end.
 */
uint32_t model_begin(struct model *m, enum model_kind kind, uint64_t sector, uint64_t nr, void *buf);

/* It has ended.  ok: it has succeeded; fua: and is durable with that. */
void model_end(struct model *m, uint32_t number, bool ok, bool fua);

/* A flush begins, and has ended: what had ended before it began is durable. */
uint64_t model_flush_begin(struct model *m);
void model_flush_end(struct model *m, uint64_t flush, bool ok);

/* The process is killed: what had ended is as good as durable, and what ends from here on may be there or not. */
void model_kill(struct model *m);

/*
 * May these bytes be read?  0, or -1 with a line on stderr that says which sector holds what, and what it might.
 * A read is allowed what was live at any time from model_read_begin on.
 */
uint64_t model_read_begin(struct model *m);
void model_read_end(struct model *m); /* after the check, or without one */
TD_CHECK int model_check_live(struct model *m, uint64_t begun, uint64_t sector, uint64_t nr, const void *buf);
TD_CHECK int model_check_crash(struct model *m, uint64_t sector, uint64_t nr, const void *buf);

/* After a crash: what is in buf (all sectors) is what the disk holds, durable, from now on. */
void model_adopt(struct model *m, const void *buf);

#endif
