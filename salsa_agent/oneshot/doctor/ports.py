"""Whether the ports of mail are open to the outside, and whether somebody answers in a relay's place."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from salsa_agent.core.admission import hostname_error
from salsa_agent.oneshot.doctor.scene import Finding, Port, Scene
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import clean

SMTP = 25
_OWN = "Use your own relay by port 465, with its certificate checked; tell the network's operator."


def findings(scene: Scene) -> Iterator[Finding]:
    """Ports that are blocked while others are open; signs that port 25 is not the relay's own."""
    at_smtp = [port for port in scene.ports if port.key.port == SMTP]
    open_ports = sorted({port.key.port for port in scene.ports if not port.error})
    if at_smtp and all(port.error for port in at_smtp) and open_ports:
        yield Finding(
            Severity.WARNING,
            "port-25-blocked",
            f"Port 25 of no relay can be reached ({clean(at_smtp[0].error)}), but port {open_ports[0]} can: "
            "this network blocks port 25 outward.",
            f"Give your own relays with port 465 or 587 ({_example(scene.ports, open_ports[0])}).",
        )
    yield from _submission(scene)
    yield from _intercepted([port for port in at_smtp if port.greeting])
    yield from _changed(scene)


def _submission(scene: Scene) -> Iterator[Finding]:
    """A relay of the list at port 465 or 587 that is silent there, while another of its ports answers."""
    listed = {one.relay.key for one in scene.relays}
    for port in scene.ports:
        if port.key.port == SMTP or port.key not in listed or port.error != "timed out":
            continue
        others = [one.key.port for one in scene.ports if one.key.host == port.key.host and not one.error]
        if others:
            yield Finding(
                Severity.WARNING,
                f"port-{port.key.port}-blocked",
                f"{port.key.host} cannot be reached at port {port.key.port} (timed out), but at port {others[0]}: this "
                f"network blocks port {port.key.port} outward.",
                f"Give the relay with port {others[0]}, if it takes your mail there; else tell the network's operator.",
            )


def _changed(scene: Scene) -> Iterator[Finding]:
    """Of one server: another greeting at another port, or STARTTLS missing at port 25 that is, or was, there."""
    for port in scene.ports:
        if port.key.port != SMTP or not port.greeting:
            continue
        host = port.key.host
        others = [one for one in scene.ports if one.key.host == host and one.key.port != SMTP and one.greeting]
        if "****" in port.greeting:
            yield _by_somebody(f"The greeting of {host} on port 25 is masked with asterisks, as some firewalls do")
        for other in others:
            says, there = _greeted(port.greeting), _greeted(other.greeting)
            if says and there and _site(says) != _site(there) and _site(says) != _site(host):
                yield _by_somebody(
                    f"{host} greets as {clean(says)} on port 25, and as {clean(there)} on port {other.key.port}"
                )
                break
        if port.starttls is False and port.key in scene.agents.starttls:
            yield _by_somebody(f"{host} offered STARTTLS to the agent on port 25, and does not any more")
        elif port.starttls is False and any(one.starttls for one in others):
            yield _by_somebody(f"{host} offers STARTTLS on port 587, and not on port 25")


def _by_somebody(what: str) -> Finding:
    return Finding(
        Severity.WARNING,  # there may be honest reasons
        "port-25-intercepted",
        f"{what}: it seems that something in this network answers in its place, or changes what is said, and can read "
        "what is sent.",
        _OWN,
    )


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
                _OWN,
            )
            return


def _greeted(greeting: str) -> str:
    """The host name in a greeting (RFC 5321 section 4.2), if it is one with a domain."""
    name = greeting[4:].partition(" ")[0].rstrip(".").lower()
    return "" if hostname_error(name) else name


def _site(host: str) -> str:
    """Whose host it is, as far as a name tells: its last two labels; an address stands for itself."""
    try:
        return str(ip_address(host))
    except ValueError:
        return ".".join(host.split(".")[-2:])


def _example(ports: tuple[Port, ...], number: int) -> str:
    host = next(port.key.host for port in ports if port.key.port == number and not port.error)
    return f"{host}:{number} answers"
