// SPDX-License-Identifier: BSD-2-Clause
/*
 * Tapdisks in memory, behind struct disk_ops.  Whatever two real ones must never do fails the test: the same image open
 * twice, a guest's ring mapped twice, a ring taken back that is not the one that was lost.
 */
#ifndef FAKE_DISK_H
#define FAKE_DISK_H

#include "disk.h"

#define FAKE_DISKS 64

struct fake_disk {
	pid_t pid;
	char name[40], spec[256];
	int minor, events; /* our end of the event connection; -1 */
	bool read_only, mapped;
	uint32_t domid, vdev;
	json_t *request; /* the ring-connect */
};

extern const struct disk_ops fake_disk_ops;
extern struct fake_disk fake_disks[FAKE_DISKS]; /* pid 0: free */

/* What the next calls do. */
extern const char *fake_spawn_error; /* spawn fails with this sentence */
extern const char *fake_connect_error;
extern unsigned fake_spawn_crashes; /* so many die when a ring is connected */
extern unsigned fake_spawn_ms;      /* a spawn of a spec that holds "slow" takes so long */
extern uint64_t fake_sectors;
extern bool fake_persistent;

/* What was done, since fake_disk_reset. */
extern unsigned fake_spawns, fake_connects, fake_recovers, fake_disconnects, fake_terminates, fake_buried;

void fake_disk_reset(void);                         /* and forgets all tapdisks */
struct fake_disk *fake_disk_find(const char *name); /* living; NULL: none */
unsigned fake_nr_disks(void);
unsigned fake_nr_mapped(void);
void fake_disk_kill(struct fake_disk *f);
void fake_disk_event(struct fake_disk *f, const char *line);
/* As tap-ctl made it, for a script. */
struct fake_disk *fake_disk_make(const char *name, const char *spec, int minor);
const char *fake_disk_wrong(void); /* the first thing that must never happen, and did; NULL: none */

#endif
