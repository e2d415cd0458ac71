// reads BUS NAME PATH INTERFACE PROPERTY SECONDS WINDOW: how many Properties.Get calls a second are answered.
//
// WINDOW 1: one at a time, else so many are under way. Prints calls a second, median and p99 of one call in microseconds.
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>

enum { MOST = 1 << 22 };
static sd_bus *bus;
static char **args;
static uint64_t end;
static uint32_t times[MOST];
static size_t done, under_way;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static int on_reply(sd_bus_message *reply, void *started, sd_bus_error *error);

static void ask(void)
{
	int failed = sd_bus_call_method_async(bus, NULL, args[2], args[3], "org.freedesktop.DBus.Properties", "Get",
		on_reply, (void *)(uintptr_t)now(), "ss", args[4], args[5]);
	if (failed < 0)
		errx(1, "no call: %s", strerror(-failed));
	under_way++;
}

static int on_reply(sd_bus_message *reply, void *started, sd_bus_error *error)
{
	(void)error;
	const sd_bus_error *refused = sd_bus_message_get_error(reply);
	if (refused)
		errx(1, "%s: %s", refused->name, refused->message);
	under_way--;
	if (done < MOST)
		times[done++] = now() - (uintptr_t)started;
	if (now() < end)
		ask();
	return 0;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 8)
		errx(2, "usage: reads BUS NAME PATH INTERFACE PROPERTY SECONDS WINDOW");
	args = argv;
	double seconds = atof(argv[6]);
	if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 || sd_bus_set_bus_client(bus, 1) < 0 ||
	    sd_bus_start(bus) < 0)
		errx(1, "%s: no bus", argv[1]);
	uint64_t start = now();
	end = start + seconds * 1000000;
	for (int i = atoi(argv[7]); i > 0; i--)
		ask();
	while (under_way) {
		int more = sd_bus_process(bus, NULL);
		if (more < 0)
			errx(1, "the bus is lost: %s", strerror(-more));
		if (!more)
			sd_bus_wait(bus, UINT64_MAX);
	}
	double took = (now() - start) / 1e6;
	qsort(times, done, sizeof *times, ascending);
	printf("%.0f %u %u\n", done / took, times[done / 2], times[done * 99 / 100]);
	return 0;
}
