"""What was asked and what was left out, as a person reads it: each address's ladder, names of relays, the drops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from salsa_agent.cli.format.relays import Dict
from salsa_agent.cli.format.text import Page, Row, table, took
from salsa_agent.text import clean

_SERVICES = ("_submissions._tcp.", "_submission._tcp.")  # rule B8


def questions(page: Page, asked: Sequence[Dict], evidence: Sequence[Dict]) -> list[list[str]]:
    """Blocks of lines: one ladder of levels for each own address, then what is in no ladder.

    `evidence` holds `address`, and what may be known of it: `interface`, `outcome`, `level`, `name`.
    """
    blocks = []
    rest = list(asked)
    for of in evidence:
        ladder = [one for one in asked if one["type"] in {"MX", "SRV"} and _is_on_path(one["name"], of["address"])]
        rest = [one for one in rest if one not in ladder]
        head = page.bold(clean(of["address"]))
        if of.get("interface"):
            head += clean(f" on {of['interface']}")
        if of.get("outcome"):
            head += ": " + page.paint(clean(of["outcome"]), of["outcome"])
            head += f" at /{of['level']}" if "level" in of else ""
        blocks.append([head, *_rows(page, ladder, "LEVEL", _level, of.get("name", ""))])
    if rest:
        head = page.bold("Other questions" if any(one["type"] == "MX" for one in rest) else "Names of relays")
        blocks.append([head, *_rows(page, rest, "TYPE", lambda one: str(one["type"]), "")])
    return blocks


def dropped(page: Page, entries: Sequence[Dict]) -> list[str]:
    """Each relay that was left out, and the rule that did it."""
    rows = []
    for entry in entries:
        came = " ".join(filter(None, (entry.get("name"), entry.get("address") and f"for {entry['address']}")))
        rows.append(Row((entry["rule"], entry["host"] or ".", entry["reason"]), below=(came,) if came else ()))
    return table(page, ("RULE", "DROPPED", "REASON"), rows, last_below=True)


def _rows(page: Page, asked: Sequence[Dict], head: str, first: Callable[[Dict], str], decided: str) -> list[str]:
    """A table of questions; a star at the name that decided."""
    rows = [
        Row(
            (
                first(one),
                one["outcome"],
                one["rcode"],
                one["server"],
                took(one["elapsed"]) if one["outcome"] != "pending" else "",
                str(one["ttl"] or ""),
                one["name"],
            ),
            mark="*" if decided and one["name"] == decided else " ",
        )
        for one in asked
    ]
    return table(page, (head, "OUTCOME", "RCODE", "SERVER", "TIME", "TTL", "NAME"), rows, last_below=True)


def _level(one: Dict) -> str:
    return f"/{one['level']}" if "level" in one else one["type"] if one["type"] == "SRV" else ""


def _is_on_path(name: str, address: str) -> bool:
    """Is `name` the reverse name of `address`, or of one of its levels, or that of a service there (rule B8)?"""
    for service in _SERVICES:
        name = name.removeprefix(service)
    try:
        whole = ip_address(address).reverse_pointer
    except ValueError:
        return False
    return f".{whole}".endswith(f".{name}")
