// SPDX-License-Identifier: BSD-2-Clause
/*
 * One L2 entry, extended or not: what it says, and what becomes of it.  `entry` is where it is in its table, in memory.
 * None of this yields.
 */
#ifndef QCOW2_ENTRY_H
#define QCOW2_ENTRY_H

#include <blktap/qcow2.h>

struct qcow2;

struct qcow2_extent {
	enum qcow2_kind kind;
	bool owned;          /* there is a cluster of ours: it may be written in place */
	uint64_t host_off;   /* of the byte asked for, 0 without a cluster; PACKED: of the stream */
	uint64_t packed_len; /* PACKED */
	uint64_t len;        /* guest bytes this answer covers, 1..asked; PACKED: inside one cluster */
};

/*
 * What it says of guest_off and, up to the end of its cluster, of what follows.  table_owned: L1 says that the table is
 * ours.  -EUCLEAN: it breaks the format, or points into metadata or past the file's end.
 */
TD_CHECK int qcow2_entry_extent(const struct qcow2 *q, bool table_owned, const uint8_t *entry,
				uint64_t guest_off, struct qcow2_extent *ret);

/* Is guest_off data in a cluster of ours, if the table is? */
bool qcow2_entry_in_place(const struct qcow2 *q, const uint8_t *entry, uint64_t guest_off);

/* Can it become `to` in these subclusters (a bit for each)?  -EUCLEAN: it is none; -EIO: data would be lost. */
TD_CHECK int qcow2_entry_check(const struct qcow2 *q, const uint8_t *entry, const struct qcow2_l2e *to,
			       uint32_t subs);

/* So it becomes.  True: what *ret_old points at loses a reference. */
bool qcow2_entry_put(const struct qcow2 *q, uint8_t *entry, const struct qcow2_l2e *to, uint32_t subs,
		     struct qcow2_l2e *ret_old);

#endif
