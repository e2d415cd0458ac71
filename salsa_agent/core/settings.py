"""The settings as values with their defaults (salsa-agent.toml(5)). `salsa_agent.config.file` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from salsa_agent.core.model import RelayEntry, RelayKey, Server
from salsa_agent.text import host_port

# links of containers and virtual machines (A3); Docker and Podman name their bridges by twelve digits of an id
DEFAULT_IGNORE = (
    "docker*", "br-" + 12 * "[0-9a-f]", "veth*", "virbr*", "vnet*", "cni*", "flannel*", "cali*", "podman*", "lxc*",
    "lxd*", "incus*", "vmnet*", "vboxnet*", "cilium*", "nodelocaldns", "hassio", "nerdctl*", "cbr*", "kube-*",
    "waydroid*", "ovn-k8s-*",
)  # fmt: skip


class Network(NamedTuple):
    """`[network]`: which addresses count (A3) and at which levels they are asked (B1)."""

    ignore: tuple[str, ...] = DEFAULT_IGNORE
    ipv4_levels: tuple[int, ...] = (32, 24, 16)
    ipv6_levels: tuple[int, ...] = (128, 64, 56, 48, 32)
    nat: str = "off"
    stun_server: RelayKey | None = None  # host and port


class TrustedServer(NamedTuple):
    """A server of `dns.trust_ad`, whose AD bit counts (rule F3). `port` None: on any port."""

    address: str
    port: int | None = None


class Dns(NamedTuple):
    """`[dns]`: who is asked and for how long (F1, F2). `timeout`: seconds for one try.

    `case_randomization`: letters of the name are sent in upper or lower case at random, for a forger to guess (0x20).
    `srv`: each level is asked for SRV records, too (B8, experimental).
    """

    servers: tuple[Server, ...] = ()
    timeout: float = 2.0
    attempts: int = 2
    trust_ad: tuple[TrustedServer, ...] = ()
    case_randomization: bool = True
    srv: bool = False


class Verify(NamedTuple):
    """`[verify]`: how a relay is checked (rules D). Seconds; `interval` 0: the best relay is never checked again."""

    enabled: bool = True
    timeout: float = 10.0
    interval: int = 1800
    tls: str = "off"
    recipient: str = ""


class Policy(NamedTuple):
    """`[policy]`: which relays the network may name (C7).

    `internal`: they may be at private, shared and unique-local addresses that are not on the link itself (D11).
    """

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    require: str = "none"
    internal: bool = True


class Site(NamedTuple):
    """`[[site]]`: relays for the networks that the criteria describe (C10). An empty criterion is one not given.

    `interface`: shell patterns. `domain`: lower case, no final dot; the root is `.`. `connection`: ids or UUIDs.
    `use`: `first`, `last` or `only`. `relays` have their port filled in.
    """

    name: str
    prefix: tuple[IPv4Network | IPv6Network, ...] = ()
    interface: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    connection: tuple[str, ...] = ()
    relays: tuple[RelayEntry, ...] = ()
    use: str = "first"


class Sender(NamedTuple):
    """`[[sender]]`: relays for the mail of some envelope senders (C11).

    `address`: shell patterns on the whole address, in lower case. `network`: whether and where the network's relays
    stand in its list: `never`, `last` or `first`. `relays` have their port filled in.
    """

    address: tuple[str, ...]
    relays: tuple[RelayEntry, ...]
    network: str = "never"


class InetEndpoint(NamedTuple):
    """A TCP port at an address of this host, where the socketmap listens."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"inet:{host_port(self.address, self.port)}"


class UnixEndpoint(NamedTuple):
    """A socket in the file system, where the socketmap listens. `path` is absolute."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Endpoint = InetEndpoint | UnixEndpoint


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. `static_relays` have their port filled in. `srv_targets`: shell patterns (C12)."""

    static_relays: tuple[RelayEntry, ...] = ()
    smtp_port: int = 25
    network: Network = field(default_factory=Network)
    dns: Dns = field(default_factory=Dns)
    verify: Verify = field(default_factory=Verify)
    policy: Policy = field(default_factory=Policy)
    output_directory: str = ""
    postfix_listen: tuple[Endpoint, ...] = ()
    sites: tuple[Site, ...] = ()
    senders: tuple[Sender, ...] = ()
    srv_targets: tuple[str, ...] = ()
