// SPDX-License-Identifier: BSD-2-Clause
/*
 * A whole tapback on a xenstore and tapdisks in memory, with a hand each for the toolstack, the guest and the accident.
 */
#ifndef WORLD_H
#define WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backend.h"
#include "fake-disk.h"
#include "fake-xs.h"

extern struct backend *tapback; /* NULL: it does not run */
extern char world_sysfs[];      /* a folder in place of /sys/bus/xen-backend */

int world_setup(void **state);
int world_teardown(void **state); /* checks what must never have happened */

/* tapback starts, ends in order, is killed. */
void world_start(void);
void world_stop(void);
void world_kill(void);
void world_classes(const char *const *classes); /* for the next start; NULL at the end */
extern enum phy world_phy;
extern unsigned world_passes;  /* of a device in a second; no limit unless a test sets one */
extern unsigned world_threads; /* of the pool; 0: calls are made in the loop */

/* Until nothing is left to be done now; what waits for a timer is not waited for. */
void settle(void);
/* Until it holds; at least 200 s. */
#define wait_until(condition)                                                                                \
	do {                                                                                                 \
		for (unsigned i_ = 0; i_ < 200000 && !(condition); i_++)                                      \
			world_turn();                                                                        \
		assert_true(condition);                                                                      \
	} while (0)
void world_turn(void); /* turns the loop, and sleeps a millisecond */

/* ---- disks ---- */

struct guest_disk {
	const char *class;
	unsigned domid, vdev;
};

extern const struct guest_disk vbd; /* "vbd", 3, 51712 */

const char *be_path(const struct guest_disk *g, const char *key); /* static memory, some of them */
const char *fe_path(const struct guest_disk *g, const char *key);
const char *be_get(const struct guest_disk *g, const char *key); /* "" if there is none */
unsigned be_state(const struct guest_disk *g);

/* As libxl makes both folders. script NULL: none. */
void tool_add(const struct guest_disk *g, const char *script, const char *params);
void tool_detach(const struct guest_disk *g); /* online=0, state=5 */
void tool_remove(const struct guest_disk *g); /* both folders and what is empty above them */
void guest_state(const struct guest_disk *g, unsigned state);
/* Ring nodes of one queue and page, then state 3. */
void guest_connect(const struct guest_disk *g);

/* The frontend closes, begins anew, connects. */
void guest_reconnect(const struct guest_disk *g);

/* Added, connected, both at 4. */
void whole_connect(const struct guest_disk *g, const char *script, const char *params);

struct fake_disk *disk_of(const struct guest_disk *g); /* NULL: none */

#endif
