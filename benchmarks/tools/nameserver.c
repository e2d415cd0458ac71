// nameserver ADDRESS PORT DELAY_US COUNTER EXCHANGES: the DNS of the benchmarks, the same for everyone who is measured.
//
// For any a, b, c, d:
//   d.c.b.a.in-addr.arpa   NXDOMAIN
//   c.b.a.in-addr.arpa     MX 10 mx-b-c.relay.test., and so many EXCHANGES in all: MX 11 mx-b-c-1.relay.test. …
//   b.a.in-addr.arpa       MX 20 mx-b.relay.test.
//   mx-b-c….relay.test     A 198.18.b.c, no AAAA: each network has a mail server of its own, in the block for benchmarks
//                          (RFC 2544); without c it is 0
// Each answer goes out DELAY_US after its question came; what is longer than 512 octets, by TCP only, and there at once.
// COUNTER is a file of 8 octets: how many questions came so far.
#define _GNU_SOURCE // ppoll
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { A = 1, SOA = 6, MX = 15, WAITING = 1 << 16, QUESTION = 256, MESSAGE = 512, LONGEST = 16384, MOST = 200 };

struct waiting {
	uint64_t due; // microseconds
	struct sockaddr_in to;
	size_t length;
	unsigned char message[MESSAGE];
};
static struct waiting queue[WAITING]; // the delay is the same for all: first in, first out
static unsigned first, after_last;
static unsigned exchanges;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static unsigned char *put16(unsigned char *at, unsigned value)
{
	*at++ = value >> 8;
	*at++ = value;
	return at;
}

static unsigned char *put_label(unsigned char *at, const char *label)
{
	size_t length = strlen(label);
	*at++ = length;
	memcpy(at, label, length);
	return at + length;
}

// a record of the name asked for: owner (a pointer to the question), type, class IN, TTL 300; its length is to follow
static unsigned char *put_record(unsigned char *at, unsigned type)
{
	at = put16(at, 0xc00c);
	at = put16(at, type);
	at = put16(at, 1);
	at = put16(at, 0);
	return put16(at, 300);
}

// Turn the question in `message`, which has LONGEST octets, into its answer; its length, or 0 for what is no question.
static size_t answer(unsigned char *message, size_t length)
{
	char labels[12][64];
	int count = 0;
	size_t at = 12;
	if (length < 17)
		return 0;
	while (at < length && message[at]) {
		size_t size = message[at];
		if (size > 63 || at + 1 + size >= length || count == 12)
			return 0;
		memcpy(labels[count], message + at + 1, size);
		labels[count++][size] = 0;
		at += 1 + size;
	}
	if (at + 5 > length)
		return 0;
	unsigned type = message[at + 1] << 8 | message[at + 2];
	unsigned char *end = message + at + 5, *size = NULL;
	int reverse = count > 2 && !strcasecmp(labels[count - 2], "in-addr");
	int answers = 0, nxdomain = 0;

	if (reverse && count == 6) {
		nxdomain = 1;
	} else if (reverse && type == MX && (count == 5 || count == 4)) {
		char relay[64];
		answers = count == 5 ? exchanges : 1;
		for (int n = 0; n < answers; n++) {
			int used = count == 5 ? snprintf(relay, sizeof relay, "mx-%.20s-%.20s", labels[1], labels[0])
					      : snprintf(relay, sizeof relay, "mx-%.20s", labels[0]);
			if (n)
				snprintf(relay + used, sizeof relay - used, "-%d", n);
			end = put_record(end, MX);
			size = end;
			end = put16(size + 2, (count == 5 ? 10 : 20) + n);
			end = put_label(put_label(put_label(end, relay), "relay"), "test");
			*end++ = 0;
			put16(size, end - size - 2);
		}
	} else if (!reverse && type == A) {
		end = put_record(end, A);
		size = end;
		end = size + 2;
		unsigned b = 0, c = 0;
		sscanf(labels[0], "%*[^-]-%u-%u", &b, &c);
		memcpy(end, (unsigned char[]){198, 18, b, c}, 4);
		end += 4;
		answers = 1;
	} else { // NODATA
		end = put_record(end, SOA);
		size = end;
		end = size + 2;
		*end++ = 0;
		*end++ = 0;
		memset(end, 0, 20);
		end[18] = 1; // minimum: 256 s
		end += 20;
	}
	if (size)
		put16(size, end - size - 2); // of the last record
	message[2] = 0x85; // QR, AA, RD
	message[3] = 0x80 | (nxdomain ? 3 : 0);
	put16(message + 4, 1);
	put16(message + 6, answers);
	put16(message + 8, size && !answers);
	put16(message + 10, 0);
	return end - message;
}

// Take one question from a connection that waits, and answer it.
static void serve_stream(int listening)
{
	static unsigned char framed[2 + LONGEST];
	int sock = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (sock < 0)
		return;
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){1, 0}, sizeof(struct timeval));
	if (recv(sock, framed, 2, MSG_WAITALL) == 2) {
		size_t length = framed[0] << 8 | framed[1];
		if (length <= QUESTION && recv(sock, framed + 2, length, MSG_WAITALL) == (ssize_t)length) {
			length = answer(framed + 2, length);
			put16(framed, length);
			send(sock, framed, 2 + length, MSG_NOSIGNAL);
		}
	}
	close(sock);
}

// As `answer`, in MESSAGE octets: what is longer is cut off.
static size_t answer_short(unsigned char *message, size_t length)
{
	static unsigned char whole[LONGEST];
	memcpy(whole, message, length);
	size_t full = answer(whole, length);
	if (full <= MESSAGE) {
		memcpy(message, whole, full);
		return full;
	}
	message[2] = 0x87; // QR, AA, TC, RD
	message[3] = 0x80;
	return length;
}

int main(int argc, char **argv)
{
	if (argc != 6)
		errx(2, "usage: nameserver ADDRESS PORT DELAY_US COUNTER EXCHANGES");
	exchanges = atoi(argv[5]);
	if (exchanges < 1 || exchanges > MOST)
		errx(2, "EXCHANGES: 1 to %d", MOST);
	uint64_t delay = strtoull(argv[3], NULL, 10);
	int file = open(argv[4], O_RDWR | O_CREAT, 0644);
	if (file < 0 || ftruncate(file, 8))
		err(1, "%s", argv[4]);
	uint64_t *counter = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	int sock = socket(AF_INET, SOCK_DGRAM, 0), stream = socket(AF_INET, SOCK_STREAM, 0), size = 8 << 20;
	inet_pton(AF_INET, argv[1], &here.sin_addr);
	setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (counter == MAP_FAILED || bind(sock, (struct sockaddr *)&here, sizeof here) ||
	    bind(stream, (struct sockaddr *)&here, sizeof here) || listen(stream, 64))
		err(1, "%s", argv[1]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct timespec left, *timeout = NULL;
		if (first != after_last) {
			uint64_t due = queue[first % WAITING].due, moment = now();
			uint64_t wait = due > moment ? due - moment : 0;
			left = (struct timespec){wait / 1000000, wait % 1000000 * 1000};
			timeout = &left;
		}
		struct pollfd ready[] = {{sock, POLLIN, 0}, {stream, POLLIN, 0}};
		ppoll(ready, 2, timeout, NULL);
		if (ready[1].revents)
			serve_stream(stream);
		for (;;) {
			struct waiting *one = &queue[after_last % WAITING];
			socklen_t to = sizeof one->to;
			ssize_t got = recvfrom(sock, one->message, QUESTION, MSG_DONTWAIT, (struct sockaddr *)&one->to, &to);
			if (got < 0)
				break;
			++*counter;
			one->length = answer_short(one->message, got);
			one->due = now() + delay;
			if (one->length && delay)
				after_last++;
			else if (one->length)
				sendto(sock, one->message, one->length, 0, (struct sockaddr *)&one->to, to);
		}
		for (; first != after_last && queue[first % WAITING].due <= now(); first++) {
			struct waiting *one = &queue[first % WAITING];
			sendto(sock, one->message, one->length, 0, (struct sockaddr *)&one->to, sizeof one->to);
		}
	}
}
