// relay ADDRESS PORT COUNT PAUSE_MS: conversations with a relay, from connect() until the reply to EHLO is whole, in
// microseconds, one a line.
//
// What is said is what the agent says to verify one (rule D1). Leave is taken of it untimed, then comes a pause, but not
// after the last.
#define _GNU_SOURCE // memrchr
#include <arpa/inet.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static void say(int sock, const char *line)
{
	if (send(sock, line, strlen(line), 0) < 0)
		err(1, "send");
}

// Whether the last line is there, and says that it is the last (RFC 5321 4.2.1).
static int is_whole(const char *reply, size_t size)
{
	if (!size || reply[size - 1] != '\n')
		return 0;
	const char *before = memrchr(reply, '\n', size - 1), *last = before ? before + 1 : reply;
	return reply + size - last > 3 && last[3] != '-';
}

// Read a reply, which has to be a positive one.
static void hear(int sock)
{
	char reply[4096];
	size_t size = 0;
	do {
		ssize_t more = recv(sock, reply + size, sizeof reply - size, 0);
		if (more <= 0)
			errx(1, "no whole reply");
		size += more;
	} while (!is_whole(reply, size));
	if (reply[0] != '2')
		errx(1, "the relay said %.*s", (int)size, reply);
}

int main(int argc, char **argv)
{
	if (argc != 5)
		errx(2, "usage: relay ADDRESS PORT COUNT PAUSE_MS");
	struct sockaddr_in relay = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	if (inet_pton(AF_INET, argv[1], &relay.sin_addr) != 1)
		errx(2, "%s: no IPv4 address", argv[1]);
	int count = atoi(argv[3]), pause = atoi(argv[4]);
	for (int i = 0; i < count; i++) {
		struct sockaddr_in own;
		socklen_t size = sizeof own;
		char name[INET_ADDRSTRLEN], hello[64];
		int sock = socket(AF_INET, SOCK_STREAM, 0);
		uint64_t begin = now();
		if (connect(sock, (struct sockaddr *)&relay, sizeof relay) < 0)
			err(1, "%s", argv[1]);
		getsockname(sock, (struct sockaddr *)&own, &size);
		inet_ntop(AF_INET, &own.sin_addr, name, sizeof name);
		snprintf(hello, sizeof hello, "EHLO [%s]\r\n", name);
		hear(sock);
		say(sock, hello);
		hear(sock);
		printf("%llu\n", (unsigned long long)(now() - begin));
		fflush(stdout);
		say(sock, "QUIT\r\n");
		hear(sock);
		close(sock);
		if (i + 1 < count)
			usleep(pause * 1000);
	}
	return 0;
}
