"""Bytes from outside, read by the agent's own code; see `targets`. `./run fuzz` for as long as one likes."""
