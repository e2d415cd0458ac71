"""Who is where in the story. The names and the first address are the post's; the rest is reserved for examples."""

from __future__ import annotations

from ipaddress import IPv4Interface

NAME_SERVER = "192.0.2.53"
NOC, VERTEX = "noc.tor.hookup.net", "vertex.tor.hookup.net"
PRAGUE, HOME = "smtp.praha.example", "smtp.clear.net.nz"
RELAYS = {NOC: "192.0.2.1", VERTEX: "192.0.2.2", PRAGUE: "192.0.2.3", HOME: "192.0.2.4"}
MX = {
    "154.165.in-addr.arpa": [f"10 {NOC}.", f"20 {VERTEX}."],
    "100.51.198.in-addr.arpa": [f"10 {PRAGUE}."],
}

# the laptop's addresses
IN_TORONTO, IN_PRAGUE, AT_HOME = (
    IPv4Interface(text) for text in ("165.154.15.1/24", "198.51.100.7/24", "203.0.113.20/24")
)
