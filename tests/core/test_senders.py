"""Rule C11: the entry of an envelope sender."""

from __future__ import annotations

import pytest

from salsa_agent.core.model import SenderChoice
from salsa_agent.core.senders import entry_for

HOME = SenderChoice(("*@home.example", "me@*.example"))
WORK = SenderChoice(("*@work.example", "me@home.example"))
ALL = SenderChoice(("*",))


@pytest.mark.parametrize(
    ("sender", "found"),
    [
        ("a@home.example", HOME),
        ("A@HOME.Example", HOME),
        ("me@home.example", HOME),  # both hold: the first decides
        ("me@x.example", HOME),
        ("you@work.example", WORK),
        ("you@work.example.net", None),
        ("", None),
        ("<>", None),
        ('"<>"', None),
    ],
)
def test_c11_the_first_entry_that_holds_decides(sender: str, found: SenderChoice | None) -> None:
    assert entry_for(sender, (HOME, WORK)) is found


@pytest.mark.parametrize("sender", ["", "<>", '"<>"'])
def test_c11_the_null_sender_has_the_list_of_c6_whatever_the_patterns(sender: str) -> None:
    assert entry_for("a@b.example", (ALL,)) is ALL
    assert entry_for(sender, (ALL,)) is None
