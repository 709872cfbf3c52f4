// SPDX-License-Identifier: BSD-2-Clause
/*
 * The content's identity.  A child names its parent's CID, so a parent that was written to since is found out.  It
 * changes with the first write after each open, and is on stable storage before that write begins: whatever a power cut
 * leaves, no parent has changed under a CID that a child knows.
 *
 * A disk into which its child is committed is an exception.  As long as that goes on the child says all that changes,
 * and it has to open when whoever was killed runs it again; so the CID changes when all is there, before the child lets
 * go of anything (vmdk_empty), and the child then follows.
 *
 * It is overwritten in its place, digit for digit: nothing else of the descriptor can be lost.  One torn at the end of
 * a sector is still another CID.  Newer descriptors have a longer identity as well, which ends in the CID.
 */
#include <stdio.h>
#include <sys/random.h>

#include "vmdk-int.h"

/* Not the old one, and not one of the words for "none". */
uint32_t vmdk_new_cid(uint32_t old, unsigned digits)
{
	const uint32_t mask = digits >= 8 ? UINT32_MAX : (1u << 4 * digits) - 1;
	uint32_t cid = old;

	do {
		uint32_t random;

		if (getrandom(&random, sizeof(random), GRND_NONBLOCK) == (ssize_t)sizeof(random))
			cid = random;
		else
			cid = cid * 0x915f77f5u + 1;
		cid &= mask;
	} while (cid == old || cid >= VMDK_NO_PARENT - 1);
	return cid;
}

#define DIGITS 8u

/* Put these digits over those at `at` of the text, on disk and here. */
static int write_digits(struct vmdk *v, const char *at, const char *digits, size_t len)
{
	const size_t pos = (size_t)(at - v->text);
	int r = td_image_pwrite(v->im->child, v->text_at + pos, digits, len, 0);

	if (r == 0)
		memcpy(v->text + pos, digits, len);
	return r;
}

static int write_cid(struct vmdk *v)
{
	const struct vmdk_str s = v->desc.cid_digits, id = v->desc.long_id;
	const uint32_t cid = vmdk_new_cid(v->desc.cid, (unsigned)s.len);
	char digits[DIGITS + 1], padded[DIGITS + 1];
	int r;

	(void)snprintf(digits, sizeof(digits), "%0*x", (int)s.len, cid);
	(void)snprintf(padded, sizeof(padded), "%0*x", (int)DIGITS, cid);
	r = write_digits(v, s.at, digits, s.len);
	if (r == 0 && id.len == 4 * DIGITS)
		r = write_digits(v, id.at + id.len - DIGITS, padded, DIGITS);
	if (r == 0)
		r = td_image_flush(v->im->child);
	if (r < 0)
		return r;
	v->desc.cid = cid;
	v->cid_changed = true;
	return 0;
}

int vmdk_touch(struct vmdk *v)
{
	if (v->cid_changed)
		return 0;
	if (v->im->flags & TD_OPEN_BASE) {
		v->cid_owed = true;
		return 0;
	}
	td_co_guard(&v->cid_lock);
	return v->cid_changed ? 0 : write_cid(v);
}

int vmdk_cid_settle(struct vmdk *v)
{
	int r;

	if (!v->cid_owed)
		return 0;
	td_co_guard(&v->cid_lock);
	r = v->cid_changed ? 0 : write_cid(v);
	v->cid_owed = r < 0;
	return r;
}

int vmdk_follow(struct vmdk *v, uint32_t cid)
{
	const struct vmdk_str s = v->desc.parent_digits;
	char digits[DIGITS + 1];
	int r;

	td_co_guard(&v->cid_lock);
	if (cid == v->desc.parent_cid)
		return 0;
	if (snprintf(digits, sizeof(digits), "%0*x", (int)s.len, cid) != (int)s.len)
		return -ENOSPC;
	r = write_digits(v, s.at, digits, s.len);
	if (r == 0)
		r = td_image_flush(v->im->child);
	if (r == 0)
		v->desc.parent_cid = cid;
	return r;
}
