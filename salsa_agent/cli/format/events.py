"""What changed between two looks at the agent's properties, event by event: `salsactl watch --events`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from salsa_agent.cli.format.text import relay_text
from salsa_agent.text import clean

Properties = Mapping[str, Any]  # by their D-Bus names, as plain values
Event = dict[str, Any]


def events(before: Properties, now: Properties) -> Iterator[Event]:
    """An object for each change: `event` is `state`, `best`, `list` or `verdict`. Before the first look all is new."""
    if now["State"] != before.get("State"):
        yield {"event": "state", "state": now["State"]}
    keys, old = [_key(one) for one in now["Relays"]], {_key(one): one for one in before.get("Relays", [])}
    if keys != list(old):
        shown = [{key: one[key] for key in ("host", "port", "source")} for one in now["Relays"]]
        yield {"event": "list", "relays": shown}
    for one in now["Relays"]:
        said = _verdict(one)
        if said != (_verdict(old[_key(one)]) if _key(one) in old else ("unverified", "")):
            yield {"event": "verdict", "host": one["host"], "port": one["port"], "verdict": said[0], "reason": said[1]}
    best = {key: now[name] for key, name in _BEST.items()}
    if best != {key: before.get(name) for key, name in _BEST.items()} and now["State"] != "starting":
        yield {"event": "best", **best}


def event_line(event: Event) -> str:
    """One event as a line for a person."""
    match event:
        case {"event": "state", "state": state}:
            return f"state: {clean(state)}"
        case {"event": "list", "relays": relays}:
            return "list: " + (" ".join(relay_text(one["host"], one["port"]) for one in relays) or "empty")
        case {"event": "verdict", "host": host, "port": port, "verdict": verdict, "reason": reason}:
            return f"verdict: {relay_text(host, port)} {clean(verdict)}" + (f": {clean(reason)}" if reason else "")
        case {"event": "best", "host": host, "port": port, "source": source}:
            return f"best: {relay_text(host, port)} ({clean(source)})" if host else "best: none"
    raise AssertionError(event)


_BEST = {"host": "BestRelay", "port": "BestRelayPort", "source": "BestRelaySource", "tls": "BestRelayTls"}


def _key(relay: Mapping[str, Any]) -> tuple[str, int]:
    return relay["host"], relay["port"]


def _verdict(relay: Mapping[str, Any]) -> tuple[str, str]:
    return relay["verdict"], relay.get("reason", "")
