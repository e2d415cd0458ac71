"""The relay list and the evidence as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from salsa_agent.cli.format.text import Heading, Page, Row, ago, ahead, relay_text, table
from salsa_agent.text import clean

Dict = dict[str, Any]  # an a{sv} of org.salsa.Agent1 as plain values

_STATES = {
    "starting": "no decision yet",
    "offline": "no address that counts",
    "resolving": "the network changed; what is shown is from before",
    "degraded": "something failed and is being tried again",
}


def summary(page: Page, properties: Dict, now: float) -> list[str]:
    """The best relay and why, since when, the state."""
    host, state, changed = properties["BestRelay"], clean(properties["State"]), properties["LastChanged"]
    lines = [
        f"Relay  {page.bold(relay_text(host, properties['BestRelayPort']) if host else 'none')}",
        *page.wrap(why(properties), 7),
    ]
    if changed:
        lines.append(f"Since  {ago(changed, now)}")
    lines.append(f"State  {page.paint(state, state)}" + (f": {_STATES[state]}" if state in _STATES else ""))
    return lines


def why(properties: Dict) -> str:
    """Why the best relay is that one (rules D2 to D4), from the list alone."""
    relays: Sequence[Dict] = properties["Relays"]
    if not properties["BestRelay"]:
        return "every relay of the list failed, and none is configured for that case" if relays else "the list is empty"
    place = next((index for index, relay in enumerate(relays) if is_best(relay, properties)), None)
    if place is None:
        return "no longer in the list"
    before, verdict = relays[:place], relays[place]["verdict"]
    failed = sum(relay["verdict"] == "failed" for relay in before)
    behind = f" after {failed} that failed" if failed else ""
    if verdict == "ok":
        return f"the first of the list that is ok{behind}"
    if verdict == "unverified":
        return f"the first of the list{behind}, not verified"
    return "the last resort: no relay is ok, so the first static one is used"


def is_best(relay: Dict, properties: Dict) -> bool:
    """Is this entry the best relay? Host and port tell (rule C6)."""
    return bool((relay["host"], relay["port"]) == (properties["BestRelay"], properties["BestRelayPort"]))


def verdict_of_best(properties: Dict) -> str:
    """The verdict of the best relay; empty: there is none. One that is not listed any more is `unverified`."""
    if not properties["BestRelay"]:
        return ""
    found = (str(entry["verdict"]) for entry in properties["Relays"] if is_best(entry, properties))
    return next(found, "unverified")


def senders(page: Page, entries: Sequence[Dict]) -> list[str]:
    """The relay of each `[[sender]]` of the configuration (rule C11)."""
    rows = [
        Row(
            (
                " ".join(map(str, entry["address"])),
                relay_text(entry["host"], entry["port"]) if entry["host"] else "none yet",
                entry["source"] if entry["host"] else "",
                entry["tls"],
            )
        )
        for entry in entries
    ]
    return table(page, ("SENDER", "RELAY", "SOURCE", "TLS"), rows)


def relays(page: Page, entries: Sequence[Dict], now: float, best: Dict | None = None) -> list[str]:
    """The list in order, each run of one provenance under a heading; a star at the best one."""
    lines: list[Row | Heading] = []
    heading = ""
    for entry in entries:
        from_where = provenance(entry)
        if from_where != heading:
            heading = from_where
            lines.append(Heading(heading))
        lines.append(_relay_row(entry, now, best))
    return table(page, ("RELAY", "VERDICT", "PREF", "TLS", "EXPIRES"), lines)


def _relay_row(entry: Dict, now: float, best: Dict | None) -> Row:
    below = [entry["reason"]] if entry.get("reason") else []
    if entry.get("wants_auth"):
        below.append("wants a password")
    return Row(
        cells=(
            relay_text(entry["host"], entry["port"]),
            str(entry["verdict"]),
            str(entry.get("preference", "")),
            str(entry.get("tls", "")),
            ahead(entry["expires"], now) if "expires" in entry else "",
        ),
        mark="*" if best is not None and is_best(entry, best) else " ",
        below=below,
    )


def provenance(entry: Dict) -> str:
    """Where a relay came from: source, own address and interface, level and name."""
    words = [str(entry["source"])]
    if entry.get("site"):
        words.append(f'"{entry["site"]}"')
    if entry.get("address"):
        words.append(str(entry["address"]))
    if entry.get("interface"):
        words.append(f"on {entry['interface']}")
    if "level" in entry:
        words.append(f"at /{entry['level']}")
    text = " ".join(words)
    if entry.get("name"):
        text += f", {entry['name']}"
    if entry.get("authenticated"):
        text += ", authenticated"
    return text


def addresses(page: Page, entries: Sequence[Dict]) -> list[str]:
    """The evidence: each own address and what the reverse tree said of it."""
    rows = [
        Row(
            (
                entry["address"],
                f"{entry['interface']} (nat)" if entry["origin"] == "nat" else entry["interface"],
                f'{entry["outcome"]} "{entry["site"]}"' if entry.get("site") else entry["outcome"],
                f"/{entry['level']}" if "level" in entry else "",
                entry.get("name", ""),
            )
        )
        for entry in entries
    ]
    return table(page, ("ADDRESS", "ON", "OUTCOME", "LEVEL", "NAME"), rows, last_below=True)
