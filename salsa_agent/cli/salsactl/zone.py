"""`salsactl zone`: the records that an operator publishes for a prefix; needs no agent and no network."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from salsa_agent.cli.exit_status import EX_NONE, EX_OK, EX_USAGE
from salsa_agent.cli.salsactl.command import Command, CommandError, say, say_json
from salsa_agent.core.admission import canonical, hostname_error
from salsa_agent.core.cache import MAX_TTL, MIN_TTL
from salsa_agent.core.model import Mx, Srv
from salsa_agent.core.selection import MAX_EXCHANGES
from salsa_agent.core.selection.ordering import SERVICES
from salsa_agent.oneshot import zone
from salsa_agent.oneshot import zone_file as zone_text
from salsa_agent.oneshot.relay_config import PROGRAMS, relay_config
from salsa_agent.oneshot.zone import Zone
from salsa_agent.oneshot.zone_file import Form
from salsa_agent.oneshot.zone_formats import FORMATS, Format

T = TypeVar("T")

_TEXT = """\
Print the records that name the mail relays of PREFIX in the reverse tree, for those who keep its zones: an MX set
at each name that agents ask, by zone, as a master file that BIND, NSD, Knot and unbound load, or in another format.
An agent asks at /32, /24 and /16, for IPv6 at /128, /64, /56, /48 and /32; a prefix between two of these stands as
several names. Part of a /24 stands in a zone of its own, with aliases in the /24's (RFC 2317). With --relay: print
what the relay itself needs, so that hosts in PREFIX may relay, and no others. --submissions and --submission name
port and TLS of the relays by SRV records at the same names (experimental): agents with "dns.srv = true" use these in
the place of the MX set. Needs no agent.

formats:
FORMATS_TABLE
examples:
  salsactl zone 192.0.2.0/24 --mx 10:relay1.example.net --mx 20:relay2.example.net
  salsactl zone 192.0.2.64/26 2001:db8::/48 --mx 10:relay.example.net --ns ns1.example.net
  salsactl zone 198.51.100.0/22 --mx 10:relay.example.net --soa --ns ns1.example.net --directory zones
  salsactl zone 203.0.113.0/24 --refuse
  salsactl zone 192.0.2.0/24 --mx 10:relay.example.net --format nsupdate | nsupdate -k /etc/bind/update.key
  salsactl zone 10.1.0.0/16 --mx 10:relay.example.net --format unbound >/etc/unbound/unbound.conf.d/relay.conf
  salsactl zone 192.0.2.0/24 --mx 10:relay.example.net --submissions 10:relay.example.net
  salsactl zone --relay postfix 192.0.2.0/24 2001:db8::/48
""".replace("FORMATS_TABLE\n", "".join(f"  {name:<14}{one.help}\n" for name, one in FORMATS.items()) + "\n")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prefixes", metavar="PREFIX", nargs="+", type=_plainly(zone.prefix),
                        help="an IPv4 or IPv6 prefix, or an address")  # fmt: skip
    says = parser.add_mutually_exclusive_group()
    says.add_argument(
        "--mx",
        metavar="PREFERENCE:HOST",
        action="append",
        type=_plainly(zone.exchange),
        help="a relay; the lowest preference is used first. May be given again",
    )
    says.add_argument(
        "--refuse", action="store_true", help="say that there is no relay for these addresses: a null MX (RFC 7505)"
    )
    says.add_argument("--relay", metavar="PROGRAM", choices=PROGRAMS,
                      help=f"configuration of a relay for these addresses: {', '.join(PROGRAMS)}")  # fmt: skip
    for name, port, how in (("submissions", 465, "TLS from the first octet"), ("submission", 587, "STARTTLS")):
        parser.add_argument(
            f"--{name}",
            metavar="PRIORITY:HOST[:PORT]",
            action="append",
            type=_plainly(partial(zone.service, port=port)),
            help=f"experimental: an SRV record of the service _{name} ({how}; port {port}). May be given again",
        )
    parser.add_argument("--ttl", metavar="SECONDS", type=_ttl, default=zone_text.TTL,
                        help=f"how long answers are kept (default: {zone_text.TTL})")  # fmt: skip
    parser.add_argument("--format", metavar="FORMAT", choices=tuple(FORMATS), default="bind",
                        help="how records are printed, see above (default: bind)")  # fmt: skip
    parser.add_argument("--soa", action="store_true", help="print whole zones, with SOA and NS records; needs --ns")
    parser.add_argument(
        "--ns",
        metavar="HOST",
        action="append",
        default=[],
        type=_host,
        help="a name server of the zones; may be repeated",
    )
    parser.add_argument("--direct", action="store_true",
                        help="part of a /24: put the names into the /24's zone, without RFC 2317")  # fmt: skip
    parser.add_argument("--separator", choices=("/", "-"), default="/",
                        help="part of a /24: in its name, as in 64/26 (the default) or 64-26")  # fmt: skip
    parser.add_argument("--directory", metavar="DIR", type=Path,
                        help="write a file for each zone into DIR instead; none that is there is replaced")  # fmt: skip


def _plainly(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The parser of an argument that says what is wrong with it."""

    def argument(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return argument


def _ttl(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 5 and MIN_TTL <= int(text) <= MAX_TTL:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no TTL from {MIN_TTL} to {MAX_TTL} seconds; agents keep to these bounds")


def _host(text: str) -> str:
    host = canonical(text)
    if reason := hostname_error(host):
        raise ArgumentTypeError(f"{text!r} is no host name ({reason})")
    return host


async def _run(given: Namespace) -> int:
    services = {name: sorted(found) for name in SERVICES if (found := getattr(given, name))}
    if given.relay:
        return _relay(given)
    if not (given.mx or given.refuse or services):
        raise CommandError(
            "one of the arguments --mx --refuse --relay --submissions --submission is required", EX_USAGE
        )
    _check_services(services)
    how = FORMATS[given.format]
    if given.soa and not how.whole:
        raise CommandError(f"--soa: {given.format} puts records into zones that stand", EX_USAGE)
    if given.ns and not how.servers:
        raise CommandError(f"--ns: the format {given.format} has no NS records", EX_USAGE)
    if given.soa and not given.ns:
        raise CommandError("--soa needs --ns HOST, the name server of the zones", EX_USAGE)
    mx = [zone.NULL_MX] if given.refuse else _set(given.mx or ())
    try:
        zones = zone.zones_for(given.prefixes, separator=given.separator, direct=given.direct or not how.aliases)
    except ValueError as error:
        raise CommandError(str(error), EX_USAGE) from None
    form = Form(mx, given.ttl, tuple(dict.fromkeys(given.ns)), int(time.time()) if given.soa else None, services)
    if given.directory is not None:
        files = [str(_write(given.directory, one, form, how)) for one in zones]
        if given.json:
            say_json({"files": files})
        else:
            say("\n".join(files))
    elif given.json:
        say_json({"zones": [_plain(one, form) for one in zones]})
    else:
        say("\n".join(how.lines(zones, form)))
    return EX_OK


def _relay(given: Namespace) -> int:
    """Print the configuration of a relay. Raises CommandError."""
    zones_only = ("soa", "ns", "directory", *SERVICES)
    for option, value in ((f"--{name}", getattr(given, name)) for name in zones_only):
        if value:
            raise CommandError(f"{option} is about zones; --relay takes prefixes only", EX_USAGE)
    try:
        text = relay_config(given.relay, given.prefixes)
    except ValueError as error:
        raise CommandError(str(error), EX_USAGE) from None
    if given.json:
        say_json({"relay": given.relay, "prefixes": list(map(str, given.prefixes)), "text": text})
    else:
        say(text)
    return EX_OK


def _set(given: Sequence[Mx]) -> list[Mx]:
    """The MX set, best first. Raises CommandError for one that agents would not use as it is meant."""
    hosts = [mx.exchange for mx in given]
    if zone.NULL_MX in given and len(given) > 1:
        raise CommandError("--mx 0:. says that there is no relay, and stands alone (RFC 7505 section 3)", EX_USAGE)
    if double := next((host for host in hosts if hosts.count(host) > 1), None):
        raise CommandError(f"--mx {double} is given twice", EX_USAGE)
    if len(given) > MAX_EXCHANGES:
        raise CommandError(f"--mx: agents use the {MAX_EXCHANGES} best exchanges of a set, not more", EX_USAGE)
    return sorted(given, key=lambda mx: mx.preference)


def _check_services(services: Mapping[str, Sequence[Srv]]) -> None:
    """Raises CommandError for SRV records that agents would not use as they are meant."""
    for name, records in services.items():
        places = [(one.target, one.port) for one in records]
        if double := next((place for place in places if places.count(place) > 1), None):
            raise CommandError(f"--{name} {double[0]} with port {double[1]} is given twice", EX_USAGE)
    if sum(map(len, services.values())) > MAX_EXCHANGES:
        raise CommandError(f"--submissions: agents use the {MAX_EXCHANGES} best targets of a level, not more", EX_USAGE)


def _write(directory: Path, of: Zone, form: Form, how: Format) -> Path:
    path = directory / f"{of.name.replace('/', '-')}{how.suffix}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in how.lines([of], form))
    except FileExistsError:
        raise CommandError(f"{path} is there already", EX_NONE) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", EX_NONE) from None
    return path


def _plain(of: Zone, form: Form) -> dict[str, object]:
    return {
        "zone": of.name,
        "prefixes": [str(prefix) for prefix in of.prefixes],
        "records": [
            {"name": record.owner, "type": record.rtype, "ttl": form.ttl, "data": record.data}
            for record in zone_text.records(of, form)
        ],
    }


COMMAND = Command(
    "zone", "print the records that name the relays of a prefix", _TEXT, _run, _arguments, asks_agent=False
)
