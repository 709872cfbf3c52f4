// SPDX-License-Identifier: BSD-2-Clause
/*
 * Where an NBD server listens:
 *
 *	unix:PATH		a socket file, only for its owner (0600); a dead one in the way is replaced
 *	tcp:[HOST]:PORT		HOST a name, an IPv4 address or an IPv6 address in brackets; without it the loopback
 *				addresses of both families; port 0 takes a free one and writes it to the address
 */
#include "nbd.h"
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 128

static int watch_listener(struct nbd_server *s, int fd, void (*fn)(struct td_watch *, uint32_t))
{
	struct nbd_listener *l = &s->listener[s->nr_listeners];
	int r;

	l->server = s;
	l->watch.fn = fn;
	r = td_loop_watch(s->loop, &l->watch, fd, EPOLLIN);
	if (r == 0)
		s->nr_listeners++;
	return r;
}

/* ---- unix ---- */

static int listen_unix(struct nbd_server *s, const char *path, void (*fn)(struct td_watch *, uint32_t),
		       struct td_err *ret_err)
{
	int r = td_usock_listen(&s->unix_socket, "nbd", path, SOCK_STREAM, BACKLOG, ret_err);

	if (r < 0)
		return r;
	r = watch_listener(s, s->unix_socket.fd, fn);
	return r < 0 ? td_err_set(ret_err, r, "nbd unix:%s: %s", path, strerrordesc_np(-r)) : 0;
}

/* ---- TCP ---- */

/* "[HOST]:PORT", "HOST:PORT", ":PORT", "PORT": host is cut out of text in place, NULL if there is none. */
static int split_host(char *text, char **ret_host, char **ret_port)
{
	char *colon = strrchr(text, ':'), *host = text;
	size_t len;

	if (!colon) {
		*ret_host = NULL;
		*ret_port = text;
		return *text ? 0 : -EINVAL;
	}
	*colon = '\0';
	len = strlen(host);
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		host++;
	} else if (strchr(host, ':')) {
		return -EINVAL; /* an IPv6 address without brackets: where does the port begin? */
	}
	*ret_host = *host ? host : NULL;
	*ret_port = colon + 1;
	return colon[1] ? 0 : -EINVAL;
}

static int bind_tcp(const struct addrinfo *ai, uint16_t *port)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	in_port_t *at;
	int one = 1, r;

	if (fd < 0)
		return -errno;
	memcpy(&sa, ai->ai_addr, ai->ai_addrlen);
	at = ai->ai_family == AF_INET6 ? &((struct sockaddr_in6 *)&sa)->sin6_port
				       : &((struct sockaddr_in *)&sa)->sin_port;
	if (*at == 0)
		*at = htons(*port); /* the second family takes the port that the first was given */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*port = ntohs(*at);
	return fd;
}

/* All addresses of the name; a family that this machine does not have is no error if another works. */
static int listen_all(struct nbd_server *s, const struct addrinfo *list,
		      void (*fn)(struct td_watch *, uint32_t), uint16_t *ret_port)
{
	int first_error = 0;
	uint16_t port = 0;

	for (const struct addrinfo *ai = list; ai && s->nr_listeners < NBD_MAX_LISTENERS; ai = ai->ai_next) {
		int fd = bind_tcp(ai, &port), r = fd < 0 ? fd : watch_listener(s, fd, fn);

		if (r < 0 && fd >= 0)
			close(fd);
		if (r == -EADDRINUSE)
			return r;
		if (r < 0 && first_error == 0)
			first_error = r;
	}
	*ret_port = port;
	return s->nr_listeners > 0 ? 0 : first_error;
}

static int listen_tcp(struct nbd_server *s, const char *where, void (*fn)(struct td_watch *, uint32_t),
		      struct td_err *ret_err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *list;
	td_cleanup(free) char *text = strdup(where);
	char *host, *port, *address;
	uint16_t real_port = 0;
	int r;

	if (!text)
		return td_err_set(ret_err, -ENOMEM, "nbd: no memory");
	if (split_host(text, &host, &port) < 0)
		return td_err_set(ret_err, -EINVAL,
				  "nbd tcp:%s: should be tcp:[HOST]:PORT, an IPv6 HOST in brackets", where);
	r = getaddrinfo(host, port, &hints, &list);
	if (r != 0)
		return td_err_set(ret_err, -EINVAL, "nbd tcp:%s: %s", where, gai_strerror(r));
	r = listen_all(s, list, fn, &real_port);
	freeaddrinfo(list);
	if (r < 0)
		return td_err_set(ret_err, r, "nbd tcp:%s: %s", where, strerrordesc_np(-r));
	r = asprintf(&address, host && strchr(host, ':') ? "tcp:[%s]:%u" : "tcp:%s:%u",
		     host ? host : "localhost", real_port);
	if (r < 0)
		return td_err_set(ret_err, -ENOMEM, "nbd: no memory");
	free(s->e.address);
	s->e.address = address;
	return 0;
}

/* ---- both ---- */

int nbd_listen(struct nbd_server *s, const char *address, void (*fn)(struct td_watch *w, uint32_t events),
	       struct td_err *ret_err)
{
	s->e.address = strdup(address);
	if (!s->e.address)
		return td_err_set(ret_err, -ENOMEM, "nbd: no memory");
	if (strncmp(address, "unix:", 5) == 0)
		return listen_unix(s, address + 5, fn, ret_err);
	if (strncmp(address, "tcp:", 4) == 0)
		return listen_tcp(s, address + 4, fn, ret_err);
	return td_err_set(ret_err, -EINVAL, "nbd %s: an address is unix:PATH or tcp:[HOST]:PORT", address);
}

void nbd_listen_pause(struct nbd_server *s, bool pause)
{
	for (unsigned i = 0; i < s->nr_listeners; i++)
		td_ignore(td_loop_rewatch(&s->listener[i].watch,
					  pause ? 0 : EPOLLIN)); /* EPOLL_CTL_MOD of a live fd */
}

void nbd_listen_stop(struct nbd_server *s)
{
	for (unsigned i = 0; i < s->nr_listeners; i++) {
		td_loop_unwatch(&s->listener[i].watch);
		if (s->listener[i].watch.fd != s->unix_socket.fd)
			close(s->listener[i].watch.fd);
	}
	s->nr_listeners = 0;
	td_usock_close(&s->unix_socket);
}
