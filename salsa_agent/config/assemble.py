"""The settings that the configuration files stand for together, and the rules between their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from salsa_agent.config import values as form
from salsa_agent.config.bounds import MOST_ENTRIES, MOST_RELAYS
from salsa_agent.config.document import Document, Entry, Problem
from salsa_agent.core.settings import Dns, Network, Policy, Sender, Settings, Site, Verify

SENDER_PORT = 587  # RFC 6409 section 3.1: relays of a sender are for submission
CRITERIA = ("prefix", "interface", "domain", "connection")


def assemble(documents: Sequence[Document], environ: Mapping[str, str]) -> tuple[Settings, tuple[Problem, ...]]:
    """The settings of these files, a later key over an earlier one, and what is wrong with them, in that order.

    The settings count only where nothing is wrong.
    """
    given = {key: (value, document.file) for document in documents for key, value in document.values.items()}
    entries = [entry for document in documents for entry in document.entries]
    sites = [entry for entry in entries if entry.table == "site"]
    senders = [entry for entry in entries if entry.table == "sender"]
    directory, wrong = _output_directory(_table(given, "output"), environ)
    problems = [
        *(problem for document in documents for problem in document.problems),
        *_stun_needs_a_server(given, documents),
        *wrong,
        *_too_many(sites),
        *_too_many(senders),
        *_too_many_relays(given, entries),
        *(problem for entry in sites for problem in _of_site(entry)),
        *_names_differ(sites),
        *(problem for entry in senders for problem in _of_sender(entry)),
    ]
    if problems:
        return Settings(), tuple(problems)
    port = _table(given, "smtp").get("port", Settings().smtp_port)
    settings = Settings(
        static_relays=form.with_port(_table(given, "static").get("relays", ()), port),
        smtp_port=port,
        network=Network(**_table(given, "network")),
        dns=Dns(**_table(given, "dns")),
        verify=Verify(**_table(given, "verify")),
        policy=Policy(**_table(given, "policy")),
        output_directory=directory,
        postfix_listen=_table(given, "postfix").get("listen", ()),
        sites=tuple(
            Site(**{**entry.values, "relays": form.with_port(entry.values.get("relays", ()), port)}) for entry in sites
        ),
        senders=tuple(
            Sender(**{**entry.values, "relays": form.with_port(entry.values["relays"], SENDER_PORT)})
            for entry in senders
        ),
        srv_targets=_table(given, "srv").get("targets", ()),
    )
    return settings, ()


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """The runtime directory that systemd gave the service, the first of several (systemd.exec(5)).

    Raises ValueError if that is no absolute path.
    """
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(form.absolute_path(first)) if first else None


_Given = Mapping[tuple[str, str], tuple[Any, str]]  # value and file, by table and key


def _table(given: _Given, table: str) -> dict[str, Any]:
    return {key: value for (of, key), (value, _) in given.items() if of == table}


def _output_directory(output: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, tuple[Problem, ...]]:
    if "directory" in output:
        return output["directory"], ()
    try:
        directory = runtime_directory(environ)
    except ValueError as error:
        return "", (Problem("", "output.directory", f"RUNTIME_DIRECTORY {error}"),)
    return str(directory) if directory else "", ()


def _stun_needs_a_server(given: _Given, documents: Sequence[Document]) -> tuple[Problem, ...]:
    """Rule G1: no server is built in."""
    key, (nat, file) = "network.stun_server", given.get(("network", "nat"), ("", ""))
    said = any(problem.key == key for document in documents for problem in document.problems)
    if nat != "stun" or said or _table(given, "network").get("stun_server"):
        return ()
    return (Problem(file, key, 'must be set with network.nat = "stun"'),)


def _of_site(entry: Entry) -> list[Problem]:
    """Rule C10: a site has a name, a criterion, and relays or `use = "only"`."""
    problems = []
    if "name" not in entry.given:
        problems.append(Problem(entry.file, entry.key("name"), "must be given"))
    if not any(entry.values.get(criterion) for criterion in CRITERIA) and not _is_wrong(entry, *CRITERIA):
        reason = "must be given, or else interface, domain or connection: a site needs a criterion"
        problems.append(Problem(entry.file, entry.key("prefix"), reason))
    relays, use = entry.values.get("relays"), entry.values.get("use", "first")
    if not relays and use != "only" and not _is_wrong(entry, "relays", "use"):
        problems.append(Problem(entry.file, entry.key("relays"), 'must name a relay, unless use = "only"'))
    return problems


def _of_sender(entry: Entry) -> list[Problem]:
    """Rule C11: a sender has addresses and relays."""
    return [
        Problem(entry.file, entry.key(key), "must be given")
        for key in ("address", "relays")
        if key not in entry.given
    ]  # fmt: skip


def _too_many(entries: Sequence[Entry]) -> list[Problem]:
    """Of all files together."""
    over = entries[MOST_ENTRIES:]
    return [Problem(over[0].file, over[0].table, f"more than {MOST_ENTRIES} entries in all")] if over else []


def _too_many_relays(given: _Given, entries: Sequence[Entry]) -> list[Problem]:
    """Of all lists together."""
    static, file = given.get(("static", "relays"), ((), ""))
    count, where = len(static), (file, "static.relays")
    for entry in entries:
        relays = entry.values.get("relays", ())
        count += len(relays)
        if count > MOST_RELAYS:
            where = entry.file, entry.key("relays")
            break
    return [Problem(*where, f"more than {MOST_RELAYS} relays in all")] if count > MOST_RELAYS else []


def _is_wrong(entry: Entry, *keys: str) -> bool:
    """Whether one of these keys is given and not in form; that is said already."""
    return any(key in entry.given and key not in entry.values for key in keys)


def _names_differ(sites: Sequence[Entry]) -> list[Problem]:
    first: dict[str, Entry] = {}
    problems = []
    for entry in sites:
        name = entry.values.get("name")
        if name is None:
            continue
        other = first.setdefault(name, entry)
        if other is not entry:
            where = f"site[{other.number}]" + (f" in {other.file}" if other.file != entry.file else "")
            problems.append(Problem(entry.file, entry.key("name"), f'"{name}" is the name of {where}, too'))
    return problems
