"""Whether this host has addresses of which the reverse tree can say something."""

from __future__ import annotations

from collections.abc import Iterator

from salsa_agent.core.admission import is_internal
from salsa_agent.core.model import Outcome, Source
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.severity import Severity

_METHODS = {"nat-pmp": "NAT-PMP", "stun": "STUN"}
_OF_NETWORK = (Source.SITE, Source.LINK, Source.DNS)


def findings(scene: Scene) -> Iterator[Finding]:
    """No address that counts; private ones alone, of which nobody says anything, and the NAT before them."""
    addresses = scene.addresses
    if not addresses:
        yield Finding(
            Severity.FAULT,
            "no-address",
            "This host has no address that counts: no link is up with a global address that network.ignore leaves in.",
            "Connect it; see ip address. A link that is left out by mistake is brought back by network.ignore.",
        )
    else:
        if _unserved(scene):
            yield from _private(scene)
        yield from _of_nat(scene)


def _private(scene: Scene) -> Iterator[Finding]:
    """Nobody serves the reverse zones of private addresses; what `network.nat` would find."""
    alone = all(is_internal(one.ip) for one in scene.addresses)
    kind = "private addresses only" if alone else "private IPv4 addresses"
    first = next((one.ip for one in scene.addresses if is_internal(one.ip)), None)
    problem = f"This host has {kind} (such as {first}), and the resolver's reverse tree names no relay for them."
    site = "a table [[site]] names a relay for this network (salsactl site prints one)"
    known = next((one for one in scene.outside if one.ip is not None and not is_internal(one.ip)), None)
    off = scene.settings.network.nat == "off"
    sees = f"{problem} The outside sees {known.ip}, as {known.asked} says ({_METHODS[known.method]})" if known else ""
    if off and known and known.relay:
        yield Finding(
            Severity.WARNING,
            "nat-relay",
            f"{sees}, and for that the reverse tree publishes {known.relay}.",
            f'Set network.nat = "{known.method}" in the configuration: the agent finds it then.',
        )
    elif alone and off and known:
        yield Finding(
            Severity.NOTE,
            "private-addresses",
            f"{sees}; for that the reverse tree names none, either.",
            f'So network.nat = "{known.method}" would not help; {site}.',
        )
    elif alone and off:
        hidden = next((f" ({one.asked} says {one.ip}, which is private, too)" for one in scene.outside if one.ip), "")
        yield Finding(
            Severity.NOTE,
            "private-addresses",
            f"{problem} The gateway does not say which address the outside sees{hidden or ' (NAT-PMP)'}.",
            f'With a STUN server of yours, network.nat = "stun" asks that one; else {site}.',
        )
    elif alone:
        yield Finding(Severity.NOTE, "private-addresses", problem, f"{site[0].upper()}{site[1:]}.")


def _of_nat(scene: Scene) -> Iterator[Finding]:
    """`network.nat` is set, and brings nothing."""
    method = scene.settings.network.nat
    one = next((one for one in scene.outside if one.method == method), None)
    if one is None or (one.ip is not None and not is_internal(one.ip)):
        return
    yield Finding(
        Severity.WARNING,
        "nat-silent",
        f'network.nat = "{method}" finds no address: {one.asked} '
        + ("does not answer." if one.ip is None else f"says {one.ip}, which is private itself."),
        'See that the gateway has NAT-PMP turned on, or set network.nat to "stun" or "off".'
        if method == "nat-pmp"
        else 'See that network.stun_server is up and stands outside, or set network.nat to "off".',
    )


def _unserved(scene: Scene) -> bool:
    """Whether the network names no relay, and did not say that there is none."""
    if scene.said is None or any(listed.relay.source in _OF_NETWORK for listed in scene.relays):
        return False
    return all(one.outcome in (Outcome.NONE, Outcome.FAILED) for one in scene.said.evidence)
