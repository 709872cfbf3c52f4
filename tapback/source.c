// SPDX-License-Identifier: BSD-2-Clause
/*
 * Which disk a backend folder means; see source.h.  What xl writes for which line was measured:
 *
 *	class vbd	script=.../block-tapdisk	params=qcow2:/p		a line with script=
 *	class vbd	script=.../block		params=/p		tap:aio:, file:, phy: lines
 *	class vbd3	script=.../block-tapdisk	params=aio:qcow2:/p	backendtype=tap, and block-attach
 *	class vbd3	script=.../block-tap		physical-device-path	Xen's own script, driving tap-ctl
 *	class qdisk	no script			params=qcow2:/p		tap:qcow2: lines
 */
#include "source.h"
#include "number.h"
#include <limits.h>
#include <stdio.h>

#define SPEC_MAX 4000 /* a path, with options in front */

static bool script_is(const char *script, const char *name)
{
	const char *slash;

	if (!script)
		return false;
	slash = strrchr(script, '/');
	return strcmp(slash ? slash + 1 : script, name) == 0;
}

static bool is_class(const char *class, const char *name)
{
	return strcmp(class, name) == 0;
}

const char *source_path(const char *class, const char *script, const char *params)
{
	if (is_class(class, "vbd") && script_is(script, "block") && params && *params == '/')
		return params;
	return NULL;
}

static enum source_verdict foreign(struct source *s, const char *why)
{
	s->why = why;
	return SOURCE_FOREIGN;
}

/* spec: "DRIVER:PATH" and so on; what it means is tapdisk's to say. */
static enum source_verdict ours(struct source *s, const char *prefix, const char *spec,
				struct td_err *ret_err)
{
	if (!spec || !*spec) {
		td_err_set(ret_err, -EINVAL, "no image is named (an empty drive cannot be served)");
		return SOURCE_BAD;
	}
	if (strlen(spec) > SPEC_MAX) {
		td_err_set(ret_err, -ENAMETOOLONG, "the disk's name is longer than %d bytes", SPEC_MAX);
		return SOURCE_BAD;
	}
	if (asprintf(&s->spec, "%s%s", prefix, spec) < 0) {
		s->spec = NULL;
		td_err_set(ret_err, -ENOMEM, "no memory");
		return SOURCE_BAD;
	}
	return SOURCE_OURS;
}

/* Class vbd3: libxl writes the format in front, which for a script's disk is always the same. */
static const char *drop_word(const char *params)
{
	const char *colon = params ? strchr(params, ':') : NULL;

	return colon ? colon + 1 : params;
}

static enum source_verdict of_tapdisk_script(const struct source_in *in, struct source *s,
					     struct td_err *ret_err)
{
	s->by_script = true;
	return ours(s, "", is_class(in->class, "vbd") ? in->params : drop_word(in->params), ret_err);
}

static enum source_verdict of_block_script(const struct source_in *in, struct source *s,
					   struct td_err *ret_err)
{
	s->needs_plug = true;
	if (in->kind == SOURCE_FILE_BLOCK && in->blkback)
		return foreign(s, "a block device, which xen-blkback serves (see --phy)");
	return ours(s, "aio:", in->params, ret_err);
}

/* ".../nbd1234.5": a tapdisk's number and its disk's. */
static bool parse_socket(const struct source_in *in, struct source *s)
{
	size_t dir = strlen(in->run_dir);
	uint32_t pid = 0, minor = 0;

	if (strncmp(in->phys_path, in->run_dir, dir) != 0 || strncmp(in->phys_path + dir, "/nbd", 4) != 0)
		return false;
	if (!number_pair(in->phys_path + dir + 4, '.', &pid, &minor) || pid == 0 || pid > INT_MAX ||
	    minor > INT_MAX)
		return false;
	s->pid = (pid_t)pid;
	s->minor = (int)minor;
	return true;
}

static enum source_verdict of_tap_script(const struct source_in *in, struct source *s)
{
	s->needs_plug = true;
	if (!in->phys_path)
		return SOURCE_LATER;
	if (!parse_socket(in, s))
		return foreign(s, "its physical-device-path names no tapdisk of ours");
	return SOURCE_BORROW;
}

/* Class qdisk: libxl's word for the format in front of the path; raw is its word for ours. */
static enum source_verdict of_qdisk(const struct source_in *in, struct source *s, struct td_err *ret_err)
{
	const char *params = in->params;

	if (params && (strcmp(params, "aio:") == 0 || strcmp(params, "raw:") == 0))
		params = "";
	return ours(s, "", params, ret_err);
}

/*
 * Found in a state that somebody has written already, and without a mark of ours: whose is it?  Our own script says it;
 * else it is another daemon's, unless the toolstack gave it up while no daemon ran (5).
 */
static bool is_others(const struct source_in *in)
{
	if (in->marked || script_is(in->script, "block-tapdisk") || in->state <= 1)
		return false;
	return in->state != 5 || is_class(in->class, "qdisk");
}

enum source_verdict source_of(const struct source_in *in, struct source *ret, struct td_err *ret_err)
{
	memset(ret, 0, sizeof(*ret));
	ret->read_only = !in->mode || *in->mode != 'w';
	ret->cdrom = in->device_type && strcmp(in->device_type, "cdrom") == 0;
	if (in->taken) {
		ret->by_script = script_is(in->script, "block-tapdisk");
		return foreign(
			ret,
			"xen-blkback has taken it; tapback keeps it off new disks if it is started first "
			"(for this one: detach it, rmmod xen-blkback, attach it again)");
	}
	if (is_others(in))
		return foreign(ret, "another backend serves it");
	if (is_class(in->class, "qdisk"))
		return in->script ? foreign(ret, "a qdisk with a script is nothing that libxl makes")
				  : of_qdisk(in, ret, ret_err);
	if (script_is(in->script, "block-tapdisk"))
		return of_tapdisk_script(in, ret, ret_err);
	if (is_class(in->class, "vbd"))
		return script_is(in->script, "block") ? of_block_script(in, ret, ret_err)
						      : foreign(ret, "its script is not ours");
	if (script_is(in->script, "block-tap"))
		return of_tap_script(in, ret);
	return foreign(ret, "its script is not ours");
}

void source_free(struct source *s)
{
	free(s->spec);
	s->spec = NULL;
}
