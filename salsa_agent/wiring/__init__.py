"""The engine with the drivers that serve it: the one wiring of the agent and of `salsactl find`."""
