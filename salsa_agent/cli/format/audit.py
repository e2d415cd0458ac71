"""An audit as a person reads it: what is published, the relays, what to change."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from salsa_agent.cli.format.relays import Dict
from salsa_agent.cli.format.text import Page, Row, relay_text, table
from salsa_agent.text import clean

_STYLES = {"fault": "failed", "warning": "pending", "note": "none"}
_MARGIN = 9  # columns, for the longest severity
_MOST = 20  # names that are shown; more than that say the same


def report(page: Page, audit: Dict) -> list[list[str]]:
    """Blocks of lines. `audit` is what `--json` prints."""
    return [_head(page, audit), _published(page, audit), _relays(page, audit), *findings(page, audit["findings"])]


def _head(page: Page, audit: Dict) -> list[str]:
    asked, names = audit["addresses"], audit["names"]
    if len(asked) == 1:
        return [page.bold(clean(asked[0]["address"]))]
    text = f"asked about {len(asked)} addresses, from {asked[0]['address']} to {asked[-1]['address']}"
    if names > len(asked):
        text += f", of {names} names; --samples asks about more"
    return [page.bold(clean(audit["prefix"])), *page.wrap(text, 2)]


def _published(page: Page, audit: Dict) -> list[str]:
    """Each name with records, or that failed, and for how many addresses it decides."""
    decides = Counter(one["name"] for one in audit["addresses"] if "name" in one)
    shown = sorted((one for one in audit["published"] if one["outcome"] != "none"), key=lambda one: one["level"])
    rows = [
        Row(
            (
                f"/{one['level']}",
                one["outcome"],
                str(one["ttl"] or ""),
                str(decides[one["name"]]) if one["name"] in decides else "",
                one["name"],
            ),
            below=[
                *(f"{mx['preference']} {mx['exchange']}" for mx in one["mx"]),
                *(f"{srv['priority']} {srv['weight']} {srv['port']} {srv['target']}" for srv in one.get("srv", ())),
            ],
        )
        for one in shown[:_MOST]
    ]
    lines = table(page, ("LEVEL", "OUTCOME", "TTL", "DECIDES FOR", "NAME"), rows, last_below=True)
    if len(shown) > _MOST:
        lines.append(f"  and {len(shown) - _MOST} more names")
    return lines


def _relays(page: Page, audit: Dict) -> list[str]:
    rows = [
        Row(
            (
                relay_text(one["host"], one["port"]),
                one["verdict"],
                {True: "yes", False: "no"}.get(one.get("starttls"), ""),
            ),
            below=(one["reason"],) if one.get("reason") else (),
        )
        for one in audit["relays"]
    ]
    return table(page, ("RELAY", "VERDICT", "STARTTLS"), rows)


def findings(page: Page, found: Sequence[Dict]) -> list[list[str]]:
    """Each finding (`severity`, `problem`, `change`), and how many there are."""
    blocks = []
    for one in found:
        width = max(page.width, 40)
        lines = textwrap.wrap(
            clean(one["problem"]), width - _MARGIN, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip
        severity = one["severity"]
        first = page.paint(severity, _STYLES[severity]) + " " * (_MARGIN - len(severity)) + lines[0]
        blocks.append([first, *(" " * _MARGIN + line for line in lines[1:])])
        if one["change"]:
            blocks[-1] += page.wrap(clean(one["change"]), _MARGIN)
    count = Counter(one["severity"] for one in found)
    said = [_number(count[severity], severity) for severity in ("warning", "note") if count[severity]]
    blocks.append([", ".join([_number(count["fault"], "fault") if count["fault"] else "No faults", *said]) + "."])
    return blocks


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
