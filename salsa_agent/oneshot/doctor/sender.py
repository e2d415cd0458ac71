"""Whether a sender's domain lets the mail leave by the relay that was chosen (SPF, RFC 7208; DMARC, RFC 7489)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from salsa_agent.core.admission import hostname_error
from salsa_agent.core.model import Answer, ListedRelay, Source
from salsa_agent.oneshot.doctor.scene import Finding, Scene, Spf
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import clean, host_port

_STRICT = ("quarantine", "reject")
_SUBMISSION = (465, 587)
_NOT_NAMED = {
    "fail": (Severity.WARNING, "it has receivers refuse"),
    "softfail": (Severity.WARNING, "it has receivers suspect"),
    "neutral": (Severity.NOTE, "it says nothing for or against"),
}


def findings(scene: Scene) -> Iterator[Finding]:
    """A relay that the domain's SPF record does not name; a domain that has what comes from elsewhere rejected."""
    best, domain = scene.best, clean(domain_of(scene.sender))
    if best is None or not domain:
        return
    relay = host_port(*best.relay.key)
    if found := _of_spf(scene.spf, domain, relay, clean(scene.sender)):
        yield found
    judged = best.relay.source in (Source.LINK, Source.DNS) or scene.spf.result in _NOT_NAMED
    if scene.dmarc in _STRICT and judged and scene.spf.result != "pass":
        whose = ", which this network names" if best.relay.source in (Source.LINK, Source.DNS) else ""
        yield Finding(
            Severity.WARNING,
            f"dmarc-{scene.dmarc}",
            f"{domain} says by DMARC to {scene.dmarc} mail that did not leave by its own relays and is not signed "
            f"(DKIM); that of {clean(scene.sender)} leaves by {relay}{whose}.",
            _own_relay(domain),
        )


def _of_spf(spf: Spf, domain: str, relay: str, sender: str) -> Finding | None:
    if spf.result in _NOT_NAMED:
        severity, says = _NOT_NAMED[spf.result]
        return Finding(
            severity,
            f"spf-{spf.result}",
            f"The SPF record of {domain} does not name {relay} ({spf.address}): {says} mail of {sender} that comes "
            "from there.",
            f"{_own_relay(domain)} If the relay is the domain's own, its operator adds it to the record.",
        )
    if spf.result in ("permerror", "temperror"):
        broken = spf.result == "permerror"
        return Finding(
            Severity.WARNING,
            f"spf-{spf.result}",
            f"The SPF record of {domain} cannot be {'followed' if broken else 'looked up'}: {clean(spf.why)}.",
            "The domain's operator mends it: receivers may refuse its mail, by whatever relay it leaves."
            if broken
            else "See to the DNS of the domain, or run this again.",
        )
    return None


def _own_relay(domain: str) -> str:
    return (
        f'Give the sender a relay of its own: a [[sender]] table with address = ["*@{domain}"] and '
        f'relays = ["srv:{domain}"], or the name of the relay.'
    )


def sends_itself(listed: ListedRelay) -> bool:
    """Whether SPF is about this relay's own address. A provider's submission service (RFC 6409) sends by others."""
    relay = listed.relay
    return not (relay.administrator and (relay.srv or relay.key.port in _SUBMISSION or listed.wants_auth))


def domain_of(sender: str) -> str:
    """The domain of an envelope sender, in lower case; empty: it has none that can be looked up."""
    domain = sender.strip("<>").rpartition("@")[2].rstrip(".").lower()
    return "" if not domain or hostname_error(domain) else domain


async def dmarc_policy(domain: str, ask: Callable[[str], Awaitable[Answer]]) -> str:
    """`none`, `quarantine` or `reject`, as the domain or the next domain above it says; empty: none says anything.

    `ask`: for the TXT records of a name.
    """
    labels = domain.split(".")
    for place in range(max(1, len(labels) - 1)):  # no public registry speaks for those below it
        records = [tags for text in (await ask(f"_dmarc.{'.'.join(labels[place:])}")).txt if (tags := _tags(text))]
        if len(records) == 1:  # several are as good as none (section 6.6.3)
            (tags,) = records
            return (place and tags.get("sp")) or tags.get("p", "none")
    return ""


def _tags(text: str) -> dict[str, str]:
    """The tags of a DMARC record; empty: it is none (section 6.4)."""
    pairs = [part.partition("=") for part in text.split(";")]
    tags = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
    if not tags or tags[0] != ("v", "DMARC1"):
        return {}
    return {name: value.lower() for name, value in tags}
