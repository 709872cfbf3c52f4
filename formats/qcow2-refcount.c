// SPDX-License-Identifier: BSD-2-Clause
/*
 * Refcounts in a refcount block, of every width from 1 to 64 bits: whole bytes are big-endian, parts of a
 * byte start with its low bits.
 *
 * Source: QEMU docs/interop/qcow2.rst, "Refcount block entry".
 */
#include <blktap/qcow2.h>

uint64_t qcow2_refcount_get(const struct qcow2_geom *g, const void *block, uint64_t idx)
{
	const uint8_t *p = block;
	uint32_t bits = g->refcount_bits;

	switch (bits) {
	case 64:
		return td_get_be64(p + idx * 8);
	case 32:
		return td_get_be32(p + idx * 4);
	case 16:
		return td_get_be16(p + idx * 2);
	case 8:
		return p[idx];
	default:
		return (uint64_t)p[idx * bits / 8] >> (idx * bits % 8) & ((1u << bits) - 1);
	}
}

/* Widths below 8: change some bits of a byte. */
static void set_part(uint8_t *byte, uint32_t shift, uint32_t bits, uint64_t value)
{
	uint64_t mask = ((1ull << bits) - 1) << shift;

	*byte = (uint8_t)((*byte & ~mask) | value << shift);
}

int qcow2_refcount_set(const struct qcow2_geom *g, void *block, uint64_t idx, uint64_t value)
{
	uint8_t *p = block;
	uint32_t bits = g->refcount_bits;

	if (bits < 64 && value >> bits != 0)
		return -ERANGE;
	switch (bits) {
	case 64:
		td_put_be64(p + idx * 8, value);
		break;
	case 32:
		td_put_be32(p + idx * 4, (uint32_t)value);
		break;
	case 16:
		td_put_be16(p + idx * 2, (uint16_t)value);
		break;
	case 8:
		p[idx] = (uint8_t)value;
		break;
	default:
		set_part(&p[idx * bits / 8], (uint32_t)(idx * bits % 8), bits, value);
		break;
	}
	return 0;
}
