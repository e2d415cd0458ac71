"""STUN (RFC 8489), of which one Binding transaction over UDP is used."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from salsa_agent.core.admission import canonical, literal
from salsa_agent.core.events import DiscoverExternalAddress
from salsa_agent.core.model import Answer, IPAddress, Question, RRType
from salsa_agent.nat.answer import MappedAddress
from salsa_agent.nat.stun_message import binding_request, parse
from salsa_agent.nat.udp import NoAnswer, connected, exchange

RTO, RC, RM = 0.5, 7, 16  # 6.2.1: seconds, requests, RTOs after the last of them
WAITS = (*(RTO * 2**sent for sent in range(RC - 1)), RTO * RM)
_MOST_ADDRESSES = 4  # of a server and a family


async def ask(
    request: DiscoverExternalAddress,
    look_up: Callable[[Question], Awaitable[Answer]],
    waits: Sequence[float] = WAITS,
) -> MappedAddress:
    """What the request's server, a name or an address, sees as the address of its link. `look_up` never raises.

    A server's IPv6 addresses are asked only where none of its IPv4 addresses gave one: NAT belongs to IPv4.
    """
    if request.server is None:
        return MappedAddress(None, "no server is configured")
    host, port = request.server
    address = literal(host)
    if address is not None:
        return await _first([address], port, request.ifindex, waits)
    found = MappedAddress(None, "its name has no address")
    for rtype in (RRType.A, RRType.AAAA):
        answer = await look_up(Question(canonical(host), rtype, request.servers, hosts=True))
        if answer.addresses:
            found = await _first(answer.addresses[:_MOST_ADDRESSES], port, request.ifindex, waits)
        if found.ip is not None:
            break
    return found


async def _first(addresses: Sequence[IPAddress], port: int, ifindex: int, waits: Sequence[float]) -> MappedAddress:
    """Ask all at once (8.1): the first address that comes, else the reason of the last failure."""
    tasks = [asyncio.create_task(_transact(address, port, ifindex, waits)) for address in addresses]
    found = MappedAddress(None)
    try:
        for done in asyncio.as_completed(tasks):
            found = await done
            if found.ip is not None:
                break
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def _transact(address: IPAddress, port: int, ifindex: int, waits: Sequence[float]) -> MappedAddress:
    """One transaction (6.2.1): each datagram is the same. An error is final, 5xx too; the next round asks again."""
    transaction = secrets.token_bytes(12)
    try:
        with connected(address, port, ifindex) as sock:
            return await exchange(sock, binding_request(transaction), waits, partial(parse, transaction=transaction))
    except NoAnswer as error:
        return MappedAddress(None, str(error))
