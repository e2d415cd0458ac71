"""Whether the ports of mail are open to the outside, and whether somebody answers in a relay's place."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from salsa_agent.oneshot.doctor.scene import Finding, Port, Scene
from salsa_agent.oneshot.findings import Severity
from salsa_agent.text import clean

SMTP = 25


def findings(scene: Scene) -> Iterator[Finding]:
    """Port 25 blocked while others are open; the same greeting from relays that are not the same."""
    at_smtp = [port for port in scene.ports if port.key.port == SMTP]
    if at_smtp and all(port.error for port in at_smtp):
        open_ports = sorted({port.key.port for port in scene.ports if not port.error})
        if open_ports and any(port.key.host in {one.key.host for one in at_smtp} for port in scene.ports):
            yield Finding(
                Severity.WARNING,
                "port-25-blocked",
                f"Port 25 of no relay can be reached ({clean(at_smtp[0].error)}), but port {open_ports[0]} can: "
                "this network blocks port 25 outward.",
                f"Give your own relays with port 465 or 587 ({_example(scene.ports, open_ports[0])}).",
            )
    yield from _intercepted([port for port in at_smtp if port.greeting])


def _intercepted(greeted: list[Port]) -> Iterator[Finding]:
    first: dict[str, Port] = {}
    for port in greeted:
        other = first.setdefault(port.greeting, port)
        if _site(other.key.host) != _site(port.key.host):
            yield Finding(
                Severity.WARNING,  # one operator may have both
                "port-25-intercepted",
                f'{other.key.host} and {port.key.host} say the same greeting on port 25, "{clean(port.greeting)}": '
                "it seems that one server of this network answers in the place of both, and reads what is sent.",
                "Use your own relay by port 465, with its certificate checked; tell the network's operator.",
            )
            return


def _site(host: str) -> str:
    """Whose host it is, as far as a name tells: its last two labels; an address stands for itself."""
    try:
        return str(ip_address(host))
    except ValueError:
        return ".".join(host.split(".")[-2:])


def _example(ports: tuple[Port, ...], number: int) -> str:
    host = next(port.key.host for port in ports if port.key.port == number and not port.error)
    return f"{host}:{number} answers"
