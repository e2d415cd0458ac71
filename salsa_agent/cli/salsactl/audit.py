"""`salsactl audit`: what is wrong with the relays a prefix publishes; needs no agent."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from salsa_agent.cli.exit_status import EX_CONFIG, EX_NONE, EX_OK
from salsa_agent.cli.format import audit as show_audit
from salsa_agent.cli.format.relays import Dict
from salsa_agent.cli.format.text import page
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json
from salsa_agent.text import sanitize

if TYPE_CHECKING:
    from salsa_agent.core.model import Srv
    from salsa_agent.oneshot.auditing.audit import Audit, Progress
    from salsa_agent.oneshot.auditing.finding import Finding

_MOST_SAMPLES = 4096

_TEXT = """\
See what is published in the reverse tree for PREFIX as agents at its addresses see it, speak to the relays, and say
what is wrong and what to change. A large prefix is asked about at some of its addresses: the first, the last, and
others spread evenly, one below each name at which the prefix is published, if these are not more than 64. Asks the
servers of the configuration, else those of this system; needs no agent. Relays may answer a host inside the prefix
only: run it there. Status 1 when there are faults; warnings and notes do not count.

examples:
  salsactl audit 192.0.2.0/24
  salsactl audit 2001:db8::17 --no-verify
  salsactl audit 198.51.100.0/22 --json | jq -r '.findings[].problem'
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", type=_prefix, help="an IPv4 or IPv6 prefix, or an address")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration (default: /etc/salsa-agent.toml, if it is there)"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not speak to the relays")
    parser.add_argument(
        "--submissions", action="store_true", help='experimental: ask for SRV records, too, as with "dns.srv = true"'
    )
    parser.add_argument("--samples", metavar="NUMBER", type=_samples,
                        help="ask about so many addresses (default: 16 to 64)")  # fmt: skip


def _prefix(text: str) -> object:
    from salsa_agent.oneshot import zone

    try:
        return zone.prefix(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _samples(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 2 <= int(text) <= _MOST_SAMPLES:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no number from 2 to {_MOST_SAMPLES}")


async def _run(given: Namespace) -> int:
    found = await _audit(given)
    if given.json:
        say_json(found)
    else:
        say("\n\n".join("\n".join(block) for block in show_audit.report(page(), found) if block))
    return EX_NONE if any(one["severity"] == "fault" for one in found["findings"]) else EX_OK


async def _audit(given: Namespace) -> Dict:
    # imported late: no other command but `lookup` needs the DNS library
    from salsa_agent.config import file as config
    from salsa_agent.nameservers.monitor import read_once
    from salsa_agent.oneshot.auditing.audit import AuditRequest, audit
    from salsa_agent.oneshot.auditing.findings import findings
    from salsa_agent.resolver.resolver import Resolver
    from salsa_agent.smtp.verifier import Verifier

    try:
        settings = config.load(given.config)
    except config.ConfigError as error:
        raise CommandError(str(error), EX_CONFIG) from None
    if given.submissions:
        settings = replace(settings, dns=settings.dns._replace(srv=True))
    family = f"ipv{given.prefix.version}_levels"
    if not getattr(settings.network, family):
        raise CommandError(f"network.{family} is empty: the configuration has no level to ask at", EX_CONFIG)
    resolver = Resolver(settings.dns)
    checker = None if given.no_verify or not settings.verify.enabled else Verifier(settings.verify)
    with _progress() as progress:
        request = AuditRequest(given.prefix, settings, await read_once(settings), given.samples)
        seen = await audit(request, resolver, checker, progress)
    return _plain(seen, findings(seen))


@contextmanager
def _progress() -> Iterator[Progress]:
    """A line on standard error that says how far it is, where that is a terminal; gone at the end."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return

    def show(what: str, done: int, total: int) -> None:
        print(f"\r{what}: {done} of {total}\x1b[K", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _plain(seen: Audit, found: list[Finding]) -> Dict:
    """What `--json` prints."""
    from salsa_agent.core.model import CheckResult, RRType, Verdict

    unchecked = CheckResult(Verdict.UNVERIFIED)
    asked = [(question, seen.answers[question], level) for question, level in seen.choice.wanted.items()]
    checks = [(relay, seen.checks.get(relay.key, unchecked)) for relay in seen.choice.relays]
    return {
        "prefix": str(seen.target),
        "names": seen.names,
        "addresses": [
            {"address": str(one.address.ip), "outcome": str(one.outcome)}
            | ({"level": one.level, "name": one.name} if one.name else {})
            for one in seen.choice.evidence
        ],
        "published": [
            {
                "name": question.name,
                "level": level,
                "outcome": str(answer.outcome),
                "rcode": answer.rcode,
                "server": sanitize(answer.server),
                "reason": sanitize(answer.reason),
                "ttl": answer.ttl or 0,
                "mx": [
                    {"preference": mx.preference, "exchange": sanitize(mx.exchange)}
                    for mx in sorted(answer.mx, key=lambda mx: (mx.preference, mx.exchange))
                ],
            }
            | (
                {"type": "SRV", "srv": [_srv(one) for one in sorted(answer.srv)]}
                if question.rtype is RRType.SRV
                else {}
            )
            for question, answer, level in asked
            if level is not None
        ],
        "relays": [
            {
                "host": relay.key.host,
                "port": relay.key.port,
                "addresses": [str(ip) for ip in relay.addresses],
                "verdict": str(result.verdict),
            }
            | ({"reason": result.reason} if result.reason else {})
            | ({"starttls": result.starttls} if result.starttls is not None else {})
            for relay, result in checks
        ],
        "findings": [
            {
                "severity": str(one.severity),
                "code": one.code,
                "problem": one.problem,
                "change": one.change,
                "names": list(one.names),
                "exchange": one.exchange,
                "addresses": [str(ip) for ip in one.addresses],
            }
            for one in found
        ],
    }


def _srv(record: Srv) -> Dict:
    return record._asdict() | {"target": sanitize(record.target)}


COMMAND = Command(
    "audit", "say what is wrong with the relays a prefix publishes", _TEXT, _run, _arguments, asks_agent=False
)
