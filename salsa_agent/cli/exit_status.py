"""The exit statuses of both commands; 69, 70, 75 and 78 are those of sysexits.h."""

from __future__ import annotations

EX_OK = 0
EX_NONE = 1  # salsactl: there is no relay, it has failed, or the agent refused
EX_USAGE = 2
EX_UNAVAILABLE = 69  # no bus, or no name on it; no agent runs
EX_SOFTWARE = 70  # a defect of its own
EX_TEMPFAIL = 75  # salsactl: it is not decided in time
EX_CONFIG = 78
