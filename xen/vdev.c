// SPDX-License-Identifier: BSD-2-Clause
/*
 * Names and numbers of virtual disks, as in xen-vbd-interface(7):
 *
 *	xvd	202 << 8 | disk << 4 | partition	for the first 16 disks and 15 partitions
 *	xvd	1 << 28 | disk << 8 | partition		beyond
 *	sd	8 << 8 | disk << 4 | partition
 *	hd	3 << 8 | disk << 6 | partition		hda and hdb; 22 << 8 the same for hdc and hdd
 */
#include <blktap/xs.h>

#include <inttypes.h>
#include <stdio.h>

#define EXTENDED      (1u << 28)
#define EXTENDED_DISK (1u << 20) /* disks */
#define NUMBER_END    (1u << 29) /* from here on nothing is defined */

#define MAJOR_XVD 202u
#define MAJOR_SD  8u
#define MAJOR_HDA 3u
#define MAJOR_HDC 22u

/* Decimal digits at *p, which moves behind them; no leading zero, below end. */
static bool take_number(const char **p, uint32_t end, uint32_t *ret)
{
	const char *s = *p;
	uint64_t n = 0;

	if (*s < '0' || *s > '9' || (s[0] == '0' && s[1] >= '0' && s[1] <= '9'))
		return false;
	for (; *s >= '0' && *s <= '9' && n < end; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	*p = s;
	*ret = (uint32_t)n;
	return n < end;
}

/* a 0, z 25, aa 26, ... */
static bool take_letters(const char **p, uint32_t end, uint32_t *ret)
{
	const char *s = *p;
	uint64_t n = 0;

	for (; *s >= 'a' && *s <= 'z' && n <= end; s++)
		n = n * 26 + (uint64_t)(*s - 'a') + 1;
	if (s == *p || n > end)
		return false;
	*p = s;
	*ret = (uint32_t)n - 1;
	return true;
}

/* "xvdb3" with prefix "xvd": 1 and 3. */
static bool match(const char *name, const char *prefix, uint32_t disks, uint32_t partitions,
		  uint32_t *ret_disk, uint32_t *ret_partition)
{
	size_t n = strlen(prefix);

	*ret_partition = 0;
	if (strncmp(name, prefix, n) != 0)
		return false;
	name += n;
	if (!take_letters(&name, disks, ret_disk))
		return false;
	return *name == '\0' ||
	       (*name != '0' && take_number(&name, partitions, ret_partition) && *name == '\0');
}

/* "d5p1" */
static bool match_dp(const char *name, uint32_t *ret_disk, uint32_t *ret_partition)
{
	if (*name++ != 'd' || !take_number(&name, EXTENDED_DISK, ret_disk) || *name++ != 'p')
		return false;
	return take_number(&name, 256, ret_partition) && *name == '\0';
}

static bool match_number(const char *name, uint32_t *ret)
{
	uint32_t n = 0;

	if (strncmp(name, "0x", 2) != 0)
		return take_number(&name, NUMBER_END, ret) && *name == '\0';
	name += 2;
	if (!*name || strspn(name, "0123456789abcdefABCDEF") != strlen(name) || strlen(name) > 8)
		return false;
	n = (uint32_t)strtoul(name, NULL, 16);
	*ret = n;
	return n < NUMBER_END;
}

int td_vdev_parse(const char *name, uint32_t *ret_number)
{
	uint32_t disk, part, number;

	if (strncmp(name, "/dev/", 5) == 0)
		name += 5;
	if (match(name, "xvd", EXTENDED_DISK, 256, &disk, &part) || match_dp(name, &disk, &part))
		*ret_number = disk < 16 && part < 16 ? MAJOR_XVD << 8 | disk << 4 | part
						     : EXTENDED | disk << 8 | part;
	else if (match(name, "sd", 16, 16, &disk, &part))
		*ret_number = MAJOR_SD << 8 | disk << 4 | part;
	else if (match(name, "hd", 4, 64, &disk, &part))
		*ret_number = (disk < 2 ? MAJOR_HDA : MAJOR_HDC) << 8 | (disk & 1) << 6 | part;
	else if (match_number(name, &number))
		*ret_number = number;
	else
		return -EINVAL;
	return 0;
}

/* prefix, letters, perhaps a partition. */
static void put_name(char *buf, size_t size, const char *prefix, uint32_t disk, uint32_t part)
{
	char letters[8];
	size_t at = sizeof(letters) - 1;

	letters[at] = '\0';
	for (uint32_t n = disk + 1; n > 0; n = (n - 1) / 26)
		letters[--at] = (char)('a' + (n - 1) % 26);
	if (part == 0)
		snprintf(buf, size, "%s%s", prefix, letters + at);
	else
		snprintf(buf, size, "%s%s%" PRIu32, prefix, letters + at, part);
}

/* What fits the old form has another number under its name. */
static bool is_extended(uint32_t number)
{
	return number >= EXTENDED && number < NUMBER_END &&
	       ((number - EXTENDED) >> 8 >= 16 || (number & 0xff) >= 16);
}

void td_vdev_name(uint32_t number, char *buf, size_t size)
{
	uint32_t major = number >> 8, minor = number & 0xff;

	if (is_extended(number))
		put_name(buf, size, "xvd", (number - EXTENDED) >> 8, minor);
	else if (major == MAJOR_XVD)
		put_name(buf, size, "xvd", minor >> 4, minor & 15);
	else if (major == MAJOR_SD)
		put_name(buf, size, "sd", minor >> 4, minor & 15);
	else if ((major == MAJOR_HDA || major == MAJOR_HDC) && minor < 128)
		put_name(buf, size, "hd", (major == MAJOR_HDC ? 2 : 0) + (minor >> 6), minor & 63);
	else
		snprintf(buf, size, "%" PRIu32, number);
}
