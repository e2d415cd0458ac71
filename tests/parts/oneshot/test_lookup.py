"""`Lookup`: the reverse tree asked for any address."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from time import monotonic

from salsa_agent.core.model import Answer, Outcome, Question, RelayKey, RRType, Server, ServerView
from salsa_agent.core.settings import Dns, Policy, Sender, Settings, Site
from salsa_agent.oneshot.lookup import AT_ONCE, lookup, view_of_first
from tests.core.sim import NXDOMAIN, VIEW, at, facts, host, mx

NOC = "noc.tor.hookup.net"
NET16 = "154.165.in-addr.arpa"


class Table:
    """Answers from a table; what is not in it does not exist, names in `silent` are never answered."""

    def __init__(self, *silent: str) -> None:
        self.silent = silent
        self.asked: list[Question] = []
        self.answers = {
            (NET16, RRType.MX): mx(f"10:{NOC}.", "20:gone.hookup.net."),
            (NOC, RRType.A): at("203.0.113.1"),
        }

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        if question.name in self.silent:
            await asyncio.Event().wait()
        return self.answers.get((question.name, question.rtype), NXDOMAIN)


async def test_lookup_gives_the_relays_and_every_question() -> None:
    table = Table()
    found = await lookup(ip_address("165.154.15.1"), Settings(), VIEW, table)
    assert [relay.key.host for relay in found.relays] == [NOC]
    assert [(one.question.name, one.question.rtype, one.level) for one in found.questions] == [
        ("1.15.154.165.in-addr.arpa", "MX", 32),
        ("15.154.165.in-addr.arpa", "MX", 24),
        (NET16, "MX", 16),
        (NOC, "AAAA", None),
        (NOC, "A", None),
        ("gone.hookup.net", "AAAA", None),
        ("gone.hookup.net", "A", None),
    ]


async def test_lookup_asks_the_default_servers() -> None:
    table = Table()
    other = Server("10.9.9.9", ifindex=3)
    await lookup(ip_address("165.154.15.1"), Settings(), ServerView(VIEW.default, ((3, (other,)),)), table)
    assert {question.servers for question in table.asked} == {VIEW.default}


def test_f1_the_servers_are_those_of_the_first_address() -> None:
    other = (Server("10.9.9.9", ifindex=2),)
    view = ServerView(VIEW.default, ((2, other),))
    assert view_of_first(facts("165.154.15.1"), Settings(), view) == ServerView(other)
    assert view_of_first(facts(), Settings(), view).default == VIEW.default


def test_f1_a_server_that_is_an_address_of_this_host_is_asked_without_the_link() -> None:
    view = ServerView(VIEW.default, ((2, (Server("10.9.9.9", ifindex=2),)),))
    here = facts("165.154.15.1", host("10.9.9.9", index=4))
    assert view_of_first(here, Settings(), view).default == (Server("10.9.9.9"),)


async def test_lookup_has_no_static_relay_and_obeys_the_policy() -> None:
    settings = Settings(policy=Policy(deny=("*.hookup.net",)))
    found = await lookup(ip_address("165.154.15.1"), settings, VIEW, Table())
    assert list(found.relays) == []


async def test_c10_lookup_asks_the_reverse_tree_whatever_the_sites_say() -> None:
    site = Site("home", prefix=(ip_network("165.154.0.0/16"),), relays=(RelayKey("mail.example", 25),), use="only")
    sender = Sender(("*@example.net",), (RelayKey("own.example", 587),))
    settings = Settings(static_relays=(RelayKey("last.example", 25),), sites=(site,), senders=(sender,))
    found = await lookup(ip_address("165.154.15.1"), settings, VIEW, Table())
    assert [relay.key.host for relay in found.relays] == [NOC]


async def test_lookup_ends_though_nobody_answers() -> None:
    settings = Settings(dns=Dns(timeout=0.1, attempts=1))
    found = await lookup(ip_address("165.154.15.1"), settings, VIEW, Table(NET16, NOC))
    assert [one.answer.outcome for one in found.questions] == [Outcome.NONE, Outcome.NONE, Outcome.FAILED]
    assert list(found.relays) == []


async def test_what_is_given_up_took_from_when_it_was_asked() -> None:
    settings = Settings(dns=Dns(timeout=0.2, attempts=1))
    table = Table(*(f"r{n}.hookup.net" for n in range(AT_ONCE)))
    table.answers[NET16, RRType.MX] = mx(*(f"10:{name}." for name in table.silent))
    ask, pause = table.ask, 0.05

    async def later(question: Question) -> Answer:
        if question.name == NET16:
            await asyncio.sleep(pause)
        return await ask(question)

    table.ask = later  # type: ignore[method-assign]
    began = monotonic()
    found = await lookup(ip_address("165.154.15.1"), settings, VIEW, table)
    most = monotonic() - began - pause
    took = {one.question: one.answer.elapsed for one in found.questions if one.question.name in table.silent}
    asked = table.asked[-AT_ONCE:]
    assert len(took) == 2 * AT_ONCE
    assert all(0.0 < took.pop(question) <= most for question in asked)
    assert set(took.values()) == {0.0}, "no place was free for these"


async def test_b3_an_exchange_is_looked_up_without_waiting_for_less_specific_levels() -> None:
    settings = Settings(dns=Dns(timeout=0.1, attempts=1))
    table = Table(NET16)
    table.answers["15.154.165.in-addr.arpa", RRType.MX] = mx(f"5:{NOC}.")
    found = await lookup(ip_address("165.154.15.1"), settings, VIEW, table)
    assert [relay.key.host for relay in found.relays] == [NOC]
    assert {one.question.name: one.answer.outcome for one in found.questions}[NET16] is Outcome.FAILED


async def test_lookup_asks_few_questions_at_once() -> None:
    table = Table()
    names = [f"r{n}.hookup.net" for n in range(32)]
    table.answers[NET16, RRType.MX] = mx(*(f"{n}:{name}." for n, name in enumerate(names)))
    now = most = 0
    ask = table.ask

    async def counted(question: Question) -> Answer:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        try:
            return await ask(question)
        finally:
            now -= 1

    table.ask = counted  # type: ignore[method-assign]
    await lookup(ip_address("165.154.15.1"), Settings(), VIEW, table)
    assert len(table.asked) == 3 + 64
    assert 2 < most <= AT_ONCE
