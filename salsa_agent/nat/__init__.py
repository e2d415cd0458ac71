"""The host's external address, as a NAT gateway (NAT-PMP) or a STUN server tells it (rule G1)."""
