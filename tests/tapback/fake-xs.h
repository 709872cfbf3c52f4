// SPDX-License-Identifier: BSD-2-Clause
/*
 * A xenstore in memory behind include/blktap/xs.h, linked in place of the real one; and the other hand in it: what the
 * toolstack and the guests do.
 */
#ifndef FAKE_XS_H
#define FAKE_XS_H

#include <blktap/xs.h>

void fake_xs_reset(void);

/* The others' hand. */
void fake_set(const char *path, const char *fmt, ...) TD_PRINTF(2, 3);
void fake_rm(const char *path);
const char *fake_get(const char *path); /* NULL: no such node; valid until the next change */
unsigned fake_nr_below(const char *path);
const char *fake_perms(const char *path); /* "OWNER READER" of a folder that our hand made; NULL: none */

/* Called for each change by our hand, transactions only as they commit. */
extern void (*fake_on_write)(const char *path, const char *value);
extern unsigned fake_conflicts;  /* so many commits fail with -EAGAIN */
extern unsigned long fake_calls; /* round trips, of our hand */
unsigned fake_nr_watches(void);
bool fake_pending(void); /* is there a change that nobody has taken? */

#endif
