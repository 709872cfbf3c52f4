// SPDX-License-Identifier: BSD-2-Clause
/*
 * What inflating and deflating work in, for the drivers whose clusters may be compressed.
 */
#ifndef BLKTAP_CODEC_H
#define BLKTAP_CODEC_H

struct qcow2_codec; /* blktap/qcow2.h: raw deflate is the same in all formats that have it */

/* This thread's, made when it first asks; NULL: no memory.  From any thread, workers of the pool most of all. */
struct qcow2_codec *td_codec_mine(void);

#endif
