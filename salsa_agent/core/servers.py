"""Rule F1: servers that are addresses of this host itself are asked without a link."""

from __future__ import annotations

from collections.abc import Set
from ipaddress import ip_address

from salsa_agent.core.model import HostAddress, Server, ServerView, number_of


def without_own_links(view: ServerView, host: Set[HostAddress]) -> ServerView:
    """`view` with no link for a server whose address is in `host`: through a link the kernel would look for it outside.

    An IPv6 link-local address keeps its link, without which it names nothing (RFC 4007).
    """
    bound = {
        server: number
        for servers in (
            view.default,
            view.common,
            *(of for _, of in view.links),
            *(route.servers for route in view.routes),
        )
        for server in servers
        if server.ifindex and (number := _number(server))
    }
    if not bound:
        return view
    own = {address.number for address in host}.intersection(bound.values())
    if not own:
        return view

    def reached(servers: tuple[Server, ...]) -> tuple[Server, ...]:
        return tuple(server._replace(ifindex=0) if bound.get(server) in own else server for server in servers)

    return ServerView(
        reached(view.default),
        tuple((index, reached(servers)) for index, servers in view.links),
        reached(view.common),
        tuple(route._replace(servers=reached(route.servers)) for route in view.routes),
    )


def _number(server: Server) -> int | None:
    """The number of the server's address; None where that needs its link."""
    ip = ip_address(server.address)
    return None if ip.version == 6 and ip.is_link_local else number_of(ip)
