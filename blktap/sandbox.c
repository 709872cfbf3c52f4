// SPDX-License-Identifier: BSD-2-Clause
/*
 * Entering the sandbox, and what is told of it.  See sandbox.h.
 */
#include "sandbox.h"
#include <blktap/log.h>
#include <blktap/policy.h>
#include <unistd.h>

/* ---- places ---- */

int sandbox_add(struct sandbox *s, const char *path, unsigned rights, struct td_err *ret_err)
{
	td_cleanup(free) char *real = realpath(path, NULL);
	struct sandbox_place *places;

	if (!real)
		return errno == ENOMEM ? td_err_set(ret_err, -ENOMEM, "%s: no memory", path) : 0;
	for (unsigned i = 0; i < s->nr_places; i++) {
		if (strcmp(s->places[i].path, real) != 0)
			continue;
		s->places[i].rights |= rights;
		return 0;
	}
	places = reallocarray(s->places, s->nr_places + 1, sizeof(*places));
	if (!places)
		return td_err_set(ret_err, -ENOMEM, "%s: no memory", path);
	s->places = places;
	places[s->nr_places++] = (struct sandbox_place){ real, rights };
	real = NULL;
	return 0;
}

bool sandbox_has(const struct sandbox *s, const char *real, unsigned rights)
{
	for (unsigned i = 0; i < s->nr_places; i++)
		if ((s->places[i].rights & rights) == rights && td_policy_holds(s->places[i].path, real))
			return true;
	return false;
}

bool sandbox_allows(const struct sandbox *s, const char *path, unsigned rights)
{
	td_cleanup(free) char *real = NULL;

	if (!s->on || s->landlock == 0)
		return true;
	real = realpath(path, NULL);
	/* Not there: who opens it can say that better. */
	return !real || sandbox_has(s, real, rights);
}

/* ---- in ---- */

/* Rules first: they name places that an ordinary user may not look at. */
int sandbox_enter(struct sandbox *s, struct td_err *ret_err)
{
	int rules, r = sandbox_landlock_rules(s, &s->landlock, &rules, ret_err);

	if (r < 0)
		return r;
	if (s->landlock == 0)
		td_info("sandbox: this kernel has no Landlock: files are not kept from this process");
	r = sandbox_drop(s, ret_err);
	if (r == 0)
		r = sandbox_landlock_enter(rules, ret_err);
	if (rules >= 0)
		close(rules);
	if (r == 0)
		r = sandbox_seccomp(&s->seccomp, ret_err);
	if (r == 0 && !s->seccomp)
		td_info("sandbox: there is no seccomp here: system calls are not kept from this process");
	s->on = r == 0;
	return r;
}

json_t *sandbox_json(const struct sandbox *s)
{
	if (s->off || !s->on)
		return json_pack("{s:s}", "mode", s->off ? "off" : "waits");
	return json_pack("{s:s, s:i, s:b, s:s?}", "mode", "on", "landlock", (int)s->landlock, "seccomp",
			 s->seccomp, "user", s->user_name);
}

void sandbox_done(struct sandbox *s)
{
	for (unsigned i = 0; i < s->nr_places; i++)
		free(s->places[i].path);
	free(s->places);
	*s = (struct sandbox){ 0 };
}
