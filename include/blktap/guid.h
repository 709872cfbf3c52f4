// SPDX-License-Identifier: BSD-2-Clause
/*
 * GUIDs as Windows and VirtualBox store them: 16 bytes, of which the first three fields (4, 2 and 2 bytes) are
 * little-endian.  Pure.
 */
#ifndef BLKTAP_GUID_H
#define BLKTAP_GUID_H

#include <blktap/base.h>

#define TD_GUID      16u
#define TD_GUID_TEXT 37u /* with its NUL */

/* "2dc27766-f623-4200-9d64-115e9bfd4a08" */
void td_guid_text(const uint8_t guid[TD_GUID], char ret[TD_GUID_TEXT]);

/* The same, with or without braces around it, in any case; -EINVAL: it is none. */
TD_CHECK int td_guid_parse(const char *text, uint8_t ret[TD_GUID]);

/* Zeros often stand for "none". */
bool td_guid_is_zero(const uint8_t guid[TD_GUID]);

#endif
