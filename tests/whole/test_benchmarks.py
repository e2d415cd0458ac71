"""The benchmarks run, a few of each. Nothing that they measure is judged here."""

from __future__ import annotations

import asyncio
import re
import subprocess
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree

import pytest

from benchmarks import latency, plot, report, storm
from benchmarks.figures import QUICK, Table, at_most, both, p99, times
from salsa_agent.core.model import RelayKey
from salsa_agent.core.settings import Verify
from salsa_agent.smtp.verifier import Verifier
from tests.lab.run import PROJECT, run
from tests.lab.smtpserver import SmtpServer


@pytest.mark.timeout(300)
@pytest.mark.needs("namespaces", "users")
def test_a_quick_run_writes_every_table_and_plot(tmp_path: Path) -> None:
    done = run("bench", "--quick", "--out", str(tmp_path))
    results = (tmp_path / "results.md").read_text()
    assert re.search(r"^\| RSS, MiB \| at most 42 \| [\d.]+ \| ", results, re.MULTILINE)
    assert re.search(r"^\| start to answer of salsactl find, .* \| at most 2 \| [\d.]+ \| ", results, re.MULTILINE)
    for title in (
        "The bounds",
        "Event to signal, 20 ms",
        "Start",
        "salsactl find",
        "Size and idleness",
        "Storms",
        "D-Bus reads",
        "Postfix",
        "Growth",
    ):
        assert f"### {title}" in results
    lean = ("lean Python", "lean Python by the rules")
    for peer in ("C floor", *lean, "salsa-agent", "salsa-agent, verifying", "naive stack", "shell loop"):
        assert re.search(rf"^\| {peer}, one address \| [\d.]+ / ", results, re.MULTILINE), peer
    assert re.search(r"^\| the relay alone: connect, greeting, EHLO \| [\d.]+ / [\d.]+ \| {2}\| ", results, re.M)
    assert re.search(r"^Verification adds -?[\d.]+ ms to the median; the relay alone takes [\d.]+ ms\.", results, re.M)
    for dispatcher in ("NetworkManager", "networkd"):
        row = f"| {dispatcher}'s dispatcher, {{}} address of its link"
        assert re.search(re.escape(row.format("first")) + r" \| [\d.]+ / ", results), dispatcher
        assert row.format("second") + " (0 of 1 came) | none came |" in results
    assert results.count("none came") == 2
    storm = r"\| salsa-agent{}, 50 come and go = 100 changes \| 1 of 1 \|.*\| {} \| [\d.]+ \|\n"
    assert re.search(storm.format("", r"\d+"), results)
    assert re.search(storm.format(", receive buffer of 4 KiB", r"[1-9]\d*"), results), "the small buffer overran"
    for grown in ("5 addresses", "2 links", "40 exchanges in the MX set", "40 static relays"):
        assert f"| {grown} |" in results
    for picture in ("latency.svg", "growth.svg"):
        assert f"]({picture})" in results
        ElementTree.parse(tmp_path / picture)
    assert "storm, 50 addresses come and go, salsa-agent" in done.stderr  # its progress


def test_the_report_says_which_bounds_are_reached() -> None:
    measured = Table("Start", ("",), bounds=[at_most("kept", 5, 5.004), at_most("not kept", 5, 5.006)])
    assert report.bounds([measured, Table("Others", ("",))]).rows == [
        ("kept", "at most 5", "5.00", "reached"),
        ("not kept", "at most 5", "5.01", "**not reached**"),
    ]
    right, wrong = (cast(storm.Storm, SimpleNamespace(right=right, cpu=1.6)) for right in (True, False))
    assert [one.reached for one in storm._bounds(1000, [right, right])] == [True]
    assert [one.reached for one in storm._bounds(5000, [right, wrong])] == [False, False]


def test_what_verification_adds_is_told_beside_what_the_relay_takes(tmp_path: Path) -> None:
    measured = latency.Latency(tmp_path, QUICK, lambda what: None)
    for peer, seen in {"C floor": [0.5], "salsa-agent": [3.0, 2.0, 40.0], "salsa-agent, verifying": [4.25]}.items():
        measured.values[peer, 0.0, "one address"] = latency.Values(seen, len(seen))
    measured.alone[0.0] = [1.0, 0.75, 9.0]
    table = measured.table(0.0)
    assert table.rows[-1] == ["the relay alone: connect, greeting, EHLO", "1.00 / 9.00", "", "9.0", ""]
    assert table.note == "Verification adds 1.25 ms to the median; the relay alone takes 1.00 ms."


async def test_the_tool_says_to_a_relay_what_the_agent_says(tmp_path: Path) -> None:
    tool = tmp_path / "relay"
    subprocess.run(["gcc", "-o", tool, PROJECT / "benchmarks/tools/relay.c"], check=True)
    async with SmtpServer() as server:
        await Verifier(Verify()).check(RelayKey("relay.example", server.port), (ip_address(server.address),))
        running = await asyncio.create_subprocess_exec(
            tool, server.address, str(server.port), "2", "0", stdout=subprocess.PIPE
        )
        out, _ = await running.communicate()
        await server.ended(3)
    assert running.returncode == 0
    assert re.fullmatch(rb"([1-9]\d*\n){2}", out)
    agent, *of_tool = [(said.lines, said.end) for said in server.conversations]
    assert of_tool == [agent, agent]
    assert agent == (["EHLO [127.0.0.1]", "QUIT"], "quit")


def test_who_died_in_a_storm_has_not_settled() -> None:
    seen = {"right": False, "questions": 3, "signals": 2, "took": 1.0, "overruns": 0}
    died = SimpleNamespace(died=True, settled=0.0, cpu=0.0, growth=0.0, **seen)
    lived = SimpleNamespace(died=False, settled=0.5, cpu=0.25, growth=1.0, **seen)
    row = storm._row("a stack", [cast(storm.Storm, one) for one in (died, lived)])
    assert row == ["a stack", "0 of 2, 1 died", "0.50 / 0.50", "3 / 3", "2 / 2", "0.25 / 0.25", "1.0", "", "1.00"]
    assert storm._row("a stack", [cast(storm.Storm, died)])[2:7] == ["", "3 / 3", "2 / 2", "", ""]


def test_a_plot_holds_what_it_is_given() -> None:
    picture = plot.bars("a < b", "ms", {"one": [1.0, 2.0, 3.0], "two & more": [0.5]})
    words = [element.text for element in ElementTree.fromstring(picture).iter() if element.text]
    assert {"a < b", "one", "two & more", "2", "0.5"} <= set(words)
    ElementTree.fromstring(plot.line("t", "x", "y", [(1.0, 3.0), (10.0, 30.0)]))


def test_how_values_are_summed_up() -> None:
    assert p99([5.0]) == 5.0
    assert p99([float(n) for n in range(200)]) == 198.0
    assert both([1.0, 2.0, 9.0], 1) == "2.0 / 9.0"
    assert both([]) == "none came"
    assert times([6.0], [2.0]) == "3.0"
    assert times([], [2.0]) == ""
