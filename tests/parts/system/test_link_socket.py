"""Sockets tied to a link: what an address with a scope means, and what cannot be tied."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

import pytest

from salsa_agent.link_socket import SO_BINDTOIFINDEX, Endpoint, endpoint, open_socket
from tests.lab.netns import Netns, veth


def test_f1_a_scope_decides_about_the_link() -> None:
    with Netns() as host, Netns() as far, host.inside():
        veth(host, "up0", far, "down0")
        index = socket.if_nametoindex("up0")
        for scope in ("up0", str(index)):
            assert endpoint(f"fe80::1%{scope}", 53, 99) == Endpoint(ip_address("fe80::1"), 53, index)
        with pytest.raises(OSError) as caught:
            endpoint("fe80::1%none", 53)
        assert caught.value.errno == errno.ENODEV


def test_f1_only_a_link_local_address_has_a_scope_id() -> None:
    assert Endpoint(ip_address("fe80::1"), 53, 7).sockaddr == ("fe80::1", 53, 0, 7)
    assert Endpoint(ip_address("2001:db8::1"), 53, 7).sockaddr == ("2001:db8::1", 53, 0, 0)
    assert Endpoint(ip_address("192.0.2.1"), 53, 7).sockaddr == ("192.0.2.1", 53)


@pytest.mark.parametrize("address", ["127.0.0.53", "::1"])
def test_f1_no_link_leads_to_a_loopback_address(address: str) -> None:
    assert endpoint(address, 53, 7).ifindex == 0


@pytest.mark.parametrize("ifindex", [-1, 1 << 31, 1 << 32])
def test_f1_an_index_that_no_link_can_have(ifindex: int) -> None:
    with pytest.raises(OSError) as caught:
        endpoint("192.0.2.1", 53, ifindex)
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize("address", ["", "ns.example", "192.0.2.1.5", "fe80::1%"])
def test_what_is_no_address_is_a_value_error(address: str) -> None:
    with pytest.raises(ValueError):
        endpoint(address, 53)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_f1_a_socket_is_tied_to_its_link(address: str, kind: socket.SocketKind) -> None:
    with Netns() as host, Netns() as far, host.inside():
        veth(host, "up0", far, "down0")
        index = socket.if_nametoindex("up0")
        with open_socket(endpoint(address, 53, index), kind) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX) == index
            assert not sock.getblocking()
        with pytest.raises(OSError):
            open_socket(endpoint(address, 53, index + 1000), kind)
