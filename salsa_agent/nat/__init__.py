"""The address that the outside sees, as a NAT gateway or a STUN server tells it (rule G1)."""
