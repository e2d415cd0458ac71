"""Rule C12: the relays that a domain names in its own SRV records (RFC 6186, RFC 8314 section 5.1)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from salsa_agent.core import admission
from salsa_agent.core.cache import CachedAnswer
from salsa_agent.core.model import Dropped, Relay, RelayKey, Server, Srv
from salsa_agent.core.selection.answers import Answers
from salsa_agent.core.selection.exchanges import usable
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.ordering import SERVICES, Limit, Target, ranked_targets, srv_questions
from salsa_agent.core.selection.results import Part

_MOST = 8  # targets of both services together
_LIMIT = Limit(_MOST, "C12", f"more than {_MOST} targets")


class _Permission(NamedTuple):
    """What a target of a domain's records has to be. `authenticated`: for each service, its records are (F3)."""

    domain: str
    patterns: tuple[str, ...]
    authenticated: tuple[bool, ...]

    def error(self, record: Srv, host: str, place: int) -> tuple[str, str]:
        """The rule and the reason why this target is not used; empty ones: it is."""
        if reason := admission.hostname_error(host):
            return "C2", reason
        if record.port == 0:
            return "C12", "port 0"
        below = host == self.domain or host.endswith(f".{self.domain}")
        if below or self.authenticated[place] or any(fnmatchcase(host, pattern) for pattern in self.patterns):
            return "", ""
        return "C12", f"not below {self.domain}, not in srv.targets, not authenticated by DNSSEC"


def relays_of_domain(
    domain: str, blank: Relay, servers: tuple[Server, ...], inputs: SelectionInput, answers: Answers
) -> Part:
    """The relays that the domain names, best first. `blank`: what all of them have in common.

    `servers`: asked for the records and for the targets' addresses.
    """
    questions = srv_questions(domain, servers)
    known = [answers.get(question) for question in questions]
    sets = [cached for cached in known if cached is not None]
    if len(sets) < len(questions):
        return Part(settled=False)
    for question, cached in zip(questions, sets, strict=True):
        answers.use(question, cached)
    permission = _Permission(domain, inputs.settings.srv_targets, tuple(c.answer.authenticated for c in sets))
    records = tuple(cached.answer.srv for cached in sets)
    targets, refused = ranked_targets(records, permission, inputs.identity, _LIMIT)
    dropped = [Dropped(host, rule, why, questions[place].name) for host, rule, why, place in refused]
    relays: list[Relay] = []
    settled = True
    for target in targets:
        looked_up = answers.look_up(target.host, servers)
        if looked_up is None:
            settled = False
            continue
        relay = _relay(target, blank, questions[target.place].name, sets[target.place])
        authenticated = bool(relay.authenticated) and looked_up.authenticated
        expires = min(filter(None, (relay.expires, looked_up.expires)), default=None)
        relay = relay._replace(addresses=looked_up.addresses, authenticated=authenticated, expires=expires)
        relay, reason = usable(relay, looked_up, inputs)
        if reason:
            dropped.append(Dropped(target.host, "C3", reason, relay.name))
        elif settled:
            relays.append(relay)
    return Part(tuple(relays), tuple(dropped), settled)


def _relay(target: Target, blank: Relay, name: str, cached: CachedAnswer) -> Relay:
    return blank._replace(
        key=RelayKey(target.host, target.port),
        preference=target.priority,
        name=name,
        srv=SERVICES[target.place],
        authenticated=cached.answer.authenticated,
        expires=cached.expires,
    )
