// latency BUS LINK COUNT PAUSE_MS SAME PATIENCE_MS [COMMAND…]: from an address to the signal that names its relay, in
// microseconds, one a line.
//
// Adds 10.b.c.7/32 to LINK by netlink, waits for a signal on BUS that holds `mx-b-c.relay.test` (nameserver.c), removes
// the address, runs COMMAND, and pauses, but not after the last. The time runs from just before the kernel is asked until the signal is read.
// -1: none came within PATIENCE_MS. SAME 1: the same address each time.
#include <arpa/inet.h>
#include <err.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

static char wanted[64];
static uint64_t seen;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

// Whether a string anywhere in the message is the one that is waited for.
static int holds(sd_bus_message *message)
{
	char type;
	const char *contents, *text;
	while (sd_bus_message_peek_type(message, &type, &contents) > 0) {
		if (strchr("avre", type) || type == '(' || type == '{') {
			if (sd_bus_message_enter_container(message, type, contents) < 0)
				return 0;
			if (holds(message))
				return 1;
			sd_bus_message_exit_container(message);
		} else if (type == 's') {
			if (sd_bus_message_read(message, "s", &text) < 0)
				return 0;
			if (!strncmp(text, wanted, strlen(wanted)))
				return 1;
		} else if (sd_bus_message_skip(message, (char[]){type, 0}) < 0) {
			return 0;
		}
	}
	return 0;
}

static int on_signal(sd_bus_message *message, void *unused, sd_bus_error *error)
{
	(void)unused, (void)error;
	uint64_t moment = now();
	if (!seen && wanted[0] && holds(message))
		seen = moment;
	return 0;
}

// Process the bus until what is waited for was seen, or this moment.
static void until(sd_bus *bus, uint64_t end)
{
	uint64_t moment;
	while (!(seen && wanted[0]) && (moment = now()) < end) {
		int more = sd_bus_process(bus, NULL);
		if (more < 0)
			errx(1, "the bus is lost: %s", strerror(-more));
		if (!more)
			sd_bus_wait(bus, end - moment);
	}
}

static void change_address(int sock, int type, int flags, unsigned link, in_addr_t address)
{
	struct {
		struct nlmsghdr head;
		struct ifaddrmsg body;
		struct rtattr attribute;
		in_addr_t local;
	} request = {
		{sizeof request, type, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0},
		{.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = link},
		{RTA_LENGTH(4), IFA_LOCAL},
		address,
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr body;
	} reply;
	if (send(sock, &request, sizeof request, 0) < 0 || recv(sock, &reply, sizeof reply, 0) < 0)
		err(1, "netlink");
	if (reply.body.error)
		errx(1, "the address cannot be changed: %s", strerror(-reply.body.error));
}

static void run(char **command)
{
	int status;
	pid_t child = fork();
	if (!child) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execvp(*command, command);
		err(127, "%s", *command);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		err(1, "%s", *command);
	if (status)
		errx(1, "%s failed", *command);
}

int main(int argc, char **argv)
{
	if (argc < 7)
		errx(2, "usage: latency BUS LINK COUNT PAUSE_MS SAME PATIENCE_MS [COMMAND...]");
	int count = atoi(argv[3]), pause = atoi(argv[4]), same = atoi(argv[5]);
	uint64_t patience = atoi(argv[6]) * 1000ull;
	unsigned link = if_nametoindex(argv[2]);
	int sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	sd_bus *bus = NULL;
	if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 || sd_bus_set_bus_client(bus, 1) < 0 ||
	    sd_bus_start(bus) < 0 || sd_bus_add_match(bus, NULL, "type='signal'", on_signal, NULL) < 0)
		errx(1, "%s: no bus", argv[1]);
	until(bus, now() + 100000);
	static unsigned start;
	start = now() / 1000 % 60000; // another network at each run
	for (int i = 0; i < count; i++) {
		unsigned n = (start + (same ? 0 : i)) % 60000, b = n / 250 % 240, c = n % 250;
		in_addr_t address = htonl(10u << 24 | b << 16 | c << 8 | 7);
		seen = 0;
		snprintf(wanted, sizeof wanted, "mx-%u-%u.relay.test", b, c);
		uint64_t begin = now();
		change_address(sock, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, address);
		until(bus, begin + patience);
		printf("%lld\n", seen ? (long long)(seen - begin) : -1);
		fflush(stdout);
		wanted[0] = 0;
		change_address(sock, RTM_DELADDR, 0, link, address);
		if (argc > 7)
			run(argv + 7);
		if (i + 1 < count)
			until(bus, now() + pause * 1000ull);
	}
	return 0;
}
