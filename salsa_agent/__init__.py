"""salsa-agent: finds the mail relay that the network at hand publishes, and says so on D-Bus."""

__version__ = "0.1.0"
