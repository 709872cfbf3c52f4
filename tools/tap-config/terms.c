// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk in our terms, and back into xl's; see disk.h.
 */
#include <stdio.h>

#include "disk.h"

bool disk_is_ours(const struct disk *d)
{
	const char *slash = d->script ? strrchr(d->script, '/') : NULL;

	return d->script && strcmp(slash ? slash + 1 : d->script, "block-tapdisk") == 0;
}

static const char *driver_of(const struct disk *d)
{
	if (d->driver)
		return d->driver;
	return d->format == FORMAT_RAW ? "aio" : disk_format_name(d->format);
}

int disk_spec(const struct disk *d, char **ret_spec)
{
	char *spec;

	*ret_spec = NULL;
	if (d->format == FORMAT_EMPTY || !d->target || !*d->target ||
	    (d->script && *d->script && !disk_is_ours(d)))
		return 0;
	if (disk_is_ours(d))
		spec = strdup(d->target);
	else if (asprintf(&spec, "%s:%s", driver_of(d), d->target) < 0)
		spec = NULL;
	if (!spec)
		return -ENOMEM;
	*ret_spec = spec;
	return 0;
}

/* What both forms have, after what says what serves it. */
static void render_common(FILE *f, const struct disk *d)
{
	fprintf(f, "vdev=%s,access=%s", d->vdev, d->writable || d->cdrom ? "w" : "r");
	if (d->cdrom)
		fputs(",devtype=cdrom", f);
	if (d->backend_domain)
		fprintf(f, ",backend=%s", d->backend_domain);
	if (d->direct_io_safe)
		fputs(",direct-io-safe", f);
	if (d->discard != BOOL_DEFAULT)
		fputs(d->discard == BOOL_YES ? ",discard" : ",no-discard", f);
	if (d->trusted != BOOL_DEFAULT)
		fputs(d->trusted == BOOL_YES ? ",trusted" : ",untrusted", f);
	if (d->grant_usage != BOOL_DEFAULT)
		fprintf(f, ",grant_usage=%d", d->grant_usage == BOOL_YES);
}

static void render_theirs(FILE *f, const struct disk *d)
{
	fprintf(f, "format=%s,", disk_format_name(d->format));
	if (d->backend != BACKEND_UNKNOWN)
		fprintf(f, "backendtype=%s,", disk_backend_name(d->backend));
	if (d->script)
		fprintf(f, "script=%s,", d->script);
	if (d->virtio || d->xen_given)
		fprintf(f, "specification=%s,", d->virtio ? "virtio" : "xen");
	render_common(f, d);
	if (d->target)
		fprintf(f, ",target=%s", d->target);
}

static void render_ours(FILE *f, const struct disk *d, const char *spec)
{
	fputs("script=block-tapdisk,", f);
	render_common(f, d);
	fprintf(f, ",target=%s", spec);
}

/* xl's target=... ends at a newline and loses a comma at its end; a value in the middle has no comma. */
static bool can_be_said(const struct disk *d)
{
	const char *t = d->target ? d->target : "";

	return !strchr(t, '\n') && !(*t && t[strlen(t) - 1] == ',') && !strpbrk(d->vdev, ",\n") && !d->colo &&
	       !(d->backend_domain && strpbrk(d->backend_domain, ",\n"));
}

int disk_render(const struct disk *d, bool to_us, char **ret_text, struct td_err *ret_err)
{
	td_cleanup(free) char *spec = NULL;
	char *text = NULL;
	size_t size;
	FILE *f;
	int r;

	r = disk_spec(d, &spec);
	if (r < 0)
		return r;
	if (!can_be_said(d) || (to_us && !spec))
		return td_err_set(ret_err, -EINVAL, "%s: cannot be written in a way that xl takes", d->vdev);
	f = open_memstream(&text, &size);
	if (!f)
		return -ENOMEM;
	if (to_us)
		render_ours(f, d, spec);
	else
		render_theirs(f, d);
	if (fclose(f) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret_text = text;
	return 0;
}
