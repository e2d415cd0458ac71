"""Rules B3-B7 and C: from the DNS answers to the list of relays."""

from salsa_agent.core.selection.relay_list import (
    MAX_ADDRESSES,
    MAX_EXCHANGES,
    MAX_RELAYS,
    Choice,
    World,
    choose,
    joined,
    servers_of_first,
    static_questions,
)

__all__ = [
    "MAX_ADDRESSES",
    "MAX_EXCHANGES",
    "MAX_RELAYS",
    "Choice",
    "World",
    "choose",
    "joined",
    "servers_of_first",
    "static_questions",
]
