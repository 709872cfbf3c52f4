// SPDX-License-Identifier: BSD-2-Clause
/*
 * The file of keep.h, as keep.c writes it and keep-old.c reads it.  Only this machine reads it, and only until it is
 * started anew: numbers are as the processor has them.
 */
#ifndef DRIVERS_KEEP_FILE_H
#define DRIVERS_KEEP_FILE_H

#include <blktap/err.h>
#include <blktap/keep.h>

#define KEEP_MAGIC    0x70656b7061746c62ull
#define KEEP_VERSION  2u
#define KEEP_PAGE     4096u
#define KEEP_HEAD     (2 * KEEP_PAGE) /* the head, and behind it the list of areas */
#define KEEP_AREA_MAX (1ull << 40)    /* bytes that an area may span; most of it is never touched */

/* Which file the image is in.  A device is known by its number; born: 0 where the file system does not tell. */
struct keep_id {
	uint64_t dev, ino, born_s, born_ns;
};

struct keep_head {
	uint64_t magic;
	uint32_t version, size;
	char boot[40]; /* of the machine's start */
	struct keep_id id;
	struct td_keep_tag tag;
	uint64_t pid;
	char image[TD_KEEP_IMAGE_MAX]; /* its file's path, as it was opened or as much of it; for people */
	uint64_t sum;                  /* of all above */
};

/* Changed while the file is in use: of the two of a kind, `which` counts; `used` grows. */
struct keep_area {
	uint64_t states_at, bytes_at;
	uint64_t nr, used;
	uint32_t unit, stride;
};

struct keep_areas {
	uint32_t which[TD_KEEP_KINDS];
	struct keep_area area[TD_KEEP_KINDS][2];
};

_Static_assert(sizeof(struct keep_areas) <= KEEP_PAGE, "a page each");

static inline size_t keep_stride(unsigned sectors)
{
	return td_align_up(sizeof(struct td_keep_unit) + 2 * sectors * sizeof(uint32_t), sizeof(uint64_t));
}

uint64_t keep_head_sum(const struct keep_head *h);
void keep_boot_id(char boot[40]);

/* Which file is this?  -ENOTSUP: neither a regular one nor a block device. */
TD_CHECK int keep_identify(const char *path, struct keep_id *ret);

/*
 * The path of the image's file, and the image's id.  *ret_path NULL: it has none.  The caller frees it.
 */
TD_CHECK int keep_where(const struct td_image *im, char **ret_path, struct keep_id *ret_id);

/* Open and lock what is at path.  -ENOENT; -EBUSY: a process has it; -EPERM: it is not a file of ours alone. */
TD_CHECK int keep_open(const char *path, bool exclusive, int *ret_fd);

#endif
