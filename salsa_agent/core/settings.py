"""The settings of design section 6, as values with their defaults. `salsa_agent.config.file` reads them from a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from salsa_agent.core.model import RelayKey, Server

DEFAULT_IGNORE = (
    "docker*", "br-*", "veth*", "virbr*", "vnet*", "cni*", "flannel*", "cali*", "podman*", "lxc*", "lxd*", "incus*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """`[network]`: which addresses count (A3) and at which levels they are asked (B1)."""

    ignore: tuple[str, ...] = DEFAULT_IGNORE
    ipv4_levels: tuple[int, ...] = (32, 24, 16)
    ipv6_levels: tuple[int, ...] = (128, 64, 56, 48, 32)
    nat: str = "off"
    stun_server: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    """`[dns]`: who is asked and for how long (F1, F2). `timeout`: seconds for one try."""

    servers: tuple[Server, ...] = ()
    timeout: float = 2.0
    attempts: int = 2
    trust_ad: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verify:
    """`[verify]`: how a relay is checked (rules D). Seconds; `interval` 0: the best relay is never checked again."""

    enabled: bool = True
    timeout: float = 8.0
    interval: int = 600
    tls: str = "off"
    recipient: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """`[policy]`: which relays the network may name (C7)."""

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    require: str = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. `static_relays` have their port filled in."""

    static_relays: tuple[RelayKey, ...] = ()
    smtp_port: int = 25
    network: Network = field(default_factory=Network)
    dns: Dns = field(default_factory=Dns)
    verify: Verify = field(default_factory=Verify)
    policy: Policy = field(default_factory=Policy)
    output_directory: str = ""
    postfix_listen: tuple[str, ...] = ()
