// SPDX-License-Identifier: BSD-2-Clause
/*
 * Entries of the snapshot table.
 *
 * Source: QEMU docs/interop/qcow2.rst, "Snapshots".
 */
#include <blktap/qcow2.h>

/* Where the fields are; extra data begins at 40. */
enum {
	AT_L1_OFF = 0,
	AT_L1_SIZE = 8,
	AT_ID_LEN = 12,
	AT_NAME_LEN = 14,
	AT_DATE_SEC = 16,
	AT_DATE_NSEC = 20,
	AT_VM_CLOCK = 24,
	AT_VM_STATE32 = 32,
	AT_EXTRA_LEN = 36,
	AT_VM_STATE64 = 40,
	AT_DISK_SIZE = 48,
	AT_ICOUNT = 56,
	EXTRA_KNOWN = 24, /* bytes of extra data that we write */
};

#define NO_ICOUNT UINT64_MAX

static int check_l1(const struct qcow2_geom *g, const struct qcow2_snapshot *s)
{
	uint64_t bytes = 8ull * s->l1_size;

	if (s->l1_off % g->cluster_size != 0 || bytes > QCOW2_MAX_L1_BYTES)
		return -EUCLEAN;
	if (bytes > 0 && (s->l1_off < g->cluster_size || !td_in_range(s->l1_off, bytes, g->max_host)))
		return -EUCLEAN;
	return 0;
}

/* Each field is there only if the extra data reaches to its end; version 2 entries often have none. */
static void read_extra(const uint8_t *p, uint32_t extra_len, struct qcow2_snapshot *s)
{
	uint32_t end = QCOW2_SNAPSHOT_HEAD + extra_len;

	s->vm_state_size = td_get_be32(p + AT_VM_STATE32);
	if (end >= AT_VM_STATE64 + 8)
		s->vm_state_size = td_get_be64(p + AT_VM_STATE64);
	s->has_disk_size = end >= AT_DISK_SIZE + 8;
	if (s->has_disk_size)
		s->disk_size = td_get_be64(p + AT_DISK_SIZE);
	s->has_icount = end >= AT_ICOUNT + 8 && td_get_be64(p + AT_ICOUNT) != NO_ICOUNT;
	if (s->has_icount)
		s->icount = td_get_be64(p + AT_ICOUNT);
	s->extra_len = extra_len;
}

int qcow2_snapshot_decode(const struct qcow2_geom *g, const void *buf, size_t len, struct qcow2_snapshot *ret)
{
	const uint8_t *p = buf;
	struct qcow2_snapshot s = { 0 };
	uint32_t extra_len;
	size_t need;

	if (len < QCOW2_SNAPSHOT_HEAD)
		return -EUCLEAN;
	s.l1_off = td_get_be64(p + AT_L1_OFF);
	s.l1_size = td_get_be32(p + AT_L1_SIZE);
	s.id_len = td_get_be16(p + AT_ID_LEN);
	s.name_len = td_get_be16(p + AT_NAME_LEN);
	s.date_sec = td_get_be32(p + AT_DATE_SEC);
	s.date_nsec = td_get_be32(p + AT_DATE_NSEC);
	s.vm_clock_nsec = td_get_be64(p + AT_VM_CLOCK);
	extra_len = td_get_be32(p + AT_EXTRA_LEN);
	if (check_l1(g, &s) < 0)
		return -EUCLEAN;
	if (extra_len > QCOW2_MAX_SNAPSHOT_EXTRA)
		return -ENOTSUP;

	need = (size_t)QCOW2_SNAPSHOT_HEAD + extra_len + s.id_len + s.name_len;
	if (len < need)
		return -EUCLEAN;
	read_extra(p, extra_len, &s);
	s.id = (const char *)p + QCOW2_SNAPSHOT_HEAD + extra_len;
	s.name = s.id + s.id_len;
	s.entry_len = (size_t)td_align_up(need, 8);
	*ret = s;
	return 0;
}

size_t qcow2_snapshot_encode(const struct qcow2_snapshot *s, void *buf, size_t len)
{
	size_t head = QCOW2_SNAPSHOT_HEAD + EXTRA_KNOWN;
	size_t need = (size_t)td_align_up(head + s->id_len + s->name_len, 8);
	uint8_t *p = buf;

	if (need > len)
		return 0;
	memset(p, 0, need);
	td_put_be64(p + AT_L1_OFF, s->l1_off);
	td_put_be32(p + AT_L1_SIZE, s->l1_size);
	td_put_be16(p + AT_ID_LEN, s->id_len);
	td_put_be16(p + AT_NAME_LEN, s->name_len);
	td_put_be32(p + AT_DATE_SEC, s->date_sec);
	td_put_be32(p + AT_DATE_NSEC, s->date_nsec);
	td_put_be64(p + AT_VM_CLOCK, s->vm_clock_nsec);
	/* Who knows no extra data takes this one, and there is no such state of 4 GiB in a table without. */
	td_put_be32(p + AT_VM_STATE32, (uint32_t)TD_MIN(s->vm_state_size, (uint64_t)UINT32_MAX));
	td_put_be32(p + AT_EXTRA_LEN, EXTRA_KNOWN);
	td_put_be64(p + AT_VM_STATE64, s->vm_state_size);
	td_put_be64(p + AT_DISK_SIZE, s->disk_size);
	td_put_be64(p + AT_ICOUNT, s->has_icount ? s->icount : NO_ICOUNT);
	memcpy(p + head, s->id, s->id_len);
	memcpy(p + head + s->id_len, s->name, s->name_len);
	return need;
}
