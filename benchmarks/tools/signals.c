// signals BUS INTERFACE: counts this interface's PropertiesChanged until SIGTERM, then prints how many came, and when
// the last one did (seconds, CLOCK_MONOTONIC). Prints "ready" first.
#include <err.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>

static unsigned count;
static double last;
static volatile sig_atomic_t ended;

static void on_term(int number)
{
	(void)number;
	ended = 1;
}

static int on_signal(sd_bus_message *message, void *interface, sd_bus_error *error)
{
	(void)error;
	struct timespec t;
	const char *of = "";
	clock_gettime(CLOCK_MONOTONIC, &t);
	if (sd_bus_message_read(message, "s", &of) >= 0 && !strcmp(of, interface)) {
		count++;
		last = t.tv_sec + t.tv_nsec / 1e9;
	}
	return 0;
}

int main(int argc, char **argv)
{
	sd_bus *bus = NULL;
	if (argc != 3)
		errx(2, "usage: signals BUS INTERFACE");
	sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term}, NULL); // without SA_RESTART: it ends a wait
	if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, argv[1]) < 0 || sd_bus_set_bus_client(bus, 1) < 0 ||
	    sd_bus_start(bus) < 0 ||
	    sd_bus_add_match(bus, NULL, "type='signal',member='PropertiesChanged'", on_signal, argv[2]) < 0)
		errx(1, "%s: no bus", argv[1]);
	puts("ready");
	fflush(stdout);
	while (!ended) {
		int more = sd_bus_process(bus, NULL);
		if (more < 0)
			errx(1, "the bus is lost: %s", strerror(-more));
		if (!more)
			sd_bus_wait(bus, 1000000);
	}
	printf("%u %.6f\n", count, last);
	return 0;
}
