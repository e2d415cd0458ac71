"""The commands `salsa-agent` and `salsactl`."""
