"""docs/draft-salsa.md: it says what it is, its references hold together, and it says what the core does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from salsa_agent.core.reverse_names import name_at
from salsa_agent.core.selection import MAX_ADDRESSES, MAX_EXCHANGES, MAX_LOOKED_UP
from salsa_agent.core.settings import Network
from tests.core.test_rules_document import PROJECT

DRAFT = (PROJECT / "docs" / "draft-salsa.md").read_text()
TEXT = " ".join(DRAFT.partition("{mainmatter}")[2].partition("<reference")[0].split())


def test_the_head_of_the_draft_says_that_nobody_has_adopted_it() -> None:
    head = " ".join(DRAFT.partition("{mainmatter}")[0].split())
    assert "This is a sketch" in head
    assert "no working group has adopted it" in head


def test_every_document_that_the_draft_cites_stands_among_its_references_and_no_other() -> None:
    assert set(re.findall(r"\[@!?(\w+)\]", TEXT)) == set(re.findall(r"<reference anchor='(\w+)'", DRAFT))


def test_every_section_that_the_draft_points_to_exists() -> None:
    assert set(re.findall(r"\(#([a-z]+)\)", TEXT)) <= set(re.findall(r"^#+ .*\{#([a-z]+)\}$", DRAFT, re.MULTILINE))


def test_the_draft_has_the_levels_and_bounds_of_the_core() -> None:
    levels = Network()
    assert f"| IPv4 | {', '.join(map(str, levels.ipv4_levels))} |" in TEXT
    assert f"| IPv6 | {', '.join(map(str, levels.ipv6_levels))} |" in TEXT
    names = [f"{name_at(ip_address('165.154.15.1'), level)}." for level in levels.ipv4_levels]
    assert " ".join(names) in TEXT
    assert f"{MAX_EXCHANGES} exchanges of one set, {MAX_ADDRESSES} addresses of one exchange" in TEXT
    assert f"{MAX_LOOKED_UP} exchanges in all" in TEXT


@pytest.mark.skipif(not shutil.which("mmark"), reason="mmark is not installed")
def test_the_text_and_the_html_are_those_of_the_draft(tmp_path: Path) -> None:
    """`./run draft` renders them anew."""
    argv = [sys.executable, str(PROJECT / "scripts" / "lib" / "draft.py"), str(tmp_path)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("draft-salsa.txt", "draft-salsa.html"):
        assert (tmp_path / name).read_text() == (PROJECT / "docs" / name).read_text(), f"{name} is old: ./run draft"


def test_the_rendered_draft_tells_no_server_of_its_readers_and_has_no_day_but_its_own() -> None:
    html = (PROJECT / "docs" / "draft-salsa.html").read_text()
    assert "@import" not in html
    assert "fetch(" not in html
    [date] = re.findall(r"^date = (\d{4}-\d\d-\d\d)$", DRAFT, re.MULTILINE)
    assert set(re.findall(r'datetime="(\d{4}-\d\d-\d\d)" class="published"', html)) == {date}
