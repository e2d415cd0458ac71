"""What is wrong with what is published for a prefix, in words that say what to change. No IO."""

from __future__ import annotations

from salsa_agent.oneshot.auditing.audit import Audit
from salsa_agent.oneshot.auditing.exchanges import no_way_out, of_exchange, of_relays
from salsa_agent.oneshot.auditing.facts import Facts
from salsa_agent.oneshot.auditing.finding import Finding
from salsa_agent.oneshot.auditing.levels import hidden, temporary
from salsa_agent.oneshot.auditing.sets import failing, nothing, of_services, of_set
from salsa_agent.oneshot.severity import Severity


def findings(audit: Audit) -> list[Finding]:
    """Everything that was found, the worst first."""
    facts = Facts(audit)
    found = [
        *failing(facts),
        *nothing(facts),
        *(finding for question, answer in facts.sets.items() for finding in of_set(question, answer)),
        *of_services(facts),
        *(finding for host in facts.exchanges for finding in of_exchange(facts, host)),
        *no_way_out(facts),
        *of_relays(facts),
        *hidden(facts),
        *temporary(facts),
    ]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))
