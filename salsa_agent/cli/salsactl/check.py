"""`salsactl check`: one line for Nagios, Icinga and their like (Monitoring Plugins Development Guidelines)."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from salsa_agent.bus.client import CallError, client
from salsa_agent.cli.format.relays import verdict_of_best
from salsa_agent.cli.format.text import relay_text
from salsa_agent.cli.salsactl.command import Command, CommandError, best_of, say, say_json
from salsa_agent.text import clean

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_ADMINISTRATOR = ("site", "sender", "static")
_REVERSE = (".in-addr.arpa", ".ip6.arpa")

_TEXT = """\
Say on one line whether mail can leave, in the plugin convention of Nagios and Icinga.

exit status:
  0  the relay in use is ok; or the network names none, and none is configured
  1  something is being tried again, or nothing is decided yet
  2  no relay, the relay in use has failed, or this host has no address
  3  no agent runs, what has its name is none, or bad usage

examples:
  salsactl check
  salsactl --bus system check
"""


async def _run(given: Namespace) -> int:
    try:
        async with client(given.bus) as agent:
            properties = await agent.properties()
            status, text = judge(properties)
            if status == OK and not properties["BestRelay"] and not properties["Senders"]:
                status, text = judge_srv(await agent.explain()) or (status, text)
    except (CallError, CommandError) as error:  # of the latter, too: 1 would mean WARNING, and the line is the report
        text = _plain(str(error))
        if given.json:
            say_json({"status": WORDS[UNKNOWN], "code": UNKNOWN, "text": text})
        else:
            report(UNKNOWN, text)
        return UNKNOWN
    counts = count_verdicts(properties)
    if given.json:
        say_json({"status": WORDS[status], "code": status, "text": text, **counts})
    else:
        report(status, f"{text}|{' '.join(f'{name}={number}' for name, number in counts.items())}")
    return status


def report(status: int, text: str) -> None:
    """The line; a bar in it would begin the performance data, so `text` has none but that one."""
    say(f"SALSA {WORDS[status]} - {text}")


def count_verdicts(properties: dict[str, Any]) -> dict[str, int]:
    """How many relays are listed, how many are ok, how many have failed."""
    verdicts = [relay["verdict"] for relay in properties["Relays"]]
    return {"relays": len(verdicts), "ok": verdicts.count("ok"), "failed": verdicts.count("failed")}


def judge(properties: dict[str, Any]) -> tuple[int, str]:
    """The exit status, the highest that anything calls for, and what to say."""
    state, verdict, best = properties["State"], verdict_of_best(properties), best_of(properties)
    configured = any(relay["source"] in _ADMINISTRATOR for relay in properties["Relays"])
    status = {"offline": CRITICAL, "resolving": WARNING, "starting": WARNING, "degraded": WARNING}.get(state, OK)
    if verdict == "failed" or (
        not best.host and (state in ("resolving", "degraded") or (state == "ready" and configured))
    ):
        status = CRITICAL
    relay = f"{relay_text(best.host, best.port)} is {verdict} ({best.source})" if best.host else "there is no relay"
    return status, _plain(f"{relay}, state {state}")


def judge_srv(explained: dict[str, Any]) -> tuple[int, str] | None:
    """The same where the list is empty, but not for want of a configured relay: an `srv:` entry stands for none (C12).

    The list does not show such an entry, but its questions do. A sender's would look the same, so that this is for
    agents without `[[sender]]`.
    """
    for question in explained.get("questions", []):
        if question["type"] == "SRV" and not question["name"].endswith(_REVERSE):
            return CRITICAL, _plain(f"there is no relay, {question['name']} names none, state ready")
    return None


def _plain(text: str) -> str:
    """Text from outside, without what begins the performance data."""
    return clean(text).replace("|", "?")


COMMAND = Command("check", "one line for Nagios and Icinga", _TEXT, _run)
