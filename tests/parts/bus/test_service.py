"""org.salsa.Agent1 on a real bus: what it publishes (rule H1) and what it answers."""

from __future__ import annotations

import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from salsa_agent.bus import interface
from salsa_agent.bus import message as wire
from salsa_agent.bus.api import InvalidArgs, LimitsExceeded, NoSuchRelay, RequestError
from salsa_agent.bus.client import plain
from salsa_agent.bus.codec import Value
from salsa_agent.bus.interface import INTERFACE, INTROSPECTABLE, NAME, PATH, PEER, PROPERTIES
from salsa_agent.core.model import Best, ListedRelay, Outcome, Publication, Source, State, Verdict
from tests.lab.bus import NOBODY, PROJECT, Bus, RawClient, system_bus
from tests.lab.busagent import HERE, NOC, READY, VERSION, Agent, follow, realtime_us, serving

ERROR = "org.freedesktop.DBus.Error."
ANYTHING = '<allow send_destination="*"/><allow own="*"/>'
SENTENCE = re.compile(r"[ -~]{3,300}")


@pytest.fixture
def bus() -> Iterator[Bus]:
    with system_bus() as running:
        yield running


async def ask(client: RawClient, *args: Any, **fields: Any) -> tuple[wire.Header, list[Any]]:
    fields.setdefault("destination", NAME)
    return await client.ask(*args, **fields)


# --- properties


async def test_section_4_properties_have_their_names_types_and_values(bus: Bus) -> None:
    async with serving(bus):
        with await RawClient.open(bus.address) as client:
            _, [found] = await ask(client, PATH, PROPERTIES, "GetAll", "s", INTERFACE)
            assert {name: value.signature for name, value in found.items()} == {
                "BestRelay": "s",
                "BestRelayPort": "q",
                "BestRelaySource": "s",
                "BestRelayTls": "s",
                "Relays": "aa{sv}",
                "Senders": "aa{sv}",
                "Statistics": "a{st}",
                "Addresses": "aa{sv}",
                "State": "s",
                "LastChanged": "t",
                "Version": "s",
            }
            relays = found["Relays"].value
            assert {key: value.signature for key, value in relays[0].items()} == {
                "host": "s", "port": "q", "source": "s", "verdict": "s", "preference": "q", "name": "s", "level": "y",
                "address": "s", "interface": "s", "authenticated": "b", "starttls": "b", "tls": "s", "auth": "b",
                "expires": "t",
            }  # fmt: skip
            assert plain(found) == {
                "BestRelay": "noc.tor.hookup.net",
                "BestRelayPort": 25,
                "BestRelaySource": "dns",
                "BestRelayTls": "starttls",
                "Relays": [
                    {
                        "host": "noc.tor.hookup.net",
                        "port": 25,
                        "source": "dns",
                        "verdict": "ok",
                        "preference": 10,
                        "name": "15.154.165.in-addr.arpa",
                        "level": 24,
                        "address": "165.154.15.1",
                        "interface": "eth0",
                        "authenticated": False,
                        "starttls": True,
                        "tls": "starttls",
                        "auth": False,
                        "expires": realtime_us(100.0),
                    },
                    {"host": "smtp.clear.net.nz", "port": 25, "source": "static", "verdict": "unverified"},
                ],
                "Addresses": [
                    {
                        "address": "165.154.15.1",
                        "interface": "eth0",
                        "origin": "link",
                        "outcome": "found",
                        "level": 24,
                        "name": "15.154.165.in-addr.arpa",
                    }
                ],
                "Senders": [
                    {
                        "address": ["*@home.example"],
                        "network": "last",
                        "host": "smtp.home.example",
                        "port": 465,
                        "source": "sender",
                        "tls": "implicit",
                    },
                    {
                        "address": ["*@work.example", "boss@*"],
                        "network": "never",
                        "host": "",
                        "port": 0,
                        "source": "none",
                        "tls": "",
                    },
                ],
                "Statistics": {
                    "rounds": 3,
                    "network_changes": 0,
                    "questions": 0,
                    "questions_failed": 0,
                    "checks": 0,
                    "checks_failed": 0,
                    "best_changes": 0,
                    "reports": 0,
                    "started": 17,
                },
                "State": "ready",
                "LastChanged": realtime_us(50.0),
                "Version": VERSION,
            }
            for name, value in found.items():
                _, [got] = await ask(client, PATH, PROPERTIES, "Get", "ss", INTERFACE, name)
                assert (got.signature, plain(got)) == (value.signature, plain(value))


async def test_before_the_first_decision_there_is_no_relay(bus: Bus) -> None:
    async with serving(bus, Publication()):
        with await RawClient.open(bus.address) as client:
            _, [found] = await ask(client, PATH, PROPERTIES, "GetAll", "s", INTERFACE)
            assert plain(found) == {
                "BestRelay": "", "BestRelayPort": 0, "BestRelaySource": "none", "BestRelayTls": "", "Relays": [],
                "Senders": [], "Addresses": [], "State": "starting", "LastChanged": 0, "Version": VERSION,
                "Statistics": plain(found)["Statistics"],
            }  # fmt: skip


async def test_a_failed_relay_has_its_reason(bus: Bus) -> None:
    async with serving(bus, replace(READY, relays=(ListedRelay(NOC, Verdict.FAILED, "554 no"),))) as agent:
        with await RawClient.open(bus.address) as client:
            [relay] = plain(await agent.get(client, "Relays"))
            assert relay["reason"] == "554 no"
            assert "starttls" not in relay


async def test_text_that_dbus_cannot_carry_is_carried_all_the_same(bus: Bus) -> None:
    """A NUL or a surrogate would have the daemon disconnect us, or raise in the library; a number out of range too."""
    bad = NOC._replace(interface="a\0b\ud800\x1b[31m\u202e", expires=-1e15, preference=99999, level=300)
    async with serving(bus, replace(READY, relays=(ListedRelay(bad, Verdict.FAILED, "a\nb"),))) as agent:
        with await RawClient.open(bus.address) as client:
            [relay] = plain(await agent.get(client, "Relays"))
            assert relay["interface"] == "a?b??[31m?"
            assert (relay["expires"], relay["preference"], relay["level"]) == (0, 65535, 255)
            assert relay["reason"] == "a?b"


# --- signals


async def signals_until(agent: Agent, client: RawClient, publication: Publication) -> list[tuple[str, Any]]:
    """What a follower is told from now until the publication that comes last here."""
    agent.publish(publication)
    marker = replace(publication, state=State.OFFLINE if publication.state is not State.OFFLINE else State.READY)
    agent.publish(marker)
    found: list[tuple[str, Any]] = []
    while True:
        while not client.signals:
            await client.read()
        head, body = client.signals.pop(0)
        if head.path != PATH:
            continue
        assert head.sender == agent.connection._bus.unique_name  # type: ignore[union-attr]
        value: Any = plain(body)
        if head.member == "PropertiesChanged" and value[1] == {"State": str(marker.state)}:
            return found
        found.append((head.member, value))


async def test_h1_all_that_changes_together_is_one_signal_and_the_best_relay_follows(bus: Bus) -> None:
    async with serving(bus, Publication()) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            await follow(client)
            found = await signals_until(agent, client, READY)
            assert [member for member, _ in found] == ["PropertiesChanged", "BestRelayChanged"]
            name, changed, invalidated = found[0][1]
            assert (name, invalidated) == (INTERFACE, [])
            everything = set(interface.PROPERTY_TYPES) - {"Version", "Statistics"}
            assert set(changed) == everything
            assert changed["Relays"][0]["host"] == "noc.tor.hookup.net"
            assert found[1][1] == ["noc.tor.hookup.net", 25, "dns"]


BOTH = ["PropertiesChanged", "BestRelayChanged"]


@pytest.mark.parametrize(
    ("change", "members", "names"),
    [
        ({"state": State.RESOLVING}, ["PropertiesChanged"], {"State"}),
        ({"best": Best("noc.tor.hookup.net", 25, Source.LINK)}, ["PropertiesChanged"], {"BestRelaySource"}),
        ({"best": Best("noc.tor.hookup.net", 26, Source.DNS)}, BOTH, {"BestRelayPort", "BestRelayTls"}),
        ({"best": Best("b.example.net", 25, Source.DNS)}, BOTH, {"BestRelay", "BestRelayTls"}),
        ({"relays": (READY.relays[0],)}, ["PropertiesChanged"], {"Relays"}),
        ({"relays": (ListedRelay(NOC, Verdict.OK, "", True, "none", False), READY.relays[1])}, ["PropertiesChanged"],
         {"Relays", "BestRelayTls"}),
        ({"senders": READY.senders[:1]}, ["PropertiesChanged"], {"Senders"}),
        ({"senders": (READY.senders[0]._replace(relays=(*READY.senders[0].relays, READY.relays[1])),
                      READY.senders[1])}, [], set()),
        ({"evidence": (HERE, HERE)}, ["PropertiesChanged"], {"Addresses"}),
        ({"changed": 51.0}, ["PropertiesChanged"], {"LastChanged"}),
        ({}, [], set()),
        ({"dropped": ()}, [], set()),
    ],
)  # fmt: skip
async def test_h1_only_what_changed_is_told(bus: Bus, change: Any, members: list[str], names: set[str]) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            await follow(client)
            found = await signals_until(agent, client, replace(READY, **change))
            assert [member for member, _ in found] == members
            assert {name for _, body in found if len(body) == 3 and body[0] == INTERFACE for name in body[1]} == names


async def test_h1_a_moved_expires_alone_is_told_to_nobody_but_get_has_it(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            await follow(client)
            await agent.get(client, "Relays")  # whatever is cached is cached
            await ask(client, PATH, PROPERTIES, "GetAll", "s", INTERFACE)
            moved = NOC._replace(expires=200.0, addresses=())
            later = replace(READY, relays=(READY.relays[0]._replace(relay=moved), READY.relays[1]))
            assert await signals_until(agent, client, later) == []
            assert (await agent.get(client, "Relays"))[0]["expires"].value == realtime_us(200.0)
            _, [found] = await ask(client, PATH, PROPERTIES, "GetAll", "s", INTERFACE)
            assert found["Relays"].value[0]["expires"].value == realtime_us(200.0)


def _set_by(step: int, when: float) -> int:
    return realtime_us(when) + step


async def test_h1_what_is_a_moment_follows_a_clock_that_was_set(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            await follow(client)
            for _ in range(2):
                assert await agent.get(client, "LastChanged") == realtime_us(50.0)
                await ask(client, PATH, PROPERTIES, "GetAll", "s", INTERFACE)
            for step in (86_400_000_000, -86_400_000_000, 7):
                agent.service._properties._realtime_us = partial(_set_by, step)
                assert await agent.get(client, "LastChanged") == realtime_us(50.0) + step
                assert (await agent.get(client, "Relays"))[0]["expires"].value == realtime_us(100.0) + step
                _, [found] = await ask(client, PATH, PROPERTIES, "GetAll", "s", INTERFACE)
                assert found["LastChanged"].value == realtime_us(50.0) + step
            assert await signals_until(agent, client, replace(READY, changed=50.0)) == []


# --- methods


async def test_refresh_replies_when_it_is_done(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            agent.requests.gate.clear()
            serial = await client.call(PATH, INTERFACE, "Refresh", destination=NAME)
            await ask(client, PATH, PEER, "Ping")
            assert serial not in client.replies
            agent.requests.gate.set()
            head, body = await client.reply(serial)
            assert (head.kind, head.signature, body) == (wire.RETURN, "", [])


async def test_report_failure_hands_on_clean_values_and_the_user(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            reason = "no\0\n\x1b[2J\u202e".replace("\0", "") + "x" * 5000
            head, body = await ask(client, PATH, INTERFACE, "ReportFailure", "sqs", "NOC.Tor.hookup.net.", 25, reason)
            assert (head.kind, head.signature) == (wire.RETURN, ""), body
            [(what, host, port, said, uid)] = agent.requests.asked
            assert (what, host, port, uid) == ("report_failure", "noc.tor.hookup.net", 25, NOBODY)
            assert len(said) == 200
            assert said.startswith("no??[2J?xxx")


async def test_lookup_has_relays_and_questions(bus: Bus) -> None:
    async with serving(bus):
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            head, [relays, questions] = await ask(client, PATH, INTERFACE, "Lookup", "s", "165.154.15.1")
            assert head.signature == "aa{sv}aa{sv}"
            assert plain(relays)[0]["host"] == "noc.tor.hookup.net"
            assert {key: value.signature for key, value in questions[0].items()} == {
                "name": "s", "type": "s", "outcome": "s", "rcode": "s", "server": "s", "elapsed": "t", "ttl": "u",
                "level": "y",
            }  # fmt: skip
            assert plain(questions) == [
                {
                    "name": "15.154.165.in-addr.arpa",
                    "type": "MX",
                    "outcome": "found",
                    "rcode": "NOERROR",
                    "server": "192.0.2.53",
                    "elapsed": 20000,
                    "ttl": 3600,
                    "level": 24,
                }
            ]


async def test_explain_has_questions_and_what_was_dropped(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            head, [found] = await ask(client, PATH, INTERFACE, "Explain")
            assert head.signature == "a{sv}"
            assert {key: value.signature for key, value in found.items()} == {
                "questions": "aa{sv}",
                "dropped": "aa{sv}",
            }
            assert plain(found)["dropped"] == [
                {
                    "host": "localhost",
                    "rule": "C2",
                    "reason": "a single label",
                    "name": "15.154.165.in-addr.arpa",
                    "address": "165.154.15.1",
                }
            ]
            agent.requests.explanation = agent.requests.explanation._replace(dropped=[])
            _, [found] = await ask(client, PATH, INTERFACE, "Explain")
            assert plain(found)["dropped"] == []


async def test_c11_relay_for_a_sender_has_its_relay_and_its_list(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            for sender in ("me@home.example", "", "<>", "x" * 320, "b\u00fc@home.example", "a\u200cb@x\u00a0"):
                head, body = await ask(client, PATH, INTERFACE, "RelayFor", "s", sender)
                assert (head.kind, head.signature) == (wire.RETURN, "sqssaa{sv}"), body
                assert body[:4] == ["noc.tor.hookup.net", 25, "dns", "starttls"]
                relays = await agent.get(client, "Relays")
                assert body[4] == relays
                assert agent.requests.asked.pop() == ("relay_for", sender)


async def test_what_anybody_may_read_is_encoded_once_for_a_publication(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of 64 relays takes 2 ms to encode: a caller in a loop would keep the agent from its work."""
    async with serving(bus) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            calls: list[tuple[Any, ...]] = [
                (PATH, PROPERTIES, "GetAll", "s", INTERFACE),
                (PATH, PROPERTIES, "Get", "ss", INTERFACE, "Relays"),
                (PATH, INTERFACE, "RelayFor", "s", "me@home.example"),
                (PATH, INTERFACE, "Explain"),
            ]
            first = [(await ask(client, *call))[1] for call in calls]
            encoded = 0

            def counted(*_: Any) -> dict[str, Value]:
                nonlocal encoded
                encoded += 1
                return {}

            with monkeypatch.context() as patched:
                patched.setattr("salsa_agent.bus.convert.relay", counted)
                patched.setattr("salsa_agent.bus.convert.asked", counted)
                patched.setattr("salsa_agent.bus.service.encode", counted)
                patched.setattr("salsa_agent.bus.properties.encode", counted)
                assert [(await ask(client, *call))[1] for call in calls] == first
                assert encoded == 0
            agent.publish(replace(READY, relays=READY.relays[:1], state=State.DEGRADED))
            agent.requests.counters["rounds"] = 9
            again = [(await ask(client, *call))[1] for call in calls]
            assert plain(again[0])[0]["State"] == "degraded"
            assert plain(again[0])[0]["Statistics"]["rounds"] == 9
            assert len(again[1][0].value) == 1


async def test_statistics_are_those_of_now_and_no_signal_tells_of_them(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            await follow(client)
            assert (await agent.get(client, "Statistics"))["rounds"] == 3
            agent.requests.counters["rounds"] = 4
            assert (await agent.get(client, "Statistics"))["rounds"] == 4
            assert await signals_until(agent, client, READY) == []


async def test_a_site_and_a_password_are_seen_in_the_list_and_the_evidence(bus: Bus) -> None:
    """Rules C10 and D10."""
    office = NOC._replace(source=Source.SITE, site="office", name="", level=None, srv="submissions")
    listed = ListedRelay(office, Verdict.OK, "550 5.7.1", auth=True, wants_auth=True)
    here = HERE._replace(outcome=Outcome.SITE, level=None, name="", site="office")
    shown = replace(READY, best=Best(NOC.key.host, 25, Source.SITE), relays=(listed,), evidence=(here,))
    async with serving(bus, shown) as agent:
        with await RawClient.open(bus.address) as client:
            [relay] = plain(await agent.get(client, "Relays"))
            assert relay.items() >= {"source": "site", "site": "office", "tls": "implicit", "auth": True,
                                     "wants_auth": True}.items()  # fmt: skip
            [address] = plain(await agent.get(client, "Addresses"))
            assert (address["outcome"], address["site"]) == ("site", "office")
            assert await agent.get(client, "BestRelayTls") == "implicit"


async def test_link_relays_are_handed_on(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            for call in (("SetLinkRelays", "ias", 3, ["a.example.net:25"]), ("RevertLink", "i", 3)):
                head, body = await ask(client, PATH, INTERFACE, *call)
                assert head.kind == wire.RETURN, body
            assert agent.requests.asked == [("set_link_relays", 3, ["a.example.net:25"]), ("revert_link", 3)]


async def test_link_relays_are_root_s_and_the_agent_s_own_user_s_where_there_is_no_policy() -> None:
    with system_bus(policy=False, extra=f'<policy context="default">{ANYTHING}</policy>') as bus:
        async with serving(bus) as agent:
            for uid, error in ((0, ""), (NOBODY, f"{ERROR}AccessDenied")):
                with await RawClient.open(bus.address, uid=uid) as client:
                    head, _ = await ask(client, PATH, INTERFACE, "RevertLink", "i", 3)
                    assert head.error_name == error
            assert agent.requests.asked == [("revert_link", 3)]


async def test_a_call_without_an_interface_is_answered() -> None:
    with system_bus(policy=False, extra=f'<policy user="root">{ANYTHING}</policy>') as bus:
        async with serving(bus) as agent:
            with await RawClient.open(bus.address) as client:
                head, body = await ask(client, PATH, "", "GetAll", "s", "")
                assert head.signature == "a{sv}", body
                head, body = await ask(client, PATH, "", "Refresh")
                assert head.kind == wire.RETURN, body
                assert agent.requests.asked == [("refresh",)]
                head, body = await ask(client, PATH, "", "Nonsense")
                assert head.error_name == f"{ERROR}UnknownMethod", body


async def test_a_call_that_wants_no_reply_is_done_and_gets_none(bus: Bus) -> None:
    async with serving(bus) as agent:
        with await RawClient.open(bus.address) as client:
            serials = [
                await client.call(PATH, INTERFACE, "RevertLink", "i", n, destination=NAME, flags=1) for n in (0, 3)
            ]
            serials.append(await client.call(PATH, PROPERTIES, "GetAll", "s", "", destination=NAME, flags=1))
            await ask(client, PATH, INTERFACE, "RevertLink", "i", 4)
            assert agent.requests.asked == [("revert_link", 3), ("revert_link", 4)]
            assert not client.replies.keys() & set(serials)


# --- errors


PLAIN: list[tuple[str, tuple[Any, ...], str]] = [
    ("unknown method", (PATH, INTERFACE, "Nonsense"), "UnknownMethod"),
    ("unknown interface", (PATH, "org.example.Nonsense", "Refresh"), "UnknownMethod"),
    ("unknown object", ("/org/example", INTERFACE, "Refresh"), "UnknownObject"),
    ("parent object", ("/org/salsa", INTERFACE, "Refresh"), "UnknownObject"),
    ("unknown object, Get", ("/nothing", PROPERTIES, "Get", "ss", INTERFACE, "State"), "UnknownObject"),
    ("unknown object, Introspect", ("/nothing", INTROSPECTABLE, "Introspect"), "UnknownObject"),
    ("GetManagedObjects", ("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"), "UnknownObject"),
    ("unknown property", (PATH, PROPERTIES, "Get", "ss", INTERFACE, "Nonsense"), "UnknownProperty"),
    ("Get, unknown interface", (PATH, PROPERTIES, "Get", "ss", "org.example.X", "State"), "UnknownProperty"),
    ("Get, no such property in any interface", (PATH, PROPERTIES, "Get", "ss", "", "X"), "UnknownProperty"),
    ("Get, wrong types", (PATH, PROPERTIES, "Get", "su", INTERFACE, 1), "InvalidArgs"),
    ("Get, too few", (PATH, PROPERTIES, "Get", "s", INTERFACE), "InvalidArgs"),
    ("GetAll, unknown interface", (PATH, PROPERTIES, "GetAll", "s", "org.example.X"), "UnknownInterface"),
    ("Set", (PATH, PROPERTIES, "Set", "ssv", INTERFACE, "State", Value("s", "x")), "PropertyReadOnly"),
    ("Set, wrong type", (PATH, PROPERTIES, "Set", "ssv", INTERFACE, "State", Value("u", 1)), "PropertyReadOnly"),
    ("Set, unknown", (PATH, PROPERTIES, "Set", "ssv", INTERFACE, "X", Value("u", 1)), "UnknownProperty"),
    ("Properties, unknown method", (PATH, PROPERTIES, "Nonsense"), "UnknownMethod"),
    ("Peer, unknown method", (PATH, PEER, "Nonsense"), "UnknownMethod"),
    ("Introspect with arguments", (PATH, INTROSPECTABLE, "Introspect", "s", "x"), "InvalidArgs"),
    ("Refresh with arguments", (PATH, INTERFACE, "Refresh", "s", "x"), "InvalidArgs"),
    ("Explain with arguments", (PATH, INTERFACE, "Explain", "s", "x"), "InvalidArgs"),
    ("ReportFailure, too few", (PATH, INTERFACE, "ReportFailure", "sq", "a.example.net", 25), "InvalidArgs"),
    ("ReportFailure, none", (PATH, INTERFACE, "ReportFailure"), "InvalidArgs"),
    ("ReportFailure, wrong type", (PATH, INTERFACE, "ReportFailure", "sus", "a.example.net", 25, ""), "InvalidArgs"),
    ("ReportFailure, no host", (PATH, INTERFACE, "ReportFailure", "sqs", "", 25, ""), "InvalidArgs"),
    ("ReportFailure, long host", (PATH, INTERFACE, "ReportFailure", "sqs", "a" * 254, 25, ""), "InvalidArgs"),
    ("ReportFailure, control", (PATH, INTERFACE, "ReportFailure", "sqs", "a\nb", 25, ""), "InvalidArgs"),
    ("ReportFailure, not ASCII", (PATH, INTERFACE, "ReportFailure", "sqs", "b\u00fc.example", 25, ""), "InvalidArgs"),
    ("ReportFailure, port 0", (PATH, INTERFACE, "ReportFailure", "sqs", "a.example.net", 0, ""), "InvalidArgs"),
    ("ReportFailure, endless", (PATH, INTERFACE, "ReportFailure", "sqs", "a.example", 25, "x" * 70000), "InvalidArgs"),
    ("RelayFor, long", (PATH, INTERFACE, "RelayFor", "s", "a" * 321), "InvalidArgs"),
    ("RelayFor, control", (PATH, INTERFACE, "RelayFor", "s", "a\n@b.example"), "InvalidArgs"),
    ("RelayFor, none", (PATH, INTERFACE, "RelayFor"), "InvalidArgs"),
    ("Lookup, no address", (PATH, INTERFACE, "Lookup", "s", "example.net"), "InvalidArgs"),
    ("Lookup, scope", (PATH, INTERFACE, "Lookup", "s", "fe80::1%eth0"), "InvalidArgs"),
    ("Lookup, long", (PATH, INTERFACE, "Lookup", "s", "1" * 60000), "InvalidArgs"),
    ("SetLinkRelays, ifindex", (PATH, INTERFACE, "SetLinkRelays", "ias", -1, []), "InvalidArgs"),
    ("SetLinkRelays, 17", (PATH, INTERFACE, "SetLinkRelays", "ias", 2, ["a.example.net"] * 17), "InvalidArgs"),
    ("SetLinkRelays, control", (PATH, INTERFACE, "SetLinkRelays", "ias", 2, ["a\x1b"]), "InvalidArgs"),
    ("SetLinkRelays, long", (PATH, INTERFACE, "SetLinkRelays", "ias", 2, ["a" * 300]), "InvalidArgs"),
    ("SetLinkRelays, wrong type", (PATH, INTERFACE, "SetLinkRelays", "is", 2, "a"), "InvalidArgs"),
    ("RevertLink, ifindex", (PATH, INTERFACE, "RevertLink", "i", 0), "InvalidArgs"),
]  # fmt: skip


async def test_errors_have_the_names_that_sd_bus_gives_and_one_plain_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with system_bus(extra='<policy user="root"><allow send_destination="*"/></policy>') as bus:
        async with serving(bus) as agent:
            with await RawClient.open(bus.address) as client:
                for what, call, error in PLAIN:
                    head, body = await ask(client, *call)
                    assert (what, head.error_name) == (what, ERROR + error)
                    assert SENTENCE.fullmatch(body[0]), what
                    assert "Traceback" not in body[0]
                assert agent.requests.asked == []
    assert not caplog.records


async def test_an_empty_interface_means_any(bus: Bus) -> None:
    async with serving(bus):
        with await RawClient.open(bus.address) as client:
            assert (await ask(client, PATH, PROPERTIES, "Get", "ss", "", "State"))[1][0].value == "ready"
            assert len((await ask(client, PATH, PROPERTIES, "GetAll", "s", ""))[1][0]) == 11
            for standard in (PEER, PROPERTIES, INTROSPECTABLE):
                assert (await ask(client, PATH, PROPERTIES, "GetAll", "s", standard))[1] == [{}]


MACHINE_ID = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


async def test_peer_answers_at_any_path(bus: Bus) -> None:
    async with serving(bus):
        with await RawClient.open(bus.address) as client:
            for path in (PATH, "/", "/nothing"):
                assert (await ask(client, path, PEER, "Ping"))[0].kind == wire.RETURN
                for _ in range(2):
                    head, body = await ask(client, path, PEER, "GetMachineId")
                    if any(file.exists() and file.read_text().strip() for file in MACHINE_ID):
                        assert (head.signature, len(body[0])) == ("s", 32)
                    else:  # a container whose image was never started
                        assert body == ["This machine has no identity."]
            assert (await ask(client, PATH, PEER, "Ping", "s", "x"))[0].kind == wire.RETURN  # as sd-bus has it


@pytest.mark.parametrize(
    ("raised", "name"),
    [
        (NoSuchRelay("No such relay."), "org.salsa.Agent1.Error.NoSuchRelay"),
        (InvalidArgs("Bad\n\x1b form."), f"{ERROR}InvalidArgs"),
        (LimitsExceeded("Too much."), f"{ERROR}LimitsExceeded"),
        (RequestError("No."), f"{ERROR}Failed"),
    ],
)
async def test_what_requests_refuse_has_its_error_name(bus: Bus, raised: Exception, name: str) -> None:
    async with serving(bus) as agent:
        agent.requests.error = raised
        with await RawClient.open(bus.address) as client:
            head, [text] = await ask(client, PATH, INTERFACE, "ReportFailure", "sqs", "a.example.net", 25, "")
            assert head.error_name == name
            assert text == str(raised).replace("\n", "?").replace("\x1b", "?")


async def test_a_defect_is_told_to_the_caller_without_its_inside(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(bus) as agent:
        agent.requests.error = ZeroDivisionError("secret\n\x1b[31m")
        with await RawClient.open(bus.address) as client:
            for member in ("Refresh", "Explain"):
                head, [text] = await ask(client, PATH, INTERFACE, member)
                assert head.error_name == f"{ERROR}Failed"
                assert text == "The agent failed to answer."
            agent.requests.error = None
            assert (await ask(client, PATH, INTERFACE, "Refresh"))[0].kind == wire.RETURN
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    for record in caplog.records:
        assert record.exc_info is None
        assert re.fullmatch(r"a call was not answered: ZeroDivisionError at \S+busagent.py:\d+", record.getMessage())


async def test_calls_in_progress_at_the_end_are_told_so(bus: Bus) -> None:
    with await RawClient.open(bus.address) as client:
        async with serving(bus) as agent:
            agent.requests.gate.clear()
            serial = await client.call(PATH, INTERFACE, "Refresh", destination=NAME)
            while not agent.requests.now:
                await ask(client, PATH, PEER, "Ping")
        head, body = await client.reply(serial)
        assert (head.error_name, body) == (f"{ERROR}Failed", ["The agent is about to end."])
    assert not len(agent.calls)


# --- introspection


def members(text: str) -> Any:
    """Interfaces, members, types and annotations of introspection data; documentation left out."""

    def shape(element: ET.Element) -> Any:
        attributes = dict(element.attrib)
        if element.tag == "node":
            attributes.pop("name", None)
        elif element.tag == "annotation" and "QtDBus" in attributes["name"]:
            return None  # for a generator of code
        elif element.tag == "arg" and attributes.get("direction") == "in":
            attributes.pop("direction")  # the default
        return element.tag, attributes, [one for child in element if (one := shape(child)) is not None]

    return {child.get("name"): shape(child) for child in ET.fromstring(text)}


async def test_the_documented_interface_is_the_live_one(bus: Bus) -> None:
    documented = (PROJECT / "dbus" / "org.salsa.Agent1.xml").read_text()
    async with serving(bus):
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            _, [live] = await ask(client, PATH, INTROSPECTABLE, "Introspect")
    assert members(live)[INTERFACE] == members(documented)[INTERFACE]
    assert set(members(live)) == {INTERFACE, PROPERTIES, PEER, INTROSPECTABLE}
    for name, emits in (("Version", "const"), ("Statistics", "false"), ("BestRelayTls", "true")):
        annotations = ET.fromstring(live).findall(f".//property[@name='{name}']/annotation")
        assert [one.attrib for one in annotations] == [
            {"name": "org.freedesktop.DBus.Property.EmitsChangedSignal", "value": emits}
        ]


def test_every_documented_member_has_its_documentation() -> None:
    text = (PROJECT / "dbus" / "org.salsa.Agent1.xml").read_text()
    described = {}
    for comment in re.findall(r"<!--(.*?)-->", text, re.DOTALL):
        name, _, rest = comment.strip().partition(":\n")
        described[name] = rest
    for element in ET.fromstring(text)[0]:
        name = element.attrib["name"]
        assert len(described[name]) > 20, name
        for arg in element.findall("arg"):
            assert f"@{arg.attrib['name']}:" in described[name], (name, arg.attrib)


async def test_busctl_and_gdbus_find_their_way(bus: Bus) -> None:
    async with serving(bus):
        tree = await bus.busctl("tree", "--list", NAME, uid=NOBODY)
        assert tree.out.split() == ["/", "/org", "/org/salsa", PATH], tree
        seen = await bus.busctl("introspect", NAME, PATH, uid=NOBODY)
        assert re.search(r"^\.BestRelay +property +s +\"noc.tor.hookup.net\" +emits-change", seen.out, re.M), seen
        assert re.search(r"^\.Version +property +s +\"1.2.3\" +const", seen.out, re.M)
        assert re.search(r"^\.Lookup +method +s +aa\{sv\}aa\{sv\}", seen.out, re.M)
        got = await bus.busctl("get-property", NAME, PATH, INTERFACE, "BestRelay", "BestRelayPort", uid=NOBODY)
        assert got.out == 's "noc.tor.hookup.net"\nq 25\n'
        refused = await bus.busctl("set-property", NAME, PATH, INTERFACE, "State", "s", "x", uid=NOBODY)
        assert refused.status == 1
        assert "read-only" in refused.err
        told = await bus.run(
            ["gdbus", "introspect", "--address", bus.address, "--dest", NAME, "--object-path", PATH], uid=NOBODY
        )
        assert "BestRelayChanged(s host," in told.out, told
        unknown = await bus.busctl("introspect", NAME, "/nothing", uid=NOBODY)
        assert unknown.status == 1
