"""Rules B3-B8 and C: from the DNS answers to the lists of relays. Pure: what is known goes in, what follows comes out.

| rule | module |
|---|---|
| B3-B8: the level that decides for an address | `levels` |
| C1, and B8 and C12 of SRV records: the order | `ordering` |
| C1-C5, C7: the exchanges of a level's set | `exchanges` (names, addresses and policy themselves: `core.admission`) |
| C6: the list | `relay_list` |
| C8: the administrator's relays | `configured` |
| C9: relays of a link's own configuration | `given_by_link` |
| C10: sites | `sites` |
| C11: senders | `senders` (which entry holds for one: `core.senders`) |
| C12: `srv:DOMAIN` | `srv` |

`inputs` and `results` are what goes in and comes out; `answers` reads the cache.
"""

from salsa_agent.core.selection.answers import MAX_ADDRESSES, Lookup, address_questions, joined
from salsa_agent.core.selection.exchanges import MAX_EXCHANGES, MAX_LOOKED_UP
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.ordering import MAX_DROPPED
from salsa_agent.core.selection.relay_list import MAX_RELAYS, choose
from salsa_agent.core.selection.results import Choice, RelayList, SenderList
from salsa_agent.core.selection.sites import site_of, sites_of_links

__all__ = [
    "MAX_ADDRESSES",
    "MAX_DROPPED",
    "MAX_EXCHANGES",
    "MAX_LOOKED_UP",
    "MAX_RELAYS",
    "Choice",
    "Lookup",
    "RelayList",
    "SelectionInput",
    "SenderList",
    "address_questions",
    "choose",
    "joined",
    "site_of",
    "sites_of_links",
]
