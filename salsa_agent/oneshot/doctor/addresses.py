"""Whether this host has addresses of which the reverse tree can say something."""

from __future__ import annotations

from collections.abc import Iterator

from salsa_agent.core.admission import is_internal
from salsa_agent.core.model import Outcome, Source
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.findings import Severity

_OF_NETWORK = (Source.SITE, Source.LINK, Source.DNS)


def findings(scene: Scene) -> Iterator[Finding]:
    """No address that counts; private ones alone, of which nobody says anything."""
    addresses = scene.addresses
    if not addresses:
        yield Finding(
            Severity.FAULT,
            "no-address",
            "This host has no address that counts: no link is up with a global address that network.ignore leaves in.",
            "Connect it; see ip address. A link that is left out by mistake is brought back by network.ignore.",
        )
    elif _unserved(scene) and all(is_internal(one.ip) for one in addresses):
        nat = scene.settings.network.nat
        yield Finding(
            Severity.NOTE,
            "private-addresses",
            f"This host has private addresses only (such as {addresses[0].ip}), and the resolver's reverse tree names "
            "no relay for them.",
            'Where the site publishes for its outside address, network.nat = "nat-pmp" or "stun" finds that; a table '
            "[[site]] names a relay for this network (salsactl site prints one)."
            if nat == "off"
            else "A table [[site]] names a relay for this network; salsactl site prints one.",
        )


def _unserved(scene: Scene) -> bool:
    """Whether the network names no relay, and did not say that there is none."""
    if scene.said is None or any(listed.relay.source in _OF_NETWORK for listed in scene.relays):
        return False
    return all(one.outcome in (Outcome.NONE, Outcome.FAILED) for one in scene.said.evidence)
