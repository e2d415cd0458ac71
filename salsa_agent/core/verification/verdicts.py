"""What the results at a relay's addresses say about the relay (rules D1, D9, D10)."""

from __future__ import annotations

from collections.abc import Iterable

from salsa_agent.core.model import CheckResult, ServerResult, Verdict
from salsa_agent.text import sanitize


def settles(result: CheckResult, *, administrator: bool) -> bool:
    """Whether this result at one address is a success for the relay, so that no other address is needed.

    A relay that wants AUTH is good for mail that the administrator has a password for, and for nobody else (rule D10).
    """
    return result.verdict is Verdict.OK or (administrator and result.wants_auth)


def combine(servers: Iterable[ServerResult], *, administrator: bool) -> CheckResult:
    """The verdict on a relay: `ok` where one of its addresses is, else `failed` for all of their reasons.

    It is `permanent` only where every address that was tried has such a failure, and a `transient_reply` where one has.
    """
    known = tuple(servers)
    good = [one.result for one in known if settles(one.result, administrator=administrator)]
    if good:
        best = next((result for result in good if result.verdict is Verdict.OK), good[0])
        return best._replace(verdict=Verdict.OK, reason="", permanent=False, transient_reply=False, servers=known)
    failed = [one for one in known if one.result.verdict is Verdict.FAILED]
    results = [one.result for one in failed]
    tried = [one.result for one in failed if one.contacted]
    return CheckResult(
        Verdict.FAILED,
        sanitize("; ".join(f"{one.ip}: {one.result.reason}" for one in failed) or "no address known"),
        starttls=next((one.starttls for one in results if one.starttls is not None), None),
        tls=next((one.tls for one in results if one.tls), ""),
        auth=next((one.auth for one in results if one.auth is not None), None),
        wants_auth=any(one.wants_auth for one in results),
        permanent=bool(tried) and all(one.permanent for one in tried),
        transient_reply=any(one.transient_reply for one in results),
        servers=known,
    )
