"""`salsactl lookup`: what the reverse tree says for any address; needs no agent."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from salsa_agent.cli.exit_status import EX_CONFIG, EX_NONE, EX_OK
from salsa_agent.cli.format import questions as show_questions
from salsa_agent.cli.format import relays as show_relays
from salsa_agent.cli.format.relays import Dict
from salsa_agent.cli.format.text import page
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json

_TEXT = """\
Ask the reverse tree which relays it has for ADDRESS, as the agent would. Asks the servers of the configuration, else
those of this system; needs no agent. Relays are not spoken to. Status 1 when no relay is found.

examples:
  salsactl lookup 192.0.2.17
  salsactl lookup --config ./test.toml 2001:db8::17
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", type=_address, help="an IPv4 or IPv6 address")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration (default: /etc/salsa-agent.toml, if it is there)"
    )


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no IPv4 or IPv6 address") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ArgumentTypeError(f"{text!r}: the reverse tree knows no zones")
    return address


async def _run(given: Namespace) -> int:
    found = await _look_up(given.address, given.config)
    relays, questions = found["relays"], found["questions"]
    if given.json:
        say_json(found)
        return EX_OK if relays else EX_NONE
    to = page()
    blocks = [
        *show_questions.questions(to, questions, [_evidence(given.address, relays)]),
        show_relays.relays(to, relays, time.time()) if relays else ["No relay was found."],
    ]
    say("\n\n".join("\n".join(block) for block in blocks if block))
    return EX_OK if relays else EX_NONE


async def _look_up(address: IPv4Address | IPv6Address, config_file: Path | None) -> dict[str, list[Dict]]:
    """`relays` and `questions` as the method Lookup has them, as plain values."""
    # imported late: no other command needs the DNS library
    from salsa_agent.bus import convert as values
    from salsa_agent.bus.client import plain
    from salsa_agent.config import file as config
    from salsa_agent.core.addresses import families
    from salsa_agent.core.model import ListedRelay
    from salsa_agent.nameservers.monitor import read_once as servers_now
    from salsa_agent.netlink.monitor import read_once as facts_now
    from salsa_agent.oneshot.lookup import lookup, view_of_first
    from salsa_agent.resolver.resolver import Resolver
    from salsa_agent.system.clock import Realtime
    from salsa_agent.system.machine_id import machine_identity

    try:
        settings = config.load(config_file)
    except config.ConfigError as error:
        raise CommandError(str(error), EX_CONFIG) from None
    resolver = Resolver(settings.dns)
    facts = await facts_now()
    resolver.families = families(facts)
    view = view_of_first(facts, settings, await servers_now(settings))
    looked = await lookup(address, settings, view, resolver, identity=machine_identity())
    realtime_us = Realtime().us
    return {
        "relays": [plain(values.relay(ListedRelay(relay), realtime_us)) for relay in looked.relays],
        "questions": [plain(values.asked(one)) for one in looked.questions],
    }


def _evidence(address: IPv4Address | IPv6Address, relays: list[Dict]) -> Dict:
    """What the relays found say of the address: the name that decided."""
    named = next((relay for relay in relays if relay.get("name")), {})
    return {"address": str(address)} | {key: named[key] for key in ("name", "level") if key in named}


COMMAND = Command("lookup", "show what the reverse tree says for an address", _TEXT, _run, _arguments)
