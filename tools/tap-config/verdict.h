// SPDX-License-Identifier: BSD-2-Clause
/*
 * What libxl does with a disk on a host, and who ends up serving it.  Pure: the host is told by facts.
 */
#ifndef TAP_CONFIG_VERDICT_H
#define TAP_CONFIG_VERDICT_H

#include "disk.h"

#define HOST_CLASSES 8

enum device_model { DM_MISSING, DM_TAP, DM_QEMU };

/* What is on the host. */
struct host {
	bool tapback; /* it runs, and serves these classes of xenstore's backend folder */
	unsigned nr_classes;
	char classes[HOST_CLASSES][16];
	bool blkback;     /* the module xen-blkback is loaded */
	unsigned version; /* of Xen: 417 is 4.17; 0 unknown */
	enum device_model dm;
	char dm_path[256]; /* what libxl starts */
};

/* What the configuration says besides disks. */
struct guest {
	bool hvm;
	bool framebuffer; /* a vfb: a PV guest's reason for a real QEMU */
};

enum target_kind { TARGET_NONE, TARGET_FILE, TARGET_DEVICE, TARGET_OTHER };

/* What the disk's names lead to. */
struct target {
	enum target_kind kind; /* of its file: of the specification's path where it is ours */
	int error;             /* why there is none: an errno */
	bool writable;
	const char *format;   /* what the file's bytes say it is: "qcow2"; NULL: nothing, so raw */
	char driver[32];      /* of its specification; empty: it has none */
	bool has_driver;      /* this blktap has it */
	char script[256];     /* the hotplug script's path; empty: none */
	bool has_script;      /* it is there and executable */
	char spec_error[256]; /* the specification cannot be parsed */
};

enum severity { SEVERITY_OK, SEVERITY_WARNING, SEVERITY_ERROR };

#define VERDICT_REASONS 6

struct verdict {
	enum severity severity;
	const char *backend; /* libxl's word: "phy", "qdisk", "tap", "standalone"; NULL: it takes none */
	const char *class;   /* in xenstore: "vbd", "vbd3", "qdisk"; NULL */
	char served[128];    /* by whom */
	unsigned nr;
	char reason[VERDICT_REASONS][256]; /* the first says it all */
};

void disk_verdict(const struct disk *d, const struct guest *g, const struct host *h, const struct target *t,
		  struct verdict *ret);

/* Adds a sentence; severity only rises. */
void verdict_say(struct verdict *v, enum severity s, const char *fmt, ...) TD_PRINTF(3, 4);

const char *severity_name(enum severity s);

#endif
