"""Calls in progress, on a real bus with callers of several users, and callers that come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from salsa_agent.bus import message as wire
from salsa_agent.bus.credentials import ENOUGH, WAITING_IN_ALL, WAITING_PER_SENDER, Credentials
from salsa_agent.bus.interface import INTERFACE, NAME, PATH, PEER, PROPERTIES
from salsa_agent.bus.limits import CallsInProgress
from tests.lab.bus import KINDS, NOBODY, PATIENCE, STRANGERS, Bus, RawClient, system_bus
from tests.lab.busagent import Agent, serving

ONE, TWO, THREE = STRANGERS
LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"


@pytest.fixture
def bus() -> Iterator[Bus]:
    with system_bus() as running:
        yield running


@asynccontextmanager
async def clients(bus: Bus, *uids: int) -> AsyncIterator[list[RawClient]]:
    with ExitStack() as stack:
        yield [stack.enter_context(await RawClient.open(bus.address, uid=uid)) for uid in uids]


async def lookups(client: RawClient, count: int) -> list[int]:
    return [await client.call(PATH, INTERFACE, "Lookup", "s", "192.0.2.1", destination=NAME) for _ in range(count)]


async def in_progress(agent: Agent, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while agent.requests.now != count:
            await asyncio.sleep(0.005)


async def refused(client: RawClient, serials: list[int]) -> None:
    """These were refused, in one sentence; no other reply came."""
    for serial in serials:
        head, body = await client.reply(serial)
        assert head.error_name == LIMITS_EXCEEDED
        assert body[0].endswith("in progress.")
    assert not client.replies


async def test_limits_16_calls_of_one_sender_and_others_do_not_suffer(bus: Bus) -> None:
    async with serving(bus) as agent, clients(bus, NOBODY, NOBODY, ONE) as (hog, other, stranger):
        agent.requests.gate.clear()
        serials = await lookups(hog, 20)
        await refused(hog, serials[16:])
        await in_progress(agent, 16)
        await lookups(other, 1)
        await lookups(stranger, 1)
        await in_progress(agent, 18)
        head, _ = await hog.ask(PATH, INTERFACE, "Explain", destination=NAME)  # takes no time: not in progress
        assert head.kind == wire.RETURN
        head, _ = await hog.ask(PATH, INTERFACE, "Refresh", destination=NAME)
        assert head.error_name == LIMITS_EXCEEDED
        agent.requests.gate.set()
        for serial in serials[:16]:
            assert (await hog.reply(serial))[0].kind == wire.RETURN
        [again] = await lookups(hog, 1)
        assert (await hog.reply(again))[0].kind == wire.RETURN


async def test_limits_32_calls_of_one_user(bus: Bus) -> None:
    async with serving(bus) as agent, clients(bus, NOBODY, NOBODY, NOBODY, ONE) as (one, two, three, stranger):
        agent.requests.gate.clear()
        for client in (one, two):
            await lookups(client, 16)
        await in_progress(agent, 32)
        await refused(three, await lookups(three, 2))
        await lookups(stranger, 1)
        await in_progress(agent, 33)


async def test_limits_64_calls_in_all_and_root_s_are_not_counted(bus: Bus) -> None:
    async with serving(bus) as agent, clients(bus, 0, ONE, ONE, TWO, TWO, THREE) as (root, *users):
        agent.requests.gate.clear()
        served = await lookups(root, 100)
        await in_progress(agent, 100)
        for client in users[:4]:
            await lookups(client, 16)
        await in_progress(agent, 164)
        await refused(users[4], await lookups(users[4], 1))
        served += await lookups(root, 20)  # a bus allows 128 itself
        await in_progress(agent, 184)
        agent.requests.gate.set()
        for serial in served:
            assert (await root.reply(serial))[0].kind == wire.RETURN


async def test_limits_keep_nobody_from_a_report_which_takes_no_time(bus: Bus) -> None:
    """Two users who wait for `Refresh` had everybody's reports refused, for up to 20 s each time."""
    async with serving(bus) as agent, clients(bus, ONE, ONE, TWO, TWO, THREE) as (*hogs, stranger):
        agent.requests.gate.clear()
        for client in hogs:
            for _ in range(16):
                await client.call(PATH, INTERFACE, "Refresh", destination=NAME)
        await in_progress(agent, 64)
        report = (PATH, INTERFACE, "ReportFailure", "sqs", "relay.example", 25, "554 no")
        head, body = await stranger.ask(*report, destination=NAME)
        assert head.kind == wire.RETURN, body
        agent.requests.error = ZeroDivisionError()
        assert (await stranger.ask(*report, destination=NAME))[0].error_name.endswith(".Failed")
        await refused(stranger, [await stranger.call(PATH, INTERFACE, "Refresh", destination=NAME)])


async def test_what_nobody_wants_to_know_is_not_found_out(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that want no reply cost the agent as much as others, and the bus next to nothing, so that they piled up."""
    async with serving(bus) as agent, clients(bus, NOBODY) as (client,):
        found = []

        def get_all() -> bytes:
            found.append("all properties")
            return b""

        monkeypatch.setattr(agent.service._properties, "get_all", get_all)
        agent.requests.asked.clear()
        for interface, member, signature, args in (
            (PROPERTIES, "GetAll", "s", (INTERFACE,)),
            (INTERFACE, "Explain", "", ()),
            (INTERFACE, "RelayFor", "s", ("me@example.org",)),
            ("", "RelayFor", "s", ("me@example.org",)),
            (INTERFACE, "Refresh", "", ()),
        ):
            await client.call(PATH, interface, member, signature, *args, destination=NAME, flags=wire.NO_REPLY_EXPECTED)
        async with asyncio.timeout(PATIENCE):
            while not agent.requests.asked:
                await asyncio.sleep(0.005)
        assert (found, agent.requests.asked) == ([], [("refresh",)])


async def test_limits_calls_that_end_by_an_error_no_longer_count(bus: Bus) -> None:
    async with serving(bus) as agent, clients(bus, NOBODY) as (client,):
        agent.requests.error = ZeroDivisionError()
        for _ in range(2):
            for serial in await lookups(client, 16):
                assert (await client.reply(serial))[0].error_name == "org.freedesktop.DBus.Error.Failed"


async def test_the_bus_is_asked_once_for_a_caller(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(bus) as agent, clients(bus, NOBODY) as (client,):
        asked = []
        ask = agent.calls._callers._ask

        async def counted(sender: str) -> int | None:
            asked.append(sender)
            return await ask(sender)

        monkeypatch.setattr(agent.calls._callers, "_ask", counted)
        for serial in [*await lookups(client, 10), *await lookups(client, 5)]:
            assert (await client.reply(serial))[0].kind == wire.RETURN
        assert asked == [client.name]


async def test_a_caller_that_is_gone_costs_nothing(bus: Bus) -> None:
    async with serving(bus) as agent:
        for _ in range(5):
            with await RawClient.open(bus.address, uid=NOBODY) as client:
                octets = b"".join(
                    client.frame(PATH, INTERFACE, "Lookup", "s", "192.0.2.1", destination=NAME) for _ in range(50)
                )
                await client.send(octets)
        with await RawClient.open(bus.address) as client:
            async with asyncio.timeout(PATIENCE):
                while len(agent.calls):
                    assert (await client.ask(PATH, PEER, "Ping", destination=NAME))[0].kind == wire.RETURN
        assert not agent.calls._limits._all


async def test_a_caller_that_is_gone_is_not_answered(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """To write answers that the bus throws away took half of the agent's time in a flood, and honest calls waited."""
    async with serving(bus) as agent:
        there = asyncio.Event()
        ask = agent.calls._callers._ask

        async def late(sender: str) -> int | None:
            await there.wait()
            return await ask(sender)

        monkeypatch.setattr(agent.calls._callers, "_ask", late)
        written = []

        def noted(write: Callable[..., bytes], call: wire.Header, *args: Any) -> bytes:
            written.append(call.sender)
            return write(call, *args)

        for name in ("reply", "error"):
            monkeypatch.setattr(wire, name, partial(noted, getattr(wire, name)))
        with await RawClient.open(bus.address, uid=NOBODY) as client:
            frames = [client.frame(PATH, INTERFACE, "Refresh", destination=NAME) for _ in range(20)]
            await client.send(b"".join(frames))
        async with asyncio.timeout(PATIENCE):
            while len(agent.calls) < 20:
                await asyncio.sleep(0.005)
            with await RawClient.open(bus.address) as other:
                there.set()
                while len(agent.calls):
                    assert (await other.ask(PATH, PEER, "Ping", destination=NAME))[0].kind == wire.RETURN
        assert set(written) == {other.name}
        assert agent.requests.asked.count(("refresh",)) == 16  # as if they had not waited for a reply


GONE = {
    "Refresh": ("", ()),
    "ReportFailure": ("sqs", ("relay.example", 25, "no")),
    "SetLinkRelays": ("ias", (1, ["192.0.2.1"])),
    "RevertLink": ("i", (1,)),
}


async def gone(agent: Agent, client: RawClient, member: str) -> None:
    """Call, expect no reply, and leave before the agent can ask whose call it was, as `busctl` does."""
    signature, values = GONE[member]
    call = client.frame(PATH, INTERFACE, member, signature, *values, destination=NAME, flags=wire.NO_REPLY_EXPECTED)
    with client:
        client.sock.send(call)
    with await RawClient.open(agent.bus.address) as other:
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0.01)
            while len(agent.calls):
                assert (await other.ask(PATH, PEER, "Ping", destination=NAME))[0].kind == wire.RETURN


@pytest.mark.parametrize("member", GONE)
async def test_a_call_of_root_counts_though_its_caller_is_gone(
    bus: Bus, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the system bus, whose policy keeps SetLinkRelays and RevertLink root's."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    async with serving(bus, at="system") as agent:
        await gone(agent, await RawClient.open(bus.address), member)
        assert len(agent.requests.asked) == 1


@pytest.mark.parametrize("member", GONE)
async def test_elsewhere_only_what_anybody_may_counts(bus: Bus, member: str) -> None:
    async with serving(bus) as agent:
        await gone(agent, await RawClient.open(bus.address), member)
        assert len(agent.requests.asked) == (member in ("Refresh", "ReportFailure"))


@pytest.mark.parametrize("member", ["SetLinkRelays", "RevertLink"])
async def test_the_policy_of_the_system_bus_lets_nobody_else_set_what_a_link_says(
    bus: Bus, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    async with serving(bus, at="system") as agent:
        await gone(agent, await RawClient.open(bus.address, uid=NOBODY), member)
        assert agent.requests.asked == []


def test_limits_are_per_sender_then_per_user_then_in_all() -> None:
    limits = CallsInProgress()
    assert [limits.enter("a", 1) for _ in range(17)].count("") == 16
    assert [limits.enter("b", 1) for _ in range(17)].count("") == 16
    assert limits.enter("c", 1) == "This user has 32 calls in progress."
    assert [limits.enter(sender, 2) for sender in "de" for _ in range(16)].count("") == 32
    assert limits.enter("f", 3) == "There are 64 calls in progress."
    assert limits.enter("f", 0) == ""
    limits.leave("f", 0)
    limits.leave("a", 1)
    assert limits.enter("f", 3) == ""
    for sender, uid, count in (("a", 1, 15), ("b", 1, 16), ("d", 2, 16), ("e", 2, 16), ("f", 3, 1)):
        for _ in range(count):
            limits.leave(sender, uid)
    assert (limits._all, limits._senders, limits._users) == (0, {}, {})  # nothing is kept of callers gone by


async def test_what_waits_for_the_bus_to_name_its_user_is_bounded_without_an_exception() -> None:
    """The first call of each caller always passed, and anybody can make himself a new caller: a new connection."""
    gate = asyncio.Event()

    async def ask(sender: str) -> int | None:
        await gate.wait()
        return 1000

    callers = Credentials(ask)
    told: list[int | None] = []
    assert [callers.learn("a", told.append) for _ in range(WAITING_PER_SENDER + 1)].count(True) == WAITING_PER_SENDER
    assert [callers.learn(f"b{n}", told.append) for n in range(5000)].count(True) == WAITING_IN_ALL - WAITING_PER_SENDER
    assert len(callers) == WAITING_IN_ALL
    assert not callers.learn("new", told.append)
    assert len(callers._tasks) == 1 + WAITING_IN_ALL - WAITING_PER_SENDER
    gate.set()
    async with asyncio.timeout(PATIENCE):
        while len(told) < WAITING_IN_ALL:
            await asyncio.sleep(0)
    assert set(told) == {1000}
    assert (len(callers), callers._waiting) == (0, {})
    gate.clear()
    for begun in (False, True):
        assert callers.learn("new", told.append)
        if begun:
            await asyncio.sleep(0)
        await callers.close()
        assert told.pop() is None
        assert (len(callers), callers._waiting, callers._tasks) == (0, {}, set())


async def test_users_of_callers_are_remembered_within_bounds() -> None:
    async def ask(sender: str) -> int | None:
        return int(sender)

    callers = Credentials(ask)
    told: list[int | None] = []
    for number in range(600):
        assert callers.learn(str(number), told.append)
        await asyncio.gather(*callers._tasks)
    assert told == list(range(600))
    assert len(callers._known) == 512


# --- callers that come and go


@pytest.mark.needs("namespaces", "users")
@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_connections_that_come_and_go_are_bounded(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connect, eight calls of `Refresh`, close, over and over: it took 613 MiB in a minute."""
    with system_bus(kind) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        async with serving(bus, at="system") as agent:
            agent.requests.gate.clear()
            most = 0
            for _ in range(150):
                clients = [await RawClient.open(bus.address, uid=uid) for uid in (NOBODY, ONE, TWO, THREE)]
                for client in clients:
                    frames = [client.frame(PATH, INTERFACE, "Refresh", destination=NAME) for _ in range(8)]
                    await client.send(b"".join(frames))
                    client.sock.close()
                most = max(most, len(agent.calls))
            assert most <= WAITING_IN_ALL + 64
            with await RawClient.open(bus.address) as root:
                serial = await root.call(PATH, INTERFACE, "Refresh", destination=NAME)
                await root.ask(PATH, PEER, "Ping", destination=NAME)
                assert agent.requests.now <= 65  # 64 of others, and root's
                agent.requests.gate.set()
                assert (await root.reply(serial))[0].kind == wire.RETURN
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_root_says_of_links_is_heard_whatever_others_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the system bus, whose policy judges it. 5 of 10 were lost while any user made connections and calls."""
    with system_bus(kind) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        async with serving(bus, at="system") as agent:
            agent.requests.gate.clear()  # the calls of others never end
            for number in range(20):
                for uid in (NOBODY, ONE, TWO, THREE):
                    client = await RawClient.open(bus.address, uid=uid)
                    frames = [client.frame(PATH, INTERFACE, "Refresh", destination=NAME) for _ in range(30)]
                    await client.send(b"".join(frames))
                    client.sock.close()
                done = await bus.busctl(
                    "--expect-reply=no", "call", NAME, PATH, INTERFACE, "SetLinkRelays", "ias", "7", "1",
                    f"192.0.2.{number}",
                )  # fmt: skip
                assert done.status == 0, done
            with await RawClient.open(bus.address) as root:
                await root.ask(PATH, PEER, "Ping", destination=NAME)
            heard = [what for what in agent.requests.asked if what[0] == "set_link_relays"]
            assert heard == [("set_link_relays", 7, [f"192.0.2.{number}"]) for number in range(20)]


async def test_what_waits_for_the_bus_to_name_its_user_has_others_wait_and_refused_by_nobody(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose a call is, is not known before: a flood of new connections had root's `Refresh` refused."""
    async with serving(bus) as agent, clients(bus, 0) as (root,):
        gate = asyncio.Event()
        ask = agent.calls._callers._ask

        async def late(sender: str) -> int | None:
            await gate.wait()
            return await ask(sender)

        monkeypatch.setattr(agent.calls._callers, "_ask", late)
        while not agent.calls._callers.full:
            assert agent.calls._callers.learn(f":1.{1000 + len(agent.calls)}", lambda _: None)
        serials = [
            await root.call(PATH, INTERFACE, "Refresh", destination=NAME),
            await root.call(PATH, INTERFACE, "RevertLink", "i", 3, destination=NAME),
        ]
        assert agent.connection._bus is not None
        async with asyncio.timeout(PATIENCE):
            while not agent.connection._bus._held:
                await asyncio.sleep(0)
        assert len(agent.calls) == ENOUGH
        gate.set()
        for serial in serials:
            head, body = await root.reply(serial)
            assert head.kind == wire.RETURN, body
