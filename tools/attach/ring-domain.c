// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which domain is meant, and does a tapback run.
 */
#include "ring.h"
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define DOMID_END 0x7ff0 /* those above have a meaning of their own */

/* Every domain that runs has a folder; its name there is the toolstack's. */
static int find_by_name(struct ring_domain *dom, const char *name, struct td_err *ret_err)
{
	td_cleanup(free) char **ids = NULL;
	unsigned nr = 0;
	int r = td_xs_list(dom->xs, "/local/domain", &ids, &nr);

	if (r < 0)
		return td_err_set(ret_err, r, "xenstore: the list of domains: %s", strerror(-r));
	for (unsigned i = 0; i < nr; i++) {
		td_cleanup(free) char *there = NULL;
		char path[RING_PATH_MAX];
		const char *p = ids[i];
		uint64_t id;

		snprintf(path, sizeof(path), "/local/domain/%s", ids[i]);
		there = ring_text(dom->xs, path, "name");
		if (!there || strcmp(there, name) != 0 || !attach_number(&p, &id) || id >= DOMID_END)
			continue;
		dom->id = (unsigned)id;
		dom->runs = true;
		return 0;
	}
	return td_err_set(ret_err, -ENOENT, "domain %s: there is none of this name (xl list shows all)",
			  name);
}

static int find_by_number(struct ring_domain *dom, uint64_t id, struct td_err *ret_err)
{
	td_cleanup(free) char **names = NULL;
	char path[RING_PATH_MAX];
	unsigned nr;

	if (id >= DOMID_END)
		return td_err_set(ret_err, -EINVAL, "domain %" PRIu64 ": no number of a domain", id);
	dom->id = (unsigned)id;
	snprintf(path, sizeof(path), "/local/domain/%u", dom->id);
	dom->runs = td_xs_list(dom->xs, path, &names, &nr) == 0;
	return 0;
}

int ring_domain_open(struct ring_domain *dom, const char *text, struct td_err *ret_err)
{
	const char *p = text;
	uint64_t id;
	int r;

	*dom = (struct ring_domain){ .runs = true };
	if (!td_xs_is_dom0())
		return 0;
	r = td_xs_connect(&dom->xs, ret_err);
	if (r < 0)
		return r;
	if (attach_number(&p, &id) && *p == '\0')
		r = find_by_number(dom, id, ret_err);
	else
		r = find_by_name(dom, text, ret_err);
	if (r < 0)
		ring_domain_close(dom);
	return r;
}

void ring_domain_close(struct ring_domain *dom)
{
	td_xs_close(dom->xs);
	dom->xs = NULL;
}

void ring_lock_name(unsigned domid, const char *vdev, char ret_name[ATTACH_LOCK_MAX])
{
	if (domid == 0)
		snprintf(ret_name, ATTACH_LOCK_MAX, "%s", vdev);
	else
		snprintf(ret_name, ATTACH_LOCK_MAX, "%u.%s", domid, vdev);
}

/* The words behind the first: "PID CLASS CLASS...". */
static bool serves(const char *line, const char *class)
{
	const char *p = strchr(line, ' ');
	size_t n = strlen(class);

	for (; p; p = strchr(p + 1, ' '))
		if (strncmp(p + 1, class, n) == 0 && (p[1 + n] == ' ' || p[1 + n] == '\0'))
			return true;
	return false;
}

/* It holds a lock on its file for as long as it runs.  *line, as in the file, begins with its pid. */
static bool is_held(const char *path, const char *line)
{
	uint64_t pid;
	bool held;
	int fd;

	/* The lock is only tried where the process lives: one that is just starting wants it too. */
	if (!attach_number(&line, &pid) || pid == 0 || pid > INT32_MAX ||
	    (kill((pid_t)pid, 0) < 0 && errno != EPERM))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	held = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	close(fd);
	return held;
}

/* vbd3 first: xen-blkback has no eye on it. */
bool ring_tapback(char ret_class[RING_CLASS_MAX])
{
	static const char *const classes[] = { "vbd3", "vbd" };
	td_cleanup(free) char *path = NULL;
	char line[512];

	*ret_class = '\0';
	if (td_run_path(&path, NULL, "tapback") < 0 || !path ||
	    !attach_read_line(line, sizeof(line), "%s", path) || !is_held(path, line))
		return false;
	for (unsigned i = 0; i < TD_NELEMS(classes) && !*ret_class; i++)
		if (serves(line, classes[i]))
			snprintf(ret_class, RING_CLASS_MAX, "%s", classes[i]);
	return true;
}
