"""Relays that misbehave, and relays that are not there."""

from __future__ import annotations

import signal

from tests.lab.smtpserver import BEHAVIOURS
from tests.lab.whole import HOME, NOC, RELAYS, VERTEX, until
from tests.torture.trial import DNS_PART, ROUND, VERIFY, ZONE, A, Trial, fault


def _bad(trial: Trial, behaviour: str) -> None:
    trial.world.relay(NOC, behaviour)
    trial.start()
    trial.roam(A)
    trial.expect(VERTEX, ROUND, "ready")
    first = trial.world.get("Relays")[0]
    reason = first.get("reason", "")
    if first["verdict"] != "failed" or not 0 < len(reason) <= 200 or not (reason.isascii() and reason.isprintable()):
        raise AssertionError(f"a bad relay without a reason: {first}")
    trial.note(reason)


# to a check without TLS and recipient these answer as they should (rule D1): it is others that they fail
_GOOD_TO_A_CHECK = {"ok", "starttls", "takes", "silent-quit", "close-quit", "helo"}
_GOOD_TO_A_CHECK |= {"reject", "blocks", "wants-password", "wants-tls", "inject"}
FAULTY = sorted(BEHAVIOURS.keys() - _GOOD_TO_A_CHECK)
for _name in FAULTY:
    fault("relays", f"the best one: {_name}")(lambda trial, name=_name: _bad(trial, name))  # type: ignore[misc]


@fault("relays", "its port is closed")
def closed(trial: Trial) -> None:
    trial.world.kill(NOC)
    trial.start()
    trial.roam(A)
    trial.expect(VERTEX, ROUND, "ready")


@fault("relays", "its packets vanish")
def vanished(trial: Trial) -> None:
    far = trial.world.far
    trial.world.kill(NOC)
    far.ip("addr", "del", f"{RELAYS[NOC]}/32", "dev", "down0")
    far.ip("route", "add", "blackhole", f"{RELAYS[NOC]}/32")
    try:
        trial.start()
        trial.roam(A)
        trial.expect(VERTEX, ROUND, "ready")
    finally:
        far.ip("route", "del", "blackhole", f"{RELAYS[NOC]}/32")
        far.ip("addr", "add", f"{RELAYS[NOC]}/32", "dev", "down0")


@fault("relays", "all of them are silent")
def all_silent(trial: Trial) -> None:
    """D3: the static one is the last resort."""
    trial.start()
    for name in RELAYS:
        trial.world.relay(name, "silent")
    trial.roam(A)
    trial.expect(HOME, ROUND, "degraded")


@fault("relays", "32 of them, all silent, before a good one")
def many_silent(trial: Trial) -> None:
    """E4: at the cap a relay without a verdict counts as failed for the decision."""
    names = [f"silent{n:02}.example.org" for n in range(31)]
    trial.world.relay(NOC, "silent")
    zone = ZONE | {"15.154.165.in-addr.arpa": {"MX": [*(f"1 {name}." for name in names), f"9 {VERTEX}."]}}
    trial.world.publish(zone | {name: {"A": [RELAYS[NOC]]} for name in names})
    trial.allowed |= set(names)
    trial.start()
    trial.roam(A)
    trial.expect(VERTEX, DNS_PART + 8 * VERIFY, "ready")


@fault("relays", "it dies in mid-conversation")
def dies(trial: Trial) -> None:
    silent = trial.world.relay(NOC, "silent-ehlo")
    trial.start()
    trial.roam(A)
    until(lambda: trial.world.get("State"), lambda state: state == "resolving")
    silent.popen.send_signal(signal.SIGKILL)
    trial.expect(VERTEX, ROUND, "ready")
