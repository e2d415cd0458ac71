"""Whether relays take this host's mail, and what is wrong with those that do not."""

from __future__ import annotations

from collections.abc import Iterator

from salsa_agent.core.model import ListedRelay, RelayKey, Verdict
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.findings import Severity
from salsa_agent.text import clean, host_port

SLOW = 4.0  # seconds: most programs are patient, people are not

_CERTIFICATE = (
    "Its operator renews the certificate, for the name by which it is published, from an authority that this host "
    'trusts; if only your clock is wrong, set that. verify.tls other than "valid" does not look at certificates.'
)


def findings(scene: Scene) -> Iterator[Finding]:
    """No relay; each that failed, by its kind; slow ones."""
    if scene.said is None:
        yield Finding(
            Severity.FAULT,
            "not-decided",
            "No relay was found in 30 seconds: something that is asked does not answer.",
            "See the other findings; salsactl explain shows each question of a running agent.",
        )
    elif not scene.relays:
        of_sender = " for this sender" if scene.sender else ""
        yield Finding(
            Severity.FAULT,
            "no-relay",
            f"There is no relay{of_sender}: this network names none, and none is configured.",
            'Name one that takes your mail from everywhere, such as static.relays = ["srv:example.net"], in '
            "/etc/salsa-agent.toml.",
        )
    elif not scene.works:
        yield Finding(
            Severity.FAULT,
            "no-relay-works",
            "Every relay failed: mail stays in this host's queue.",
            "See what is said of each of them; a static relay on port 465 or 587 is reached from most networks.",
        )
    for listed in scene.relays:
        if listed.verdict is Verdict.FAILED:
            yield _failed(listed, Severity.WARNING if scene.works else Severity.FAULT)
        elif listed.wants_auth:
            yield Finding(
                Severity.NOTE,
                "relay-wants-password",
                f"{_name(listed.relay.key)} takes mail only with a password.",
                "Give your mail program the user and the password for it.",
            )
    for key, result, seconds in scene.checks:
        if result.verdict is Verdict.OK and seconds > SLOW:
            yield Finding(
                Severity.WARNING,
                "relay-slow",
                f"{_name(key)} took {seconds:.0f} seconds to answer.",
                "Its operator sees to its load, or to the DNS look-ups with which it greets; a longer verify.timeout "
                "keeps it from being passed over.",
            )


def _failed(listed: ListedRelay, severity: Severity) -> Finding:
    name, reason = _name(listed.relay.key), clean(listed.reason)
    said = f"{name} failed: {reason}."
    if listed.wants_auth:
        return Finding(
            severity,
            "relay-wants-password",
            f"{name} takes mail only with a password: {reason}.",
            "It is not meant for guests. If you have an account there, name it in static.relays or in a [[sender]].",
        )
    if "certificate" in reason:
        return Finding(severity, "relay-certificate", said, _CERTIFICATE)
    if "STARTTLS" in reason:
        return Finding(
            severity,
            "relay-without-tls",
            f"{said} verify.tls asks for it.",
            "Its operator turns TLS on; or a network takes STARTTLS out of the conversation: try port 465.",
        )
    if "timed out" in reason or "no answer" in reason:
        return Finding(
            severity,
            "relay-silent",
            said,
            "It is down, or the network drops the connection: many block port 25. Use port 465 or 587 where it is "
            "yours; else tell the network's operator.",
        )
    if "refused" in reason or "no route" in reason or "unreachable" in reason:
        return Finding(
            severity,
            "relay-unreachable",
            said,
            "Nothing listens there, or a firewall says so: see host and port; else tell the operator who names it.",
        )
    return Finding(
        severity,
        "relay-refuses",
        said,
        "Its own words say why. Its operator lets this network's addresses relay, or stops naming it; policy.deny "
        "leaves it out.",
    )


def _name(key: RelayKey) -> str:
    return host_port(key.host, key.port)
