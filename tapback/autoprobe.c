// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which device the kernel's drivers get; see autoprobe.h.
 *
 * The device appears some time after its folder, and its driver may have to be loaded first (udev does that): so a
 * device that nobody has bound is offered again, less and less often, until the toolstack would have given it up.
 */
#include "autoprobe.h"
#include "number.h"
#include <blktap/log.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PATH_SIZE 512
#define FIRST_NS  20000000ull
#define MAX_NS    2000000000ull
#define MAX_TRIES 16 /* some 20 seconds: libxl waits 10 */

static int put(const struct autoprobe *a, const char *file, const char *text)
{
	char path[PATH_SIZE];
	ssize_t n;
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", a->root, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	r = n < 0 ? -errno : 0;
	close(fd);
	return r;
}

static bool exists(const struct autoprobe *a, const char *what, const char *more)
{
	char path[PATH_SIZE];

	if (snprintf(path, sizeof(path), "%s/%s%s", a->root, what, more) >= (int)sizeof(path))
		return false;
	return access(path, F_OK) == 0;
}

bool autoprobe_blkback(const struct autoprobe *a)
{
	return exists(a, "drivers/vbd", "");
}

bool autoprobe_taken(const struct autoprobe *a, uint32_t domid, uint32_t vdev)
{
	char name[64];

	snprintf(name, sizeof(name), "devices/vbd-%u-%u", domid, vdev);
	return exists(a, name, "/driver");
}

/* "vbd-3-51712": the type may have a '-' of its own.  False: no such name. */
static bool parse_name(const char *name, char type[32], uint32_t *ret_domid, uint32_t *ret_devid)
{
	size_t len = strlen(name);
	unsigned dashes = 0;

	while (len > 0 && dashes < 2)
		if (name[--len] == '-')
			dashes++;
	if (dashes < 2 || len >= 32)
		return false;
	memcpy(type, name, len);
	type[len] = '\0';
	return number_pair(name + len + 1, '-', ret_domid, ret_devid);
}

/* True: nobody has it yet. */
static bool offer(struct autoprobe *a, const char *name)
{
	uint32_t domid = 0, devid = 0;
	char type[32], path[PATH_SIZE];
	int r;

	snprintf(path, sizeof(path), "devices/%s", name);
	if (exists(a, path, "/driver"))
		return false;
	if (parse_name(name, type, &domid, &devid) && a->keep(a->owner, type, domid, devid))
		return false;
	r = put(a, "drivers_probe", name);
	if (r < 0 && r != -ENODEV)
		td_debug("%s/drivers_probe: %s: %s", a->root, name, strerror(-r));
	return !exists(a, path, "/driver");
}

static bool offer_all(struct autoprobe *a)
{
	char path[PATH_SIZE];
	struct dirent *e;
	bool left = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/devices", a->root);
	dir = opendir(path);
	if (!dir)
		return false;
	/* cppcheck-suppress readdirCalled ; of a stream of our own */
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.' && strlen(e->d_name) < 128)
			left |= offer(a, e->d_name);
	closedir(dir);
	return left;
}

/* The device may not even be there yet: the first few looks are not ended by finding nothing. */
static void look(struct td_timer *t)
{
	struct autoprobe *a = td_container_of(t, struct autoprobe, timer);
	bool left = offer_all(a);
	uint64_t after = FIRST_NS << TD_MIN(a->tries, 7u);

	a->tries++;
	if (a->tries < MAX_TRIES && (left || a->tries < MAX_TRIES / 2))
		td_timer_arm(a->loop, &a->timer, TD_MIN(after, MAX_NS));
}

void autoprobe_kick(struct autoprobe *a)
{
	if (!a->active)
		return;
	a->tries = 0;
	/* A look that is near comes first; one that is far is drawn near.  So many kicks are few looks. */
	if (!a->timer.loop || a->timer.deadline_ns > td_loop_now(a->loop) + FIRST_NS)
		td_timer_arm(a->loop, &a->timer, FIRST_NS);
}

bool autoprobe_start(struct autoprobe *a)
{
	int r;

	a->timer.fn = look;
	if (!exists(a, "drivers_autoprobe", ""))
		return false;
	r = put(a, "drivers_autoprobe", "0");
	if (r < 0) {
		td_warn("%s/drivers_autoprobe: %s: xen-blkback may take our disks; do not load it", a->root,
			strerror(-r));
		return false;
	}
	a->active = true;
	autoprobe_kick(a);
	return true;
}

/*
 * The bus offers by itself only what is new and, when a driver is loaded, everything.  So with xen-blkback loaded
 * already it is safe even for our living disks; without, its loading would take them.
 */
void autoprobe_stop(struct autoprobe *a, bool live)
{
	td_timer_cancel(&a->timer);
	if (!a->active)
		return;
	a->active = false;
	if (live && !autoprobe_blkback(a)) {
		td_warn("disks are in use, so the kernel goes on offering no new device to its drivers: "
			"start tapback "
			"again, or write 1 to %s/drivers_autoprobe and do not load xen-blkback",
			a->root);
		return;
	}
	td_ignore(put(a, "drivers_autoprobe", "1")); /* it could be written before */
}
