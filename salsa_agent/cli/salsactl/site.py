"""`salsactl site`: an entry of the configuration for the network at hand; needs no agent."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from salsa_agent.cli.exit_status import EX_CONFIG, EX_OK
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json
from salsa_agent.config import file as config
from salsa_agent.config.values import MAX_TEXT, plain_name, relay_entry
from salsa_agent.config.values import domain as domain_form
from salsa_agent.text import clean

if TYPE_CHECKING:
    from salsa_agent.oneshot.network_at_hand import NetworkAtHand

Entry = dict[str, str | list[str]]

_ONLY = 'use = "only"  # take no relay from this network; or name yours in its place: relays = ["mail.example.net"]'

_TEXT = """\
Print a [[site]] table for the network at hand, with these relays, to be put into /etc/salsa-agent.toml or a file in
/etc/salsa-agent.toml.d. It knows the network again by the UUID of its NetworkManager connection, else by its domain and
the prefix of this host's first address, else by that prefix. Without a relay it says to take none from this network.

examples:
  salsactl site mail.corp.example
  salsactl site srv:example.net >/etc/salsa-agent.toml.d/home.toml && systemctl reload salsa-agent
"""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("relays", metavar="RELAY", nargs="*", type=_relay, help="in a form of static.relays")


def _relay(text: str) -> str:
    try:
        relay_entry(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


async def _run(given: Namespace) -> int:
    # imported late: no other command but `lookup` and `audit` needs the netlink library
    from salsa_agent.oneshot.network_at_hand import network_at_hand

    try:
        settings = config.load(None)
    except config.ConfigError as error:
        raise CommandError(str(error), EX_CONFIG) from None
    found = await network_at_hand(settings)
    if found is None:
        raise CommandError("this host has no address that counts, so that there is no network to describe")
    if given.json:
        say_json({"site": [site_entry(found, given.relays)]})
    else:
        say(block(found, given.relays))
    return EX_OK


def block(found: NetworkAtHand, relays: list[str]) -> str:
    """The entry as TOML."""
    entry = site_entry(found, relays)
    lines = ["[[site]]", *(f"{key} = {toml(value)}" for key, value in entry.items() if key != "use")]
    return "\n".join([f"# {clean(found.interface)}, {found.address}", *lines, *([_ONLY] if "use" in entry else [])])


def site_entry(found: NetworkAtHand, relays: list[str]) -> Entry:
    """The keys of the entry, in the order of the manual page; a configuration takes them, whatever a network says."""
    domains = [domain for domain in found.info.domains if domain != "." and _fits(domain_form, domain)]
    uuid = found.info.connection_uuid
    if uuid and _fits(plain_name, uuid):
        criteria: Entry = {"connection": [uuid]}
    elif domains:
        criteria = {"prefix": [str(found.prefix)], "domain": domains}
    else:
        criteria = {"prefix": [str(found.prefix)]}
    name = clean(found.info.connection_id)[:MAX_TEXT] or (domains[0] if domains else str(found.prefix))
    return {"name": name, **criteria, **({"relays": relays} if relays else {"use": "only"})}


def _fits(form: Callable[[str], object], value: str) -> bool:
    """Whether this is of a form of the configuration."""
    try:
        form(value)
    except ValueError:
        return False
    return True


def toml(value: str | list[str]) -> str:
    """A string or a list of strings: JSON's are TOML's. The name of a connection is what a network says, and may hold
    what no terminal should get, or no TOML may hold (DEL)."""
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in json.dumps(value, ensure_ascii=False))


COMMAND = Command("site", "print a [[site]] table for the network at hand", _TEXT, _run, _arguments, asks_agent=False)
