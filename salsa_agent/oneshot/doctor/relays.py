"""Whether relays take this host's mail, and what is wrong with those that do not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from salsa_agent.core.model import ListedRelay, RelayKey, SrvEntry, Verdict
from salsa_agent.core.senders import entry_for
from salsa_agent.oneshot.doctor.scene import Finding, Scene
from salsa_agent.oneshot.severity import Severity
from salsa_agent.text import clean, host_port

_SUBMISSION = (465, 587)
SLOW = 4.0  # seconds: most programs are patient, people are not

# what OpenSSL says of a certificate (X509_verify_cert_error_string(3)); what that means, and what helps
_CERTIFICATES = (
    (
        "expired",
        "its certificate has expired",
        "Its operator renews it. If others are said to have expired, too, your clock is ahead: set it (timedatectl "
        "set-ntp true).",
    ),
    (
        "not yet valid",
        "its certificate is not valid yet: this host's clock is behind, or the relay's operator was early",
        "Set the clock, and have it kept (timedatectl set-ntp true).",
    ),
    (
        "mismatch",
        "its certificate is for another name",
        "Name the relay as its certificate does, or have its operator get one for this name; if neither helps, "
        "somebody else answers in its place.",
    ),
    (
        "issuer",
        "its certificate is from an authority that this host does not know",
        "If that authority is your own, install its certificate (update-ca-certificates); else the relay's operator "
        "gets one from an authority that all know.",
    ),
    (
        "in certificate chain",
        "its certificate is from an authority that this host does not know",
        "If that authority is your own, install its certificate (update-ca-certificates); else the relay's operator "
        "gets one from an authority that all know.",
    ),
    (
        "self-signed",
        "its certificate is signed by itself, not by an authority that this host knows",
        "If the relay is your own, install it on this host (update-ca-certificates); else its operator gets one from "
        "an authority that all know.",
    ),
)
_ANY_CERTIFICATE = ("its certificate is not valid", "Its operator gets another one, for the name by which it is named.")
_OFF = ' verify.tls other than "valid" does not look at certificates.'


def findings(scene: Scene) -> Iterator[Finding]:
    """No relay; each that failed, by its kind; slow ones."""
    if scene.said is None:
        yield Finding(
            Severity.FAULT,
            "not-decided",
            "No relay was found in 30 seconds: something that is asked does not answer.",
            "See the other findings; salsactl explain shows each question of a running agent.",
        )
    elif not scene.relays and (domains := _srv_domains(scene)):
        named = " and ".join(f"srv:{domain}" for domain in domains)
        yield Finding(
            Severity.FAULT,
            "no-relay",
            f"There is no relay: {named} {'stands' if len(domains) == 1 else 'stand'} for none that can be used.",
            f"See what the domain publishes (dig _submissions._tcp.{domains[0]} srv; rule C12: names below the domain, "
            "or that srv.targets allows). If it publishes none, name a relay by its host and port.",
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
    yield from _in_the_clear(scene)
    for key, result, _ in scene.certificates:
        if result.verdict is Verdict.FAILED and "certificate" in result.reason:
            what, cure = _certificate(clean(result.reason))
            yield Finding(
                Severity.WARNING,
                "relay-certificate",
                f"{_name(key)} is a relay of yours, and {what} ({clean(result.reason)}): mail programs that check "
                "certificates refuse it.",
                cure,
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


_ASKS_TLS = re.compile(r"STARTTLS|\bTLS\b", re.IGNORECASE)
_TLS_CURE = (
    'Have your mail program use STARTTLS with it (Postfix: smtp_tls_security_level = may); verify.tls = "offered" has '
    "the agent pass over relays without it."
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
        what, cure = _certificate(reason)
        return Finding(severity, "relay-certificate", f"{name} failed: {what} ({reason}).", cure + _OFF)
    if "530" in reason and _ASKS_TLS.search(reason):
        return Finding(severity, "relay-wants-tls", said, _TLS_CURE)
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


def _certificate(reason: str) -> tuple[str, str]:
    return next((said for sign, *said in _CERTIFICATES if sign in reason), _ANY_CERTIFICATE)  # type: ignore[return-value]


def _in_the_clear(scene: Scene) -> Iterator[Finding]:
    """Relays that answer, but do not take mail as this host would hand it over: without TLS, without a password."""
    known = {one.relay.key: one for one in scene.relays if one.verdict is not Verdict.FAILED and not one.wants_auth}
    for port in scene.ports:
        one = known.get(port.key)
        if not port.refusal or one is None or (one.relay.administrator and port.key.port in _SUBMISSION):
            continue  # that a submission server asks for both is known to who configured it
        name, words = _name(port.key), clean(port.refusal)
        if _ASKS_TLS.search(words):
            yield Finding(
                Severity.NOTE, "relay-wants-tls", f"{name} takes mail inside TLS only: it says {words}.", _TLS_CURE
            )
        elif words.startswith("530") or "uthenticat" in words:
            severity = Severity.NOTE if one.relay.administrator else Severity.WARNING
            yield Finding(
                severity, "relay-wants-password", f"{name} takes mail only with a password: it says {words}.",
                "Give your mail program the user and the password for it, if it is yours; else it is not for guests: "
                "policy.deny leaves it out.",
            )  # fmt: skip
        else:
            yield Finding(
                Severity.WARNING, "relay-refuses", f"{name} answers, and refuses MAIL FROM:<>: it says {words}.",
                "Its own words say why. Its operator lets this network's addresses relay; verify.recipient has the "
                "agent ask for this, too, and pass such a relay over.",
            )  # fmt: skip


def _srv_domains(scene: Scene) -> list[str]:
    """Of the `srv:` entries that the list would be made of: the sender's own, else the static ones."""
    own = entry_for(scene.sender, scene.settings.senders)
    entries = scene.settings.static_relays if own is None else own.relays
    return [entry.domain for entry in entries if isinstance(entry, SrvEntry)]


def _name(key: RelayKey) -> str:
    return host_port(key.host, key.port)
