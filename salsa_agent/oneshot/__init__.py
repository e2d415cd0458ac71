"""What runs once and needs no agent: lookup, audit, zone."""
