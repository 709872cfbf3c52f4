// SPDX-License-Identifier: BSD-2-Clause
/* formats/vdi.c: a header by hand, as VirtualBox writes it, for one field after the other to be broken. */
#include <blktap/vdi.h>

#include "unit.h"

static uint8_t raw[VDI_HEADER];

/* 100 blocks of 1 MiB, the last one used in part. */
static int make(void **state)
{
	(void)state;
	memset(raw, 0, sizeof(raw));
	memcpy(raw, "<<< Oracle VM VirtualBox Disk Image >>>\n", 40);
	memcpy(raw + 64, "\x7f\x10\xda\xbe\1\0\1\0\x90\1\0\0\1\0\0\0", 16);
	td_put_le32(raw + 340, 1 << 20);
	td_put_le32(raw + 344, 2 << 20);
	td_put_le32(raw + 360, 512);
	td_put_le64(raw + 368, (100ull << 20) - 1000);
	td_put_le32(raw + 376, 1 << 20);
	td_put_le32(raw + 384, 100);
	td_put_le32(raw + 388, 7);
	memset(raw + 392, 0x11, 16);
	return 0;
}

static void virtualbox_s_header_reads_as_it_was_meant(void **state)
{
	struct vdi_header h;

	(void)state;
	assert_int_equal(vdi_header_decode(raw, &h, NULL), 0);
	assert_int_equal(h.type, VDI_DYNAMIC);
	assert_int_equal(h.size, (100 << 20) - 512); /* whole sectors */
	assert_int_equal(h.map_off, 1 << 20);
	assert_int_equal(h.data_off, 2 << 20);
	assert_int_equal(h.block_size, 1 << 20);
	assert_int_equal(h.nr_blocks, 100);
	assert_int_equal(h.nr_allocated, 7);
	assert_int_equal(h.uuid[15], 0x11);
	td_put_le32(raw + 76, 2);
	td_put_le32(raw + 72, 384);
	assert_int_equal(vdi_header_decode(raw, &h, NULL), 0);
	assert_int_equal(h.type, VDI_STATIC);
}

static void refused(unsigned at, uint32_t value, int code, const char *part)
{
	struct vdi_header h;
	struct td_err err;

	make(NULL);
	td_put_le32(raw + at, value);
	assert_refused(vdi_header_decode(raw, &h, &err), code, &err, part);
	assert_int_equal(vdi_header_decode(raw, &h, NULL), code);
}

static void what_is_not_ours_is_refused_by_name(void **state)
{
	(void)state;
	refused(68, 0x00000002, -ENOTSUP, "version 0.2");
	refused(68, 0x00010002, -ENOTSUP, "version 1.2");
	refused(76, 3, -ENOTSUP, "undo images");
	refused(76, 4, -ENOTSUP, "differencing images");
	refused(76, 5, -ENOTSUP, "type 5");
	refused(76, 0, -ENOTSUP, "type 0");
	refused(436, 1, -ENOTSUP, "has a parent");
	refused(380, 512, -ENOTSUP, "512 bytes of extra data");
	refused(360, 4096, -ENOTSUP, "sectors of 4096");
	refused(376, 2048, -ENOTSUP, "blocks of 2048");
	refused(376, 1u << 28, -ENOTSUP, "blocks of 268435456");
}

static void headers_that_make_no_sense_are_refused(void **state)
{
	(void)state;
	refused(64, 0, -EUCLEAN, "not a vdi image");
	refused(376, 0, -EUCLEAN, "a block cannot have 0");
	refused(376, 3 << 19, -EUCLEAN, "a block cannot have");
	refused(372, 1, -EUCLEAN, "are no disk of");
	refused(372, 0x80000000, -EUCLEAN, "are no disk of");
	refused(372, 0xffffffff, -EUCLEAN, "are no disk of");
	refused(384, 99, -EUCLEAN, "are no disk of");
	refused(388, 101, -EUCLEAN, "101 of its 100 blocks");
	refused(72, 383, -EUCLEAN, "a header of 383");
	refused(72, 0xffffffff, -EUCLEAN, "its map cannot be");
	refused(340, 0, -EUCLEAN, "its map cannot be");
	refused(340, 513, -EUCLEAN, "its map cannot be");
	refused(340, 0xfffffe00, -EUCLEAN, "its blocks cannot begin");
	refused(344, 1 << 20, -EUCLEAN, "its blocks cannot begin");
	refused(344, (2 << 20) + 1, -EUCLEAN, "its blocks cannot begin");
	refused(384, 0xffffffff, -EUCLEAN, "its blocks cannot begin");
	make(NULL);
	td_put_le64(raw + 368, 0);
	refused(384, 0, -EUCLEAN, "are no disk of");
}

static void an_entry_names_a_block_of_the_disk(void **state)
{
	struct vdi_header h;
	enum vdi_kind kind;
	uint64_t off;

	(void)state;
	assert_int_equal(vdi_header_decode(raw, &h, NULL), 0);
	assert_int_equal(vdi_entry_decode(&h, 0xffffffff, &kind, &off), 0);
	assert_int_equal(kind, VDI_FREE);
	assert_int_equal(vdi_entry_decode(&h, 0xfffffffe, &kind, &off), 0);
	assert_int_equal(kind, VDI_ZERO);
	assert_int_equal(vdi_entry_decode(&h, 99, &kind, &off), 0);
	assert_int_equal(kind, VDI_DATA);
	assert_int_equal(off, 101 << 20);
	assert_int_equal(vdi_entry_decode(&h, 100, &kind, &off), -EUCLEAN);
	assert_int_equal(vdi_entry_decode(&h, 0xfffffffd, &kind, &off), -EUCLEAN);
}

#define FROM_NEW(sentence, fn)                                                                               \
	{                                                                                                    \
		sentence, fn, make, NULL, NULL                                                               \
	}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		FROM_NEW("VirtualBox's header reads as it was meant",
			 virtualbox_s_header_reads_as_it_was_meant),
		FROM_NEW("what is not ours is refused by name", what_is_not_ours_is_refused_by_name),
		FROM_NEW("headers that make no sense are refused", headers_that_make_no_sense_are_refused),
		FROM_NEW("an entry names a block of the disk", an_entry_names_a_block_of_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
