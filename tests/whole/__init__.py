"""Ring 3: the real process, in real networks, beside the programs that use it."""
