"""Random networks in the form of the test vectors, without expectations: two implementations must agree on them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from random import Random
from typing import Any

from salsa_agent.core.reverse_names import name_at
from tests.core.vectors import Vector

EXCHANGES = [f"r{i}.hookup.net" for i in range(6)] + ["x.evil.example", "relay", "a_b.example.net"]
STATIC = ["smtp.clear.net.nz", "r1.hookup.net", "192.0.2.25:587", "[2001:db8::25]:587", "localhost"]
GIVEN = ["192.0.2.25", "r3.hookup.net:587", "localhost", "127.0.0.1", "r1.hookup.net", "[fd00::9]:25", "165.154.15.1"]
OWN4 = ["165.154.15.1", "165.154.15.2", "198.51.100.2", "10.1.1.1", "192.168.1.7", "172.17.0.1", "169.254.3.3"]
OWN6 = ["2001:db8:1:2::5", "2001:db8:1:2::6", "2001:db8:9::1", "fd00::7", "fe80::7"]
LOOPBACK = ["127.0.0.1", "::1", "192.0.2.77", "2001:db8:77::1"]
USUAL = ["203.0.113.1", "203.0.113.2"]
ODD4 = ["10.1.1.9", "192.168.1.25", "127.0.0.1", "0.1.1.1", "165.154.15.1", "10.9.9.9", "172.17.0.1", "169.254.3.3"]
ODD6 = ["2001:db8:f::1", "fd00::9", "fe80::1", "::1", "2001:db8:1:2::5", "fd00:1::9", "::ffff:1.2.3.4"]
LEVELS = {4: (32, 24, 16), 6: (128, 64, 56, 48, 32)}
METRICS = (50, 100, 100, 600, {"ipv6": 100}, {"ipv4": 600, "ipv6": 50})
OPTIONS: tuple[tuple[str, Any, float], ...] = (
    ("policy.deny", ["*.example"], 0.2),
    ("policy.allow", ["r?.hookup.net"], 0.1),
    ("policy.require", "dnssec", 0.1),
    ("policy.internal", False, 0.2),
    ("verify.enabled", False, 0.1),
    ("network.ignore", ["w*"], 0.1),
    ("network.ipv6_levels", [], 0.1),
    ("dns.srv", True, 0.5),
)


def random_vector(seed: int) -> Vector:
    """The vector of this seed."""
    rng = Random(seed)
    links = [
        _link(rng, name, 2 + place) for place, name in enumerate(_some(rng, ["eth0", "wlan0", "docker0", "lo"], 3))
    ]
    addresses = [(link["name"], one["address"].split("/")[0]) for link in links for one in link["addresses"]]
    config: Vector = {key: value for key, value, chance in OPTIONS if rng.random() < chance}
    config["static.relays"] = _some(rng, STATIC, 3)
    zones = _zones(rng, [address for _, address in addresses])
    return {
        "name": str(seed),
        "rule": "B3",
        "host": {"links": links, "outside": _outside(rng, links, addresses)},
        "config": config,
        "zones": zones,
        "authenticated": _some(rng, list(zones), 9),
        "link_relays": {link["name"]: _some(rng, GIVEN, 3) for link in _some(rng, links, 1)},
    }


def _some(rng: Random, items: Sequence[Any], most: int) -> list[Any]:
    return rng.sample(items, rng.randint(0, min(most, len(items))))


def _link(rng: Random, name: str, index: int) -> Vector:
    own = _some(rng, LOOPBACK, 2) if name == "lo" else _some(rng, OWN4, 2) + _some(rng, OWN6, 2)
    addresses = [_address(rng, ip) for ip in own]
    link: Vector = {"name": name, "index": index, "addresses": addresses}
    if name == "lo":
        link["loopback"] = True
    if rng.random() < 0.1:
        link["up"] = False
    if rng.random() < 0.6:
        link["default_metric"] = rng.choice(METRICS)
    return link


def _address(rng: Random, ip: str) -> Vector:
    one: Vector = {"address": f"{ip}/{rng.choice([64, 48, 128] if ':' in ip else [24, 16, 32])}"}
    if rng.random() < 0.2:
        one["flags"] = [rng.choice(["deprecated", "tentative", "temporary" if ":" in ip else "secondary"])]
    if rng.random() < 0.05:
        one["preferred_lifetime"] = 0
    return one


def _outside(rng: Random, links: list[Vector], addresses: list[tuple[str, str]]) -> Vector:
    """What the kernel picks: an address of the link itself, or one on the loopback link."""
    outside: Vector = {}
    names = [link["name"] for link in links if link["name"] != "lo"]
    for family in ("ipv4", "ipv6"):
        candidates = [one for one in addresses if (":" in one[1]) == (family == "ipv6")]
        if candidates and names and rng.random() < 0.5:
            name, source = rng.choice(candidates)
            outside[family] = {"link": name if name in names else rng.choice(names), "source": source}
    return outside


def _zones(rng: Random, addresses: list[str]) -> Vector:
    zones: Vector = {"alias.hookup.net": {"MX": ["10 r1.hookup.net.", "20 r2.hookup.net."]}}
    for ip in map(ip_address, addresses):
        for level in LEVELS[ip.version]:
            records = [f"{rng.choice([0, 5, 10, 10, 20])} {name}." for name in _some(rng, [*EXCHANGES, ""], 4)]
            choices: list[Any] = [{"MX": records}, {"MX": ["0 ."]}, "SERVFAIL", {"CNAME": "alias.hookup.net."}, {}]
            if rng.random() < 0.5:
                zones[name_at(ip, level)] = rng.choices(choices, (6, 2, 1, 1, 2))[0]
            for service in ("_submissions._tcp", "_submission._tcp"):
                if rng.random() < 0.2:
                    targets = [
                        f"{place} 1 {rng.choice([0, 25, 465, 587, 587])} {name}."
                        for place, name in enumerate(_some(rng, [*EXCHANGES, ""], 4))
                    ]
                    said: Any = rng.choice([{"SRV": targets}, {"SRV": targets}, {"SRV": ["0 0 0 ."]}, "SERVFAIL", {}])
                    zones[f"{service}.{name_at(ip, level)}"] = said
    for name in (*EXCHANGES, "smtp.clear.net.nz"):
        node: Vector = {"A": rng.sample(USUAL * 4 + ODD4, 2)} if rng.random() < 0.8 else {}
        if rng.random() < 0.4:
            node["AAAA"] = rng.choice([rng.sample(ODD6, 2), "SERVFAIL"])
        zones[name] = node if rng.random() < 0.9 else "SERVFAIL"
    return zones
