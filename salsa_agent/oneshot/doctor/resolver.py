"""Whether the DNS servers answer, and answer with the truth; which levels and relays were lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from salsa_agent.core.model import Outcome, RRType
from salsa_agent.oneshot.doctor.scene import Finding, Probe, Scene, View
from salsa_agent.oneshot.severity import Severity
from salsa_agent.resolver.resolution import server_text
from salsa_agent.text import clean

_SOME = 3  # names that a sentence lists


def findings(scene: Scene) -> Iterator[Finding]:
    """Servers that are silent, refuse or make things up; views that differ; failed levels; dropped exchanges."""
    if scene.addresses:
        useful = {one.answer.server for one in scene.asked if one.answer.outcome is not Outcome.FAILED}
        answered = useful or any(probe.answer.outcome is not Outcome.FAILED for probe in scene.probes)
        for probe in scene.probes:
            # a server of the site may well know its own zones alone
            if probe.answer.outcome is Outcome.FOUND or server_text(probe.server) not in useful:
                yield from _of_server(probe, alone=not answered)
        if not scene.probes:
            yield Finding(
                Severity.FAULT,
                "no-resolver",
                "This host has no DNS server to ask.",
                "Name one in /etc/resolv.conf, or in dns.servers of the configuration.",
            )
    yield from _stub(scene)
    yield from _split(scene)
    yield from _failed_levels(scene)
    yield from _drops(scene)


def _of_server(probe: Probe, *, alone: bool) -> Iterator[Finding]:
    server, answer = server_text(probe.server), probe.answer
    if answer.outcome is Outcome.FOUND:
        yield Finding(
            Severity.FAULT,
            "resolver-lies",
            f"The DNS server {server} has a mail exchanger for a name that does not exist: a captive portal answers, "
            "or a resolver that puts its own answers in the place of NXDOMAIN. No relay that it names can be trusted.",
            "Log in to the network's portal first. If it stays, use another resolver (dns.servers), or take no relay "
            'from this network (a [[site]] with use = "only").',
        )
    elif answer.outcome is Outcome.FAILED and answer.rcode:
        yield Finding(
            Severity.FAULT if alone else Severity.WARNING,
            "resolver-refuses",
            f"The DNS server {server} answers {clean(answer.rcode)}.",
            "Use a server that answers this host: that of the network, by DHCP, or dns.servers in the configuration.",
        )
    elif answer.outcome is Outcome.FAILED:
        yield Finding(
            Severity.FAULT if alone else Severity.WARNING,
            "resolver-silent",
            f"The DNS server {server} does not answer ({clean(answer.reason)}).",
            "See that it is up and that no firewall is between (UDP and TCP port 53), or name another in dns.servers.",
        )


def _stub(scene: Scene) -> Iterator[Finding]:
    """A server on this host that does not ask the network for some reverse names.

    It says without a SOA record that the name is not there, of other names with one: the stub of systemd-resolved does
    so with addresses of the hosts file (rule F1), dnsmasq with private ones.
    """
    asks_others = {server_text(one.server) for one in scene.probes if one.answer.ttl is not None}
    seen: set[str] = set()
    for one in scene.asked:
        server = one.answer.server
        at = next((at for at in one.question.servers if server_text(at) == server), None)
        if at is None or one.level is None or one.answer.outcome is not Outcome.NONE or server in seen:
            continue
        if ip_address(at.address).is_loopback and one.answer.ttl is None and server in asks_others:
            seen.add(server)
            yield Finding(
                Severity.WARNING,
                "stub-answers-itself",
                f"The DNS server {server} on this host answers for {clean(one.question.name)} itself, and does not ask "
                "the network: what the network publishes there is not seen.",
                "Have the agent ask the servers behind it: leave it out of dns.servers, or turn this off in it "
                "(dnsmasq: no bogus-priv; systemd-resolved: the agent finds its servers if dns.servers is empty).",
            )


def _split(scene: Scene) -> Iterator[Finding]:
    """One server names relays where another, which answered, has none: the name has two views (split horizon)."""
    in_use = [view for view in scene.views if view.in_use]
    for one in scene.views:
        for name, answer in one.said:
            if answer.outcome is not Outcome.FOUND:
                continue
            without = [view for view in in_use if dict(view.said).get(name, answer).outcome is Outcome.NONE]
            if without and not (one.in_use and _of_other_links(one, without)):
                other = f", {server_text(without[0].server)} says that there is none"
                unused = " is not asked, since dns.servers is set; it" if not one.in_use else ""
                yield Finding(
                    Severity.WARNING,
                    "split-horizon",
                    f"The DNS server {server_text(one.server)}{unused} names a relay at {clean(name)}{other}: the site "
                    "has a view of its own, and not every server shows it.",
                    "Ask only servers of the site: take the other out of dns.servers or /etc/resolv.conf, or have the "
                    "site's resolver forward for it.",
                )
                return


def _of_other_links(one: View, without: list[View]) -> bool:
    """Each link has a view of its own by right."""
    return all(view.server.ifindex != one.server.ifindex for view in without)


def _failed_levels(scene: Scene) -> Iterator[Finding]:
    failed = [one for one in scene.asked if one.level is not None and one.answer.outcome is Outcome.FAILED]
    kinds: dict[str, list[str]] = {}
    for one in failed:
        kinds.setdefault(clean(one.answer.rcode or one.answer.reason), []).append(one.question.name)
    for reason, names in kinds.items():
        more = f" and {len(names) - _SOME} more" if len(names) > _SOME else ""
        yield Finding(
            Severity.WARNING,
            "level-failed",
            f"The reverse tree cannot be asked at {', '.join(map(clean, names[:_SOME]))}{more}: {reason}.",
            "If other names are answered, the operator's zone or its delegation is broken: tell the operator "
            "(salsactl audit has the words). The agent uses less specific levels meanwhile, and asks again.",
        )
    for one in scene.asked:
        if one.level is None and one.question.rtype is not RRType.TXT and one.answer.outcome is Outcome.FAILED:
            yield Finding(
                Severity.WARNING,
                "name-failed",
                f"{one.question.name} ({one.question.rtype}) cannot be looked up: "
                f"{clean(one.answer.rcode or one.answer.reason)}.",
                "If it is a relay of yours, see to its zone; the agent leaves it out meanwhile, and asks again.",
            )


def _drops(scene: Scene) -> Iterator[Finding]:
    for one in scene.said.dropped if scene.said else ():
        yield Finding(
            Severity.WARNING,
            "relay-dropped",
            f"{clean(one.host) or 'An exchange'} was left out by rule {one.rule}: {clean(one.reason)}.",
            "If it should be used, its operator mends what is published"
            + (f" at {clean(one.name)}" if one.name else "")
            + (", or you allow it (policy in the configuration)." if one.rule == "C7" else "."),
        )
