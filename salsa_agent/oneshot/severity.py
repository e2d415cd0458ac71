"""How bad a finding is, of an audit and of `salsactl doctor`."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """`FAULT`: mail relays are not found, or not used as they are meant to be."""

    FAULT = "fault"
    WARNING = "warning"
    NOTE = "note"
