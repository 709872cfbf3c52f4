// SPDX-License-Identifier: BSD-2-Clause
/*
 * The NBD server under a program of client actions, over a real socket: a handshake or none, options and requests of
 * any shape, raw bytes in between, replies taken or left, hanging up at any point.  The first byte chooses how the
 * client begins; then an action a byte, with its arguments behind it.  What is not there is 0.
 *
 * Checked besides the sanitizers: what the server holds is bounded; a client that sent whole requests and nothing else
 * gets each answered, once, framed as agreed; when it has hung up nothing of it is left.
 */
#include "fuzz-vbd.h"
#include "fuzz.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "nbd.h"
#include "testenv.h"
#include <blktap/log.h>

#define DISK         (256u << 10)
#define MAX_REQUESTS 512u
#define PATIENCE     20000u /* turns of the loop */

static struct testenv t;
static struct td_export *export;
static struct sockaddr_un address = { .sun_family = AF_UNIX };

struct program {
	const uint8_t *at, *end;
};

/* How the client begins. */
enum begin { NOTHING, STRUCTURED, PLAIN, OPTIONS };

struct asked {
	uint16_t cmd;
	uint32_t len;
	bool answered;
};

static struct client {
	int fd;
	bool structured;
	bool strict; /* it sends whole messages: so will the server, and we look at them */
	bool reads;
	bool in_requests, ended;
	struct asked asked[MAX_REQUESTS];
	unsigned nr_asked, nr_answered;
	uint8_t rx[2 * DISK];
	size_t rx_len;
} c;

static uint8_t byte(struct program *p)
{
	return p->at < p->end ? *p->at++ : 0;
}

static uint64_t number(struct program *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)byte(p) << 8 * i;
	return v;
}

/* ---- the server ---- */

static void set_up_once(void)
{
	char where[128];

	if (vbd)
		return;
	FUZZ_CHECK(testenv_open(&t, "sync", NULL) == 0);
	td_log_level(TD_LOG_ERR);
	vbd = td_vbd_new(&t.env, "fuzz");
	FUZZ_CHECK(vbd && td_loop_call(t.env.loop, open_it, NULL) == 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", t.dir);
	(void)snprintf(where, sizeof(where), "unix:%s", address.sun_path);
	FUZZ_CHECK(td_nbd_export.start(t.env.loop, vbd, where, &export, NULL) == 0);
}

static struct nbd_server *server(void)
{
	return td_container_of(export, struct nbd_server, e);
}

static void turn(unsigned turns)
{
	while (turns-- > 0) {
		td_loop_turn(t.env.loop, false);
		FUZZ_CHECK(server()->bytes <= NBD_MAX_BYTES + NBD_FREE_BYTES);
		FUZZ_CHECK(server()->nr_conns <= 1);
	}
}

/* ---- what the server says ---- */

/* The length of an option's reply; 0: not all of it is there. */
static size_t take_option_reply(const uint8_t *p, size_t len)
{
	size_t all;

	if (len < NBD_OPTION_REPLY_SIZE)
		return 0;
	FUZZ_CHECK(td_get_be64(p) == NBD_REP_MAGIC);
	all = NBD_OPTION_REPLY_SIZE + td_get_be32(p + 16);
	FUZZ_CHECK(all <= 4096);
	if (len < all)
		return 0;
	if (td_get_be32(p + 8) == NBD_OPT_GO && td_get_be32(p + 12) == NBD_REP_ACK)
		c.in_requests = true;
	return all;
}

static struct asked *asked_as(uint64_t cookie)
{
	FUZZ_CHECK(cookie < c.nr_asked && !c.asked[cookie].answered);
	return &c.asked[cookie];
}

static size_t take_reply(const uint8_t *p, size_t len)
{
	bool chunk = len >= 4 && td_get_be32(p) == NBD_STRUCTURED_REPLY_MAGIC;
	size_t head = chunk ? NBD_STRUCTURED_REPLY_SIZE : NBD_SIMPLE_REPLY_SIZE, all = head;
	struct asked *a;

	if (len < head)
		return 0;
	FUZZ_CHECK(chunk || td_get_be32(p) == NBD_SIMPLE_REPLY_MAGIC);
	FUZZ_CHECK(!chunk || c.structured);
	a = asked_as(td_get_be64(p + 8));
	if (chunk)
		all += td_get_be32(p + 16);
	else if (a->cmd == NBD_CMD_READ && td_get_be32(p + 4) == 0) {
		FUZZ_CHECK(!c.structured);
		all += a->len;
	}
	FUZZ_CHECK(all <= DISK + 64);
	if (len < all)
		return 0;
	a->answered = true;
	c.nr_answered++;
	return all;
}

static void look(void)
{
	size_t at = 0, n;

	do {
		n = c.in_requests ? take_reply(c.rx + at, c.rx_len - at)
				  : take_option_reply(c.rx + at, c.rx_len - at);
		at += n;
	} while (n > 0);
	memmove(c.rx, c.rx + at, c.rx_len - at);
	c.rx_len -= at;
}

/* false: nothing more for now. */
static bool take(void)
{
	ssize_t n;

	if (!c.strict)
		c.rx_len = 0;
	FUZZ_CHECK(c.rx_len < sizeof(c.rx));
	n = recv(c.fd, c.rx + c.rx_len, sizeof(c.rx) - c.rx_len, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		c.ended = true;
	FUZZ_CHECK(!c.ended || !c.strict); /* it has hung up without cause */
	if (n <= 0)
		return false;
	c.rx_len += (size_t)n;
	if (c.strict)
		look();
	return true;
}

static void run(unsigned turns)
{
	turn(turns);
	while (c.reads && !c.ended && take())
		turn(1);
}

/* ---- what the client says ---- */

/* All of it, while the server reads; one that does not read any more has cause to. */
static void say(const void *bytes, size_t len)
{
	for (unsigned i = 0; len > 0 && !c.ended; i++) {
		ssize_t n = send(c.fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		FUZZ_CHECK(n >= 0 || errno == EAGAIN || !c.strict);
		if (n < 0 && (errno != EAGAIN || i > 50)) {
			c.strict = false;
			return;
		}
		if (n > 0) {
			bytes = (const uint8_t *)bytes + n;
			len -= (size_t)n;
		}
		run(1);
	}
}

static void say_option(uint32_t option, const void *data, uint32_t len)
{
	uint8_t head[NBD_OPTION_SIZE];

	td_put_be64(head, NBD_OPT_MAGIC);
	td_put_be32(head + 8, option);
	td_put_be32(head + 12, len);
	say(head, sizeof(head));
	say(data, len);
}

static void hello(void)
{
	static const uint8_t flags[4] = { 0, 0, 0, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES };
	uint8_t got[NBD_HELLO_SIZE];
	size_t len = 0;

	for (unsigned i = 0; len < sizeof(got); i++) {
		ssize_t n;

		FUZZ_CHECK(i < PATIENCE);
		turn(1);
		n = recv(c.fd, got + len, sizeof(got) - len, MSG_DONTWAIT);
		len += n > 0 ? (size_t)n : 0;
	}
	FUZZ_CHECK(td_get_be64(got) == NBD_MAGIC);
	say(flags, sizeof(flags));
}

static void shake_structured(void)
{
	/* no name, one query */
	static const uint8_t meta[] = "\0\0\0\0\0\0\0\1\0\0\0\x0f" NBD_META_ALLOCATION;
	static const uint8_t go[6] = { 0 };

	c.structured = c.strict = true;
	say_option(NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	say_option(NBD_OPT_SET_META_CONTEXT, meta, sizeof(meta) - 1);
	say_option(NBD_OPT_GO, go, sizeof(go));
	for (unsigned i = 0; !c.in_requests; i++) {
		FUZZ_CHECK(i < PATIENCE && !c.ended);
		run(1);
	}
}

static void shake_plain(void)
{
	uint8_t got[10];
	size_t len = 0;

	c.reads = false; /* these bytes have no frame */
	say_option(NBD_OPT_EXPORT_NAME, NULL, 0);
	for (unsigned i = 0; len < sizeof(got); i++) {
		ssize_t n;

		FUZZ_CHECK(i < PATIENCE);
		turn(1);
		n = recv(c.fd, got + len, sizeof(got) - len, MSG_DONTWAIT);
		len += n > 0 ? (size_t)n : 0;
	}
	FUZZ_CHECK(td_get_be64(got) == DISK);
	c.reads = c.strict = c.in_requests = true;
}

/* ---- actions ---- */

static uint64_t offset(struct program *p)
{
	uint8_t b = byte(p);

	return b == 255   ? number(p, 8)
	       : b == 254 ? UINT64_MAX - byte(p)
	       : b == 253 ? DISK - byte(p)
			  : b * 512u;
}

static uint32_t length(struct program *p)
{
	static const uint32_t some[] = { 0, 1, 4096, DISK, DISK + 1, NBD_MAX_PAYLOAD, UINT32_MAX, 1u << 31 };
	uint8_t b = byte(p);

	return b == 255 ? (uint32_t)number(p, 4) : b >= 240 ? some[b % 8] : b * 64u;
}

/* A write of more than the disk holds is not followed by so much: the client has broken off. */
static void request(struct program *p, uint8_t action)
{
	static const uint8_t zeros[DISK];
	uint8_t m[NBD_REQUEST_SIZE];
	uint16_t cmd = action < 3 ? action : byte(p), flags = byte(p);
	uint64_t off = offset(p);
	uint32_t len = length(p);

	if (c.nr_asked == MAX_REQUESTS)
		return;
	if (cmd == 200)
		cmd = (uint16_t)number(p, 2);
	td_put_be32(m, NBD_REQUEST_MAGIC);
	td_put_be16(m + 4, flags & 0x80 ? (uint16_t)(flags << 8) : flags);
	td_put_be16(m + 6, cmd);
	td_put_be64(m + 8, c.nr_asked);
	td_put_be64(m + 16, off);
	td_put_be32(m + 24, len);
	c.asked[c.nr_asked++] = (struct asked){ .cmd = cmd, .len = len };
	if (cmd == NBD_CMD_DISC || (cmd == NBD_CMD_WRITE && len > DISK))
		c.strict = false;
	say(m, sizeof(m));
	if (cmd == NBD_CMD_WRITE)
		say(zeros, TD_MIN(len, DISK));
}

static void option(struct program *p)
{
	uint8_t data[64], number_of = byte(p), len = byte(p) % sizeof(data), head[NBD_OPTION_SIZE];
	uint32_t told = byte(p);

	c.strict = false;
	for (unsigned i = 0; i < len; i++)
		data[i] = byte(p);
	td_put_be64(head, NBD_OPT_MAGIC);
	td_put_be32(head + 8, number_of);
	td_put_be32(head + 12, told == 255 ? (uint32_t)number(p, 4) : told == 0 ? len : told);
	say(head, sizeof(head));
	say(data, len);
}

static void raw(struct program *p)
{
	uint8_t data[64], len = byte(p) % sizeof(data);

	c.strict = false;
	for (unsigned i = 0; i < len; i++)
		data[i] = byte(p);
	say(data, len);
}

static void act(struct program *p)
{
	uint8_t action = byte(p);

	switch (action % 12) {
	case 0 ... 6:
		request(p, action % 12);
		break;
	case 7:
		option(p);
		break;
	case 8:
		raw(p);
		break;
	case 9:
		run(1 + action / 12u);
		break;
	case 10:
		td_ignore(td_loop_call(t.env.loop, action & 16 ? pause_it : unpause_it, NULL));
		break;
	default:
		c.reads = !c.reads;
		break;
	}
}

/* ---- one input ---- */

static void begin(struct program *p)
{
	uint8_t how = byte(p);

	memset(&c, 0, offsetof(struct client, rx));
	c.rx_len = 0;
	c.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FUZZ_CHECK(c.fd >= 0 && connect(c.fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	c.reads = true;
	turn(2);
	if (how % 4 == NOTHING)
		return;
	hello();
	if (how % 4 == STRUCTURED)
		shake_structured();
	else if (how % 4 == PLAIN)
		shake_plain();
}

/* Whoever said nothing but whole requests has an answer to each. */
static void all_answered(void)
{
	c.reads = true;
	for (unsigned i = 0; c.strict && c.nr_answered < c.nr_asked; i++) {
		FUZZ_CHECK(i < PATIENCE && !c.ended);
		run(1);
	}
	FUZZ_CHECK(!c.strict || c.rx_len == 0);
}

static void hang_up(void)
{
	(void)close(c.fd);
	td_ignore(td_loop_call(t.env.loop, unpause_it, NULL));
	for (unsigned i = 0; server()->nr_conns > 0; i++) {
		FUZZ_CHECK(i < PATIENCE);
		turn(1);
	}
	FUZZ_CHECK(server()->bytes == 0 && server()->e.clients == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program p = { data, data + size };

	set_up_once();
	begin(&p);
	while (p.at < p.end && !c.ended)
		act(&p);
	/* At once, or when all is answered. */
	if (size % 4 != 0) {
		td_ignore(td_loop_call(t.env.loop, unpause_it, NULL));
		all_answered();
	}
	hang_up();
	turn(2);
	FUZZ_CHECK(td_vbd_idle(vbd));
	return 0;
}
