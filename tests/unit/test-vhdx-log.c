// SPDX-License-Identifier: BSD-2-Clause
/* formats/vhdx-log.c: rings of entries by hand. */
#include <blktap/vhdx.h>

#include "unit.h"

#define SECTORS 256u

static uint8_t ring[SECTORS * VHDX_SECTOR];
static const uint8_t guid[TD_GUID] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static uint8_t *sector(uint32_t i)
{
	return ring + (size_t)(i % SECTORS) * VHDX_SECTOR;
}

static int make(void **state)
{
	(void)state;
	memset(ring, 0, sizeof(ring));
	return 0;
}

static void put_sum(uint32_t at, uint32_t nr)
{
	uint32_t crc = vhdx_crc(0, sector(at), VHDX_SECTOR, 4);

	for (uint32_t i = 1; i < nr; i++)
		crc = vhdx_crc(crc, sector(at + i), VHDX_SECTOR, VHDX_NO_HOLE);
	td_put_le32(sector(at) + 4, crc);
}

/* One that says: `data` sectors from off on hold the letter, 1 MiB behind them is zeros.  Returns where it ends. */
static uint32_t put_entry(uint32_t at, uint64_t sequence, uint32_t tail, uint32_t data, uint64_t off,
			  char letter)
{
	const uint32_t descs = data + 1, desc_sectors = (descs + 2 + 127) / 128, nr = desc_sectors + data;
	uint8_t *h = sector(at);

	for (uint32_t i = 0; i < nr; i++)
		memset(sector(at + i), 0, VHDX_SECTOR);
	memcpy(h, "loge", 4);
	td_put_le32(h + 8, nr * VHDX_SECTOR);
	td_put_le32(h + 12, tail % SECTORS * VHDX_SECTOR);
	td_put_le64(h + 16, sequence);
	td_put_le32(h + 24, descs);
	memcpy(h + 32, guid, TD_GUID);
	td_put_le64(h + 48, 10 << 20);
	td_put_le64(h + 56, 20 << 20);
	for (uint32_t i = 0; i < descs; i++) {
		uint8_t *d = sector(at + (i + 2) / 128) + (size_t)((i + 2) % 128) * 32;
		uint8_t *s = sector(at + desc_sectors + i);

		memcpy(d, i < data ? "desc" : "zero", 4);
		memset(d + 4, letter, 12);
		td_put_le64(d + 16, off + (uint64_t)i * VHDX_SECTOR);
		td_put_le64(d + 24, sequence);
		if (i == data) {
			td_put_le64(d + 8, 1 << 20);
			continue;
		}
		memset(s, letter, VHDX_SECTOR);
		memcpy(s, "data", 4);
		td_put_le32(s + 4, (uint32_t)(sequence >> 32));
		td_put_le32(s + VHDX_SECTOR - 4, (uint32_t)sequence);
	}
	put_sum(at, nr);
	return at + nr;
}

static struct vhdx_log find(void)
{
	struct vhdx_log l;

	vhdx_log_find(ring, sizeof(ring), guid, &l);
	return l;
}

struct seen {
	unsigned zeros, sectors;
	char letters[64];
	uint64_t last_off;
};

static int see(void *arg, uint64_t off, uint64_t len, const uint8_t *bytes)
{
	struct seen *s = arg;

	s->last_off = off;
	if (!bytes) {
		s->zeros++;
		assert_int_equal(len, 1 << 20);
		return 0;
	}
	assert_int_equal(len, VHDX_SECTOR);
	for (unsigned i = 0; i < VHDX_SECTOR; i++)
		assert_int_equal(bytes[i], bytes[0]);
	s->letters[s->sectors++ % 63] = (char)bytes[0];
	return 0;
}

static void replayed(const char *letters, unsigned zeros)
{
	struct vhdx_log l = find();
	struct seen s = { 0 };

	assert_int_equal(vhdx_log_replay(ring, sizeof(ring), &l, see, &s), 0);
	assert_string_equal(s.letters, letters);
	assert_int_equal(s.zeros, zeros);
}

static void an_empty_log_has_nothing(void **state)
{
	(void)state;
	assert_int_equal(find().entries, 0);
	replayed("", 0);
	put_entry(3, 5, 3, 1, 5 << 20, 'a');
	sector(3)[32] ^= 1; /* another time's */
	put_sum(3, 2);
	assert_int_equal(find().entries, 0);
}

static void a_run_is_replayed_in_its_order(void **state)
{
	struct vhdx_log l;
	uint32_t at = put_entry(7, 41, 7, 1, 5 << 20, 'a');

	(void)state;
	at = put_entry(at, 42, 7, 3, 6 << 20, 'b');
	put_entry(at, 43, 7, 0, 7 << 20, 'c');
	l = find();
	assert_int_equal(l.entries, 3);
	assert_int_equal(l.first, 7);
	assert_int_equal(l.sequence, 43);
	assert_int_equal(l.flushed, 10 << 20);
	assert_int_equal(l.file_size, 20 << 20);
	replayed("abbb", 3);
}

static void it_begins_where_the_last_entry_says(void **state)
{
	uint32_t second = put_entry(7, 41, 7, 1, 5 << 20, 'a'), third;

	(void)state;
	third = put_entry(second, 42, 7, 1, 6 << 20, 'b');
	put_entry(third, 43, second, 1, 7 << 20, 'c');
	assert_int_equal(find().entries, 2);
	replayed("bc", 2);
	/* To an entry that is not there, and into one. */
	make(NULL);
	put_entry(put_entry(7, 41, 7, 1, 5 << 20, 'a'), 42, 100, 1, 5 << 20, 'b');
	assert_int_equal(find().entries, 0);
	put_entry(put_entry(7, 41, 7, 1, 5 << 20, 'a'), 42, 8, 1, 5 << 20, 'b');
	assert_int_equal(find().entries, 0);
}

static void what_was_torn_ends_it(void **state)
{
	uint32_t second = put_entry(7, 41, 7, 1, 5 << 20, 'a'), third;

	(void)state;
	third = put_entry(second, 42, 7, 2, 6 << 20, 'b');
	put_entry(third, 43, 7, 1, 7 << 20, 'c');
	sector(second + 2)[2000] ^= 1;
	assert_int_equal(find().sequence, 41); /* the third needs the first */
	replayed("a", 1);
	/* An old sector under a new checksum. */
	make(NULL);
	put_entry(put_entry(7, 41, 7, 1, 5 << 20, 'a'), 42, 7, 2, 6 << 20, 'b');
	td_put_le32(sector(second + 2) + VHDX_SECTOR - 4, 41);
	put_sum(second, 3);
	assert_int_equal(find().sequence, 41);
	/* A number left out. */
	make(NULL);
	put_entry(put_entry(7, 41, 7, 1, 5 << 20, 'a'), 43, 7, 1, 6 << 20, 'b');
	assert_int_equal(find().sequence, 41);
}

static void the_newest_run_counts_and_it_may_go_around(void **state)
{
	(void)state;
	put_entry(20, 1, 20, 1, 5 << 20, 'o');
	put_entry(200, 900, 200, 1, 5 << 20, 'n');
	put_entry(100, 7, 100, 1, 5 << 20, 'o');
	replayed("n", 1);
	/* An entry over the edge, one behind it. */
	put_entry(put_entry(254, 1000, 254, 5, 5 << 20, 'x'), 1001, 254, 1, 5 << 20, 'y');
	assert_int_equal(find().first, 254);
	assert_int_equal(find().entries, 2);
	replayed("xxxxxy", 2);
	/* All of the ring in one run, so that what follows the last entry is the first. */
	make(NULL);
	for (uint32_t i = 0; i < SECTORS / 2; i++)
		put_entry(50 + 2 * i, 10 + i, 50, 1, 5 << 20, 'f');
	assert_int_equal(find().entries, SECTORS / 2);
	assert_int_equal(find().first, 50);
	/* More descriptors than a sector has. */
	make(NULL);
	put_entry(3, 7, 3, 200, 5 << 20, 'm');
	assert_int_equal(find().entries, 1);
}

static void not_whole(unsigned in_sector, unsigned at, uint64_t value, unsigned len)
{
	uint8_t bytes[8];

	make(NULL);
	put_entry(7, 41, 7, 2, 5 << 20, 'a');
	td_put_le64(bytes, value);
	memcpy(sector(7 + in_sector) + at, bytes, len);
	put_sum(7, 3);
	assert_int_equal(find().entries, 0);
}

static void entries_that_make_no_sense_are_none(void **state)
{
	(void)state;
	not_whole(0, 8, 0, 4);
	not_whole(0, 8, 4095, 4);
	not_whole(0, 8, 8192, 4);
	not_whole(0, 8, 0xfffff000, 4);
	not_whole(0, 12, 1, 4);
	not_whole(0, 12, SECTORS * VHDX_SECTOR, 4);
	not_whole(0, 16, 0, 8);
	not_whole(0, 24, 0xffffffff, 4);
	not_whole(0, 24, 4, 4);
	not_whole(0, 64, 0, 4);
	not_whole(0, 64 + 16, 1, 8);
	not_whole(0, 64 + 16, 0xfffffffffffff000, 8);
	not_whole(0, 64 + 24, 40, 8);
	not_whole(0, 128 + 8, 4095, 8);
	not_whole(0, 128 + 8, 0xfffffffffffff000, 8);
	not_whole(1, 0, 0, 4);
	not_whole(1, 4, 1, 4);
	not_whole(2, 0, 0x65676f6c, 4);
}

#define FROM_NEW(sentence, fn)                                                                               \
	{                                                                                                    \
		sentence, fn, make, NULL, NULL                                                               \
	}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		FROM_NEW("an empty log has nothing", an_empty_log_has_nothing),
		FROM_NEW("a run is replayed in its order", a_run_is_replayed_in_its_order),
		FROM_NEW("it begins where the last entry says", it_begins_where_the_last_entry_says),
		FROM_NEW("what was torn ends it", what_was_torn_ends_it),
		FROM_NEW("the newest run counts, and it may go around",
			 the_newest_run_counts_and_it_may_go_around),
		FROM_NEW("entries that make no sense are none", entries_that_make_no_sense_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
