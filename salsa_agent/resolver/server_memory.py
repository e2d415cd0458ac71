"""What is remembered of the servers of a network: which are slow, and which keep the case of a name."""

from __future__ import annotations

from salsa_agent.core.model import Server


class ServerMemory:
    """Valid until the network changes; then a new one begins.

    A server that did not reply in time is asked last until it replies (rule F2). One that repeats the question in
    another case than it was sent (0x20) is asked in lower case from then on; one that has ever kept the case, never.
    """

    def __init__(self) -> None:
        self._timed_out: dict[Server, int] = {}  # the last one has the highest number
        self._keeps_case: dict[Server, bool] = {}

    def slowness(self, server: Server) -> int:
        """The key to sort servers by: 0 for one that is not known to be slow."""
        return self._timed_out.get(server, 0)

    def timed_out(self, server: Server) -> None:
        """It let a try time out."""
        self._timed_out[server] = max(self._timed_out.values(), default=0) + 1

    def replied(self, server: Server) -> None:
        """It replied, if only with an error."""
        self._timed_out.pop(server, None)

    def keeps_case(self, server: Server) -> bool | None:
        """None: not known yet."""
        return self._keeps_case.get(server)

    def kept_case(self, server: Server) -> None:
        """It repeated a name of mixed case as it was sent."""
        self._keeps_case[server] = True

    def lost_case(self, server: Server) -> None:
        """It did not, and answered in lower case. One that has kept the case before is not believed to lose it."""
        self._keeps_case.setdefault(server, False)
