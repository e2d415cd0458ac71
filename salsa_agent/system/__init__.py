"""The host: its clocks, machine id, log, service manager, and resume from suspend."""
