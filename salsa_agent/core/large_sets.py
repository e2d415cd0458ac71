"""The records of an enormous set that can matter, and the order that says which: rules C1, C5 and C12.

An answer may bring a thousand. They are judged once, when they come; what is kept is what the selection would choose
from all of them, and as many more as `Explain` has room for.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from math import inf, log

from salsa_agent.core.admission import canonical, hostname_error
from salsa_agent.core.model import Answer, Mx, Srv

MOST = 256  # records of one set
MOST_ADDRESSES = 512  # of one family of one host


def bounded(answer: Answer, identity: bytes) -> Answer:
    """The answer with the best of its records. `identity`: of the machine (C1)."""
    if len(answer.mx) > MOST:
        best: dict[str, Mx] = {}
        for mx in sorted(answer.mx, key=lambda mx: _mx_order(mx, identity)):
            best.setdefault(canonical(mx.exchange), mx)
        return answer._replace(mx=tuple(best.values())[:MOST])
    if len(answer.srv) > MOST:
        return answer._replace(srv=tuple(sorted(answer.srv, key=lambda srv: _srv_order(srv, identity))[:MOST]))
    if len(answer.addresses) > MOST_ADDRESSES:  # of which the lowest are used (C5)
        return answer._replace(addresses=tuple(sorted(answer.addresses, key=int)[:MOST_ADDRESSES]))
    return answer


@lru_cache(maxsize=1024)
def spread(identity: bytes, host: str) -> bytes:
    """C1: a hash by which a fleet spreads over equal preferences, while one machine keeps to its order."""
    return sha256(identity + b"\0" + host.encode("ascii")).digest()


def weight_order(ranked: bytes, weight: int) -> float:
    """ln(u)/weight, u in (0, 1) from the hash of C1: the greater, the earlier, in proportion to the weights (C12)."""
    if weight == 0:
        return -inf
    u = (int.from_bytes(ranked[:6], "big") + 0.5) / (1 << 48)  # 49 bits are exact in a float: neither 0 nor 1
    return log(u) / weight


def _mx_order(mx: Mx, identity: bytes) -> tuple[bool, int, bytes]:
    host = canonical(mx.exchange)
    return bool(hostname_error(host)), mx.preference, spread(identity, host)


def _srv_order(srv: Srv, identity: bytes) -> tuple[bool, int, float, bytes, int]:
    host = canonical(srv.target)
    ranked = spread(identity, host)
    no_use = srv.port == 0 or bool(hostname_error(host))
    return no_use, srv.priority, -weight_order(ranked, srv.weight), ranked, srv.port
