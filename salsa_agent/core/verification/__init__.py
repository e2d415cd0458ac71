"""Rules D: which relays are verified, when, and which one is the best.

`checks` is the way in; `servers` holds the bounds on what is spoken to, `schedule` says when again, `verdicts` what the
results at several addresses mean, `records` what is known of one relay, `best` which one is used.
"""

from salsa_agent.core.verification.best import first_not_failed, last_resort
from salsa_agent.core.verification.checks import AT_ONCE, Checks, Reach
from salsa_agent.core.verification.records import Subject, subject_of
from salsa_agent.core.verification.servers import BUDGET

__all__ = ["AT_ONCE", "BUDGET", "Checks", "Reach", "Subject", "first_not_failed", "last_resort", "subject_of"]
