// SPDX-License-Identifier: BSD-2-Clause
/* GUIDs: bytes to text and back. */
#include <blktap/guid.h>

/* Which byte of the GUID comes where in its text; a dash stands before those of -1. */
static const int8_t order[] = { 3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15 };

void td_guid_text(const uint8_t guid[TD_GUID], char ret[TD_GUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < TD_NELEMS(order); i++) {
		if (order[i] < 0) {
			*ret++ = '-';
			continue;
		}
		*ret++ = digits[guid[order[i]] >> 4];
		*ret++ = digits[guid[order[i]] & 15];
	}
	*ret = '\0';
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int td_guid_parse(const char *text, uint8_t ret[TD_GUID])
{
	bool braces = *text == '{';
	uint8_t guid[TD_GUID];

	text += braces;
	for (unsigned i = 0; i < TD_NELEMS(order); i++) {
		int high, low;

		if (order[i] < 0) {
			if (*text++ != '-')
				return -EINVAL;
			continue;
		}
		high = digit(*text);
		low = high < 0 ? -1 : digit(text[1]);
		if (low < 0)
			return -EINVAL;
		guid[order[i]] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (strcmp(text, braces ? "}" : "") != 0)
		return -EINVAL;
	memcpy(ret, guid, sizeof(guid));
	return 0;
}

bool td_guid_is_zero(const uint8_t guid[TD_GUID])
{
	static const uint8_t zero[TD_GUID];

	return memcmp(guid, zero, TD_GUID) == 0;
}
