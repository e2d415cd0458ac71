/* Follow the mail relay from C with sd-bus: prints it now, then at each change.
 *
 * Debian: apt install gcc libsystemd-dev
 *         cc -o follow follow_sdbus.c -lsystemd
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define NAME "org.salsa.Agent1"
#define PATH "/org/salsa/Agent1"

/* Print what is new. The text is from the network: host names, checked by the agent. */
static void show(const char *host, unsigned port, const char *source)
{
	static char said[512];
	char text[sizeof said];

	if (!host)
		snprintf(text, sizeof text, "no agent");
	else if (!*host)
		snprintf(text, sizeof text, "none");
	else
		snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:%u %s" : "%s:%u %s", host, port, source);
	if (strcmp(text, said)) {
		strcpy(said, text);
		puts(text);
		fflush(stdout);
	}
}

/* Ask for the relay of now. */
static void read_relay(sd_bus *bus)
{
	char *host = NULL, *source = NULL;
	uint16_t port = 0;

	if (sd_bus_get_property_string(bus, NAME, PATH, NAME, "BestRelay", NULL, &host) < 0 ||
	    sd_bus_get_property_trivial(bus, NAME, PATH, NAME, "BestRelayPort", NULL, 'q', &port) < 0 ||
	    sd_bus_get_property_string(bus, NAME, PATH, NAME, "BestRelaySource", NULL, &source) < 0)
		show(NULL, 0, NULL);
	else
		show(host, port, source);
	free(host);
	free(source);
}

/* BestRelayChanged(s host, q port, s source) */
static int on_change(sd_bus_message *m, void *data, sd_bus_error *error)
{
	const char *host, *source;
	uint16_t port;

	(void)data, (void)error;
	if (sd_bus_message_read(m, "sqs", &host, &port, &source) >= 0)
		show(host, port, source);
	return 0;
}

/* NameOwnerChanged(s name, s old, s new): the agent has come, or gone */
static int on_owner(sd_bus_message *m, void *data, sd_bus_error *error)
{
	const char *name, *old, *new;

	(void)data, (void)error;
	if (sd_bus_message_read(m, "sss", &name, &old, &new) < 0)
		return 0;
	if (*new)
		read_relay(sd_bus_message_get_bus(m));
	else
		show(NULL, 0, NULL);
	return 0;
}

int main(void)
{
	sd_bus *bus = NULL;
	int r;

	if ((r = sd_bus_open_system(&bus)) < 0 ||
	    /* first, so that no change is missed */
	    (r = sd_bus_match_signal(bus, NULL, NAME, PATH, NAME, "BestRelayChanged", on_change, NULL)) < 0 ||
	    (r = sd_bus_add_match(bus, NULL,
				  "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" NAME "'",
				  on_owner, NULL)) < 0) {
		fprintf(stderr, "no system bus: %s\n", strerror(-r));
		return 1;
	}
	read_relay(bus);
	while ((r = sd_bus_process(bus, NULL)) >= 0)
		if (r == 0 && (r = sd_bus_wait(bus, UINT64_MAX)) < 0)
			break;
	fprintf(stderr, "the bus is gone: %s\n", strerror(-r));
	sd_bus_unref(bus);
	return 1;
}
