"""The words of docs/rules.md as values. Nothing here changes: a value that changed is another value.

| what | module |
|---|---|
| links, addresses and routes; the own addresses that count | `host` |
| name servers, questions and answers | `dns` |
| relays, and what came of speaking to them | `relays` |
| what is published, and of what it is made | `published` |

Most are named tuples. A frozen dataclass takes seven times as long to define, which shows at the start, and longer to
make and to compare. But two named tuples of different kinds may be equal, one without fields is false, and none has
a field `index`, which is a method of tuples.
"""

from salsa_agent.core.model.dns import (
    REVERSE_TREE,
    Answer,
    Asked,
    DomainRoute,
    Mx,
    Outcome,
    Question,
    RRType,
    Server,
    ServerView,
    Srv,
)
from salsa_agent.core.model.host import (
    FIRST_IPV6,
    MAX_IFINDEX,
    Address,
    DefaultRoute,
    HostAddress,
    IPAddress,
    Link,
    LinkInfo,
    NetworkFacts,
    RouteChoice,
    SearchDomains,
    number_of,
)
from salsa_agent.core.model.published import (
    NO_RELAY,
    Best,
    Dropped,
    Evidence,
    ListedRelay,
    Publication,
    SenderChoice,
    State,
)
from salsa_agent.core.model.relays import (
    ADMINISTRATOR,
    SUBMISSIONS_PORT,
    CheckResult,
    LinkRelays,
    Relay,
    RelayEntry,
    RelayKey,
    ServerResult,
    Source,
    SrvEntry,
    Verdict,
    demanded_tls,
)

__all__ = [
    "ADMINISTRATOR",
    "FIRST_IPV6",
    "MAX_IFINDEX",
    "NO_RELAY",
    "REVERSE_TREE",
    "SUBMISSIONS_PORT",
    "Address",
    "Answer",
    "Asked",
    "Best",
    "CheckResult",
    "DefaultRoute",
    "DomainRoute",
    "Dropped",
    "Evidence",
    "HostAddress",
    "IPAddress",
    "Link",
    "LinkInfo",
    "LinkRelays",
    "ListedRelay",
    "Mx",
    "NetworkFacts",
    "Outcome",
    "Publication",
    "Question",
    "RRType",
    "Relay",
    "RelayEntry",
    "RelayKey",
    "RouteChoice",
    "SearchDomains",
    "SenderChoice",
    "Server",
    "ServerResult",
    "ServerView",
    "Source",
    "Srv",
    "SrvEntry",
    "State",
    "Verdict",
    "demanded_tls",
    "number_of",
]
