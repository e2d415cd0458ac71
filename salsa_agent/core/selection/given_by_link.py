"""Rule C9: the relays that a link's own configuration gives, such as DHCP option 69."""

from __future__ import annotations

from salsa_agent.core import admission
from salsa_agent.core.model import Address, Dropped, Relay, RelayKey, Source
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.exchanges import usable
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.results import Part


def link_relays(address: Address, inputs: SelectionInput, answers: Answers) -> list[Part]:
    """The relays of the link of `address`, in the order given, let in by C2, C3, C4 (for that relay alone) and C7."""
    return [
        _one(RelayKey(key.host, key.port or inputs.settings.smtp_port), address, inputs, answers)
        for given in inputs.links
        if (given.ifindex, given.interface) == (address.ifindex, address.interface)
        for key in given.relays
    ]


def _one(key: RelayKey, address: Address, inputs: SelectionInput, answers: Answers) -> Part:
    relay = Relay(
        key=key,
        source=Source.LINK,
        addresses=admission.literal_addresses(key.host),
        address=str(address.ip),
        interface=address.interface,
        authenticated=False,
    )
    looked_up = None
    own = inputs.is_own(relay.addresses)
    if not relay.addresses:
        if reason := admission.hostname_error(key.host):
            return _dropped(relay, "C2", reason)
        looked_up = answers.look_up(key.host, inputs.view.of_link(address.ifindex))
        if looked_up is None:
            return Part(settled=False)
        own = inputs.is_own(looked_up.all)
        relay = relay._replace(addresses=looked_up.addresses, expires=looked_up.expires)
    if own:
        return _dropped(relay, "C4", "it is this host")
    relay, reason = usable(relay, looked_up, inputs)
    if reason:
        return _dropped(relay, "C3", reason)
    reason = admission.policy_error(key.host, False, inputs.settings.policy)
    return _dropped(relay, "C7", reason) if reason else Part((relay,))


def _dropped(relay: Relay, rule: str, reason: str) -> Part:
    return Part(dropped=(Dropped(relay.key.host, rule, reason, relay.name, relay.address),))
