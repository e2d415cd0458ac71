"""Rules D: which relays are verified, when, and which one is the best.

| rule | module |
|---|---|
| the way in; D5: which relays are verified again; D8: which verdicts stand | `checks` |
| D1, D11: the budgets of servers, and how many different ones there may be | `servers` |
| D2, D8, D11: which relays are spoken to next, and where | `starting` |
| D2, D11: how many at once | `places` |
| D1, D11: what came of a check, for all names of a server | `results` |
| D9, D10: what the results at several addresses mean | `verdicts` |
| D5, D6, D9: the delays | `schedule` |
| D2, D3, D4: the best relay | `best` |
| D6: reports | `reports` |

`records` has what is known of one relay.
"""

from salsa_agent.core.verification.best import first_not_failed, last_resort
from salsa_agent.core.verification.checks import Checks
from salsa_agent.core.verification.places import AT_ONCE
from salsa_agent.core.verification.records import Subject, subject_of
from salsa_agent.core.verification.servers import BUDGET
from salsa_agent.core.verification.starting import Reach

__all__ = ["AT_ONCE", "BUDGET", "Checks", "Reach", "Subject", "first_not_failed", "last_resort", "subject_of"]
