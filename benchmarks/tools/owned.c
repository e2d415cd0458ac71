// owned BUS NAME PATH INTERFACE PROPERTY: prints "ready"; then when NAME is owned, and when this string property of it is
// not empty (seconds, CLOCK_MONOTONIC, a line each). It waits for signals: who asks again and again is in the way of
// what is measured.
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>

static int owned;

static void print_time(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	printf("%.6f\n", t.tv_sec + t.tv_nsec / 1e9);
	fflush(stdout);
}

static int on_owner(sd_bus_message *message, void *name, sd_bus_error *error)
{
	(void)error;
	const char *of, *before, *now;
	if (sd_bus_message_read(message, "sss", &of, &before, &now) >= 0 && !strcmp(of, name) && *now && !owned) {
		owned = 1;
		print_time();
	}
	return 0;
}

static int on_change(sd_bus_message *message, void *unused, sd_bus_error *error)
{
	(void)message, (void)unused, (void)error;
	return 0; // it only ends the wait
}

// Process what came, or wait for it.
static void turn(sd_bus *bus)
{
	int more = sd_bus_process(bus, NULL);
	if (more < 0)
		errx(1, "the bus is lost: %s", strerror(-more));
	if (!more)
		sd_bus_wait(bus, 1000000);
}

static int is_known(sd_bus *bus, char **of)
{
	char *value = NULL;
	int known = sd_bus_get_property_string(bus, of[0], of[1], of[2], of[3], NULL, &value) >= 0 && *value;
	free(value);
	return known;
}

int main(int argc, char **argv)
{
	sd_bus *bus = NULL;
	if (argc != 6)
		errx(2, "usage: owned BUS NAME PATH INTERFACE PROPERTY");
	if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 || sd_bus_set_bus_client(bus, 1) < 0 ||
	    sd_bus_start(bus) < 0 ||
	    sd_bus_add_match(bus, NULL, "type='signal',member='NameOwnerChanged'", on_owner, argv[2]) < 0 ||
	    sd_bus_add_match(bus, NULL, "type='signal',member='PropertiesChanged'", on_change, NULL) < 0)
		errx(1, "%s: no bus", argv[1]);
	puts("ready");
	fflush(stdout);
	while (!owned)
		turn(bus);
	while (!is_known(bus, argv + 2))
		turn(bus);
	print_time();
	return 0;
}
