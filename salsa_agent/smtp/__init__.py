"""One conversation with a relay, and the verdict on it (rules D1 and D7)."""
