"""A relay as the configuration of a mail program has it (rule D10): Postfix, msmtp, nullmailer."""

from __future__ import annotations

from salsa_agent.core.delivery import entry_of, spoken_to_alike, tls_of, usable
from salsa_agent.core.model import ADMINISTRATOR, ListedRelay, Publication
from salsa_agent.outputs.answers import MOST_RELAYS, next_hop


def postfix(said: Publication, *, verified: bool) -> str:
    """A line of main.cf: the relays that the socketmap's map `relay` would name."""
    hops = spoken_to_alike(usable(said.best, said.relays, verified=verified), MOST_RELAYS)
    return f"relayhost = {', '.join(map(next_hop, hops))}\n"


def msmtp(said: Publication) -> str:
    """Lines of an account in msmtprc."""
    best, tls = said.best, _tls(said)
    starttls = "on" if tls == "starttls" else "off"
    return f"host {best.host}\nport {best.port}\ntls {'off' if tls == 'none' else 'on'}\ntls_starttls {starttls}\n"


def nullmailer(said: Publication) -> str:
    """A line of /etc/nullmailer/remotes."""
    option = {"implicit": " ssl", "starttls": " starttls", "none": ""}[_tls(said)]
    return f"{said.best.host} smtp port={said.best.port}{option}\n"


def _tls(said: Publication) -> str:
    """How the best relay is to be spoken to: without TLS only where the network named it, and it was seen to have none.

    The administrator's relays have it, whatever was seen: a network may have taken STARTTLS out of the conversation.
    """
    entry = entry_of(said.best, said.relays)
    seen = tls_of(entry)
    return seen if seen == "implicit" or (seen == "none" and not _is_administrators(entry)) else "starttls"


def _is_administrators(entry: ListedRelay) -> bool:
    return entry.relay.administrator or entry.relay.source in ADMINISTRATOR
