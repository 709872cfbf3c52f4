// SPDX-License-Identifier: BSD-2-Clause
/*
 * The control socket ctl<pid>: one JSON object a line, both ways.  What the commands mean is control-cmd.c's.
 *
 * A client's requests are answered one after the other; each runs as a coroutine, so a slow one (open, pause) holds up
 * nobody else.  While one runs its client is not read from, and its answer is kept until the client takes it.
 * A client that asked for events is told until it hangs up; one that does not read them is dropped.
 */
#include "control.h"
#include <blktap/ctl.h>
#include <blktap/log.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CLIENTS 16
#define LINE_MAX_   (64u << 10)
#define EVENTS_MAX  (64u << 10) /* bytes that wait for a client that is told of events */

struct client {
	struct control *control;
	struct td_watch watch;
	struct td_timer timer; /* from the coroutine of a command, or from an event, back to the loop */
	bool hung_up, at_end;  /* gone; sends no more */
	bool listens;          /* to events */
	char *line;            /* LINE_MAX_ bytes */
	size_t have;

	/* the request that runs */
	bool running;
	const struct control_cmd *cmd;
	json_t *request;

	char *answer;
	size_t answer_len, answer_sent;
	TAILQ_ENTRY(client) link;
};

struct control {
	struct daemon *d;
	struct td_watch watch;
	struct control_events events;
	char *path;
	TAILQ_HEAD(client_list, client) clients;
	unsigned nr_clients;
};

/* ---- clients ---- */

static void client_free(struct client *cl)
{
	struct control *c = cl->control;

	td_timer_cancel(&cl->timer);
	td_loop_unwatch(&cl->watch);
	close(cl->watch.fd);
	TAILQ_REMOVE(&c->clients, cl, link);
	if (c->nr_clients-- == MAX_CLIENTS)
		td_ignore(td_loop_rewatch(&c->watch, EPOLLIN));
	free(cl->line);
	free(cl->answer);
	json_decref(cl->request);
	free(cl);
}

/* ---- answers ---- */

static void client_send(struct client *cl)
{
	ssize_t n;

	while (cl->answer_sent < cl->answer_len) {
		n = send(cl->watch.fd, cl->answer + cl->answer_sent, cl->answer_len - cl->answer_sent,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			cl->hung_up = true;
			return;
		}
		cl->answer_sent += (size_t)n;
	}
	free(cl->answer);
	cl->answer = NULL;
}

static void set_answer(struct client *cl, json_t *reply)
{
	char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;

	json_decref(reply);
	if (!text)
		text = strdup("{\"ok\":false,\"errno\":\"ENOMEM\",\"error\":\"no memory for an answer\"}");
	if (!text)
		return; /* the client waits until its timeout; we live */
	cl->answer_len = strlen(text) + 1;
	text[cl->answer_len - 1] = '\n'; /* in place of the NUL: the length is kept beside */
	cl->answer = text;
	cl->answer_sent = 0;
}

/* "id" is given back as it came, whatever it is. */
static json_t *new_reply(const json_t *request)
{
	json_t *id = request ? json_object_get(request, "id") : NULL;

	return json_pack("{s:O*}", "id", id);
}

static void set_result(struct client *cl, json_t *reply, int r, const struct td_err *err)
{
	if (reply && r < 0)
		json_object_clear(reply);
	if (reply && r < 0 && cl->request && json_object_get(cl->request, "id"))
		json_object_set(reply, "id", json_object_get(cl->request, "id"));
	if (reply && json_object_set_new(reply, "ok", json_boolean(r >= 0)) < 0)
		r = -ENOMEM;
	if (reply && r < 0) {
		const char *name = strerrorname_np(-r);

		json_object_set_new(reply, "errno", json_string(name ? name : "EIO"));
		/* A path may hold bytes that are no UTF-8, which JSON cannot carry. */
		if (json_object_set_new(reply, "error", json_string(err->msg)) < 0)
			json_object_set_new(reply, "error", json_string(strerrordesc_np(-r)));
	}
	set_answer(cl, reply);
}

/* ---- events ---- */

/* Behind what it has not taken yet. */
static int append_answer(struct client *cl, const char *text, size_t len)
{
	size_t left = cl->answer ? cl->answer_len - cl->answer_sent : 0;
	char *answer;

	if (left + len > EVENTS_MAX)
		return -EMSGSIZE;
	answer = malloc(left + len);
	if (!answer)
		return -ENOMEM;
	if (left > 0)
		memcpy(answer, cl->answer + cl->answer_sent, left);
	memcpy(answer + left, text, len);
	free(cl->answer);
	cl->answer = answer;
	cl->answer_len = left + len;
	cl->answer_sent = 0;
	return 0;
}

/* To each that listens.  One that cannot be told everything is dropped: silence would look like "nothing happened". */
static void tell(struct control_events *e, json_t *event)
{
	struct control *c = td_container_of(e, struct control, events);
	char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) + 1 : 0;
	struct client *cl;

	if (text)
		text[len - 1] = '\n'; /* in place of the NUL: the length is kept beside */
	TAILQ_FOREACH(cl, &c->clients, link) {
		if (!cl->listens)
			continue;
		if (!text || append_answer(cl, text, len) < 0)
			cl->hung_up = true;
		td_timer_arm(c->d->env.loop, &cl->timer, 0);
	}
	json_decref(event);
	free(text);
}

/* ---- requests ---- */

static void command_main(void *arg)
{
	struct client *cl = arg;
	struct daemon *d = cl->control->d;
	json_t *reply = new_reply(cl->request);
	struct td_err err = { "" };
	int r = reply ? control_run(d, cl->cmd, cl->request, reply, &err) : -ENOMEM;

	set_result(cl, reply, r, &err);
	if (r == 0 && cl->answer && control_wants_events(cl->cmd))
		cl->listens = true;
	json_decref(cl->request);
	cl->request = NULL;
	td_timer_arm(d->env.loop, &cl->timer, 0);
}

static void refuse(struct client *cl, int r, const struct td_err *err)
{
	set_result(cl, new_reply(cl->request), r, err);
	json_decref(cl->request);
	cl->request = NULL;
}

/* Sets an answer, or starts a command that will. */
static void client_request(struct client *cl, const char *line, size_t len)
{
	struct daemon *d = cl->control->d;
	json_error_t where;
	struct td_err err = { "" };
	int r;

	cl->request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
	if (!cl->request) {
		r = td_err_set(&err, -EBADMSG, "not JSON: %s", where.text);
		refuse(cl, r, &err);
		return;
	}
	r = control_find(cl->request, &cl->cmd, &err);
	if (r < 0) {
		refuse(cl, r, &err);
		return;
	}
	cl->running = true;
	d->commands++;
	if (td_co_start(command_main, cl) == 0)
		return;
	cl->running = false;
	d->commands--;
	r = td_err_set(&err, -ENOMEM, "no memory to run a command");
	refuse(cl, r, &err);
}

/* Take the first line, if there is one and nothing is under way. */
static bool client_take_line(struct client *cl)
{
	char *nl;
	size_t len;

	if (cl->running || cl->answer || cl->listens)
		return false;
	nl = memchr(cl->line, '\n', cl->have);
	if (!nl)
		return false;
	len = (size_t)(nl - cl->line);
	td_cleanup(free) char *line = malloc(len + 1);

	if (!line)
		return false;
	memcpy(line, cl->line, len);
	cl->have -= len + 1;
	memmove(cl->line, nl + 1, cl->have);
	client_request(cl, line, len);
	return true;
}

static bool line_too_long(const struct client *cl)
{
	return cl->have == LINE_MAX_ && !memchr(cl->line, '\n', cl->have);
}

static void client_update(struct client *cl)
{
	uint32_t events = cl->answer ? EPOLLOUT : EPOLLIN;

	if (cl->running || ((cl->at_end || cl->listens) && !cl->answer))
		events = 0;
	if (td_loop_rewatch(&cl->watch, events) < 0)
		cl->hung_up = true;
}

/* All that can be done now; frees the client when there is nothing left to do for it.  Outside coroutines. */
static void client_go_on(struct client *cl)
{
	struct td_err err;
	int r;

	do {
		if (cl->answer && !cl->hung_up)
			client_send(cl);
	} while (!cl->hung_up && client_take_line(cl));
	if (!cl->running && !cl->answer && !cl->listens && line_too_long(cl)) {
		r = td_err_set(&err, -EMSGSIZE, "a request has at most %u bytes", LINE_MAX_);
		cl->have = 0;
		cl->at_end = true;
		refuse(cl, r, &err);
		client_send(cl);
	}
	if (!cl->hung_up)
		client_update(cl);
	if (!cl->running && (cl->hung_up || (cl->at_end && !cl->answer && !cl->listens)))
		client_free(cl);
}

/* The answer of a command is there, or an event. */
static void client_timer(struct td_timer *t)
{
	struct client *cl = td_container_of(t, struct client, timer);

	if (cl->running)
		cl->control->d->commands--;
	cl->running = false;
	client_go_on(cl);
}

static void client_event(struct td_watch *w, uint32_t events)
{
	struct client *cl = td_container_of(w, struct client, watch);
	ssize_t n;

	if (events & EPOLLIN) {
		n = recv(w->fd, cl->line + cl->have, LINE_MAX_ - cl->have, MSG_DONTWAIT);
		if (n > 0)
			cl->have += (size_t)n;
		else if (n == 0)
			cl->at_end = true;
		else if (errno != EAGAIN && errno != EINTR)
			cl->hung_up = true;
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		cl->hung_up = true;
	}
	if (cl->hung_up && cl->running) {
		td_loop_unwatch(&cl->watch); /* its command runs to its end, for nobody */
		return;
	}
	client_go_on(cl);
}

/* ---- the socket ---- */

static int client_new(struct control *c, int fd)
{
	struct client *cl = calloc(1, sizeof(*cl));
	int r = -ENOMEM;

	if (cl)
		cl->line = malloc(LINE_MAX_);
	if (cl && cl->line) {
		cl->control = c;
		cl->watch.fn = client_event;
		cl->timer.fn = client_timer;
		r = td_loop_watch(c->d->env.loop, &cl->watch, fd, EPOLLIN);
	}
	if (r < 0) {
		if (cl)
			free(cl->line);
		free(cl);
		return r;
	}
	TAILQ_INSERT_TAIL(&c->clients, cl, link);
	c->nr_clients++;
	return 0;
}

/* Whoever is not taken now waits in the listener's queue until a client leaves. */
static void accept_event(struct td_watch *w, uint32_t events)
{
	struct control *c = td_container_of(w, struct control, watch);
	/* cppcheck-suppress nullPointer ; no address is wanted */
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0 && client_new(c, fd) < 0)
		close(fd);
	if (c->nr_clients == MAX_CLIENTS)
		td_ignore(td_loop_rewatch(w, 0));
}

/* A file of this name is of a process that had our pid: nobody listens there. */
static int listen_at(struct control *c, struct td_err *ret_err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, r;

	if (strlen(c->path) >= sizeof(sa.sun_path))
		return td_err_set(ret_err, -ENAMETOOLONG,
				  "%s: too long for a socket; set BLKTAP_RUN_DIR shorter", c->path);
	memcpy(sa.sun_path, c->path, strlen(c->path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return td_err_set(ret_err, -errno, "socket: %s", strerror(errno));
	unlink(c->path);
	r = fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 64) < 0
		    ? -errno
		    : 0;
	if (r == 0)
		r = td_loop_watch(c->d->env.loop, &c->watch, fd, EPOLLIN);
	if (r < 0) {
		close(fd);
		return td_err_set(ret_err, r, "%s: %s", c->path, strerrordesc_np(-r));
	}
	return 0;
}

int control_start(struct daemon *d, struct control **ret_control, struct td_err *ret_err)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return td_err_set(ret_err, -ENOMEM, "no memory for the control socket");
	c->d = d;
	c->watch.fn = accept_event;
	TAILQ_INIT(&c->clients);
	r = td_run_path(&c->path, ret_err, "ctl%d", getpid());
	if (r == 0)
		r = listen_at(c, ret_err);
	if (r < 0) {
		free(c->path);
		free(c);
		return r;
	}
	c->events.d = d;
	c->events.tell = tell;
	control_events_start(&c->events);
	*ret_control = c;
	return 0;
}

void control_free(struct control *c)
{
	struct client *cl;

	if (!c)
		return;
	unlink(c->path);
	control_events_stop(&c->events);
	td_loop_unwatch(&c->watch);
	close(c->watch.fd);
	while ((cl = TAILQ_FIRST(&c->clients)))
		client_free(cl);
	free(c->path);
	free(c);
}
