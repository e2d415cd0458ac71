"""One thing that an audit found."""

from __future__ import annotations

from dataclasses import dataclass

from salsa_agent.core.model import IPAddress
from salsa_agent.oneshot.severity import Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to change, or to know. `code`: the same word for the same kind; all texts are printable ASCII.

    `names`: reverse names; `exchange`: a host name; `addresses`: those of the prefix that it is about.
    """

    severity: Severity
    code: str
    problem: str
    change: str = ""
    names: tuple[str, ...] = ()
    exchange: str = ""
    addresses: tuple[IPAddress, ...] = ()
