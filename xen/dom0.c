// SPDX-License-Identifier: BSD-2-Clause
/*
 * Is this the control domain?  By what the kernel says; no hypercall, no connection.
 */
#include <blktap/xs.h>

#include <stdio.h>

#define XENFEAT_DOM0 11 /* in xen/include/public/features.h */

static bool read_text(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(buf, (int)size, f);

	if (f)
		fclose(f);
	return ok;
}

/* xenfs is not always mounted: then the hypervisor's feature bits in sysfs tell. */
bool td_xs_is_dom0(void)
{
	char text[128], *end;
	unsigned long features;

	if (read_text("/proc/xen/capabilities", text, sizeof(text)))
		return strstr(text, "control_d") != NULL;
	if (!read_text("/sys/hypervisor/type", text, sizeof(text)) || strcmp(text, "xen\n") != 0 ||
	    !read_text("/sys/hypervisor/properties/features", text, sizeof(text)))
		return false;
	features = strtoul(text, &end, 16);
	return end != text && (features >> XENFEAT_DOM0 & 1);
}
