"""The guards around pyroute2's sockets."""

from __future__ import annotations

import asyncio
import errno
import gc
import struct
import subprocess
import sys
from socket import AF_INET, AF_NETLINK, NETLINK_ROUTE, SOCK_RAW, socket
from typing import Any

import pytest
from pyroute2 import AsyncIPRoute
from pyroute2.netlink import rtnl
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from salsa_agent.netlink import kernel_socket
from salsa_agent.netlink import messages as read
from salsa_agent.netlink.kernel_socket import EventSocket, RequestSocket
from salsa_agent.netlink.messages import RouteMessage
from salsa_agent.netlink.monitor import GROUPS
from tests.lab.needs import Need
from tests.lab.netns import Netns
from tests.lab.run import PROJECT
from tests.parts.netlink.watch import PATIENCE, encoded

OWN = ("IFA_LOCAL", "192.0.2.66")
FORGED = encoded(ifaddrmsg, rtnl.RTM_NEWADDR, OWN, family=AF_INET, prefixlen=24, index=2)


async def heard(events: EventSocket, last: int) -> list[Any]:
    """All messages up to the first of this kind."""
    found: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        while not any(read.kind(one) == last for one in found):
            found += [one async for one in events.messages()]
    return found


async def listening(rcvbuf: int = 1 << 20) -> EventSocket:
    events = EventSocket(rcvbuf)
    await events.listen()
    for group in GROUPS:
        events.join(group)
    return events


async def test_only_the_kernel_is_heard(host: Netns) -> None:
    """Root may send to any netlink port; what it sends has no part in events nor in answers."""
    async with await listening() as events, RequestSocket() as requests:
        await requests.open()
        with socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) as other:
            assert [one async for one in requests.dump(ifinfmsg(), rtnl.RTM_GETLINK)]  # the kernel gives it a port
            for sock in (events, requests):
                other.sendto(FORGED, (sock.getsockname()[0], 0))
            host.ip("link", "set", "up0", "down")
            assert rtnl.RTM_NEWADDR not in {read.kind(one) for one in await heard(events, rtnl.RTM_NEWLINK)}
            links = [one async for one in requests.dump(ifinfmsg(), rtnl.RTM_GETLINK)]
            assert {read.kind(one) for one in links} == {rtnl.RTM_NEWLINK}
            assert requests.msg_queue.root.empty()


async def test_routes_that_lead_nowhere_outside_are_not_even_received(host: Netns) -> None:
    """Each address brings one; the default route after them shows that the rest comes."""
    async with await listening() as events:
        host.batch(
            ["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1", "addr del 192.0.2.5/24 dev up0"]
        )
        found = await heard(events, rtnl.RTM_DELADDR)
    routes = [one for one in found if read.kind(one) in (rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE)]
    assert any(one["dst_len"] == 0 for one in routes)
    assert all(read.may_lead_outside(one) for one in routes)


async def test_a_lookup_leaves_nothing_behind(host: Netns) -> None:
    """pyroute2's own `route("get")` leaves an acknowledgement in a queue for ever."""
    host.batch(["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1"])
    async with RequestSocket() as requests:
        await requests.open()
        for _ in range(20):
            request = RouteMessage()
            request.update(family=AF_INET, dst_len=32, attrs=[("RTA_DST", "198.41.0.4")])
            answers = await requests.lookup(request, rtnl.RTM_GETROUTE)
            assert [read.kind(one) async for one in answers] == [rtnl.RTM_NEWROUTE]
        assert requests.msg_queue.root.empty()
        assert set(requests.msg_queue.queues) == {0}


# --- dumps


@pytest.mark.parametrize("of", [rtnl.RTM_NEWROUTE, 3], ids=["message", "NLMSG_DONE"])
@pytest.mark.parametrize("specific", [False, True], ids=["default route", "other route"])
async def test_e3_an_interruption_of_a_dump_is_seen(
    host: Netns, monkeypatch: pytest.MonkeyPatch, of: int, specific: bool
) -> None:
    """The kernel cannot be made to interrupt a dump on command: the flag is, on any message, also one that is cut."""
    host.batch(["addr add 192.0.2.5/24 dev up0", "route add default via 192.0.2.1"])
    original = RequestSocket.enqueue
    calm = True

    def enqueue(self: Any, data: bytes, addr: Any) -> None:
        changed = bytearray(data)
        for start, _, kind, flags in kernel_socket._headers(data):
            here = kind == of and (of == 3 or bool(data[start + 17]) is specific)
            if here and not calm:
                struct.pack_into("=H", changed, start + 6, flags | 0x10)  # NLM_F_DUMP_INTR
        original(self, bytes(changed), addr)

    monkeypatch.setattr(RequestSocket, "enqueue", enqueue)
    async with RequestSocket() as requests:
        await requests.open()
        for calm in (True, False, True):  # read by `enqueue`
            request = RouteMessage()
            request.update(family=AF_INET, type=1)
            found = [one async for one in requests.dump(request, rtnl.RTM_GETROUTE)]
            assert requests.dump_consistent is calm
            assert [one["dst_len"] for one in found] == [0]


async def test_routes_with_a_destination_are_cut_from_a_dump_before_they_are_parsed(
    host: Netns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router has a million; only default routes are looked for."""
    parsed = 0
    original = AsyncIPRoute.enqueue

    def enqueue(self: Any, data: bytes, addr: Any) -> None:
        nonlocal parsed
        parsed += len(list(kernel_socket._headers(data)))
        original(self, data, addr)

    monkeypatch.setattr(AsyncIPRoute, "enqueue", enqueue)
    host.batch(["addr add 192.0.2.5/24 dev up0", *(f"route add 10.{n}.0.0/16 dev up0" for n in range(250))])
    host.ip("route", "add", "default", "via", "192.0.2.1")
    async with RequestSocket() as requests:
        await requests.open()
        request = RouteMessage()
        request.update(family=AF_INET, type=1)
        found = [one async for one in requests.dump(request, rtnl.RTM_GETROUTE)]
    assert len(found) == 1
    assert parsed <= 3  # it, the end, and an error of the socket as it is closed


async def test_e3_a_dump_that_ends_with_an_error_is_an_error(host: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may refuse a dump at its end (struct nlmsghdr of NLMSG_DONE, then an errno)."""
    original = RequestSocket.enqueue

    def enqueue(self: Any, data: bytes, addr: Any) -> None:
        changed = bytearray(data)
        for start, _, kind, _ in kernel_socket._headers(data):
            if kind == 3:
                struct.pack_into("=i", changed, start + 16, -errno.EINVAL)
        original(self, bytes(changed), addr)

    monkeypatch.setattr(RequestSocket, "enqueue", enqueue)
    async with RequestSocket() as requests:
        await requests.open()
        with pytest.raises(NetlinkError) as caught:
            async for _ in requests.dump(ifinfmsg(), rtnl.RTM_GETLINK):
                pass
        assert caught.value.code == errno.EINVAL


# --- storms


async def test_what_waits_is_bounded_and_then_an_overrun(host: Netns, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyroute2's queue has no bound of its own."""
    monkeypatch.setattr(kernel_socket, "MAX_WAITING", 100)
    async with await listening() as events:
        host.batch([f"addr add 10.0.{n}.1/32 dev up0" for n in range(200)])
        async with asyncio.timeout(PATIENCE):
            while events.received <= 100:
                await asyncio.sleep(0)
        assert events.msg_queue.root.qsize() <= 101  # and the error
        with pytest.raises(OSError, match="105") as caught:
            while True:
                async for _ in events.messages():
                    pass
        assert caught.value.errno == errno.ENOBUFS


async def test_what_waits_takes_no_more_room_than_it_needs() -> None:
    """asyncio reads into a buffer of 256 KiB each."""
    events = EventSocket(1 << 20)
    await events.setup_endpoint()
    async with events:
        gc.collect()
        events.enqueue(memoryview(FORGED).tobytes(), (kernel_socket.KERNEL, 0))
        (waiting,) = events.msg_queue.root._queue
        assert waiting == FORGED


@pytest.mark.parametrize("data", [b"", b"\0", bytes(15), bytes(16), FORGED[:-3], b"\xff" * 64])
async def test_a_datagram_that_no_kernel_sends_is_nothing_or_an_oserror(data: bytes) -> None:
    async with EventSocket(1 << 20) as events, RequestSocket() as requests:
        await events.listen()
        await requests.open()
        for sock in (events, requests):
            sock.enqueue(data, (kernel_socket.KERNEL, 0))
        events.enqueue(FORGED, (kernel_socket.KERNEL, 0))
        try:
            found = await heard(events, rtnl.RTM_NEWADDR)
        except OSError as error:
            assert error.errno == errno.EBADMSG
        else:
            assert found
        links = [one async for one in requests.dump(ifinfmsg(), rtnl.RTM_GETLINK)]
        assert links


def test_headers_end_where_a_message_is_cut_off() -> None:
    assert [kind for _, _, kind, _ in kernel_socket._headers(FORGED + FORGED)] == [rtnl.RTM_NEWADDR] * 2
    for end in range(1, len(FORGED)):
        assert len(list(kernel_socket._headers(FORGED + FORGED[:end]))) == 1
    assert not list(kernel_socket._headers(bytes(64)))


@pytest.mark.needs(Need.NAMESPACES)
def test_nothing_is_said_of_traffic_control_where_proc_has_processes_alone() -> None:
    """The unit has ProcSubset=pid: pyroute2 would write two warnings into the journal at each start."""
    script = 'mount -t proc -o subset=pid proc /proc && test ! -e /proc/net/psched && exec "$0" -c "$1"'
    code = "from salsa_agent.system import logs; logs.setup('info'); import salsa_agent.daemon.agent"
    argv = ["unshare", "--mount", "--pid", "--fork", "sh", "-euc", script, sys.executable, code]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60, cwd=PROJECT)
    assert (done.stdout, done.stderr) == ("", "")
