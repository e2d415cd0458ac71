"""The external address (rule G1): real gateways and servers end to end, and peers that misbehave on demand."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from salsa_agent.config.values import stun_server
from salsa_agent.core.events import DiscoverExternalAddress
from salsa_agent.core.model import IPAddress, Server
from salsa_agent.nat import natpmp, stun
from salsa_agent.nat.client import Nat
from salsa_agent.resolver.resolver import Resolver
from tests.lab import nat as lab
from tests.lab.nat import CLIENT6, GATEWAY, GATEWAY6, NEIGHBOUR, PATIENCE, ROUTER_OUTSIDE, SERVER, Home
from tests.lab.netns import Netns, veth
from tests.parts.nat.test_messages import ERROR, attribute, message, xor_mapped

OUTSIDE, OTHER, FORGED = map(ip_address, ("11.22.33.44", "11.22.33.55", "6.6.6.6"))
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
NATPMP_PORT, STUN_PORT = 5351, 3478
SLOW = (60.0,)  # one request, and then nothing for as long as a test lasts
HASTY = (0.05,) * 400
_WALL = """
table inet wall {
    chain output { type filter hook output priority 0; udp dport 3478 counter drop; }
}
"""


class Told:
    """A driver, and what it told."""

    def __init__(self, hosts_file: Path, **waits: Sequence[float]) -> None:
        self.told: list[tuple[DiscoverExternalAddress, IPAddress | None]] = []
        self._news = asyncio.Event()
        self.resolver = Resolver(hosts_file=hosts_file)
        self.nat = Nat(self._on_learned, lambda question: self.resolver.ask(question), **waits)

    def _on_learned(self, request: DiscoverExternalAddress, ip: IPAddress | None) -> None:
        self.told.append((request, ip))
        self._news.set()

    @property
    def ips(self) -> list[IPAddress | None]:
        return [ip for _, ip in self.told]

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"it never came; told: {self.ips}")

    async def count(self, number: int) -> None:
        """Wait until so many answers were told."""
        await self.until(lambda: len(self.told) >= number)

    async def learn(self, request: DiscoverExternalAddress) -> IPAddress | None:
        """The first answer to this request."""
        self.nat.discover(request)
        await self.until(lambda: any(of == request for of, _ in self.told))
        return next(ip for of, ip in self.told if of == request)


class Peer:
    """Whoever a test wants at an address of a namespace: gateway, server, neighbour."""

    def __init__(self, space: Netns, address: str, port: int) -> None:
        self.at = (address, port)
        with space.inside():
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind(self.at)

    def close(self) -> None:
        self._sock.close()

    async def request(self) -> tuple[bytes, tuple[str, int]]:
        """The next request and its sender."""
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().sock_recvfrom(self._sock, 2048)

    def requests(self) -> list[tuple[bytes, tuple[str, int], float]]:
        """All that came, and when, by the kernel's clock."""
        came = []
        try:
            while True:
                data, ancillary, _, sender = self._sock.recvmsg(2048, 256)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                came.append((data, sender, seconds + nanoseconds / 1e9))
        except BlockingIOError:
            return came

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        self._sock.sendto(data, to)

    def announce(self, data: bytes) -> None:
        """To all hosts on the link that has the peer's address."""
        self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self.at[0]))
        self._sock.sendto(data, ("224.0.0.1", 5350))


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home() as built:
        yield built


@pytest.fixture(autouse=True)
def here(home: Home) -> Iterator[None]:
    """The test is at the client, and leaves no socket there."""
    with home.client.inside():
        yield
        gc.collect()
        assert home.client.run(["ss", "-H", "-una"]) == ""


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., Told]:
    return lambda **waits: Told(tmp_path / "no-hosts", **waits)


def pmp_request(home: Home, serial: int = 1, link: str = "up0") -> DiscoverExternalAddress:
    return DiscoverExternalAddress(serial, "nat-pmp", home.client.index(link), gateway=GATEWAY)


def stun_request(
    home: Home, server: str = SERVER, serial: int = 1, servers: tuple[Server, ...] = ()
) -> DiscoverExternalAddress:
    to = stun_server(server)
    return DiscoverExternalAddress(serial, "stun", home.client.index("up0"), server=to, servers=servers)


def pmp(ip: IPAddress = OUTSIDE, result: int = 0) -> bytes:
    return struct.pack("!BBHI", 0, 128, result, 60) + ip.packed


def binding(request: bytes, ip: IPAddress = OUTSIDE) -> bytes:
    return message(xor_mapped(ip, request[8:20]), of=request[8:20])


# --- NAT-PMP with a real gateway


async def test_g1_nat_pmp_learns_the_routers_external_address(
    home: Home, told: Callable[..., Told], tmp_path: Path
) -> None:
    it = told()
    with home.miniupnpd(tmp_path):
        assert await it.learn(pmp_request(home)) == ip_address(ROUTER_OUTSIDE)
    await it.nat.close()


async def test_g1_nat_pmp_a_changed_address_is_announced_and_told(
    home: Home, told: Callable[..., Told], tmp_path: Path
) -> None:
    it = told()
    with home.miniupnpd(tmp_path) as gateway:
        assert await it.learn(pmp_request(home)) == ip_address(ROUTER_OUTSIDE)
        home.router.batch([f"addr del {ROUTER_OUTSIDE}/24 dev wan0", "addr add 11.22.33.77/24 dev wan0"])
        try:
            gateway.send_signal(signal.SIGUSR1)
            await it.count(2)
        finally:
            home.router.batch(["addr del 11.22.33.77/24 dev wan0", f"addr add {ROUTER_OUTSIDE}/24 dev wan0"])
    assert it.ips == [ip_address(ROUTER_OUTSIDE), ip_address("11.22.33.77")]
    await it.nat.close()


async def test_g1_nat_pmp_a_gateway_without_an_address_gives_none(
    home: Home, told: Callable[..., Told], tmp_path: Path
) -> None:
    """miniupnpd answers "network failure"."""
    it = told()
    home.router.ip("addr", "del", f"{ROUTER_OUTSIDE}/24", "dev", "wan0")
    try:
        with home.miniupnpd(tmp_path):
            assert await it.learn(pmp_request(home)) is None
    finally:
        home.router.ip("addr", "add", f"{ROUTER_OUTSIDE}/24", "dev", "wan0")
    await it.nat.close()


async def test_g1_nat_pmp_no_gateway_at_the_port_is_known_at_once(home: Home, told: Callable[..., Told]) -> None:
    """By ICMP port unreachable; the nine requests would take two minutes."""
    it = told()
    assert await it.learn(pmp_request(home)) is None
    await it.nat.close()


# --- STUN with a real server


async def test_g1_stun_learns_the_routers_external_address(
    home: Home, told: Callable[..., Told], tmp_path: Path
) -> None:
    it = told()
    with home.coturn(tmp_path, home.outside, SERVER):
        assert await it.learn(stun_request(home)) == ip_address(ROUTER_OUTSIDE)
        assert await it.learn(stun_request(home, f"{SERVER}:3478", serial=2)) == ip_address(ROUTER_OUTSIDE)
    await it.nat.close()


async def test_g1_stun_a_servers_name_is_looked_up_at_the_wishs_servers(
    home: Home, told: Callable[..., Told], tmp_path: Path
) -> None:
    it = told()
    servers = (Server(SERVER, ifindex=home.client.index("up0")),)
    records = (f"stun.example,{SERVER}", "six.example,2001:db8:ffff::1")
    with home.dnsmasq(tmp_path, *records), home.coturn(tmp_path, home.outside, SERVER, port=3479):
        request = stun_request(home, "stun.example:3479", servers=servers)
        assert await it.learn(request) == ip_address(ROUTER_OUTSIDE)
        for serial, name in enumerate(("none.example", "six.example"), 2):  # without a way to it
            assert await it.learn(stun_request(home, name, serial, servers)) is None
    await it.nat.close()


async def test_g1_stun_a_servers_ipv4_addresses_are_asked_first_and_at_once(
    home: Home, told: Callable[..., Told], tmp_path: Path
) -> None:
    """Nobody is at one of them; by IPv6 the server would see the client's own address."""
    it = told()
    records = (f"stun.example,{SERVER},{GATEWAY6}", "stun.example,11.22.33.200")
    (tmp_path / "six").mkdir()
    with (
        home.dnsmasq(tmp_path, *records),
        home.coturn(tmp_path, home.outside, SERVER),
        home.coturn(tmp_path / "six", home.router, GATEWAY6),
    ):
        request = stun_request(home, "stun.example", servers=(Server(SERVER),))
        assert await it.learn(request) == ip_address(ROUTER_OUTSIDE)
    await it.nat.close()


async def test_g1_stun_a_server_may_stand_in_the_hosts_file(
    home: Home, told: Callable[..., Told], tmp_path: Path
) -> None:
    (tmp_path / "no-hosts").write_text(f"{SERVER} stun\n")
    it = told()
    with home.coturn(tmp_path, home.outside, SERVER):
        assert await it.learn(stun_request(home, "stun")) == ip_address(ROUTER_OUTSIDE)
    await it.nat.close()


async def test_g1_stun_over_ipv6(home: Home, told: Callable[..., Told], tmp_path: Path) -> None:
    it = told()
    with home.dnsmasq(tmp_path, f"six.example,{GATEWAY6}"), home.coturn(tmp_path, home.router, GATEWAY6):
        assert await it.learn(stun_request(home, f"[{GATEWAY6}]:3478")) == ip_address(CLIENT6)
        named = stun_request(home, "six.example", serial=2, servers=(Server(SERVER),))
        assert await it.learn(named) == ip_address(CLIENT6)
    await it.nat.close()


async def test_g1_stun_no_server_at_the_port_is_known_at_once(home: Home, told: Callable[..., Told]) -> None:
    it = told()
    assert await it.learn(stun_request(home)) is None
    await it.nat.close()


async def test_g1_stun_host_unreachable_is_no_end(home: Home, told: Callable[..., Told]) -> None:
    """A soft ICMP error (RFC 1122): the next request has its chance."""
    it = told(stun_waits=HASTY)
    home.router.ip("route", "add", "unreachable", f"{SERVER}/32")
    try:
        it.nat.discover(stun_request(home))
        with closing(Peer(home.outside, SERVER, STUN_PORT)) as server:
            await _counter(home, "IcmpInDestUnreachs", 2)
            assert not it.told
            home.router.ip("route", "del", "unreachable", f"{SERVER}/32")
            request, sender = await server.request()
            server.send(binding(request), sender)
            await it.until(lambda: it.ips == [OUTSIDE])
    finally:
        home.router.run(["sh", "-c", f"ip route del unreachable {SERVER}/32 2>/dev/null || :"])
    await it.nat.close()


async def test_g1_stun_a_request_that_cannot_be_sent_is_no_end(home: Home, told: Callable[..., Told]) -> None:
    """The host's own firewall stands for whatever makes send(2) fail for a while."""
    it = told(stun_waits=HASTY)
    with closing(Peer(home.outside, SERVER, STUN_PORT)) as server:
        home.client.run(["nft", "-f", "-"], input=_WALL)
        try:
            it.nat.discover(stun_request(home))
            await _until(lambda: "packets 0 " not in home.client.run(["nft", "list", "table", "inet", "wall"]))
            assert not it.told
        finally:
            home.client.run(["nft", "delete", "table", "inet", "wall"])
        request, sender = await server.request()
        server.send(binding(request), sender)
        await it.until(lambda: it.ips == [OUTSIDE])
    await it.nat.close()


async def _counter(home: Home, name: str, more: int) -> None:
    """Wait until an SNMP counter of the client has grown."""
    start: int | None = None

    def grown() -> bool:
        nonlocal start
        now = int(home.client.run(["nstat", "-asz", name]).split()[-2])
        start = now if start is None else start
        return now - start >= more

    await _until(grown)


async def _until(condition: Callable[[], bool]) -> None:
    """For what nobody tells."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


# --- requests again


async def test_g1_nat_pmp_asks_nine_times_at_doubling_intervals(home: Home, told: Callable[..., Told]) -> None:
    waits = tuple(wait / 100 for wait in natpmp.WAITS)
    it = told(natpmp_waits=waits)
    with closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as gateway:
        assert await it.learn(pmp_request(home)) is None
        requests = gateway.requests()
    assert [data for data, _, _ in requests] == [b"\0\0"] * 9
    assert len({sender for _, sender, _ in requests}) == 1
    _are_spaced([when for _, _, when in requests], waits)
    await it.nat.close()


async def test_g1_stun_asks_seven_times_at_doubling_intervals(home: Home, told: Callable[..., Told]) -> None:
    waits = tuple(wait / 50 for wait in stun.WAITS)
    it = told(stun_waits=waits)
    with closing(Peer(home.outside, SERVER, STUN_PORT)) as server:
        assert await it.learn(stun_request(home)) is None
        requests = server.requests()
    assert len(requests) == 7
    assert len({(data, sender) for data, sender, _ in requests}) == 1  # one transaction
    _are_spaced([when for _, _, when in requests], waits)
    await it.nat.close()


def _are_spaced(times: list[float], waits: Sequence[float]) -> None:
    """Any of them may have been seen late, the first too; what is lost by that is less than what doubles."""
    for number in range(2, len(times)):
        assert times[number] - times[0] >= 0.6 * sum(waits[:number])


async def test_g1_each_transaction_has_its_own_id_and_source_port(home: Home, told: Callable[..., Told]) -> None:
    it = told(stun_waits=SLOW)
    seen = []
    with closing(Peer(home.outside, SERVER, STUN_PORT)) as server:
        for serial in range(4):
            it.nat.discover(stun_request(home, serial=serial))
            request, sender = await server.request()
            seen.append((request[8:20], sender[1]))
            server.send(binding(request), sender)
            await it.count(serial + 1)
    assert len({transaction for transaction, _ in seen}) == 4
    assert len({port for _, port in seen}) > 1
    await it.nat.close()


@pytest.mark.parametrize("method", ["nat-pmp", "stun"])
async def test_g1_an_answer_to_a_later_request_counts(home: Home, told: Callable[..., Told], method: str) -> None:
    it = told(natpmp_waits=HASTY, stun_waits=HASTY)
    with closing(_peer(home, method)) as peer:
        it.nat.discover(_request(home, method))
        for _ in range(3):
            request, sender = await peer.request()
        peer.send(_answer(method, request), sender)
        await it.until(lambda: it.ips == [OUTSIDE])
    await it.nat.close()


def _peer(home: Home, method: str) -> Peer:
    return Peer(home.router, GATEWAY, NATPMP_PORT) if method == "nat-pmp" else Peer(home.outside, SERVER, STUN_PORT)


def _request(home: Home, method: str, serial: int = 1) -> DiscoverExternalAddress:
    return pmp_request(home, serial) if method == "nat-pmp" else stun_request(home, serial=serial)


def _answer(method: str, request: bytes, ip: IPAddress = OUTSIDE) -> bytes:
    return pmp(ip) if method == "nat-pmp" else binding(request, ip)


# --- answers from elsewhere


async def test_g1_nat_pmp_answers_from_elsewhere_are_dropped(home: Home, told: Callable[..., Told]) -> None:
    it = told(natpmp_waits=SLOW)
    with (
        closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as gateway,
        closing(Peer(home.router, GATEWAY, 5555)) as other_port,
        closing(Peer(home.neighbour, NEIGHBOUR, NATPMP_PORT)) as neighbour,
    ):
        it.nat.discover(pmp_request(home))
        _, sender = await gateway.request()
        neighbour.send(pmp(FORGED), sender)
        other_port.send(pmp(FORGED), sender)
        gateway.send(b"\0", sender)
        gateway.send(pmp(), sender)
        await it.until(lambda: it.ips == [OUTSIDE])
    await it.nat.close()


async def test_g1_stun_answers_from_elsewhere_or_to_others_are_dropped(home: Home, told: Callable[..., Told]) -> None:
    """The forger is on the client's own network and knows everything."""
    it = told(stun_waits=SLOW)
    with (
        closing(Peer(home.outside, SERVER, STUN_PORT)) as server,
        closing(Peer(home.neighbour, NEIGHBOUR, 3478)) as lan,
    ):
        it.nat.discover(stun_request(home))
        request, seen = await server.request()
        inside = (lab.CLIENT, seen[1])  # masquerading keeps the port where it can
        lan.send(binding(request, FORGED), inside)
        server.send(message(xor_mapped(FORGED, bytes(12)), of=bytes(12)), seen)
        server.send(binding(request)[:-1], seen)
        server.send(binding(request), seen)
        await it.until(lambda: it.ips == [OUTSIDE])
    await it.nat.close()


async def test_g1_nat_pmp_only_the_gateways_announcements_are_heard(home: Home, told: Callable[..., Told]) -> None:
    it = told(natpmp_waits=SLOW)
    with (
        closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as gateway,
        closing(Peer(home.neighbour, NEIGHBOUR, NATPMP_PORT)) as neighbour,
    ):
        it.nat.discover(pmp_request(home))
        _, sender = await gateway.request()
        gateway.send(pmp(), sender)
        await it.until(lambda: it.ips == [OUTSIDE])
        neighbour.announce(pmp(FORGED))
        gateway.announce(b"\x02" + pmp(FORGED)[1:])  # of PCP
        for _ in range(3):
            gateway.announce(pmp(OUTSIDE))  # nothing new
        gateway.announce(pmp(OTHER))
        await it.count(2)
        gateway.announce(pmp(FORGED, result=3))
        await it.count(3)
    assert it.ips == [OUTSIDE, OTHER, None]
    await it.nat.close()


async def test_g1_nat_pmp_an_announcement_is_not_undone_by_silence(home: Home, told: Callable[..., Told]) -> None:
    it = told(natpmp_waits=(0.1, 0.1))
    with closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as gateway:
        it.nat.discover(pmp_request(home))
        await gateway.request()
        gateway.announce(pmp())
        await gateway.request()
        gateway.announce(pmp(OTHER))
        await _until(lambda: not home.client.run(["ss", "-H", "-una", f"dport = :{NATPMP_PORT}"]))  # it gave up
        gateway.announce(pmp(OUTSIDE))
        await it.count(3)
    assert it.ips == [OUTSIDE, OTHER, OUTSIDE]
    await it.nat.close()


async def test_g1_nat_pmp_a_taken_port_costs_the_announcements_only(home: Home, told: Callable[..., Told]) -> None:
    it = told()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("224.0.0.1", 5350))  # not shared
        with closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as gateway:
            it.nat.discover(pmp_request(home))
            _, sender = await gateway.request()
            gateway.send(pmp(), sender)
            await it.until(lambda: it.ips == [OUTSIDE])
        await it.nat.close()


async def test_g1_nat_pmp_announcements_are_shared_with_other_programs(home: Home, told: Callable[..., Told]) -> None:
    first, second = told(natpmp_waits=SLOW), told(natpmp_waits=SLOW)
    with closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as gateway:
        for it in (first, second):
            it.nat.discover(pmp_request(home))
            _, sender = await gateway.request()
            gateway.send(pmp(), sender)
            await it.count(1)
        gateway.announce(pmp(OTHER))
        for it in (first, second):
            await it.count(2)
            assert it.ips == [OUTSIDE, OTHER]
    await first.nat.close()
    await second.nat.close()


async def test_g1_two_links_with_the_same_gateway_address_are_kept_apart(home: Home, told: Callable[..., Told]) -> None:
    """Both what is asked, and what is announced."""
    with Netns() as second:
        veth(home.client, "up1", second, "lan0")
        second.ip("addr", "add", f"{GATEWAY}/24", "dev", "lan0")
        home.client.batch(["addr add 192.168.1.20/24 dev up1", f"route add default via {GATEWAY} dev up1 metric 99"])
        one, two = told(natpmp_waits=SLOW), told(natpmp_waits=SLOW)
        with (
            closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as at_one,
            closing(Peer(second, GATEWAY, NATPMP_PORT)) as at_two,
        ):
            for it, gateway, link, ip in ((one, at_one, "up0", OUTSIDE), (two, at_two, "up1", OTHER)):
                it.nat.discover(pmp_request(home, link=link))
                _, sender = await gateway.request()
                gateway.send(pmp(ip), sender)
                await it.count(1)
            at_two.announce(pmp(FORGED))
            await two.count(2)
            at_one.announce(pmp(OTHER))
            await one.count(2)
        assert one.ips == [OUTSIDE, OTHER]
        assert two.ips == [OTHER, FORGED]
        await one.nat.close()
        await two.nat.close()


# --- errors


@pytest.mark.parametrize("code", [300, 420, 500])
async def test_g1_stun_an_error_ends_the_transaction(home: Home, told: Callable[..., Told], code: int) -> None:
    """No other server is asked for it either: the only one there is would answer."""
    it = told(stun_waits=SLOW)
    alternate = attribute(0x8023, bytes((0, 1)) + struct.pack("!H", 3479) + ip_address(SERVER).packed)
    with closing(Peer(home.outside, SERVER, STUN_PORT)) as server, closing(Peer(home.outside, SERVER, 3479)) as other:
        it.nat.discover(stun_request(home))
        request, sender = await server.request()
        what = attribute(0x0009, bytes((0, 0, code // 100, code % 100)))
        server.send(message(what, alternate, kind=ERROR, of=request[8:20]), sender)
        await it.until(lambda: it.ips == [None])
        await it.nat.close()
        assert not other.requests()


async def test_g1_a_link_that_is_gone_gives_none(home: Home, told: Callable[..., Told]) -> None:
    it = told()
    assert await it.learn(DiscoverExternalAddress(1, "nat-pmp", 4711, gateway=GATEWAY)) is None
    assert await it.learn(DiscoverExternalAddress(2, "stun", 4711, server=stun_server(SERVER))) is None
    await it.nat.close()


async def test_g1_a_defect_of_the_agent_is_no_answer(home: Home, told: Callable[..., Told]) -> None:
    """Made with a lookup that breaks the resolver's promise, for want of a real defect."""
    it = told()
    it.resolver.ask = None  # type: ignore[assignment, method-assign]
    assert await it.learn(stun_request(home, "stun.example")) is None
    await it.nat.close()


async def test_g1_the_log_has_a_line_for_a_change_and_none_for_a_repetition(
    home: Home, told: Callable[..., Told], caplog: pytest.LogCaptureFixture
) -> None:
    it = told(natpmp_waits=SLOW)
    caplog.set_level("INFO", "salsa-agent")
    with closing(Peer(home.router, GATEWAY, NATPMP_PORT)) as gateway:
        for serial, data in enumerate((pmp(), pmp(), pmp(result=3), pmp(result=3))):
            it.nat.discover(pmp_request(home, serial))
            _, sender = await gateway.request()
            gateway.send(data, sender)
            await it.count(serial + 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"nat-pmp: gateway {GATEWAY} says: {OUTSIDE}",
        f"nat-pmp: gateway {GATEWAY} says: no external address (network failure)",
    ]
    await it.nat.close()


# --- one request at a time, and nothing left


@pytest.mark.parametrize("method", ["nat-pmp", "stun"])
async def test_g1_a_replaced_wish_tells_nothing_more(home: Home, told: Callable[..., Told], method: str) -> None:
    it = told(natpmp_waits=SLOW, stun_waits=SLOW)
    with closing(_peer(home, method)) as peer:
        it.nat.discover(_request(home, method, 1))
        old, old_sender = await peer.request()
        peer.send(_answer(method, old, FORGED), old_sender)  # it is there before the request is replaced
        it.nat.discover(_request(home, method, 2))
        new, new_sender = await peer.request()
        peer.send(_answer(method, new), new_sender)
        await it.until(lambda: bool(it.told))
    assert it.told == [(_request(home, method, 2), OUTSIDE)]
    await it.nat.close()


@pytest.mark.parametrize("method", ["nat-pmp", "stun"])
async def test_g1_a_forgotten_wish_tells_nothing_and_leaves_nothing(
    home: Home, told: Callable[..., Told], method: str
) -> None:
    it = told(natpmp_waits=SLOW, stun_waits=SLOW)
    before = asyncio.all_tasks()
    with closing(_peer(home, method)) as peer:
        it.nat.discover(_request(home, method))
        request, sender = await peer.request()
        peer.send(_answer(method, request), sender)
        it.nat.forget()
        it.nat.forget()
        await it.nat.close()
        assert asyncio.all_tasks() == before
        assert home.client.run(["ss", "-H", "-una"]) == ""
    assert not it.told


async def test_g1_close_ends_a_wish_that_has_only_begun(home: Home, told: Callable[..., Told]) -> None:
    it = told()
    before = asyncio.all_tasks()
    it.nat.discover(stun_request(home, "stun.example", servers=(Server("11.22.33.200"),)))  # nobody is there
    await it.nat.close()
    it.nat.discover(stun_request(home, "stun.example", servers=(Server("11.22.33.200"),)))
    await _until(lambda: bool(home.client.run(["ss", "-H", "-una"])))
    await it.nat.close()
    await it.nat.close()
    assert asyncio.all_tasks() == before
    assert not it.told
