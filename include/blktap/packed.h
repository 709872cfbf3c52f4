// SPDX-License-Identifier: BSD-2-Clause
/*
 * Compressed clusters of one image, inflated: the last few are kept, so that small reads in sequence inflate each
 * cluster once; who comes while one is being inflated waits for it.
 *
 * A stream does not change while an entry names it.  Before something else is written in its place what is kept of it
 * is forgotten.
 */
#ifndef BLKTAP_PACKED_H
#define BLKTAP_PACKED_H

#include <blktap/iov.h>

struct td_counters;
struct td_image;
struct td_pace; /* blktap/pool.h */
struct td_packed;

/* What is compressed: the bytes of one cluster. */
struct td_packed_at {
	uint64_t off, len; /* of the stream in the file; len 0: not known */
	uint64_t
		guest; /* where the cluster begins on the disk, for streams that belong to one place; else 0 */
};

/* Read the stream and inflate the first out_len bytes of the cluster, this by td_pool_run_paced.  TD_CO */
typedef int td_packed_fn(struct td_image *im, const struct td_packed_at *at, uint8_t *out, size_t out_len,
			 struct td_pace *pace);

/* NULL: no memory. */
struct td_packed *td_packed_new(struct td_image *im, size_t cluster_size, td_packed_fn *inflate);
void td_packed_free(struct td_packed *p); /* nobody is in a call of it; NULL is fine */

/*
 * Fill iov with bytes of the cluster, from `from` on.  enough: of a cluster of which nothing was read yet so many are
 * inflated, from its start on; at least to the end of the read.
 */
TD_CO TD_CHECK int td_packed_read(struct td_packed *p, const struct td_packed_at *at, size_t from,
				  size_t enough, const struct td_iov *iov);

/* Keep all of this one, if it is not kept, or being inflated, and there is a place.  Tells nobody what is wrong. */
TD_CO void td_packed_ahead(struct td_packed *p, const struct td_packed_at *at);

/* Something else is going to be written there. */
void td_packed_forget(struct td_packed *p, uint64_t off, uint64_t len);

/* "inflated_hits" and the like; none before the first cluster was read.  p NULL: none. */
void td_packed_counters(const struct td_packed *p, struct td_counters *ret);

#endif
