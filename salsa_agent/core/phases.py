"""The phases of the engine, and what leads from one to the next.

A *round* is one recomputation of the list of relays, from the host's addresses to a decision (rules E). The engine is
always in one phase:

========== ============================================================================================================
STARTING   No round runs: the kernel's state or the DNS servers are not known yet, or the next round waits for its
           budget (E2).
OFFLINE    No address counts (E6): nothing is asked and nothing is verified.
ASKING     A round runs, and answers are pending that may change its list. The relays at the front of the list, which no
           pending answer can change, are verified already (E4).
VERIFYING  A round runs, its list is complete: the decision waits for verdicts only.
DECIDED    No round runs. Verdicts and late answers are followed (D2, D5, E4), and the next round waits for its cause.
========== ============================================================================================================

========== ======================================================================================= ====================
in         on                                                                                      to
========== ======================================================================================= ====================
any        the last address that counts is gone (E6)                                               OFFLINE
STARTING   the budget allows the round that waits                                                  ASKING
OFFLINE    an address counts                                                                       STARTING
ASKING     a network change or a reload supersedes the round (E2)                                  STARTING
ASKING     no pending answer can change the list any more, or the DNS part of the round ends (E4)  VERIFYING
ASKING     the best relay is known, whatever is pending (E4)                                       DECIDED
VERIFYING  a network change or a reload supersedes the round (E2)                                  STARTING
VERIFYING  the best relay is known (D2-D4), or the round has lasted 30 seconds (E4)                DECIDED
DECIDED    a network change (E1)                                                                   STARTING
DECIDED    the budget allows a round with another cause: an expired TTL, a retry, `Refresh`, ...   ASKING
========== ======================================================================================= ====================

One change does not supersede: when the oldest change that is still undecided is 3 seconds old, the running round goes
on to its decision, and the newer change waits for that (E2).
"""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """What the engine is doing; see the tables above."""

    STARTING = auto()
    OFFLINE = auto()
    ASKING = auto()
    VERIFYING = auto()
    DECIDED = auto()


LEADS_TO = {
    Phase.STARTING: frozenset({Phase.OFFLINE, Phase.ASKING}),
    Phase.OFFLINE: frozenset({Phase.STARTING}),
    Phase.ASKING: frozenset({Phase.STARTING, Phase.OFFLINE, Phase.VERIFYING, Phase.DECIDED}),
    Phase.VERIFYING: frozenset({Phase.STARTING, Phase.OFFLINE, Phase.DECIDED}),
    Phase.DECIDED: frozenset({Phase.STARTING, Phase.OFFLINE, Phase.ASKING}),
}
"""The second table, for the engine to hold itself to."""
