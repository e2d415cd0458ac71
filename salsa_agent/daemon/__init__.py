"""The wiring of the agent: the engine on the event loop, its tasks, the methods that callers use."""
