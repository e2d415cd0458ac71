"""Whether a sender's domain lets the mail leave by way of the relay that was chosen (DMARC, RFC 7489)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from salsa_agent.core.admission import hostname_error
from salsa_agent.core.model import Answer, Source
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.findings import Severity
from salsa_agent.text import clean, host_port

_STRICT = ("quarantine", "reject")


def findings(scene: Scene) -> Iterator[Finding]:
    """A relay that only the network names, for a domain that has what comes from elsewhere rejected."""
    said = scene.said
    if said is None or scene.dmarc not in _STRICT or said.best.source not in (Source.LINK, Source.DNS):
        return
    domain, relay = clean(domain_of(scene.sender)), host_port(said.best.host, said.best.port)
    yield Finding(
        Severity.WARNING,
        f"dmarc-{scene.dmarc}",
        f"{domain} says by DMARC to {scene.dmarc} mail that did not leave by its own relays and is not signed "
        f"(DKIM); that of {clean(scene.sender)} leaves by {relay}, which this network names.",
        f'Give the sender a relay of its own: a [[sender]] table with address = ["*@{domain}"] and '
        f'relays = ["srv:{domain}"], or the name of the relay.',
    )


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
