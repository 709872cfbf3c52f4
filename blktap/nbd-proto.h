// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the NBD protocol fixes.  All numbers on the wire are big-endian.
 * Source: NetworkBlockDevice/nbd doc/proto.md, "Values"; the names are those used there.
 */
#ifndef BLKTAP_NBD_PROTO_H
#define BLKTAP_NBD_PROTO_H

#define NBD_MAGIC                  0x4e42444d41474943ull /* "NBDMAGIC" */
#define NBD_OPT_MAGIC              0x49484156454f5054ull /* "IHAVEOPT" */
#define NBD_REP_MAGIC              0x0003e889045565a9ull
#define NBD_REQUEST_MAGIC          0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC     0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu

/* Sizes of messages. */
#define NBD_HELLO_SIZE            18 /* two magics, handshake flags */
#define NBD_CLIENT_FLAGS_SIZE     4
#define NBD_OPTION_SIZE           16 /* without its data */
#define NBD_OPTION_REPLY_SIZE     20 /* without its data */
#define NBD_EXPORT_NAME_ZEROES    124
#define NBD_REQUEST_SIZE          28
#define NBD_SIMPLE_REPLY_SIZE     16
#define NBD_STRUCTURED_REPLY_SIZE 20 /* without its payload */

#define NBD_NAME_MAX 4096

/* Handshake flags, of the server and of the client. */
#define NBD_FLAG_FIXED_NEWSTYLE   0x1u
#define NBD_FLAG_NO_ZEROES        0x2u
#define NBD_FLAG_C_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_C_NO_ZEROES      0x2u

enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ACK          1u
#define NBD_REP_SERVER       2u
#define NBD_REP_INFO         3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR(n)       (0x80000000u | (n))
#define NBD_REP_ERR_UNSUP    NBD_REP_ERR(1)
#define NBD_REP_ERR_INVALID  NBD_REP_ERR(3)
#define NBD_REP_ERR_UNKNOWN  NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR(7)
#define NBD_REP_ERR_TOO_BIG  NBD_REP_ERR(9)

#define NBD_INFO_EXPORT     0
#define NBD_INFO_NAME       1
#define NBD_INFO_BLOCK_SIZE 3

/* Transmission flags. */
#define NBD_FLAG_HAS_FLAGS         0x001u
#define NBD_FLAG_READ_ONLY         0x002u
#define NBD_FLAG_SEND_FLUSH        0x004u
#define NBD_FLAG_SEND_FUA          0x008u
#define NBD_FLAG_SEND_TRIM         0x020u
#define NBD_FLAG_SEND_WRITE_ZEROES 0x040u
#define NBD_FLAG_SEND_DF           0x080u
#define NBD_FLAG_CAN_MULTI_CONN    0x100u
#define NBD_FLAG_SEND_CACHE        0x400u
#define NBD_FLAG_SEND_FAST_ZERO    0x800u

enum nbd_cmd {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

#define NBD_CMD_FLAG_FUA       0x01u
#define NBD_CMD_FLAG_NO_HOLE   0x02u
#define NBD_CMD_FLAG_DF        0x04u
#define NBD_CMD_FLAG_REQ_ONE   0x08u
#define NBD_CMD_FLAG_FAST_ZERO 0x10u

#define NBD_REPLY_FLAG_DONE 0x1u

#define NBD_REPLY_TYPE_NONE         0
#define NBD_REPLY_TYPE_OFFSET_DATA  1
#define NBD_REPLY_TYPE_BLOCK_STATUS 5
#define NBD_REPLY_TYPE_ERROR        0x8001u

#define NBD_STATE_HOLE 0x1u
#define NBD_STATE_ZERO 0x2u

#define NBD_STATE_DIRTY 0x1u /* of a dirty bitmap */

#define NBD_META_ALLOCATION "base:allocation"
#define NBD_META_BITMAP     "qemu:dirty-bitmap:" /* and its name; QEMU's docs/interop/nbd.rst */

/* Errors on the wire.  They are not the system's errnos, though they look like Linux's. */
enum nbd_error {
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

#endif
