"""Rule C6: the parts that the other rules give, put together to the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from salsa_agent.core.cache import Cache
from salsa_agent.core.model import Address, Dropped, Evidence, Outcome, RelayKey, Source
from salsa_agent.core.selection.answers import Answers, Lookup, address_questions
from salsa_agent.core.selection.configured import Table, configured_relays, last_resort
from salsa_agent.core.selection.exchanges import admitted_exchanges, exchanges_of, relays_of_set
from salsa_agent.core.selection.given_by_link import link_relays
from salsa_agent.core.selection.inputs import SelectionInput
from salsa_agent.core.selection.levels import Climb, climb
from salsa_agent.core.selection.ordering import MAX_DROPPED
from salsa_agent.core.selection.results import Choice, Part, merged
from salsa_agent.core.selection.senders import sender_lists
from salsa_agent.core.selection.sites import site_relays, sites_of_links

MAX_RELAYS = 64  # of source `link` and `dns`, C5


def choose(
    inputs: SelectionInput,
    cache: Cache,
    *,
    prefetching: bool = False,
    begun: Iterable[Lookup] = (),
    standing: bool = False,
) -> Choice:
    """The list of C6 and those of the senders (C11), as far as the answers in the cache go.

    `prefetching`: where no level decides yet, the exchanges of the most specific set that is known are wanted already.
    `begun`: `Choice.exchanges` of the selection before in the same round; at most 64 are looked up in a round (C5).
    `standing`: what is being asked again reads as before.
    """
    read = cache.standing if standing else cache.get
    answers, own_answers = Answers(read), Answers(read)
    network = _Network(inputs, answers, begun, prefetching=prefetching)
    of_network = tuple(_bounded(network.parts()))
    static = configured_relays(inputs.settings.static_relays, Table(Source.STATIC, inputs.first_link), inputs, answers)
    listed = merged(chain(of_network, static))
    senders = sender_lists(of_network, static, inputs, own_answers)
    dropped = dict.fromkeys(chain(listed.dropped, *(one.list.dropped for one in senders)))
    return Choice(
        relays=listed.relays,
        firm=listed.firm,
        settled=listed.settled,
        last_resort=last_resort(static),
        senders=senders,
        evidence=network.evidence,
        dropped=tuple(dropped)[:MAX_DROPPED],
        wanted=own_answers.wanted_after(answers.wanted),
        depends_on=answers.depends_on | own_answers.depends_on,
        failing=answers.failing,
        lookups=own_answers.lookups | answers.lookups,
        exchanges=network.exchanges,
    )


class _Network:
    """The relays of source `site`, `link` and `dns`, and the evidence for them."""

    def __init__(
        self,
        inputs: SelectionInput,
        answers: Answers,
        begun: Iterable[Lookup],
        *,
        prefetching: bool,
    ) -> None:
        self._inputs, self._answers, self._prefetching = inputs, answers, prefetching
        self._sites = sites_of_links(inputs)
        self._climbs = {
            address: climb(address, inputs, answers) for address in inputs.addresses if not self._is_replaced(address)
        }
        self.exchanges = admitted_exchanges(
            begun,
            self._demands(),
            waiting={address.ifindex for address, climbed in self._climbs.items() if not climbed.settled},
        )

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What the reverse tree, or the table of sites, said for each address, in order A4."""
        return tuple(filter(None, map(self._evidence, self._inputs.addresses)))

    def parts(self) -> Iterator[Part]:
        """For each address its link's site and link relays (once), then its `dns` relays (C6, C10)."""
        addresses = self._inputs.addresses
        firsts = {address.ifindex: place for place, address in reversed(list(enumerate(addresses)))}
        lasts = {address.ifindex: place for place, address in enumerate(addresses)}
        for place, address in enumerate(addresses):
            site = self._sites.get(address.ifindex)
            is_first = place == firsts[address.ifindex]
            if site and is_first and site.use != "last":
                yield from site_relays(site, address, self._inputs, self._answers)
            if address in self._climbs:
                if is_first:
                    yield from link_relays(address, self._inputs, self._answers)
                yield self._of_tree(self._climbs[address])
            if site and place == lasts[address.ifindex] and site.use == "last":
                first = addresses[firsts[address.ifindex]]
                yield from site_relays(site, first, self._inputs, self._answers)

    def _of_tree(self, climbed: Climb) -> Part:
        self._answers.want(climbed.questions)
        if climbed.decided:
            return relays_of_set(climbed.decided, self._inputs, self._answers, self.exchanges)
        if climbed.candidate and self._prefetching:
            for lookup in exchanges_of(climbed.candidate, self._inputs.identity):
                if lookup in self.exchanges:
                    questions = address_questions(lookup.host, lookup.servers)
                    self._answers.want((question, None) for question in questions)
        return Part(settled=climbed.settled)

    def _demands(self) -> dict[int, list[Lookup]]:
        """By link, the exchanges that the sets name which decide or, where prefetching, may come to."""
        demands: dict[int, list[Lookup]] = {}
        for address, climbed in self._climbs.items():
            records = climbed.decided or (climbed.candidate if self._prefetching else None)
            if records is not None:
                demands.setdefault(address.ifindex, []).extend(exchanges_of(records, self._inputs.identity))
        return demands

    def _is_replaced(self, address: Address) -> bool:
        """Whether a site stands in the place of what the network says (C10)."""
        site = self._sites.get(address.ifindex)
        return site is not None and site.use == "only"

    def _evidence(self, address: Address) -> Evidence | None:
        site = self._sites.get(address.ifindex)
        name = site.name if site else ""
        if address not in self._climbs:
            return Evidence(address, Outcome.SITE, site=name)
        found = self._climbs[address].evidence
        return found if found is None or not name else found._replace(site=name)


def _bounded(parts: Iterable[Part]) -> Iterator[Part]:
    """C5: at most 64 relays that the network named, those of links and of the reverse tree."""
    kept: set[RelayKey] = set()
    for part in parts:
        relays, dropped = [], list(part.dropped)
        for relay in part.relays:
            if relay.administrator or relay.key in kept or len(kept) < MAX_RELAYS:
                if not relay.administrator:
                    kept.add(relay.key)
                relays.append(relay)
            else:
                reason = f"more than {MAX_RELAYS} relays"
                dropped.append(Dropped(relay.key.host, "C5", reason, relay.name, relay.address))
        yield Part(tuple(relays), tuple(dropped), part.settled)
