"""What the kernel says of the host's links, addresses and routes. Only this package knows pyroute2."""
