// floor BUS SERVER: the least that a program can do, as a measure for others. IPv4 only, and it trusts whatever it hears.
//
// Follows the kernel's addresses by raw rtnetlink, asks the three names of each at once on one UDP socket, and owns
// bench.Floor, whose property Relay (object /bench/Floor) is what the newest address with an answer found. No retries,
// no random ids, no order of addresses, no lookups of the relay, no verification; only an overrun is recovered from.
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

enum { LEVELS = 3, WINDOW = 64, RELAY = 128, MOST = 16384 };
enum progress { FREE, QUEUED, ASKED, ANSWERED };

struct address {
	in_addr_t ip;
	enum progress progress;
	unsigned age; // the newest has the highest; also tells a reused place from what was there before
	int seen;     // by the dump that runs
	int answered; // bit for each level
	char relay[LEVELS][RELAY];
};
static struct address addresses[MOST];
static int used, asked;
static unsigned ages;
static struct { int place; unsigned age; int level; } questions[1 << 16]; // by id
static uint16_t last_id;
static char relay[RELAY];
static int kernel, server;
static sd_bus *bus;
enum { CALM, OVERRUN, DUMPING };
static int trouble;

static void decide(void)
{
	const char *best = "";
	unsigned age = 0;
	for (int i = 0; i < used; i++) {
		struct address *one = &addresses[i];
		if (one->progress < ASKED || one->age < age)
			continue;
		for (int level = 0; level < LEVELS && one->answered & 1 << level; level++)
			if (one->relay[level][0]) {
				best = one->relay[level];
				age = one->age;
				break;
			}
	}
	if (strcmp(best, relay)) {
		strcpy(relay, best);
		sd_bus_emit_properties_changed(bus, "/bench/Floor", "bench.Floor", "Relay", NULL);
		sd_bus_flush(bus);
	}
}

static unsigned char *put_label(unsigned char *at, const char *label)
{
	size_t length = strlen(label);
	*at++ = length;
	memcpy(at, label, length);
	return at + length;
}

static void ask(int place)
{
	struct address *one = &addresses[place];
	unsigned char octets[4];
	memcpy(octets, &one->ip, 4);
	for (int level = 0; level < LEVELS; level++) {
		unsigned char message[128] = {last_id >> 8, last_id, 1, 0, 0, 1}, *at = message + 12;
		for (int i = 3 - level; i >= 0; i--) {
			char label[4];
			snprintf(label, sizeof label, "%u", octets[i]);
			at = put_label(at, label);
		}
		at = put_label(put_label(at, "in-addr"), "arpa");
		memcpy(at, (unsigned char[]){0, 0, 15, 0, 1}, 5); // the root; MX, IN
		questions[last_id].place = place;
		questions[last_id].age = one->age;
		questions[last_id].level = level;
		last_id++;
		send(server, message, at + 5 - message, 0);
	}
	one->progress = ASKED;
	asked++;
}

// Ask what waits, the newest first.
static void ask_more(void)
{
	while (asked < WINDOW) {
		int newest = -1;
		for (int i = 0; i < used; i++)
			if (addresses[i].progress == QUEUED && (newest < 0 || addresses[i].age > addresses[newest].age))
				newest = i;
		if (newest < 0)
			return;
		ask(newest);
	}
}

static void forget(struct address *one)
{
	asked -= one->progress == ASKED;
	one->progress = FREE;
	while (used && addresses[used - 1].progress == FREE)
		used--;
}

static void take_address(int there, in_addr_t ip)
{
	int place = -1;
	if (ntohl(ip) >> 24 == 127)
		return;
	for (int i = 0; i < used; i++)
		if (addresses[i].progress != FREE && addresses[i].ip == ip)
			place = i;
	if (!there) {
		if (place >= 0)
			forget(&addresses[place]);
		return;
	}
	if (place < 0) {
		for (place = 0; place < used && addresses[place].progress != FREE;)
			place++;
		if (place == MOST)
			return;
		used += place == used;
		addresses[place] = (struct address){.ip = ip, .progress = QUEUED, .age = ++ages};
	}
	addresses[place].seen = 1;
}

static void ask_for_all(void)
{
	struct {
		struct nlmsghdr head;
		struct ifaddrmsg body;
	} request = {{sizeof request, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {.ifa_family = AF_INET}};
	for (int i = 0; i < used; i++)
		addresses[i].seen = 0;
	trouble = DUMPING;
	send(kernel, &request, sizeof request, 0);
}

static void hear_kernel(void)
{
	static char buffer[1 << 16];
	for (;;) {
		ssize_t size = recv(kernel, buffer, sizeof buffer, MSG_DONTWAIT);
		if (size < 0 && errno == ENOBUFS) {
			trouble = OVERRUN;
			continue;
		}
		if (size < 0)
			break;
		for (struct nlmsghdr *head = (void *)buffer; NLMSG_OK(head, size); head = NLMSG_NEXT(head, size)) {
			if (head->nlmsg_type == NLMSG_DONE && trouble == DUMPING) {
				trouble = CALM;
				for (int i = used - 1; i >= 0; i--)
					if (addresses[i].progress != FREE && !addresses[i].seen)
						forget(&addresses[i]);
			}
			if (head->nlmsg_type != RTM_NEWADDR && head->nlmsg_type != RTM_DELADDR)
				continue;
			struct ifaddrmsg *body = NLMSG_DATA(head);
			int left = IFA_PAYLOAD(head);
			if (body->ifa_family != AF_INET)
				continue;
			for (struct rtattr *at = IFA_RTA(body); RTA_OK(at, left); at = RTA_NEXT(at, left))
				if (at->rta_type == IFA_LOCAL)
					take_address(head->nlmsg_type == RTM_NEWADDR, *(in_addr_t *)RTA_DATA(at));
		}
	}
	if (trouble == OVERRUN)
		ask_for_all();
	ask_more();
	decide();
}

// Read the (possibly compressed) name at `at` into `name`, dotted.
static void read_name(const unsigned char *message, ssize_t length, ssize_t at, char *name)
{
	size_t used_up = 0;
	for (int jumps = 0; at < length && message[at] && jumps < 8;) {
		unsigned size = message[at];
		if (size >= 192 && at + 1 < length) {
			at = (size & 63) << 8 | message[at + 1];
			jumps++;
			continue;
		}
		if (used_up + size + 2 > RELAY || at + 1 + size > length)
			break;
		memcpy(name + used_up, message + at + 1, size);
		used_up += size;
		name[used_up++] = '.';
		at += 1 + size;
	}
	name[used_up ? used_up - 1 : 0] = 0;
}

// The relay of the answer's MX record with the lowest preference; empty if it has none.
static void read_answer(const unsigned char *message, ssize_t length, char *found)
{
	int answers = message[6] << 8 | message[7], best = 65536;
	ssize_t at = 12;
	while (at < length && message[at])
		at += 1 + message[at];
	for (at += 5; answers-- && at + 12 <= length;) {
		while (at < length && message[at] && message[at] < 192)
			at += 1 + message[at];
		at += at < length && message[at] >= 192 ? 2 : 1;
		if (at + 12 > length)
			return;
		int type = message[at] << 8 | message[at + 1], size = message[at + 8] << 8 | message[at + 9];
		int preference = message[at + 10] << 8 | message[at + 11];
		if (type == 15 && preference < best) {
			best = preference;
			read_name(message, length, at + 12, found);
		}
		at += 10 + size;
	}
}

static void hear_server(void)
{
	unsigned char message[1500];
	ssize_t length;
	while ((length = recv(server, message, sizeof message, MSG_DONTWAIT)) > 12) {
		int id = message[0] << 8 | message[1], level = questions[id].level;
		struct address *one = &addresses[questions[id].place];
		if (one->progress != ASKED || one->age != questions[id].age || one->answered & 1 << level)
			continue;
		read_answer(message, length, one->relay[level]);
		one->answered |= 1 << level;
		if (one->answered == (1 << LEVELS) - 1) {
			one->progress = ANSWERED;
			asked--;
		}
	}
	decide();
	ask_more();
}

static int get_relay(sd_bus *on, const char *path, const char *interface, const char *property, sd_bus_message *reply,
	void *data, sd_bus_error *error)
{
	(void)on, (void)path, (void)interface, (void)property, (void)data, (void)error;
	return sd_bus_message_append(reply, "s", relay);
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Relay", "s", get_relay, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(2, "usage: floor BUS SERVER");
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(53)};
	struct sockaddr_nl here = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR};
	inet_pton(AF_INET, argv[2], &there.sin_addr);
	server = socket(AF_INET, SOCK_DGRAM, 0);
	kernel = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	if (connect(server, (struct sockaddr *)&there, sizeof there) || bind(kernel, (struct sockaddr *)&here, sizeof here))
		err(1, "socket");
	if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 || sd_bus_set_bus_client(bus, 1) < 0 ||
	    sd_bus_start(bus) < 0 ||
	    sd_bus_add_object_vtable(bus, NULL, "/bench/Floor", "bench.Floor", vtable, NULL) < 0 ||
	    sd_bus_request_name(bus, "bench.Floor", 0) < 0)
		errx(1, "%s: no bus", argv[1]);
	ask_for_all();
	for (;;) {
		struct pollfd ready[] = {{kernel, POLLIN, 0}, {server, POLLIN, 0}, {sd_bus_get_fd(bus), POLLIN, 0}};
		while (sd_bus_process(bus, NULL) > 0) {
		}
		ready[2].events = sd_bus_get_events(bus);
		poll(ready, 3, -1);
		if (ready[0].revents)
			hear_kernel();
		if (ready[1].revents)
			hear_server();
	}
}
